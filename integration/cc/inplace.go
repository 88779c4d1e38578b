package cc

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
)

// Both are wrapped by errors that say that only the compiler itself can do what it does.
var (
	errUnsaid = fmt.Errorf("what the compiler says cannot be written: %w", ErrPlain)
	errLinked = fmt.Errorf("it has another name, too, or is a link: %w", ErrPlain)
)

// Unsaid wraps an error of writing what the compiler said to where our caller wants it.
func Unsaid(err error) error { return fmt.Errorf("%w: %w", err, errUnsaid) }

// InPlace returns an error if somebody could tell an output that is replaced from one
// that is written to: one that has several names, or is a symbolic link. GCC replaces
// objects and writes to lists of dependencies, clang replaces both, and others do
// something else.
func (s *Session) InPlace(res *action.Result) error {
	for i := range res.Files {
		p := s.place(res.Files[i].Path)
		info, err := os.Lstat(p)
		if err != nil {
			continue
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if info.Mode()&os.ModeSymlink != 0 || ok && info.Mode().IsRegular() && st.Nlink > 1 {
			return fmt.Errorf("%s: %w", p, errLinked)
		}
	}
	return nil
}

// Unread says whether a descriptor is a pipe or a socket that nobody reads any more.
func Unread(fd int) bool {
	list := []unix.PollFd{{Fd: int32(fd)}}
	n, err := unix.Poll(list, 0)
	return err == nil && n == 1 && list[0].Revents&unix.POLLERR != 0
}
