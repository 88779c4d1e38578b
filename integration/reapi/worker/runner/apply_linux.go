package runner

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// apply puts into dst what a layer, as overlayfs leaves it, changes: the layer
// is the directory name of root, and covered dst. Nothing of the command is
// alive, but what it left is hostile: links are never followed, neither in the
// layer nor in dst, and no file of dst is written to, because it may be a link
// into a cache.
//
// In a layer, a name that was removed is a character device 0:0, and a directory
// that replaces another has the attribute overlay.opaque.
func apply(root *os.File, name, dst string) error {
	fd, err := unix.Openat(int(root.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the layer: %w", err)
	}
	return applyDir(fd, dst, 0)
}

// depthMax bounds how deep directories may be, because the stack is ours.
const depthMax = 500

// applyDir applies the directory fd, which it closes.
func applyDir(fd int, dst string, depth int) error {
	dir := os.NewFile(uintptr(fd), dst)
	defer dir.Close()
	if depth > depthMax {
		return fmt.Errorf("%s: directories deeper than %d", dst, depthMax)
	}
	for {
		names, err := dir.Readdirnames(1000)
		for _, n := range names {
			if err := applyEntry(fd, n, filepath.Join(dst, n), depth); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func applyEntry(dir int, name, dst string, depth int) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("%s: %w", dst, err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return applySubdir(dir, name, dst, fs.FileMode(st.Mode&0o777), depth)
	case unix.S_IFREG:
		return applyFile(dir, name, dst, fs.FileMode(st.Mode&0o777))
	case unix.S_IFLNK:
		target := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(dir, name, target)
		if err != nil {
			return fmt.Errorf("%s: %w", dst, err)
		}
		if err := os.RemoveAll(dst); err != nil {
			return err
		}
		return os.Symlink(string(target[:n]), dst)
	case unix.S_IFCHR:
		if st.Rdev == 0 {
			return os.RemoveAll(dst)
		}
	}
	return nil // a FIFO or a socket: no worker collects such
}

func applySubdir(dir int, name, dst string, mode fs.FileMode, depth int) error {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EACCES) { // ours, as an unprivileged user's: make it passable
		if err = unix.Fchmodat(dir, name, uint32(mode|0o700), 0); err == nil {
			fd, err = unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", dst, err)
	}
	info, err := os.Lstat(dst)
	if err == nil && (!info.IsDir() || attribute(fd, "opaque")) {
		err = os.RemoveAll(dst)
		info = nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		err, info = nil, nil
	}
	if err == nil && info == nil {
		err = os.Mkdir(dst, 0o700)
	}
	if err == nil && (info == nil || info.Mode().Perm() != mode) {
		err = os.Chmod(dst, mode|0o700) // the worker has to read it
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	return applyDir(fd, dst, depth+1)
}

// attribute says whether overlayfs has set an attribute of its own.
func attribute(fd int, name string) bool {
	var v [256]byte
	for _, space := range []string{"trusted.overlay.", "user.overlay."} {
		if n, err := unix.Fgetxattr(fd, space+name, v[:]); err == nil && n >= 0 {
			return true
		}
	}
	return false
}

// applyFile puts a copy of a file in the place of what is at dst.
func applyFile(dir int, name, dst string, mode fs.FileMode) error {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EACCES) {
		if err = unix.Fchmodat(dir, name, uint32(mode|0o400), 0); err == nil {
			fd, err = unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", dst, err)
	}
	src := os.NewFile(uintptr(fd), dst)
	defer src.Close()
	from := src
	if attribute(fd, "metacopy") { // only its mode changed: its contents are still below
		below, err := os.OpenFile(dst, os.O_RDONLY|unix.O_NOFOLLOW, 0)
		if err != nil {
			return err
		}
		defer below.Close()
		from = below
	}
	draft, err := os.CreateTemp(filepath.Dir(dst), ".sbx-")
	if err != nil {
		return err
	}
	defer os.Remove(draft.Name()) // nothing, once it has its name
	_, err = io.Copy(draft, from)
	err = errors.Join(err, draft.Chmod(mode|0o400), draft.Close())
	if err != nil {
		return fmt.Errorf("%s: %w", dst, err)
	}
	if info, err := os.Lstat(dst); err == nil && info.IsDir() {
		if err := os.RemoveAll(dst); err != nil {
			return err
		}
	}
	return os.Rename(draft.Name(), dst)
}
