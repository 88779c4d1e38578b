package durable

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// StatZ is fstatat(2) for a name that ends in a NUL byte, without an allocation
// or following a link: it is what scans and look-ups spend their time with.
func StatZ(dirfd int, name []byte, st *unix.Stat_t) error {
	for {
		_, _, errno := unix.Syscall6(sysFstatat, uintptr(dirfd), uintptr(unsafe.Pointer(&name[0])),
			uintptr(unsafe.Pointer(st)), unix.AT_SYMLINK_NOFOLLOW, 0, 0)
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
			continue
		}
		return errno
	}
}
