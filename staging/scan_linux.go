package staging

import (
	"bytes"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Now reads the clock that the kernel stamps files with.
func Now() Moment {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &ts) != nil {
		return 0 // nothing is older than that, so nothing is trusted
	}
	return Moment(ts.Nano())
}

// trustedFileSystem says whether the file system of fd stamps changes by our
// kernel's clock, in nanoseconds.
func trustedFileSystem(fd int) bool {
	var st unix.Statfs_t
	if unix.Fstatfs(fd, &st) != nil {
		return false
	}
	switch uint32(st.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC, unix.RAMFS_MAGIC,
		unix.OVERLAYFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, 0x2fc12fc1 /* zfs */, 0xca451a4e /* bcachefs */ :
		return true
	}
	return false
}

// lasts says whether the device dev is the disk that "/" is on. Loop devices, and what
// has no disk, as overlays, may be another thing later.
func lasts(dev uint64) bool {
	const none, loop = 0, 7 // major numbers
	id, err := StatPath("/", FollowLinks)
	major := unix.Major(dev)
	return err == nil && id.Dev == dev && major != none && major != loop
}

// hasWriter says whether somebody has the file open, or mapped, for writing.
// Where the kernel does not tell us, it says no and widens margin.
func hasWriter(fd int, margin *int64) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	switch err {
	case nil:
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
		return false
	case unix.EAGAIN:
		return true
	}
	*margin = trustMarginUnleased // EACCES: another user's; EINVAL: no leases here
	return false
}

// noLinks says that dir, below the directory root, is a directory that is
// reached without a symbolic link; false if that cannot be told cheaply.
func noLinks(root int, dir string) bool {
	fd, err := unix.Openat2(root, dir, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// openForStatfs opens anything without reading it.
func openForStatfs(path string) (int, error) {
	return unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// listFD calls f with each name in the directory and its type, 0 if unknown.
// The name is valid during the call only.
func listFD(fd int, f func(name []byte, mode uint32) error) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.Getdents(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		for b := buf[:n]; len(b) > 0; {
			d := (*unix.Dirent)(unsafe.Pointer(&b[0]))
			name := b[unsafe.Offsetof(d.Name):d.Reclen]
			name = name[:bytes.IndexByte(name, 0)]
			if s := string(name); s != "." && s != ".." {
				if err := f(name, uint32(d.Type)<<12); err != nil {
					return err
				}
			}
			b = b[d.Reclen:]
		}
	}
}
