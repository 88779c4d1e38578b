package staging

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

const (
	modeType    = unix.S_IFMT
	modeRegular = unix.S_IFREG
	modeDir     = unix.S_IFDIR
	modeLink    = unix.S_IFLNK
	modeSocket  = unix.S_IFSOCK
)

// errReplaced says that something is of another type than a moment ago.
var errReplaced = errors.New("it was replaced while it was looked at")

func makeStatID(st *unix.Stat_t) StatID {
	return StatID{
		Dev: uint64(st.Dev), Ino: uint64(st.Ino), Size: st.Size,
		MTime: nanos(st.Mtim), CTime: nanos(st.Ctim), Mode: uint32(st.Mode),
	}
}

// nanos wraps around for times that no clock shows.
func nanos(t unix.Timespec) int64 { return int64(t.Sec)*1e9 + int64(t.Nsec) }

// StatPath returns the StatID of path.
func StatPath(path string, l Links) (StatID, error) {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if l == FollowLinks {
		flags = 0
	}
	var st unix.Stat_t
	for {
		err := unix.Fstatat(unix.AT_FDCWD, path, &st, flags)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return StatID{}, &fs.PathError{Op: "stat", Path: path, Err: err}
		}
		return makeStatID(&st), nil
	}
}

func statAt(dirfd int, name string) (StatID, error) {
	var st unix.Stat_t
	for {
		err := unix.Fstatat(dirfd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == unix.EINTR {
			continue
		}
		return makeStatID(&st), err
	}
}

// StatFD returns the StatID of an open file.
func StatFD(fd int) (StatID, error) {
	var st unix.Stat_t
	for {
		err := unix.Fstat(fd, &st)
		if err == unix.EINTR {
			continue
		}
		return makeStatID(&st), err
	}
}

func isLink(id *StatID) bool { return id.Mode&modeType == unix.S_IFLNK }

func readLinkAt(dirfd int, name string) (string, error) {
	for size := 256; ; size *= 4 {
		buf := make([]byte, size)
		n, err := unix.Readlinkat(dirfd, name, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return "", err
		}
		if n < size {
			return string(buf[:n]), nil
		}
	}
}

// openFile opens a file for reading; if it has become a FIFO, without waiting.
func openFile(dirfd int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dirfd, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY|flags, 0)
		if err == unix.EINTR {
			continue
		}
		return fd, err
	}
}

func openDir(dirfd int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|flags, 0)
		if err == unix.EINTR {
			continue
		}
		return fd, err
	}
}

// kindOf is the kind of a record's entry. Any of the three x bits makes a file
// executable, as REAPI has one only.
func kindOf(mode uint32) byte {
	switch mode & modeType {
	case unix.S_IFREG:
		if mode&0o111 != 0 {
			return kindExec
		}
		return kindFile
	case unix.S_IFDIR:
		return kindDir
	case unix.S_IFLNK:
		return kindLink
	}
	return kindOther
}

// typeName says what a thing that cannot be an input is.
func typeName(mode uint32) string {
	switch mode & modeType {
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFLNK:
		return "a symbolic link"
	case unix.S_IFREG:
		return "a file"
	case unix.S_IFIFO:
		return "a FIFO"
	case unix.S_IFSOCK:
		return "a socket"
	case unix.S_IFCHR, unix.S_IFBLK:
		return "a device"
	}
	return "of unknown type"
}
