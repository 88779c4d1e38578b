package staging

import (
	"context"
	"path"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

// A RootfsUse is what a command looked at: the complete look-ups of a run, and what
// finds an input of it by its path in the input root.
type RootfsUse struct {
	Lookups []backends.Lookup
	Input   func(name string) (Entry, bool)
}

// Lost returns what of the tree the store does not have as it was put there, by path:
// directories, and files that use led to, or, where use is nil, all. Nothing is lost
// of the host.
//
// Links are followed as the tree and the inputs have them. One that the command made
// itself is not known: what it opened by the path of such a link only is not looked at.
func (r Rootfs) Lost(ctx context.Context, blobs action.Blobs, use *RootfsUse) (map[string]action.Digest, error) {
	if r.host != nil || r.tree.IsZero() {
		return nil, nil
	}
	f := &lossFinder{
		ctx: ctx, blobs: blobs, load: newTreeLoader(blobs),
		lost: map[string]action.Digest{}, has: map[action.Digest]bool{}, whole: map[action.Digest]bool{},
	}
	root, err := f.directory("/", r.tree)
	switch {
	case err != nil:
		return nil, err
	case use == nil:
		err = f.below("/", r.tree)
	default:
		f.input = use.Input
		seen := map[string]bool{}
		for _, l := range use.Lookups {
			if l.Op != backends.Move && seen[l.Path] {
				continue
			}
			seen[l.Path] = true
			if err = f.follow(root, l); err != nil {
				break
			}
		}
	}
	return f.lost, err
}

// A lossFinder is one call of Lost.
type lossFinder struct {
	ctx   context.Context
	blobs action.Blobs
	load  *treeLoader
	input func(string) (Entry, bool)

	lost  map[string]action.Digest
	has   map[action.Digest]bool // what was asked for
	whole map[action.Digest]bool // directories below which all was looked at
}

// check notes d as lost if the store does not have it.
func (f *lossFinder) check(at string, d action.Digest) bool {
	has, asked := f.has[d]
	if !asked {
		has = f.blobs.Has(f.ctx, d)
		f.has[d] = has
	}
	if !has {
		f.lost[at] = d
	}
	return has
}

// directory returns the directory d, which is empty if it is lost: nobody can tell
// then what was in it.
func (f *lossFinder) directory(at string, d action.Digest) (*action.Directory, error) {
	if m := f.load.dirs[d]; m != nil {
		return m, nil
	}
	if !f.check(at, d) {
		return &action.Directory{}, f.ctx.Err()
	}
	return f.load.directory(f.ctx, d)
}

// below checks all that is in the directory d of the tree.
func (f *lossFinder) below(at string, d action.Digest) error {
	if f.whole[d] {
		return nil
	}
	f.whole[d] = true
	m, err := f.directory(at, d)
	if err != nil {
		return err
	}
	for i := range m.Files {
		f.check(path.Join(at, m.Files[i].Name), m.Files[i].Digest)
	}
	for i := range m.Directories {
		if err := f.below(path.Join(at, m.Directories[i].Name), m.Directories[i].Digest); err != nil {
			return err
		}
	}
	return nil
}

// A lossStep is a directory on the way of a look-up: of the tree, or, where dir is
// nil, of the inputs.
type lossStep struct {
	at  string
	dir *action.Directory
}

// follow checks the file that a look-up led to.
func (f *lossFinder) follow(root *action.Directory, l backends.Lookup) error {
	way := []lossStep{{"/", root}}
	todo := strings.Split(l.Path, "/")
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		here := way[len(way)-1]
		switch name {
		case "", ".":
			continue
		case "..":
			way = way[:max(1, len(way)-1)]
			continue
		}
		at := path.Join(here.at, name)
		next, err := f.step(here, at, name)
		switch {
		case err != nil:
			return err
		case next.target != "":
			if links++; links > maxLinks {
				return nil
			}
			if path.IsAbs(next.target) {
				way = way[:1]
			}
			todo = append(strings.Split(next.target, "/"), todo...)
		case !next.isDir:
			return nil
		default:
			way = append(way, lossStep{at, next.dir})
			if l.Op == backends.Move && len(todo) == 0 && next.dir != nil { // all of it may have been read under another name
				return f.below(at, next.digest)
			}
		}
	}
	return nil
}

// A lossEntry is what a name in a directory stands for; the zero lossEntry is a file,
// which was checked, or nothing.
type lossEntry struct {
	target string // of a link
	isDir  bool
	dir    *action.Directory // of the tree
	digest action.Digest     // of dir
}

// step looks for name in the directory here; at is the path of both.
func (f *lossFinder) step(here lossStep, at, name string) (lossEntry, error) {
	switch {
	case at == action.WorkRoot:
		return lossEntry{isDir: true}, nil
	case here.dir == nil:
		e, ok := f.input(strings.TrimPrefix(at, action.WorkRoot+"/"))
		switch {
		case ok && e.Kind == KindLink:
			return lossEntry{target: e.Target}, nil
		case ok && e.Kind == KindFile:
			return lossEntry{}, nil
		}
		return lossEntry{isDir: true}, nil // perhaps one that the command made
	case here.at == "/" && (name == "dev" || name == "proc" || name == "tmp"): // the sandbox's own
		return lossEntry{}, nil
	}
	m := here.dir
	if i, ok := slices.BinarySearchFunc(m.Directories, name, func(n action.DirectoryNode, name string) int { return strings.Compare(n.Name, name) }); ok {
		d := m.Directories[i].Digest
		dir, err := f.directory(at, d)
		return lossEntry{isDir: true, dir: dir, digest: d}, err
	}
	if i, ok := slices.BinarySearchFunc(m.Symlinks, name, func(n action.SymlinkNode, name string) int { return strings.Compare(n.Name, name) }); ok {
		return lossEntry{target: m.Symlinks[i].Target}, nil
	}
	if i, ok := slices.BinarySearchFunc(m.Files, name, func(n action.FileNode, name string) int { return strings.Compare(n.Name, name) }); ok {
		f.check(at, m.Files[i].Digest)
	}
	return lossEntry{}, nil
}
