package staging

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/spelling"
	"golang.org/x/sys/unix"
)

// A ScanConfig says what the inputs of an action are.
type ScanConfig struct {
	// Workspace is the directory that becomes the root of the tree. Absolute.
	Workspace string

	// Dir is what relative inputs are relative to: Workspace, or a directory
	// below it. Empty: Workspace.
	Dir string

	// Inputs are declarations, in the language that inputs.go describes.
	Inputs []string

	// Function is that of all digests.
	Function action.Function

	// Tree gives the digest of the Directory that an input by digest means: that
	// digest, or the root of the Tree that it names. Nil: only the former.
	Tree func(action.Digest) (action.Digest, error)

	// StatCache is a directory for stat caches, of any number of workspaces.
	// It is made when it is needed. Empty: none, every file is read.
	StatCache string

	// Files hashes files that are declared one by one. Nil: one that keeps its
	// table in StatCache.
	Files *FileHasher

	// Never are absolute paths that are never inputs, such as the store. One
	// that an input would include is left out, with a Warning.
	Never []string
}

// A Snapshot is what the inputs were: a tree, and where its files are.
type Snapshot struct {
	Root  action.Digest // of the root Directory
	Files int           // including those of trees given by digest: no
	Bytes int64         // of those files

	// Warnings are about things that are probably not meant so, by path.
	Warnings []Warning

	// StatCacheErr says why the stat cache could not be written. The next scan
	// will take longer.
	StatCacheErr error

	fn        action.Function
	workspace string
	top       *scanDir // nil: Root was given as a digest
}

// A Warning is about one path, relative to the workspace.
type Warning struct {
	Path   string
	Target string // of a link
	Reason string
}

// String is the warning in one line.
func (w Warning) String() string {
	if w.Target == "" {
		return fmt.Sprintf("%q: %s", w.Path, w.Reason)
	}
	return fmt.Sprintf("%q -> %q: %s", w.Path, w.Target, w.Reason)
}

// scanTries is how often a scan begins again because directories and files
// were replaced while it looked at them.
const scanTries = 3

// Scan makes the tree of the declared inputs. It reads the files that may have
// changed since they were last read; it stores nothing: that is
// [Snapshot.Save].
//
// Names and link targets are kept as they are, but must be UTF-8, as REAPI
// says. A file is executable if any of its three x bits is set. Sockets, FIFOs
// and devices are refused. A file that changes while Scan reads it is read
// again; if that does not help, Scan fails.
func Scan(ctx context.Context, cfg ScanConfig) (*Snapshot, error) {
	if cfg.Function != action.SHA256 && cfg.Function != action.BLAKE3 {
		return nil, fmt.Errorf("scan inputs: unsupported digest function %v", cfg.Function)
	}
	if !filepath.IsAbs(cfg.Workspace) {
		return nil, fmt.Errorf("scan inputs: the workspace %q is not an absolute path", cfg.Workspace)
	}
	cfg.Workspace = filepath.Clean(cfg.Workspace)
	if cfg.Files == nil {
		cfg.Files = NewFileHasher(cfg.StatCache, cfg.Function)
		defer cfg.Files.Close()
	}
	root, err := openDir(unix.AT_FDCWD, cfg.Workspace, 0)
	if err != nil {
		return nil, fmt.Errorf("scan inputs: open the workspace %s: %w", cfg.Workspace, err)
	}
	defer unix.Close(root)
	lists := map[string][]byte{}
	for try := 1; ; try++ {
		snap, err := scanOnce(ctx, &cfg, root, lists, try)
		if errors.Is(err, errReplaced) && try < scanTries {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("scan inputs: %w", err)
		}
		return snap, nil
	}
}

func scanOnce(ctx context.Context, cfg *ScanConfig, root int, lists map[string][]byte, try int) (*Snapshot, error) {
	rules, err := parseInputs(ctx, cfg, root, lists)
	if err != nil {
		return nil, err
	}
	snap := &Snapshot{fn: cfg.Function, workspace: cfg.Workspace}
	sel, err := rootSelection(rules)
	if err != nil {
		return nil, err
	}
	if sel.cover != nil && !sel.cover.tree.IsZero() {
		snap.Root = sel.cover.tree
		return snap, nil
	}
	s := &scanner{
		ctx: ctx, cfg: cfg, fn: cfg.Function, now: Now(), files: cfg.Files,
		limit: min(runtime.GOMAXPROCS(0), 8),
		doubt: try > 1,
	}
	s.cond.L = &s.mu
	snap.top = &scanDir{sel: sel, fd: -1}
	if err := s.run(snap.top, root); err != nil {
		return nil, err
	}
	snap.Root, snap.Files, snap.Bytes = snap.top.digest, snap.top.files, snap.top.bytes
	if err := s.unmatched(rules, root, snap); err != nil {
		return nil, err
	}
	s.warnLinks(root, snap)
	slices.SortStableFunc(snap.Warnings, func(a, b Warning) int { return strings.Compare(a.Path, b.Path) })
	snap.StatCacheErr = s.saveCaches(root)
	return snap, nil
}

// rootSelection is what is declared of the workspace itself.
func rootSelection(rules []*scanRule) (scanSel, error) {
	var sel scanSel
	for _, r := range rules {
		for _, segs := range r.alts {
			sel.advance(r, segs, true)
		}
	}
	if c := sel.cover; c != nil && !c.tree.IsZero() {
		for _, r := range rules {
			if r != c && !r.store {
				return sel, fmt.Errorf("input %q is the whole input root: give no other input with it, or put it at a directory with DIR=%s", c.text, c.text)
			}
		}
		return sel, nil
	}
	sel.prune()
	return sel, nil
}

// parseInputs makes rules of what the user declared.
func parseInputs(ctx context.Context, cfg *ScanConfig, root int, lists map[string][]byte) ([]*scanRule, error) {
	p := &inputParser{
		workspace: cfg.Workspace, resolved: cfg.Workspace, fn: cfg.Function, tree: cfg.Tree, ctx: ctx, lists: lists, root: root,
		seen: map[string]bool{}, plain: map[string]bool{},
	}
	if r, err := filepath.EvalSymlinks(cfg.Workspace); err == nil && needsResolved(cfg) {
		p.resolved = r
	}
	if cfg.Dir != "" {
		names, _, err := p.names(cfg.Dir, cfg.Dir)
		if err != nil {
			return nil, fmt.Errorf("directory %q is outside of the workspace %s", cfg.Dir, cfg.Workspace)
		}
		p.base = names
	}
	for _, text := range cfg.Inputs {
		if err := p.parse(text, 0); err != nil {
			return nil, err
		}
	}
	p.base = nil
	for _, never := range cfg.Never {
		p.keepOut(never)
	}
	return p.rules, nil
}

// needsResolved says whether any path is absolute, so that it matters how the
// workspace is called.
func needsResolved(cfg *ScanConfig) bool {
	return len(cfg.Never) > 0 || cfg.Dir != "" || slices.ContainsFunc(cfg.Inputs, func(s string) bool {
		s = strings.TrimPrefix(s, "!")
		return s != "" && (s[0] == '/' || s[0] == '@')
	})
}

// keepOut adds the rule that a directory of the program is never an input.
func (p *inputParser) keepOut(dir string) {
	for _, d := range []string{dir, evalExisting(dir)} {
		names, _, err := p.names(d, d)
		if err == nil && len(names) > 0 {
			p.add(&scanRule{text: dir, exclude: true, literal: true, own: true, store: true, alts: [][]globSeg{literalSegs(names)}})
		}
	}
}

func evalExisting(dir string) string {
	if r, err := filepath.EvalSymlinks(dir); err == nil {
		return r
	}
	return dir
}

// unmatched complains about inputs that name nothing.
func (s *scanner) unmatched(rules []*scanRule, root int, snap *Snapshot) error {
	var bad []error
	for _, r := range rules {
		switch {
		case r.store && r.effective.Load():
			snap.warn(Warning{Path: joinSegs(r.alts[0]), Reason: "not an input, because the store is in it"})
		case r.own || r.matched.Load() || r.shadowed.Load():
		case r.exclude:
			snap.warn(Warning{Path: r.text[1:], Reason: "takes nothing away from the inputs"})
		default:
			bad = append(bad, s.absent(r, root))
		}
		if len(bad) == 10 {
			break
		}
	}
	return errors.Join(bad...)
}

func (snap *Snapshot) warn(w Warning) {
	if !slices.Contains(snap.Warnings, w) {
		snap.Warnings = append(snap.Warnings, w)
	}
}

// absent is the error about an input that is not there, with what may be meant.
func (s *scanner) absent(r *scanRule, root int) error {
	what := "does not exist"
	if !r.literal {
		what = "matches nothing"
	}
	segs := r.alts[0]
	if r.literal {
		if id, err := statAt(root, dotIfEmpty(joinSegs(segs))); err == nil {
			if r.dirOnly {
				return fmt.Errorf("input %q is %s, not a directory", r.text, typeName(id.Mode))
			}
			return fmt.Errorf("input %q: %w", r.text, errReplaced)
		}
	}
	dir, want := nearestDir(root, segs)
	if want == "" {
		return fmt.Errorf("input %q %s", r.text, what)
	}
	near := nearNames(root, dir, want)
	if len(near) == 0 {
		return fmt.Errorf("input %q %s: %q has no such name and none like it", r.text, what, "./"+dir)
	}
	for i := range near {
		near[i] = fmt.Sprintf("%q", path.Join(dir, near[i]))
	}
	return fmt.Errorf("input %q %s: did you mean %s?", r.text, what, strings.Join(near, ", "))
}

// nearestDir returns the deepest directory on the way to segs that exists, and
// the component that is missing in it.
func nearestDir(root int, segs []globSeg) (dir, want string) {
	for i := range segs {
		if segs[i].kind != globLiteral {
			return joinSegs(segs[:i]), segs[i].text
		}
		if id, err := statAt(root, joinSegs(segs[:i+1])); err != nil || id.Mode&modeType != unix.S_IFDIR {
			if err == nil {
				return joinSegs(segs[:i]), "" // a file where a directory should be
			}
			return joinSegs(segs[:i]), segs[i].text
		}
	}
	return "", ""
}

// nearNames returns up to three names in dir that resemble want.
func nearNames(root int, dir, want string) []string {
	fd, err := openDir(root, dotIfEmpty(dir), 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	type candidate struct {
		name     string
		distance int
	}
	var found []candidate
	limit := max((len(want)+1)/3, 1)
	_ = listFD(fd, func(name []byte, _ uint32) error {
		d := spelling.Distance(string(name), want, limit)
		if strings.HasPrefix(string(name), want+".") { // without its ending
			d = min(d, 1)
		}
		if d <= limit && d < max(len(name), len(want)) { // something is as it was
			found = append(found, candidate{string(name), d})
		}
		return nil
	})
	slices.SortFunc(found, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), strings.Compare(a.name, b.name))
	})
	var names []string
	for _, c := range found[:min(len(found), 3)] {
		names = append(names, c.name)
	}
	return names
}
