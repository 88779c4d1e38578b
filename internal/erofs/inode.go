package erofs

import (
	"encoding/binary"
	"sort"
)

// Extended attributes of overlayfs, without "trusted.", which has a number.
const (
	trusted      = 4
	metacopyName = "overlay.metacopy"
	redirectName = "overlay.redirect"
	opaqueName   = "overlay.opaque"
	xattrHeader  = 12
)

func xattrSize(name, value string) int32 {
	return int32(align(int64(4+len(name)+len(value)), 4))
}

// putXattr writes one attribute and returns what is left of dst.
func putXattr(dst []byte, name, value string) []byte {
	dst[0], dst[1] = byte(len(name)), trusted
	binary.LittleEndian.PutUint16(dst[2:], uint16(len(value)))
	copy(dst[4:], name)
	copy(dst[4+len(name):], value)
	return dst[xattrSize(name, value):]
}

// A dirent is an entry of a directory: of a child, or "." or "..".
type dirent struct {
	name  string
	inode int32
}

// list fills b.entries with what directory i holds, in order.
func (b *builder) list(i int32) {
	n := &b.inodes[i]
	kids := n.node.Nodes
	b.entries = b.entries[:0]
	dots := [...]dirent{{".", i}, {"..", n.parent}}
	next := 0
	for _, dot := range dots {
		// Names such as "+" and "-x" sort before ".".
		before := next + sort.Search(len(kids)-next, func(k int) bool { return kids[next+k].Name > dot.name })
		for ; next < before; next++ {
			b.entries = append(b.entries, dirent{kids[next].Name, n.first + int32(next)})
		}
		b.entries = append(b.entries, dot)
	}
	for ; next < len(kids); next++ {
		b.entries = append(b.entries, dirent{kids[next].Name, n.first + int32(next)})
	}
}

// fill returns how many of the entries fit into one block, and their size.
func fill(entries []dirent) (count, size int) {
	for _, e := range entries {
		if size+direntSize+len(e.name) > blockSize {
			break
		}
		size += direntSize + len(e.name)
		count++
	}
	return count, size
}

// packed is the size of a directory with these entries: whole blocks and the
// used part of the last one.
func packed(entries []dirent) int64 {
	total := int64(0)
	for {
		n, size := fill(entries)
		if n == len(entries) {
			return total + int64(size)
		}
		total += blockSize
		entries = entries[n:]
	}
}

// write writes inode i with its attributes and its content.
func (b *builder) write(i int32) {
	n := &b.inodes[i]
	b.head(i)
	rest := b.image[n.off+n.size():]
	if n.xattrs > 0 {
		x := rest[xattrHeader:n.xattrs]
		if n.node.Kind == Directory {
			putXattr(x, opaqueName, "y")
		} else {
			putXattr(putXattr(x, metacopyName, ""), redirectName, n.node.Redirect)
		}
		rest = rest[n.xattrs:]
	}
	blocks := b.image[int64(n.block)*blockSize:]
	switch n.node.Kind {
	case Directory:
		b.list(i)
		b.writeEntries(n, blocks, rest)
	case Symlink:
		if n.layout == flatInline {
			blocks = rest
		}
		copy(blocks, n.node.Target)
	case File:
		if n.layout == chunked {
			binary.LittleEndian.PutUint32(rest, 0xffffffff) // one chunk, a hole
		}
	case Whiteout: // the device number 0:0 is zeros
	}
}

// writeEntries writes b.entries: all but the last block to blocks, the last
// one there or beside the inode.
func (b *builder) writeEntries(n *inode, blocks, tail []byte) {
	le := binary.LittleEndian
	for left := b.entries; len(left) > 0; {
		count, _ := fill(left)
		dst := blocks
		if count == len(left) && n.layout == flatInline {
			dst = tail
		}
		name := count * direntSize
		for k, e := range left[:count] {
			to, d := &b.inodes[e.inode], dst[k*direntSize:]
			le.PutUint64(d, to.number())
			le.PutUint16(d[8:], uint16(name))
			d[10] = direntType[to.node.Kind]
			name += copy(dst[name:], e.name)
		}
		left = left[count:]
		if len(left) > 0 {
			blocks = blocks[blockSize:]
		}
	}
}

var (
	direntType = [...]byte{Directory: 2, File: 1, Symlink: 7, Whiteout: 3}
	fileMode   = [...]uint16{Directory: 0o040755, File: 0o100644, Symlink: 0o120777, Whiteout: 0o020000}
)

// head writes the fixed part of an inode: struct erofs_inode_compact, or
// erofs_inode_extended where something does not fit into it.
func (b *builder) head(i int32) {
	n := &b.inodes[i]
	h, le := b.image[n.off:n.off+n.size()], binary.LittleEndian
	mode, size := fileMode[n.node.Kind], n.data
	if n.node.Kind == File {
		size = n.node.Size
		if n.node.Executable {
			mode |= 0o111
		}
	}
	if n.xattrs > 0 {
		le.PutUint16(h[2:], uint16((n.xattrs-xattrHeader)/4+1))
	}
	le.PutUint16(h[4:], mode)
	switch {
	case n.layout == chunked:
		le.PutUint32(h[16:], 31) // chunks of 2^31 blocks: one spans any file
	default:
		le.PutUint32(h[16:], n.block)
	}
	le.PutUint32(h[20:], uint32(i)+1)
	if !n.wide {
		le.PutUint16(h, n.layout<<1)
		le.PutUint16(h[6:], uint16(n.links))
		le.PutUint32(h[8:], uint32(size))
		le.PutUint16(h[24:], uint16(b.UID))
		le.PutUint16(h[26:], uint16(b.GID))
		return
	}
	le.PutUint16(h, 1|n.layout<<1)
	le.PutUint64(h[8:], uint64(size))
	le.PutUint32(h[24:], b.UID)
	le.PutUint32(h[28:], b.GID)
	le.PutUint64(h[32:], uint64(b.MTime))
	le.PutUint32(h[44:], n.links)
}
