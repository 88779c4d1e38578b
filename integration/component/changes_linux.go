package component

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/staging"
)

// coarseNow is the clock by which the kernel dates changes of inodes.
func coarseNow() time.Time {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &ts) != nil {
		return time.Time{} // then everything may have changed, and is read
	}
	return time.Unix(ts.Unix())
}

// A changeWalker compares a root with the tree that it was made of. A file whose
// inode was changed before the root was complete is as it was; others are read.
type changeWalker struct {
	ctx  context.Context
	s    *buildStager
	list []Change

	owned *staging.Owned // or nil
}

func (w *changeWalker) add(how, p string, n *node) {
	w.list = append(w.list, Change{how, p, n})
}

// directory compares the directory name of parent, at p, with d.
func (w *changeWalker) directory(parent int, name string, d *dir, p string) error {
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	f, err := openNode(parent, name, unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("/%s: %w", p, err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("/%s: %w", p, err)
	}
	if err := w.s.root.load(w.ctx, d); err != nil {
		return err
	}
	slices.Sort(names)
	there := make(map[string]bool, len(names))
	for _, n := range names {
		there[n] = true
		at := path.Join(p, n)
		if w.s.ignored(at) {
			continue
		}
		if err := w.entry(int(f.Fd()), n, d.names[n], at); err != nil {
			return err
		}
	}
	for _, n := range slices.Sorted(maps.Keys(d.names)) {
		if at := path.Join(p, n); !there[n] && !w.s.ignored(at) {
			w.add("removed", at, nil)
		}
	}
	return nil
}

// strays adds what commands have left beside the script that runs them.
func (w *changeWalker) strays(root int) error {
	at := strings.Trim(workRoot, "/")
	f, err := openNode(root, at, unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("/%s: %w", at, err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	for _, n := range names {
		if n != scriptName && n != outputName {
			w.add("added", path.Join(at, n), nil)
		}
	}
	return err
}

// entry compares what is at name with what was there, if anything was.
func (w *changeWalker) entry(parent int, name string, was *node, p string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("/%s: %w", p, err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR && was != nil && was.dir != nil {
		return w.directory(parent, name, was.dir, p)
	}
	old := time.Unix(st.Ctim.Unix()).Before(w.s.staged)
	if old && was != nil && sameKind(st.Mode, was) && (was.file == nil || st.Size == was.file.Digest.Size()) {
		return nil
	}
	how := "changed"
	if was == nil {
		how = "added"
	}
	if !w.s.whole && was == nil { // what it is does not matter
		w.add(how, p, nil)
		return nil
	}
	now, err := w.read(parent, name, &st, p)
	if err != nil {
		return fmt.Errorf("/%s: %w", p, err)
	}
	if was == nil || now.dir != nil || was.dir != nil || !was.same(now) {
		w.add(how, p, now)
	}
	return nil
}

func sameKind(mode uint32, n *node) bool {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return n.file != nil && n.file.Executable == (mode&0o111 != 0)
	case unix.S_IFLNK:
		return n.link != nil
	}
	return false
}

// read stores what is at name, with all that is in it.
func (w *changeWalker) read(parent int, name string, st *unix.Stat_t, p string) (*node, error) {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(parent, name, buf)
		return &node{link: &action.SymlinkNode{Target: string(buf[:max(n, 0)]), Properties: w.own(nil, parent, name, p, st)}}, err
	case unix.S_IFREG:
		f, err := openNode(parent, name, 0)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		d, err := w.s.blobs.PutFile(w.ctx, w.s.f, f)
		file := &action.FileNode{Digest: d, Executable: st.Mode&0o111 != 0}
		if mode := st.Mode & 0o7777; mode != 0o644 && mode != 0o755 {
			file.Properties = &action.NodeProperties{UnixMode: &mode}
		}
		file.Properties = w.own(file.Properties, parent, name, p, st)
		return &node{file: file}, err
	case unix.S_IFDIR:
		return w.readDir(parent, name, st, p)
	}
	return nil, errors.New("a device, a socket or a pipe: a system holds files, directories and links, and the devices that its components declare")
}

func (w *changeWalker) readDir(parent int, name string, st *unix.Stat_t, p string) (*node, error) {
	f, err := openNode(parent, name, unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	d := newDir()
	if mode := st.Mode & 0o7777; mode != 0o755 {
		d.props = &action.NodeProperties{UnixMode: &mode}
	}
	d.props = w.own(d.props, parent, name, p, st)
	for _, n := range names {
		if err := action.CheckName(n); err != nil {
			return nil, err
		}
		var kid unix.Stat_t
		if err := unix.Fstatat(int(f.Fd()), n, &kid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return nil, err
		}
		k, err := w.read(int(f.Fd()), n, &kid, path.Join(p, n))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n, err)
		}
		d.names[n] = k
	}
	return &node{dir: d}, nil
}

// own adds the owner of a file to its properties.
func (w *changeWalker) own(props *action.NodeProperties, parent int, name, p string, st *unix.Stat_t) *action.NodeProperties {
	if w.owned == nil {
		return props
	}
	return staging.WithOwner(props, w.owned.Of(parent, name, "/"+p, st))
}

// openNode opens a file or directory for reading, also if its owner may not.
func openNode(dir int, name string, flags int) (*os.File, error) {
	flags |= unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	fd, err := unix.Openat(dir, name, flags, 0)
	if errors.Is(err, unix.EACCES) {
		// It is no link: O_NOFOLLOW would have failed by ELOOP.
		if err = unix.Fchmodat(dir, name, 0o700, 0); err == nil {
			fd, err = unix.Openat(dir, name, flags, 0)
		}
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}
