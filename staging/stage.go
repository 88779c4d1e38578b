package staging

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

// MTime is the modification time of every staged file, directory and link, in
// seconds since 1970: 2011-11-11 11:11:11 UTC. Files have mode 0644 or 0755,
// directories 0755, and all of them belong to [backends.ID] in the sandbox.
const MTime = 1321009871

// A Stager makes roots of trees. Set its fields before Stage, which any number
// of goroutines may call.
//
// It has three ways to show a tree, and takes the cheapest that the backend
// and the user allow. In each, a file has an inode of its own that is not the
// store's, and nothing that happens in the root can reach the store.
//
//   - Small trees are copied into the scratch of the action.
//   - For root, larger trees become an EROFS image of names and modes, whose
//     contents overlayfs takes from the store. The image is made once per tree.
//   - For users, who may not mount images, larger trees become a directory
//     tree on the disk, once per tree, which overlayfs shows below the scratch;
//     where the kernel lets users have data-only layers, large files are not
//     copied into it but taken from the store.
//
// A tree that differs little from one that has a layer gets a layer with the
// differences only, on top of the other's: see delta.go. A backend that has no
// overlayfs gets copies.
//
// Directory listings are sorted by name in images and mostly so in copies; on
// the disk and in merged directories they come in an order that may differ
// between machines. A command that depends on it is not deterministic.
type Stager struct {
	Blobs        action.Blobs
	Layers       action.Layers // nil: every tree is copied
	Notes        action.Notes  // nil: no tree is compared with earlier ones
	Capabilities backends.Capabilities

	// WorkDir is where the input root is, in the root. Empty: action.WorkRoot.
	WorkDir string

	// Log gets what costs time but no result. Nil: nobody does.
	Log *slog.Logger

	// small bounds the trees that are copied. Zero: what defaultSmall says.
	small bounds
}

// An Input is a tree to stage.
type Input struct {
	Tree action.Digest // of the root Directory

	// Hint names what is staged again and again with small changes, such as a
	// workspace: trees with equal hints are compared with each other. It is
	// not part of what is staged. Zero is a hint like any other.
	Hint action.Digest

	// Directories are made where the tree does not have them: those in which
	// outputs will be. They are relative to WorkDir, and no part of them is a
	// link or a file of the tree: see [Parents].
	Directories []string

	// Properties says that the tree may have node properties, which are to be
	// honoured: mtime and unix_mode, without its setuid bits. Else they are
	// left out of account.
	Properties bool
}

// Parents returns the directories that must be there before c starts, relative
// to the input root: that in which it starts, and those of its outputs. find
// looks a path of the input root up. What leads through a link or a file is
// left out: the command will have to say what it thinks of it.
func Parents(c *action.Command, find func(string) (Entry, bool)) []string {
	var dirs []string
	seen := map[string]bool{".": true} // hundreds of thousands of outputs can be in as many directories
	for i, p := range append([]string{"."}, c.OutputPaths...) {
		dir := path.Join(c.WorkingDirectory, p)
		if i > 0 {
			dir = path.Dir(path.Join(c.WorkingDirectory, fixedPart(p)))
		}
		if seen[dir] {
			continue
		}
		seen[dir] = true
		if !through(dir, find) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// fixedPart is an output up to the first component that is a pattern.
func fixedPart(p string) string {
	names := strings.Split(p, "/")
	for i, name := range names {
		if isPattern(name) {
			return path.Join(append(slices.Clone(names[:i]), "*")...)
		}
	}
	return p
}

// through says whether dir, or a directory above it, is something else.
func through(dir string, find func(string) (Entry, bool)) bool {
	for ; dir != "."; dir = path.Dir(dir) {
		if e, ok := find(dir); ok && e.Kind != KindDirectory && e.Kind != KindTree {
			return true
		}
	}
	return false
}

// bounds are how much a tree may hold.
type bounds struct {
	files int // files, links and directories
	bytes int64
}

// defaultSmall is up to where copying a tree for each action is cheaper than
// keeping a layer of it. A copy costs 20 µs for each file, every time. An image
// costs 0.3 ms once and 0.2 ms for each use. A tree on the disk costs 30 µs for
// each file once, but 900 µs on an ext4 without a journal that has just deleted
// many files, and 0.2 ms for each use.
func (s *Stager) defaultSmall(k layerKind) bounds {
	switch {
	case s.small != bounds{}:
		return s.small
	case k == imageLayer:
		return bounds{64, 2 << 20}
	default:
		return bounds{500, 8 << 20}
	}
}

// Stage returns a root with in.Tree at WorkDir on top of rootfs. Every blob of
// the tree must be in the store: the error about a missing one wraps
// [action.ErrMiss] and names its path and digest.
func (s *Stager) Stage(ctx context.Context, in Input, rootfs Rootfs) (backends.Root, error) {
	base, err := s.stageRootfs(ctx, rootfs)
	if err != nil {
		return backends.Root{}, fmt.Errorf("root file system %s: %w", rootfs.ID(), err)
	}
	work, err := s.stageInput(ctx, in, len(base.layers) > 0)
	if err != nil {
		return backends.Root{}, fmt.Errorf("input root %v: %w", in.Tree, err)
	}
	root := backends.Root{Binds: base.binds, Lowers: append(work.layers, base.layers...)}
	if work.data || base.data {
		root.Data = s.Layers.BlobDir()
	}
	for _, d := range in.Directories {
		work.fill = append(work.fill, emptyDir().at(path.Join(s.workDir(), d)))
	}
	root.Fill = func(dir *os.File) error { return fillAll(dir, s.owner(), base.fill, work.fill) }
	if rootfs.host != nil && s.Layers != nil && len(root.Lowers) == 0 {
		root.Ahead = s.ahead(&base, &work)
	}
	if in.Properties {
		root.Ahead = nil
		if root.Fill, err = s.withProperties(ctx, in.Tree, root.Fill); err != nil {
			return backends.Root{}, fmt.Errorf("input root %v: %w", in.Tree, err)
		}
	}
	return root, nil
}

// ahead is what all roots that begin with base have in common. The working directory
// is in it, so that names come in the same order into the root in any case.
func (s *Stager) ahead(base, work *piece) *backends.Ahead {
	owner, workDir := s.owner(), emptyDir().at(s.workDir())
	var key strings.Builder
	fmt.Fprintln(&key, owner, s.workDir())
	for i := range base.fill {
		fmt.Fprintf(&key, "%q ", base.fill[i].path)
		base.fill[i].node.describe(&key)
	}
	return &backends.Ahead{
		Key: key.String(), Binds: base.binds,
		First: func(dir *os.File) error { return fillAll(dir, owner, base.fill, []placement{workDir}) },
		Rest:  func(dir *os.File) error { return fillAll(dir, owner, work.fill) },
	}
}

// A piece is one of the two things that a root is made of.
type piece struct {
	layers []backends.Layer
	data   bool // the layers need Root.Data
	binds  []backends.Bind
	fill   []placement // goes into the scratch
}

// stageInput finds the cheapest way to show a tree at WorkDir. upper says that
// there are layers below.
func (s *Stager) stageInput(ctx context.Context, in Input, upper bool) (piece, error) {
	kind, place := s.layerKind(), s.workPlace()
	if upper && kind == userTreeLayer {
		kind = userCopyLayer
	}
	if kind != noLayer {
		if p, err := s.knownLayers(ctx, kind, place, in.Tree); err == nil {
			return s.withWorkDir(p), nil
		}
	}
	l := newTreeLoader(s.Blobs)
	small, err := l.fits(ctx, in.Tree, s.defaultSmall(kind))
	if err != nil {
		return piece{}, err
	}
	if !small && kind != noLayer {
		p, err := s.makeLayers(ctx, l, in, kind, place)
		if err == nil {
			return s.withWorkDir(p), nil
		}
		if !errors.Is(err, errLayer) || errors.Is(err, action.ErrMiss) || ctx.Err() != nil {
			return piece{}, err
		}
		s.warn(ctx, "inputs are copied, because no layer could be made", err)
	}
	content, err := l.contents(ctx, in.Tree, s.defaultSmall(kind).bytes)
	if err != nil {
		return piece{}, err
	}
	return piece{fill: []placement{content.at(s.workDir())}}, nil
}

// withWorkDir makes WorkDir in the scratch, so that it is there, with our mode
// and time, whatever the layers below hold.
func (s *Stager) withWorkDir(p piece) piece {
	p.fill = append(p.fill, emptyDir().at(s.workDir()))
	return p
}

// layerKind is what larger trees become.
func (s *Stager) layerKind() layerKind {
	c := &s.Capabilities
	switch {
	case s.Layers == nil || !c.Overlay:
		return noLayer
	case c.Images && c.DataLayers && s.owner() == backends.ID && s.holdsImages():
		return imageLayer
	case s.owner() == backends.ID:
		return rootTreeLayer
	}
	return userTreeLayer
}

// holdsImages says whether images can be mounted from where layers are. A store says
// so itself, as it depends on the file system; anything else is believed to.
func (s *Stager) holdsImages() bool {
	store, ok := s.Layers.(interface{ HoldsImages() bool })
	return !ok || store.HoldsImages()
}

// owner is the user that files must belong to, as this process sees it. It is
// backends.ID where the backend runs commands as that user of the host, and
// this user where it maps ID to it.
func (s *Stager) owner() int { return s.Capabilities.Owner }

func (s *Stager) workDir() string {
	if s.WorkDir == "" {
		return action.WorkRoot
	}
	return s.WorkDir
}

// workPlace says, in the name of a layer, where in the root its tree is.
func (s *Stager) workPlace() place {
	dir := strings.Trim(s.workDir(), "/")
	if "/"+dir == action.WorkRoot {
		return place{dir: dir, tag: "work"}
	}
	return place{dir: dir, tag: "at" + action.Sum(action.SHA256, []byte(dir)).Hash()[:16]}
}

func (s *Stager) warn(ctx context.Context, msg string, err error) {
	if s.Log != nil {
		s.Log.WarnContext(ctx, msg, "err", err)
	}
}

// debug is for what costs only time, and whose cause somebody else tells.
func (s *Stager) debug(ctx context.Context, msg string, err error) {
	if s.Log != nil {
		s.Log.DebugContext(ctx, msg, "err", err)
	}
}
