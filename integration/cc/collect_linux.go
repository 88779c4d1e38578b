package cc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
)

// A collector turns a layer that took what a call wrote, as overlayfs leaves
// it, into outputs.
type collector struct {
	ctx context.Context
	s   *Session
	res *action.Result

	fresh bool // nothing of the host lies below the layer
}

// layer collects the layer that is called name in root, and covered the
// directory at of the host.
func (k *collector) layer(root *os.File, name, at string) error {
	fd, err := unix.Openat(int(root.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open what was written below %s: %w", at, err)
	}
	return k.directory(fd, at, 0)
}

// directory collects what is in fd, which it closes.
func (k *collector) directory(fd int, at string, depth int) error {
	defer unix.Close(fd)
	if depth > 200 {
		return fmt.Errorf("%s: too deep: %w", at, ErrPlain)
	}
	names, err := namesIn(fd, math.MaxInt)
	if err != nil {
		return &fs.PathError{Op: "list", Path: at, Err: err}
	}
	sort.Strings(names)
	for _, n := range names {
		if err := k.entry(fd, n, path.Join(at, k.s.view.names.real(n)), depth); err != nil {
			return err
		}
	}
	return nil
}

func (k *collector) entry(dir int, name, at string, depth int) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return k.subdirectory(dir, name, at, depth)
	case unix.S_IFREG:
		k.s.written[at] = true
		return k.file(dir, name, at, &st)
	case unix.S_IFLNK:
		k.s.written[at] = true
		target := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(dir, name, target)
		if err != nil {
			return err
		}
		if k.s.view.fixed() && k.s.view.base != fixedRoot && hasName(target[:n], fixedRoot) {
			k.s.placed = at
		}
		if k.s.view.names != nil && strings.Contains(string(target[:n]), standMark) {
			k.s.placed = at
		}
		k.res.Symlinks = append(k.res.Symlinks, action.OutputSymlink{Path: k.s.view.name(at)[1:], Target: string(target[:n])})
		return nil
	case unix.S_IFCHR:
		if st.Rdev != 0 {
			break
		}
		// A whiteout: something was there, and is not any more.
		if info, err := os.Lstat(at); err != nil || info.IsDir() {
			return fmt.Errorf("%s: %w", at, errUndone)
		}
		k.s.written[at] = true
		k.s.removed = append(k.s.removed, at)
		return nil
	}
	return fmt.Errorf("%s: neither a file nor a link nor a directory: %w", at, errKind)
}

// subdirectory collects a directory: one that the host has, too, or a new one.
func (k *collector) subdirectory(dir int, name, at string, depth int) error {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	info, err := os.Lstat(at)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		k.s.written[at] = true
		if f, err := os.ReadDir(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil && len(f) == 0 {
			unix.Close(fd)
			return fmt.Errorf("%s: an empty directory: %w", at, errKind)
		}
		err = k.s.newDirectory(fd, at)
	case err != nil || !info.IsDir() || !k.fresh && opaque(fd):
		unix.Close(fd)
		return fmt.Errorf("%s: %w", at, errUndone)
	case (k.s.call.Kind == Any || k.s.call.Script) && !k.fresh:
		err = oldDirectory(fd, at)
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	return k.directory(fd, at, depth+1)
}

// opaque says whether the directory hides the host's.
func opaque(fd int) bool {
	var v [1]byte
	for _, name := range []string{"trusted.overlay.opaque", "user.overlay.opaque"} {
		if n, err := unix.Fgetxattr(fd, name, v[:]); err == nil && n == 1 && v[0] == 'y' {
			return true
		}
	}
	return false
}

func (k *collector) file(dir int, name, at string, st *unix.Stat_t) error {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%s: %w: %w", at, err, ErrPlain)
	}
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), at)
	defer f.Close()
	if !strings.HasPrefix(at, "/") || st.Nlink != 1 {
		return fmt.Errorf("%s: it has several names: %w", at, errKind)
	}
	d, in, done, err := k.keep(f, st.Size)
	defer done()
	if err != nil {
		return fmt.Errorf("keep %s: %w", at, err)
	}
	old := st.Mtim.Nano() < int64(k.s.stamp) && k.s.told == nil
	if (k.s.call.Kind == Any || old) && !k.fresh && k.s.untouched(f, at, d, st) {
		delete(k.s.written, at)
		return nil
	}
	if k.s.call.Kind == Any {
		if err := k.s.ofItsOwn(f, at, st); err != nil {
			return err
		}
	}
	perm := st.Mode & 0o7777
	if perm != 0o666&^k.s.mask() && perm != 0o777&^k.s.mask() {
		return fmt.Errorf("%s: has permissions %04o: %w", at, perm, errKind)
	}
	if err := errors.Join(k.check(in, at), k.s.checkTime(in, at)); err != nil {
		return err
	}
	if (k.s.view.stand == baseRoot || k.s.aside()) && k.s.placed == "" {
		found, err := k.s.tells(in)
		if err != nil {
			return err
		}
		if found {
			k.s.placed = at
		}
	}
	k.s.files[at] = true
	o := action.OutputFile{Path: k.s.view.name(at)[1:], Digest: d, Executable: perm&0o111 != 0}
	text, err := k.s.mark(in, at, st.Size)
	if text {
		o.Properties = &action.NodeProperties{Properties: []action.Property{textProperty}}
	}
	k.res.Files = append(k.res.Files, o)
	return err
}

// check refuses outputs that hold the time at which they were made.
func (k *collector) check(f io.ReaderAt, at string) error {
	c := k.s.call
	if c.Clang && precompiled(at) && !c.Timeless && !strings.HasSuffix(at, ".pcm") {
		k.s.refused = fmt.Errorf("%s: %s", at, ReasonTimes)
	}
	if c.Kind == Any || c.Script || path.Ext(at) == ".ali" {
		d, err := datingOf(f, at)
		if err != nil {
			return err
		}
		if d == dated {
			k.s.refused = fmt.Errorf("%s: %s", at, ReasonTimes)
		}
		k.s.unproven = k.s.unproven || d == undated
	}
	if k.s.stampedNow(f) {
		k.s.refused = fmt.Errorf("%s %w", at, errClock)
	}
	if c.Kind == Archive {
		dated, err := datedArchive(f)
		if err != nil {
			return err
		}
		if dated {
			k.s.refused = fmt.Errorf("the members of %s have dates", at)
		}
	}
	return nil
}
