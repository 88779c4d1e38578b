package durable

import (
	"errors"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const noATime = unix.O_NOATIME

func openTemp(dir string) (int, error) {
	var fd int
	err := retry(func() (err error) {
		// The mode is that of the finished file; it does not concern a
		// descriptor that is open already.
		fd, err = unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, TempMode)
		return err
	})
	switch {
	case err == nil:
		return fd, nil
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EISDIR), errors.Is(err, unix.EINVAL):
		return -1, wrap("create in", dir, errNoTemp) // NFS, FUSE, old overlayfs
	}
	return -1, wrap("create in", dir, err)
}

// link names fd. The detour through /proc is what an unprivileged process may
// do on every kernel; AT_EMPTY_PATH serves where /proc is not mounted.
func link(fd int, path string) error {
	err := retry(func() error {
		return unix.Linkat(unix.AT_FDCWD, procPath(fd), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
	})
	if errors.Is(err, unix.ENOENT) {
		if _, missing := os.Lstat("/proc/self/fd"); missing != nil {
			err = retry(func() error {
				return unix.Linkat(fd, "", unix.AT_FDCWD, path, unix.AT_EMPTY_PATH)
			})
		}
	}
	return wrap("link", path, err)
}

func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

func clone(dst int, src *os.File) error {
	return retry(func() error { return unix.IoctlFileClone(dst, int(src.Fd())) })
}

func stamp(fd int, _ string, mtime time.Time) error {
	ts := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Sec: mtime.Unix(), Nsec: int64(mtime.Nanosecond())}}
	err := retry(func() error { return unix.UtimesNanoAt(fd, "", ts, unix.AT_EMPTY_PATH) })
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) { // before Linux 5.8
		err = retry(func() error { return unix.UtimesNanoAt(unix.AT_FDCWD, procPath(fd), ts, 0) })
	}
	if err != nil {
		return wrap("set the time of", procPath(fd), err)
	}
	return nil
}

func syncFS(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return wrap("syncfs", path, retry(func() error { return unix.Syncfs(int(f.Fd())) }))
}

// BootID names this boot of the machine; "" where it cannot be told.
func BootID() string { return bootID() }

var bootID = sync.OnceValue(func() string {
	fd, err := open("/proc/sys/kernel/random/boot_id", unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return ""
	}
	defer Close(fd)
	var buf [36]byte
	if n, err := Read(fd, buf[:]); n != len(buf) || err != nil {
		return ""
	}
	return string(buf[:])
})

// TryLock locks n bytes of f at off for writing, against every other open
// file, also of this process; it does not wait. The lock belongs to f and ends
// with it. The error wraps [errors.ErrUnsupported] where f can't be locked.
func TryLock(f *os.File, off, n int64) (bool, error) {
	err := fcntl(f, unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: off, Len: n})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return false, nil
	}
	return err == nil, err
}

// Unlock ends the lock of [TryLock].
func Unlock(f *os.File, off, n int64) error {
	return fcntl(f, unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK, Start: off, Len: n})
}

// Locked says whether anybody else's open file has a lock of [TryLock] there.
func Locked(f *os.File, off, n int64) (bool, error) {
	lk := unix.Flock_t{Type: unix.F_WRLCK, Start: off, Len: n}
	err := fcntl(f, unix.F_OFD_GETLK, &lk)
	return lk.Type != unix.F_UNLCK, err
}

func fcntl(f *os.File, cmd int, lk *unix.Flock_t) error {
	err := retry(func() error { return unix.FcntlFlock(f.Fd(), cmd, lk) })
	switch {
	case errors.Is(err, unix.ENOLCK), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP):
		return &os.PathError{Op: "lock", Path: f.Name(), Err: errors.Join(errors.ErrUnsupported, err)}
	case err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES):
		return wrap("lock", f.Name(), err)
	}
	return err
}

// maxParts is how many parts the system takes at once.
const maxParts = 1024

// writeParts writes some of what follows the first at bytes, which are of the first
// part.
func writeParts(fd int, parts [][]byte, at int) (int, error) {
	if len(parts) == 1 || len(parts[0])-at >= 1<<20 {
		return unix.Write(fd, parts[0][at:])
	}
	some := append([][]byte{parts[0][at:]}, parts[1:min(len(parts), maxParts)]...)
	return unix.Writev(fd, some)
}
