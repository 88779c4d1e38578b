// Package durable changes files so that nobody ever sees a half-made one.
//
// A [Disk] is where every change of such a file passes, so that tests can lose
// any of them. A [Temp] is a file without a name that gets one when it is
// whole. [Disk.RemoveAll] removes trees that resist. The rest are the few
// system calls that a store on disk needs and package os does not offer: byte
// range locks that belong to an open file, [Clone], [SyncFS], [BootID].
//
// Nothing here calls fsync unless its name says so: what SIGKILL finds in the
// page cache survives it. What a power cut leaves is for the caller to judge.
package durable

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// An Op is a kind of change.
type Op string

// The changes that pass through a [Disk].
const (
	OpCreate Op = "create"
	OpWrite  Op = "write"
	OpClone  Op = "clone"
	OpStamp  Op = "stamp"
	OpLink   Op = "link"
	OpRename Op = "rename"
	OpMkdir  Op = "mkdir"
	OpRemove Op = "remove"
	OpTouch  Op = "touch"
	OpSync   Op = "sync"
)

// A Disk makes changes to files. The zero Disk is the real one. Its methods
// may be called by any number of goroutines.
type Disk struct {
	// Fault, where not nil, stands before each change and decides whether
	// do, which makes it, is called, and what is reported. Set before use.
	Fault func(op Op, path string, do func() error) error
}

func (d *Disk) change(op Op, path string, do func() error) error {
	if d.Fault != nil {
		return d.Fault(op, path, do)
	}
	return do()
}

// Mkdir makes the directory path.
func (d *Disk) Mkdir(path string, mode fs.FileMode) error {
	return d.change(OpMkdir, path, func() error { return os.Mkdir(path, mode) })
}

// CreateEmpty makes the empty file path, which is whole at once. The error
// wraps [fs.ErrExist] where path exists.
func (d *Disk) CreateEmpty(path string, mode fs.FileMode) error {
	return d.change(OpCreate, path, func() error {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		if err != nil {
			return err
		}
		return f.Close()
	})
}

// Rename renames from to to, and replaces what is there.
func (d *Disk) Rename(from, to string) error {
	return d.change(OpRename, to, func() error {
		// Not os.Rename: that one first looks for a directory in the way.
		return wrap("rename", to, retry(func() error { return unix.Rename(from, to) }))
	})
}

// Remove removes the file or empty directory path.
func (d *Disk) Remove(path string) error {
	return d.change(OpRemove, path, func() error { return os.Remove(path) })
}

// Touch sets the access time of path to now; its modification time stays.
func (d *Disk) Touch(path string, now time.Time) error {
	return d.change(OpTouch, path, func() error { return os.Chtimes(path, now, time.Time{}) })
}

// Stamp sets the modification time of path; its access time stays.
func (d *Disk) Stamp(path string, mtime time.Time) error {
	return d.change(OpStamp, path, func() error { return os.Chtimes(path, time.Time{}, mtime) })
}

// Append writes data at the end of the file path in one call, so that records
// of several processes do not mix. The file is made where it is missing.
func (d *Disk) Append(path string, data []byte) error {
	return d.change(OpWrite, path, func() error {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o644) // a FIFO would wait
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		return errors.Join(err, f.Close())
	})
}

// AppendExisting is Append for a file that is there, and returns where what was
// written ends. It costs three system calls and leaves no trace in the poller.
func (d *Disk) AppendExisting(path string, data []byte) (end int64, err error) {
	err = d.change(OpWrite, path, func() error {
		fd, err := open(path, unix.O_WRONLY|unix.O_APPEND|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK)
		if err != nil {
			return wrap("open", path, err)
		}
		defer Close(fd)
		n, err := unix.Write(fd, data)
		if err == nil && n < len(data) {
			err = unix.ENOSPC
		}
		if err != nil {
			return wrap("write", path, err)
		}
		end, err = unix.Seek(fd, 0, io.SeekCurrent)
		return wrap("seek", path, err)
	})
	return end, err
}

// WriteSynced replaces the file path by one that holds data, by way of the
// name temp, and syncs it first: for the rare file that a power cut must not
// empty.
func (d *Disk) WriteSynced(path, temp string, data []byte, mode fs.FileMode) error {
	err := d.change(OpCreate, temp, func() error {
		f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		return errors.Join(err, f.Sync(), f.Close())
	})
	if err == nil {
		err = d.Rename(temp, path)
	}
	if err != nil {
		_ = os.Remove(temp) // may be gone, may be another's: it is only a draft
	}
	return err
}

// SyncFS writes everything that is dirty in the file system of path to the
// disk. It may take long when others have written much.
func (d *Disk) SyncFS(path string) error {
	return d.change(OpSync, path, func() error { return syncFS(path) })
}

// A FileInfo is what the store asks of a file, without an allocation.
type FileInfo struct {
	Size      int64
	Blocks    int64 // bytes on the disk
	Mode      fs.FileMode
	UID       uint32
	Dev, Ino  uint64
	NLink     uint64
	ATime     time.Time
	MTime     time.Time
	ChangedAt time.Time
}

// Stat describes path itself, not what a symbolic link points to.
func Stat(path string) (FileInfo, error) {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Lstat(path, &st) }); err != nil {
		return FileInfo{}, wrap("stat", path, err)
	}
	return fileInfo(&st), nil
}

// LookupZ is Stat for a path that ends in a NUL byte and for who expects that
// nothing is there, which is then no error. It makes no garbage.
func LookupZ(path []byte) (fi FileInfo, found bool, err error) {
	var st unix.Stat_t
	switch err := StatZ(unix.AT_FDCWD, path, &st); err {
	case nil:
		return fileInfo(&st), true, nil
	case unix.ENOENT:
		return FileInfo{}, false, nil
	default:
		return FileInfo{}, false, wrap("stat", string(path[:len(path)-1]), err)
	}
}

// FStat describes the open file fd, called path.
func FStat(fd int, path string) (FileInfo, error) {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return FileInfo{}, wrap("stat", path, err)
	}
	return fileInfo(&st), nil
}

func fileInfo(st *unix.Stat_t) FileInfo {
	return FileInfo{
		Size: st.Size, Blocks: int64(st.Blocks) * 512,
		Mode: fileMode(uint32(st.Mode)), UID: st.Uid,
		Dev: uint64(st.Dev), Ino: st.Ino, NLink: uint64(st.Nlink),
		ATime:     time.Unix(st.Atim.Unix()),
		MTime:     time.Unix(st.Mtim.Unix()),
		ChangedAt: time.Unix(st.Ctim.Unix()),
	}
}

func fileMode(m uint32) fs.FileMode {
	mode := fs.FileMode(m & 0o777)
	switch m & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		mode |= fs.ModeDir
	case unix.S_IFLNK:
		mode |= fs.ModeSymlink
	default:
		mode |= fs.ModeIrregular
	}
	return mode
}

// OpenRead opens the regular file path and returns a bare descriptor, without
// the cost of registering it for polling. It follows no symbolic link, does not
// wait for the other end of a FIFO in the place of the file, and does not mark the file as used where we may avoid that.
func OpenRead(path string) (int, error) {
	const flags = unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_NONBLOCK
	fd, err := open(path, flags|noATime)
	if err == unix.EPERM { // another's file
		fd, err = open(path, flags)
	}
	return fd, wrap("open", path, err)
}

func open(path string, flags int) (fd int, err error) {
	err = retry(func() error {
		fd, err = unix.Open(path, flags, 0)
		return err
	})
	return fd, err
}

// Read reads from fd into buf until it is full or the file ends.
func Read(fd int, buf []byte) (int, error) {
	n := 0
	for n < len(buf) {
		m, err := unix.Read(fd, buf[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || m == 0 {
			return n, err
		}
		n += m
	}
	return n, nil
}

// Close closes a descriptor of [OpenRead].
func Close(fd int) { _ = unix.Close(fd) }

// IsFull says that err comes from a file system or a quota without space.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// IsReadOnly says that err comes from a read-only file system.
func IsReadOnly(err error) bool { return errors.Is(err, syscall.EROFS) }

func wrap(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

func retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

// errNoTemp says that a file system has no files without names.
var errNoTemp error = noTempError{}

// A noTempError is a type of its own because fmt would take 0.04 ms at every start.
type noTempError struct{}

func (noTempError) Error() string { return "files without names: " + errors.ErrUnsupported.Error() }
func (noTempError) Unwrap() error { return errors.ErrUnsupported }
