package staging

import (
	"encoding/binary"
	"fmt"
	"os"
	"path"

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

// LeftOwners lists what is not as usual of the files below root: modes, and of a
// command whose owners were recorded, these.
func LeftOwners(root *os.File, left []backends.Owned) (Owners, error) {
	list, owned := Owners{}, NewOwned(left)
	if owned == nil {
		owned = NewOwned([]backends.Owned{})
	}
	err := leftBelow(int(root.Fd()), ".", ".", 0, func(dir int, name, p string, st *unix.Stat_t) {
		if kind := st.Mode & unix.S_IFMT; kind == unix.S_IFSOCK || kind == unix.S_IFCHR || kind == unix.S_IFBLK {
			return // of the sandbox
		}
		if o := owned.Of(dir, name, path.Join("/", p), st); !o.plain() {
			list[p] = o
		}
	})
	return list, err
}

// leftBelow visits what is in the directory name of parent, at p.
func leftBelow(parent int, name, p string, depth int, visit func(dir int, name, p string, st *unix.Stat_t)) error {
	if depth > maxDepth {
		return fmt.Errorf("%s: directories nested deeper than %d", p, maxDepth)
	}
	f, err := openLocked(parent, name, unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	for _, n := range names {
		var st unix.Stat_t
		at := path.Join(p, n)
		if err := unix.Fstatat(int(f.Fd()), n, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		visit(int(f.Fd()), n, at, &st)
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			if err := leftBelow(int(f.Fd()), n, at, depth+1, visit); err != nil {
				return err
			}
		}
	}
	return nil
}
