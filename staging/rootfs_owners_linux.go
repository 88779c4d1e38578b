package staging

import (
	"io/fs"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ownerOf returns what is known of a file besides its content; f is nil for
// what must not be opened.
func ownerOf(info fs.FileInfo, f *os.File) Owner {
	o := Owner{Type: TypeFile}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return o
	}
	o.Mode = st.Mode & 0o7777
	o.UID, o.GID = asRoot(int(st.Uid), os.Geteuid()), asRoot(int(st.Gid), os.Getegid())
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		o.Type = TypeDir
	case unix.S_IFLNK:
		o.Type = TypeLink
	case unix.S_IFIFO:
		o.Type = TypeFIFO
	case unix.S_IFCHR:
		o.Type = TypeChar
	case unix.S_IFBLK:
		o.Type = TypeBlock
	}
	if o.Type == TypeChar || o.Type == TypeBlock {
		o.Major, o.Minor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	}
	if f != nil {
		o.Xattrs = xattrs(int(f.Fd()))
	}
	return o
}

// asRoot returns 0 for the caller's own files.
func asRoot(id, caller int) int {
	if id == caller {
		return 0
	}
	return id
}

// xattrs are the extended attributes of a file that are of the file and not of
// the machine. What cannot be read is not there: many file systems have none.
func xattrs(fd int) map[string]string {
	size, err := unix.Flistxattr(fd, nil)
	if err != nil || size == 0 {
		return nil
	}
	names := make([]byte, size)
	if size, err = unix.Flistxattr(fd, names); err != nil {
		return nil
	}
	list := map[string]string{}
	for name := range strings.SplitSeq(string(names[:size]), "\x00") {
		if !strings.HasPrefix(name, "user.") && name != "security.capability" {
			continue
		}
		value := make([]byte, 64<<10) // the most that the kernel allows
		if n, err := unix.Fgetxattr(fd, name, value); err == nil {
			list[name] = string(value[:n])
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list
}
