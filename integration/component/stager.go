package component

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/staging"
)

// workRoot is where the input root of an action is.
const workRoot = action.WorkRoot

// A buildStager stages and collects one component's or system's action.
type buildStager struct {
	open   func() (*staging.Stager, error)
	rootfs staging.Rootfs
	root   *tree // what the root is made of
	blobs  action.Blobs
	f      action.Function

	scratch func() (dir string, remove func(), err error) // see Builder.newScratch
	remove  func()                                        // of what it has made; nil: nothing

	machine bool           // programs are another machine's: see Builder.Machine
	owned   staging.Owners // what of the root belongs to others

	whole bool     // collect the whole root, and not an output
	own   []string // names in the root directory that the action may change

	caches []Cache         // which it may change, too
	binds  []backends.Bind // where they are kept; none: they are not

	staged time.Time // when the root was complete
}

// Stage implements [action.Stager].
func (s *buildStager) Stage(ctx context.Context, a *action.Action, _ *action.Command) (backends.Root, error) {
	base, err := s.open()
	if err != nil {
		return backends.Root{}, err
	}
	s.clean()
	dir, remove, err := s.scratch()
	if err != nil {
		return backends.Root{}, err
	}
	s.remove = remove
	root, err := base.Stage(ctx, staging.Input{Tree: a.InputRoot, Hint: a.InputRoot}, s.rootfs)
	root.ScratchDir, root.Owned = dir, staging.Known(s.owned)
	root.Binds = append(root.Binds, s.binds...)
	s.staged = coarseNow()
	return root, err
}

// clean removes what the command has written, when all is collected.
func (s *buildStager) clean() {
	if s.remove != nil {
		s.remove()
		s.remove = nil
	}
}

// Collect implements [action.Stager].
func (s *buildStager) Collect(ctx context.Context, left *backends.Status, c *action.Command) (*action.Result, []action.Missing, error) {
	if s.whole {
		return s.collectWhole(ctx, left)
	}
	res, missing, err := staging.Collect(ctx, s.blobs, left.Root, staging.Outputs{
		Dir: c.WorkingDirectory, Paths: c.OutputPaths, Failed: left.Code != 0, Function: s.f, Format: c.OutputDirectoryFormat, Modes: true, Owned: staging.NewOwned(left.Owned),
	})
	if err != nil || len(missing) > 0 || s.root == nil {
		return res, missing, err
	}
	changes, err := s.changes(ctx, left)
	for _, p := range slices.Sorted(maps.Keys(s.given(left))) {
		changes = append(changes, Change{How: "changed the owner of", Path: p})
	}
	if err == nil && len(changes) > 0 {
		err = &OutsideError{changes}
	}
	return res, nil, err
}

// An OutsideError says that a component changed what is not its own.
type OutsideError struct{ Changes []Change }

func (e *OutsideError) Error() string {
	var list []string
	for _, c := range e.Changes[:min(len(e.Changes), 5)] {
		list = append(list, c.String())
	}
	if more := len(e.Changes) - len(list); more > 0 {
		list = append(list, fmt.Sprintf("and %d more", more))
	}
	return "it changed files outside of its DESTDIR, which would be lost: " + strings.Join(list, ", ") +
		"; install below $DESTDIR"
}

// A Change is what a command did to a path of the root.
type Change struct {
	How  string // "added", "changed" or "removed"
	Path string

	new *node // what is there now; nil if it is removed
}

func (c Change) String() string { return c.How + " /" + c.Path }

// changes lists how the root differs from what was staged.
func (s *buildStager) changes(ctx context.Context, left *backends.Status) ([]Change, error) {
	w := &changeWalker{ctx: ctx, s: s, owned: staging.NewOwned(left.Owned)}
	if err := w.directory(int(left.Root.Fd()), ".", s.root.root, ""); err != nil {
		return nil, fmt.Errorf("look for changes of the root: %w", err)
	}
	if s.whole {
		return w.list, nil
	}
	return w.list, w.strays(int(left.Root.Fd()))
}

// ignored says whether a path is none of the root file system's, or one whose
// changes do not matter: ldconfig's cache, which the build makes, and Python's.
func (s *buildStager) ignored(p string) bool {
	top, _, _ := strings.Cut(p, "/")
	switch top {
	case "dev", "proc", "sys", "tmp", strings.Trim(workRoot, "/"):
		return true
	}
	if s.whole {
		return false
	}
	if slices.ContainsFunc(s.caches, func(c Cache) bool { return p == c.Path }) {
		return true
	}
	return slices.Contains(s.own, top) || p == "etc/ld.so.cache" || strings.HasPrefix(p, "var/cache/ldconfig") ||
		p == "etc/mtab" || strings.Contains("/"+p+"/", "/__pycache__/")
}

// collectWhole makes the result of an action whose output is its root: what was
// staged, with what changed.
func (s *buildStager) collectWhole(ctx context.Context, left *backends.Status) (*action.Result, []action.Missing, error) {
	changes, err := s.changes(ctx, left)
	if err != nil {
		return nil, nil, err
	}
	for _, c := range changes {
		if err := s.root.apply(ctx, c); err != nil {
			return nil, nil, fmt.Errorf("%v: %w", c, err)
		}
	}
	given := s.given(left)
	for _, p := range slices.Sorted(maps.Keys(given)) {
		if err := s.root.own(ctx, p, given[p]); err != nil {
			return nil, nil, fmt.Errorf("/%s: %w", p, err)
		}
	}
	var seal sealer
	d := s.root.seal(&seal)
	if err := seal.save(ctx, s.blobs, s.f); err != nil {
		return nil, nil, err
	}
	return &action.Result{Directories: []action.OutputDirectory{{Root: d}}}, nil, nil
}

// apply makes a change. The directory of the path is one, and no link.
func (t *tree) apply(ctx context.Context, c Change) error {
	i := strings.LastIndexByte(c.Path, '/')
	d, err := t.directory(ctx, c.Path[:max(i, 0)], true)
	if err != nil {
		return err
	}
	if err := t.load(ctx, d); err != nil {
		return err
	}
	if name := c.Path[i+1:]; c.new == nil {
		delete(d.names, name)
	} else {
		d.names[name] = c.new
	}
	return nil
}
