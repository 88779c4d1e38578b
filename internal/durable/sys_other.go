//go:build !linux

package durable

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const noATime = 0

func openTemp(dir string) (int, error) { return -1, wrap("create in", dir, errNoTemp) }

func link(_ int, path string) error { return wrap("link", path, errNoTemp) }

func clone(_ int, _ *os.File) error { return errors.ErrUnsupported }

func stamp(_ int, name string, mtime time.Time) error {
	return os.Chtimes(name, time.Now(), mtime)
}

// StatZ is fstatat(2) for a name that ends in a NUL byte, without following a link.
func StatZ(dirfd int, name []byte, st *unix.Stat_t) error {
	return unix.Fstatat(dirfd, string(name[:len(name)-1]), st, unix.AT_SYMLINK_NOFOLLOW)
}

// syncFS has no equal elsewhere: whoever relies on it verifies instead.
func syncFS(path string) error {
	return &os.PathError{Op: "syncfs", Path: path, Err: errors.ErrUnsupported}
}

// BootID names this boot of the machine; "" where it cannot be told.
func BootID() string {
	id, err := unix.Sysctl("kern.bootsessionuuid") // macOS
	if err != nil {
		return ""
	}
	return id
}

// TryLock is not to be had: POSIX locks end when any descriptor of the file is
// closed, and flock knows no ranges.
func TryLock(f *os.File, _, _ int64) (bool, error) { return false, noLock(f) }

// Unlock ends the lock of [TryLock].
func Unlock(f *os.File, _, _ int64) error { return noLock(f) }

// Locked says whether anybody has a lock of [TryLock] there.
func Locked(f *os.File, _, _ int64) (bool, error) { return false, noLock(f) }

func noLock(f *os.File) error {
	return &os.PathError{Op: "lock", Path: f.Name(), Err: errors.ErrUnsupported}
}

// writeParts writes some of what follows the first at bytes, which are of the first
// part.
func writeParts(fd int, parts [][]byte, at int) (int, error) { return unix.Write(fd, parts[0][at:]) }
