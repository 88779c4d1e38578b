package staging

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/erofs"
)

// A specialNode is a node of a tree whose time or mode is not what staged nodes
// have: its NodeProperties say so.
type specialNode struct {
	path string // in the root
	e    entry
	own  *action.NodeProperties
}

// specials returns the nodes of the tree d, at the path at, that have
// properties.
func (l *treeLoader) specials(ctx context.Context, d action.Digest, at string, depth int) (list []specialNode, err error) {
	if depth > maxDepth {
		return nil, errTooDeep()
	}
	m, err := l.directory(ctx, d)
	if err != nil {
		return nil, err
	}
	if m.Properties != nil {
		list = append(list, specialNode{at, entry{kind: erofs.Directory}, m.Properties})
	}
	for _, f := range m.Files {
		if f.Properties != nil {
			list = append(list, specialNode{path.Join(at, f.Name), entry{name: f.Name, kind: erofs.File, exec: f.Executable, digest: f.Digest}, f.Properties})
		}
	}
	for _, s := range m.Symlinks {
		if s.Properties != nil {
			list = append(list, specialNode{path.Join(at, s.Name), entry{name: s.Name, kind: erofs.Symlink, target: s.Target}, s.Properties})
		}
	}
	for _, n := range m.Directories {
		below, err := l.specials(ctx, n.Digest, path.Join(at, n.Name), depth+1)
		if err != nil {
			return nil, inside(n.Name, err)
		}
		if list = append(list, below...); len(list) > maxCopies {
			return nil, fmt.Errorf("more than %d files with properties of their own", maxCopies)
		}
	}
	return list, nil
}

// withProperties is a fill that comes after fill, and gives the nodes of the
// tree d their own times and modes. They lie in the scratch then, above layers
// that have the others.
func (s *Stager) withProperties(ctx context.Context, d action.Digest, fill func(*os.File) error) (func(*os.File) error, error) {
	list, err := newTreeLoader(s.Blobs).specials(ctx, d, s.workDir(), 0)
	if err != nil || len(list) == 0 {
		return fill, err
	}
	// Directories last, the deepest first: what is made in them changes their
	// times, and what they forbid must have happened.
	slices.SortStableFunc(list, func(a, b specialNode) int {
		if da, db := a.e.kind == erofs.Directory, b.e.kind == erofs.Directory; da || db {
			return cmp.Or(cmp.Compare(btoi(da), btoi(db)), -cmp.Compare(strings.Count(a.path, "/"), strings.Count(b.path, "/")))
		}
		return 0
	})
	return func(dir *os.File) error {
		if err := fill(dir); err != nil {
			return err
		}
		w := newPlacer(s.owner())
		for _, n := range list { // every directory before any is closed
			if n.e.kind == erofs.Directory {
				if err := w.placeAt(int(dir.Fd()), strings.Split(strings.Trim(n.path, "/"), "/"), &fillNode{name: path.Base(n.path), kind: erofs.Directory}); err != nil {
					return fmt.Errorf("%s: %w", n.path, err)
				}
			}
		}
		for i := range list {
			if err := s.placeSpecial(ctx, w, int(dir.Fd()), &list[i]); err != nil {
				return fmt.Errorf("%s: %w", list[i].path, err)
			}
		}
		return nil
	}, nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// placeSpecial makes n below root, if it is not there, and gives it what it
// has of its own.
func (s *Stager) placeSpecial(ctx context.Context, w *placer, root int, n *specialNode) error {
	names := strings.Split(strings.Trim(n.path, "/"), "/")
	parent, err := openBelow(root, names[:len(names)-1])
	if errors.Is(err, unix.ENOENT) || err == nil && n.e.kind != erofs.Directory && !existsAt(parent, n.e.name) {
		if err == nil {
			unix.Close(parent)
		}
		node := fillNode{name: n.e.name, kind: n.e.kind, exec: n.e.exec, target: n.e.target, size: n.e.digest.Size()}
		if node.kind == erofs.File && node.size > 0 {
			node.open = func() (*os.File, error) { return s.Blobs.Open(ctx, n.e.digest) }
		}
		if err := w.placeAt(root, names, &node); err != nil {
			return err
		}
		parent, err = openBelow(root, names[:len(names)-1])
	}
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	name := names[len(names)-1]
	if m := n.own.UnixMode; m != nil && n.e.kind != erofs.Symlink {
		if err := unix.Fchmodat(parent, name, *m&0o777, 0); err != nil {
			return fmt.Errorf("chmod: %w", err)
		}
	}
	if t := n.own.MTime; t != nil {
		at := unix.Timespec{Sec: t.Seconds, Nsec: int64(t.Nanos)}
		if err := unix.UtimesNanoAt(parent, name, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("set the time: %w", err)
		}
	}
	return nil
}

func existsAt(dir int, name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil
}

// openBelow opens the directory that names lead to.
func openBelow(root int, names []string) (int, error) {
	fd, err := openRetry(root, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	for _, name := range names {
		if err != nil {
			return -1, err
		}
		next, nerr := openRetry(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		unix.Close(fd)
		fd, err = next, nerr
	}
	return fd, err
}

// properties are those of a file that an output is wanted to have.
func (o *Outputs) properties(st *unix.Stat_t) *action.NodeProperties {
	var p action.NodeProperties
	for _, name := range o.Properties {
		switch name {
		case "mtime":
			p.MTime = &action.Timestamp{Seconds: st.Mtim.Sec, Nanos: int32(st.Mtim.Nsec)}
		case "unix_mode":
			mode := st.Mode & 0o7777
			p.UnixMode = &mode
		}
	}
	if p.MTime == nil && p.UnixMode == nil {
		return nil
	}
	return &p
}

// nodeProperties are those of what lies in an output directory: what is wanted,
// or with Modes, what is unusual.
func (o *Outputs) nodeProperties(st *unix.Stat_t, plain, executable uint32) *action.NodeProperties {
	if len(o.Properties) == 0 && o.Modes {
		return unusual(st.Mode, plain, executable)
	}
	return o.properties(st)
}
