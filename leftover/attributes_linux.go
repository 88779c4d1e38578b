package leftover

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A fileID is the same for all names of a file.
type fileID struct{ dev, ino uint64 }

// identity says which file it is, and how many names it has.
func identity(info fs.FileInfo) (id fileID, names int) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}, 1
	}
	return fileID{st.Dev, st.Ino}, int(st.Nlink)
}

// ours says whether an attribute is one that the owner of a file may choose. File
// capabilities are not: what a command did in its sandbox gives nobody rights.
func ours(name string) bool {
	return strings.HasPrefix(name, "user.") || name == "system.posix_acl_access" || name == "system.posix_acl_default"
}

// attributes returns the extended attributes of an open file.
func attributes(f *os.File) (map[string][]byte, error) {
	fd := int(f.Fd())
	names, err := grown(func(buf []byte) (int, error) { return unix.Flistxattr(fd, buf) })
	if err != nil || len(names) == 0 {
		return nil, err
	}
	list := map[string][]byte{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		if !ours(name) {
			continue
		}
		value, err := grown(func(buf []byte) (int, error) { return unix.Fgetxattr(fd, name, buf) })
		if err != nil {
			return nil, &fs.PathError{Op: "read the attribute " + name + " of", Path: f.Name(), Err: err}
		}
		list[name] = value
	}
	return list, nil
}

// grown calls a system call with as large a buffer as it wants. A file system
// without attributes has none.
func grown(call func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := call(nil)
		if errors.Is(err, unix.ENOTSUP) || err == nil && n == 0 {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		buf := make([]byte, n)
		n, err = call(buf)
		if errors.Is(err, unix.ERANGE) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return buf[:n], nil
	}
}

// setAttributes makes list the attributes of a file, and returns the names of
// those that its file system cannot have.
func setAttributes(f *os.File, list map[string][]byte) (failed []string, err error) {
	old, err := attributes(f)
	if err != nil {
		return nil, err
	}
	fd := int(f.Fd())
	for _, name := range slices.Sorted(maps.Keys(list)) {
		if value, ok := old[name]; ok && bytes.Equal(value, list[name]) {
			continue
		}
		switch err := unix.Fsetxattr(fd, name, list[name], 0); {
		case errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.ENOSPC), errors.Is(err, unix.E2BIG), errors.Is(err, unix.EPERM):
			failed = append(failed, name)
		case err != nil:
			return nil, &fs.PathError{Op: "set the attribute " + name + " of", Path: f.Name(), Err: err}
		}
	}
	for name := range old {
		if _, ok := list[name]; ok {
			continue
		}
		if err := unix.Fremovexattr(fd, name); err != nil {
			return nil, &fs.PathError{Op: "remove the attribute " + name + " of", Path: f.Name(), Err: err}
		}
	}
	return failed, nil
}

// sameAttributes compares those of two files or directories. Of what may not be
// opened nothing is known.
func sameAttributes(a, b string) (bool, error) {
	var lists [2]map[string][]byte
	for i, name := range []string{a, b} {
		f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
		if errors.Is(err, fs.ErrPermission) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		lists[i], err = attributes(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return false, err
		}
	}
	return maps.EqualFunc(lists[0], lists[1], bytes.Equal), nil
}
