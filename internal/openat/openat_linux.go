package openat

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Open opens path as seen from the directory dir, and returns a descriptor
// that a new program does not get. flags are those of open(2).
func Open(dir int, path string, flags int, mode uint32, scope Scope) (int, error) {
	// Magic links, such as /proc/self/fd/3, lead anywhere whatever the scope.
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_NO_MAGICLINKS}
	if flags&(unix.O_CREAT|unix.O_TMPFILE&^unix.O_DIRECTORY) != 0 {
		how.Mode = uint64(mode) // openat2 wants none where nothing is made
	}
	switch scope {
	case InRoot:
		how.Resolve |= unix.RESOLVE_IN_ROOT
	case Beneath:
		how.Resolve |= unix.RESOLVE_BENEATH
	}
	if path == "" {
		path = "."
	}
	for {
		fd, err := unix.Openat2(dir, path, &how)
		// EAGAIN: something was renamed while ".." was looked up.
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return fd, err
		}
	}
}
