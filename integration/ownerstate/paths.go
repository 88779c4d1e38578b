package ownerstate

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/staging"
)

// Owners finds the files of a state below the directory root. The second result is
// how many entries are of no file there.
func Owners(root string, list []Entry) (staging.Owners, int, error) {
	type inode struct{ dev, ino uint64 }
	known := make(map[inode]*Entry, len(list))
	for i := range list {
		known[inode{list[i].Dev, list[i].Ino}] = &list[i]
	}
	out, found := staging.Owners{}, map[inode]bool{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return fmt.Errorf("%s has no inode number", p)
		}
		i := inode{uint64(st.Dev), st.Ino}
		e := known[i]
		if e == nil {
			return nil
		}
		found[i] = true
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		o, err := owner(e)
		if err != nil {
			return fmt.Errorf("%s: %w", rel, err)
		}
		out[rel] = o
		return nil
	})
	return out, len(known) - len(found), err
}

// owner is what an entry says.
func owner(e *Entry) (staging.Owner, error) {
	o := staging.Owner{UID: int(e.UID), GID: int(e.GID), Mode: e.Mode & 0o7777, Xattrs: e.Xattrs}
	switch e.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		o.Type = staging.TypeFile
	case unix.S_IFDIR:
		o.Type = staging.TypeDir
	case unix.S_IFLNK:
		o.Type = staging.TypeLink
	case unix.S_IFIFO:
		o.Type = staging.TypeFIFO
	case unix.S_IFCHR:
		o.Type = staging.TypeChar
	case unix.S_IFBLK:
		o.Type = staging.TypeBlock
	default:
		return o, fmt.Errorf("its mode %o has a type that cannot be kept", e.Mode)
	}
	if o.Type == staging.TypeChar || o.Type == staging.TypeBlock {
		o.Major, o.Minor = int64(unix.Major(e.Rdev)), int64(unix.Minor(e.Rdev))
	}
	return o, nil
}

// Entries returns what a state says of the files below root that owners names, and
// the names of those that are not there.
func Entries(root string, owners staging.Owners) (list []Entry, missing []string, err error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range sortedKeys(owners) {
		var st unix.Stat_t
		at := path.Join(abs, p)
		if linked(abs, p) {
			missing = append(missing, p)
			continue
		}
		if err := unix.Lstat(at, &st); err != nil {
			if os.IsNotExist(err) || err == unix.ENOTDIR {
				missing = append(missing, p)
				continue
			}
			return nil, nil, fmt.Errorf("%s: %w", at, err)
		}
		o := owners[p]
		e := Entry{
			Path: at, Dev: uint64(st.Dev), Ino: st.Ino, Nlink: uint64(st.Nlink), UID: uint32(o.UID), GID: uint32(o.GID),
			Mode: kind(o.Type, uint32(st.Mode)) | o.Mode, Xattrs: o.Xattrs,
		}
		if o.Type == staging.TypeChar || o.Type == staging.TypeBlock {
			e.Rdev = unix.Mkdev(uint32(o.Major), uint32(o.Minor))
		}
		list = append(list, e)
	}
	return list, missing, nil
}

// linked says whether a directory on the way to p is a link, which would lead
// somewhere else.
func linked(root, p string) bool {
	for dir := path.Dir(p); dir != "." && dir != "/"; dir = path.Dir(dir) {
		if info, err := os.Lstat(path.Join(root, dir)); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			return true
		}
	}
	return strings.HasPrefix(p, "../")
}

func kind(t staging.NodeType, is uint32) uint32 {
	switch t {
	case staging.TypeChar:
		return unix.S_IFCHR
	case staging.TypeBlock:
		return unix.S_IFBLK
	case staging.TypeFIFO:
		return unix.S_IFIFO
	}
	return is & unix.S_IFMT
}
