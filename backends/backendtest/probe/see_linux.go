package probe

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// attemptSee PATH…: is there a system call that finds a file at one of the paths?
func attemptSee(paths []string) int {
	var errs []error
	for _, path := range paths {
		for _, c := range seeing(path) {
			err := c.see()
			if err == nil {
				fmt.Printf("yes: %s %s\n", c.name, path)
				return 0
			}
			errs = append(errs, fmt.Errorf("%s %s: %w", c.name, path, err))
		}
	}
	return answer(errors.Join(errs...))
}

type seer struct {
	name string
	see  func() error
}

// seeing are the system calls that say whether there is a file at path, and do
// nothing to it.
func seeing(path string) []seer {
	open := func(fd int, err error) error {
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
	at := cstring(path)
	buf := make([]byte, 4096)
	cwd := unix.AT_FDCWD
	return []seer{
		{"openat", func() error { return open(unix.Openat(cwd, path, unix.O_PATH|unix.O_CLOEXEC, 0)) }},
		{"openat2", func() error {
			return open(unix.Openat2(cwd, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC}))
		}},
		{"stat", func() error { return unix.Fstatat(cwd, path, new(unix.Stat_t), 0) }},
		{"statx", func() error { return unix.Statx(cwd, path, 0, unix.STATX_BASIC_STATS, new(unix.Statx_t)) }},
		{"statfs", func() error { return unix.Statfs(path, new(unix.Statfs_t)) }},
		{"faccessat", func() error { return unix.Faccessat(cwd, path, unix.F_OK, 0) }},
		{"faccessat2", func() error { _, err := call(unix.SYS_FACCESSAT2, uintptr(cwd), at, 0, 0); return err }},
		{"listxattr", func() error { _, err := unix.Listxattr(path, buf); return err }},
		{"listxattrat", func() error {
			const listxattrat = 465 // on every machine
			_, err := call(listxattrat, uintptr(cwd), at, 0, uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
			return err
		}},
		{"open_tree", func() error { return open(unix.OpenTree(cwd, path, unix.OPEN_TREE_CLOEXEC)) }},
		{"name_to_handle_at", func() error { _, _, err := unix.NameToHandleAt(cwd, path, 0); return err }},
	}
}
