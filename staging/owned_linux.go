package staging

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

type inode struct{ device, number uint64 }

// Owned finds what a command with recorded owners has left of a file.
type Owned struct {
	byInode map[inode]*backends.Owned
	byPath  map[string]*backends.Owned
}

// NewOwned returns nil where list is nil: of a command whose owners were not recorded.
func NewOwned(list []backends.Owned) *Owned {
	if list == nil {
		return nil
	}
	o := &Owned{byInode: make(map[inode]*backends.Owned, len(list)), byPath: map[string]*backends.Owned{}}
	for i := range list {
		x := &list[i]
		o.byInode[inode{x.Device, x.Inode}] = x
		if x.Path != "" {
			o.byPath[x.Path] = x
		}
	}
	return o
}

// Of returns the owner of the file name of the directory dir, with its mode: at
// is its path in the root. The kernel may give the directories of an overlay other
// numbers when nobody has them open, so these are found by their path.
func (list *Owned) Of(dir int, name, at string, st *unix.Stat_t) Owner {
	o := Owner{Mode: st.Mode & 0o7777, Type: TypeFile}
	var x *backends.Owned
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		o.Type = TypeDir
		x = list.byPath[at]
	case unix.S_IFLNK:
		o.Type = TypeLink
	case unix.S_IFIFO:
		o.Type = TypeFIFO
	}
	if x == nil && o.Type != TypeDir {
		x = list.byInode[inode{st.Dev, st.Ino}]
	}
	if x != nil {
		o.UID, o.GID = int(x.UID), int(x.GID)
		switch x.Kind {
		case unix.S_IFCHR:
			o.Type = TypeChar
		case unix.S_IFBLK:
			o.Type = TypeBlock
		}
		o.Major, o.Minor = int64(x.Major), int64(x.Minor)
	}
	if o.Type == TypeFile {
		if value := capability(dir, name); value != "" {
			o.Xattrs = map[string]string{"security.capability": value}
		}
	}
	return o
}

// capability returns the capabilities of a program, which the command as root of
// its user namespace may give, as root of the host would have given them.
func capability(dir int, name string) string {
	var value [64]byte
	n, err := unix.Lgetxattr(fmt.Sprintf("/proc/self/fd/%d/%s", dir, name), "security.capability", value[:])
	if err != nil || n < 4 {
		return ""
	}
	// struct vfs_ns_cap_data: the third version has, behind what the second has, the
	// user who is root where they hold.
	const second, third, mask, size = 2 << 24, 3 << 24, 0xff << 24, 20
	if head := binary.LittleEndian.Uint32(value[:]); head&mask == third && n == size+4 {
		binary.LittleEndian.PutUint32(value[:], head&^mask|second)
		n = size
	}
	return string(value[:n])
}

// with adds the owner of a file to its properties, where owners were recorded.
func (o *Outputs) with(p *action.NodeProperties, dir int, name, at string, st *unix.Stat_t) *action.NodeProperties {
	if o.Owned == nil {
		return p
	}
	return WithOwner(p, o.Owned.Of(dir, name, at, st))
}
