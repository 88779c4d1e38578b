package cc

import (
	"errors"
	"fmt"
	"os"
	"path"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
)

// They are wrapped by errors that say that only the compiler itself can do what it does.
var (
	errUnsaid = fmt.Errorf("what the compiler says cannot be written: %w", ErrPlain)
	errLinked = fmt.Errorf("it has another name, too, or is a link: %w", ErrPlain)
	errStream = fmt.Errorf("it is a FIFO, a socket or a device, of which a sandbox has another one: %w", ErrPlain)
	errRights = fmt.Errorf("it has an owner or permissions that a new file would not have: %w", ErrPlain)
)

// ErrMixed says that nobody has noted in which order the compiler said things.
var ErrMixed = errors.New("standard output and error are one file")

// Unsaid wraps an error of writing what the compiler said to where our caller wants it.
func Unsaid(err error) error { return fmt.Errorf("%w: %w", err, errUnsaid) }

// InPlace returns an error if somebody could tell an output that is replaced from one
// that is written to: one that has several names, is a symbolic link or no file at all, or has not the
// owner and permissions of a new one. GCC replaces objects and writes to lists of
// dependencies, clang replaces most, and others do something else.
func (s *Session) InPlace(res *action.Result) error {
	for _, p := range s.removed { // by a call that failed, which may have written to it before
		var st unix.Stat_t
		if unix.Lstat(p, &st) == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
			return fmt.Errorf("%s: %w", p, errLinked)
		}
	}
	for i := range res.Files {
		p := s.place(res.Files[i].Path)
		info, err := os.Lstat(p)
		if err != nil {
			continue
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		switch {
		case info.Mode()&os.ModeSymlink != 0 || ok && info.Mode().IsRegular() && st.Nlink > 1:
			return fmt.Errorf("%s: %w", p, errLinked)
		case s.call.Kind == Any && hasAttributes(p):
			return fmt.Errorf("%s: it has extended attributes: %w", p, errRights)
		case info.Mode()&(os.ModeNamedPipe|os.ModeSocket|os.ModeDevice) != 0 && p != os.DevNull:
			return fmt.Errorf("%s: %w", p, errStream)
		case ok && info.Mode().IsRegular() && !s.usual(p, st, &res.Files[i]):
			return fmt.Errorf("%s: %w", p, errRights)
		}
	}
	return nil
}

// usual says whether an output that is at p will have the owner and the permissions that
// the compiler leaves there.
func (s *Session) usual(p string, st *syscall.Stat_t, f *action.OutputFile) bool {
	perm := uint32(0o666)
	if f.Executable {
		perm = 0o777
	}
	mask := umask()
	ours := int(st.Uid) == os.Geteuid() && (int(st.Gid) == os.Getegid() || inherits(p, st.Gid))
	have := uint32(st.Mode) & 0o7777
	if ours && (have == perm&^mask || have&0o7000 == 0 && hasDefaultRights(path.Dir(p))) {
		return true
	}
	// What is written to, and is as it was, stays what it is, but for setuid.
	if !s.keepsRights(p) || have&0o7000 != 0 || st.Size != f.Digest.Size() || (have&0o111 != 0) != f.Executable {
		return false
	}
	d, err := s.parts.Hash.Digest(p)
	return err == nil && d.Digest == f.Digest
}

func umask() uint32 {
	mask := unix.Umask(0o077)
	unix.Umask(mask)
	return uint32(mask)
}

// MasksOwner says whether the umask takes from the owner of new files the right to read
// or to write them. Then compilers that are not root fail to open their own temporary
// files a second time, or to list what is in their directories.
func MasksOwner() bool { return umask()&0o700 != 0 }

// keepsRights says whether the compiler writes to the file that is in the place of an
// output, or gives the new one its permissions.
func (s *Session) keepsRights(p string) bool {
	switch path.Ext(p) {
	case ".d":
		return true
	case ".o", ".obj", ".dwo":
		return false
	}
	k := s.call.Kind
	return k == Archive || !s.call.Clang && (k == Compile || k == Preprocess)
}

// inherits says whether new files in the directory of p belong to the group.
func inherits(p string, group uint32) bool {
	var st unix.Stat_t
	return unix.Stat(path.Dir(p), &st) == nil && st.Mode&unix.S_ISGID != 0 && st.Gid == group
}

// hasDefaultRights says whether an access list in the place of the umask gives new files
// in dir their permissions.
func hasDefaultRights(dir string) bool {
	n, err := unix.Getxattr(dir, "system.posix_acl_default", nil)
	return err == nil && n > 0
}

// Unread says whether a descriptor is a pipe or a socket that nobody reads any more.
func Unread(fd int) bool {
	list := []unix.PollFd{{Fd: int32(fd)}}
	n, err := unix.Poll(list, 0)
	return err == nil && n == 1 && list[0].Revents&unix.POLLERR != 0
}

// Mixed says whether standard output and error are one file, in which it shows what was
// written first.
func Mixed() bool {
	var out, err unix.Stat_t
	if unix.Fstat(1, &out) != nil || unix.Fstat(2, &err) != nil || out.Dev != err.Dev || out.Ino != err.Ino {
		return false
	}
	return out.Mode&unix.S_IFMT != unix.S_IFCHR || uint64(out.Rdev) != unix.Mkdev(1, 3) // /dev/null
}
