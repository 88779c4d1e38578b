// Package erofs writes EROFS images that hold the names, modes and links of a
// tree and no file contents: each regular file says, in the extended
// attributes of overlayfs, where in a data-only layer its content is. Mounted
// below an overlay, such an image of 100,000 files is a tree that costs half a
// millisecond to show and shares nothing that can be written.
//
// # What an image looks like
//
//	0      up to 1024 bytes of the caller's: EROFS leaves them to boot loaders
//	1024   superblock
//	1152   inodes, breadth first, so that a directory's entries lie together;
//	       each is followed by its extended attributes and then by a chunk map
//	       with one hole (file), a target (link) or the last part of its
//	       entries (directory)
//	...    directory blocks of 4096 bytes that did not fit beside their inode
//
// Directory entries are sorted by the bytes of their names, which is also the
// order in which readdir shows them. Everything is a function of the arguments
// of [Build], so equal trees give equal images. A whiteout is overlayfs's: a
// character device 0:0.
//
// The package does not read images, and knows nothing of digests.
package erofs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// A Kind says what a Node is.
type Kind uint8

// The kinds of nodes.
const (
	Directory Kind = iota
	File
	Symlink
	Whiteout // hides the name in the layers below
)

// A Node is one name of a tree. The root's name is not used.
type Node struct {
	Name       string
	Kind       Kind
	Executable bool   // File: mode 0755 instead of 0644
	Opaque     bool   // Directory: hides what the layers below have there
	Size       int64  // File
	Redirect   string // File with a Size: absolute path of its content in the data-only layer
	Target     string // Symlink
	Nodes      []Node // Directory: sorted by name, each name once
}

// Options are what all nodes of an image have in common.
type Options struct {
	UID, GID uint32
	MTime    int64  // seconds since 1970
	Header   []byte // at most HeaderSize bytes: the first ones of the image
}

// HeaderSize is how many bytes at the start of an image are the caller's.
const HeaderSize = 1024

const (
	blockSize  = 4096
	superblock = 1024
	firstInode = superblock + 128
	slot       = 32 // inodes are aligned to it; their number is their offset in slots
	direntSize = 12
	maxName    = 255
	maxTarget  = 4095
	maxFile    = 1 << 43 // what one chunk can span
)

// Data layouts of an inode.
const (
	flatPlain  = 0
	flatInline = 2
	chunked    = 4
)

// An inode is a node that has its place in the image.
type inode struct {
	node   *Node
	parent int32
	first  int32 // of the inodes of node.Nodes, which follow each other
	links  uint32
	layout uint16
	wide   bool  // 64 bytes instead of 32
	xattrs int32 // bytes of extended attributes
	tail   int32 // bytes beside the inode
	data   int64 // bytes of content: tail and whole blocks
	off    int64
	block  uint32 // first of the whole blocks
}

func (n *inode) size() int64 {
	if n.wide {
		return 64
	}
	return 32
}

// number is what directory entries call an inode.
func (n *inode) number() uint64 { return uint64(n.off / slot) }

// Build returns the image of the tree below root, padded to whole blocks.
func Build(root *Node, o Options) ([]byte, error) {
	if root.Kind != Directory {
		return nil, errors.New("erofs: the root is not a directory")
	}
	if len(o.Header) > HeaderSize {
		return nil, fmt.Errorf("erofs: header of %d bytes, at most %d fit", len(o.Header), HeaderSize)
	}
	b := &builder{Options: o}
	if err := b.collect(root); err != nil {
		return nil, err
	}
	end := b.layOut()
	if end/blockSize > 1<<32-1 {
		return nil, fmt.Errorf("erofs: image of %d bytes is too large", end)
	}
	b.image = make([]byte, end)
	copy(b.image, o.Header)
	b.superblock()
	for i := range b.inodes {
		b.write(int32(i))
	}
	return b.image, nil
}

type builder struct {
	Options
	inodes  []inode
	entries []dirent // of one directory, reused
	image   []byte
}

// collect lists all inodes, breadth first, and checks what a caller can get wrong.
func (b *builder) collect(root *Node) error {
	b.inodes = append(b.inodes, inode{node: root, links: 2})
	for i := 0; i < len(b.inodes); i++ {
		n := b.inodes[i].node
		if n.Kind != Directory {
			continue
		}
		b.inodes[i].first = int32(len(b.inodes))
		for j := range n.Nodes {
			k := &n.Nodes[j]
			if err := check(k); err != nil {
				return err
			}
			if j > 0 && n.Nodes[j-1].Name >= k.Name {
				return fmt.Errorf("erofs: names %q and %q are not in order", n.Nodes[j-1].Name, k.Name)
			}
			links := uint32(1)
			if k.Kind == Directory {
				links = 2
				b.inodes[i].links++
			}
			b.inodes = append(b.inodes, inode{node: k, parent: int32(i), links: links})
		}
	}
	return nil
}

func check(n *Node) error {
	switch {
	case n.Name == "" || n.Name == "." || n.Name == ".." || strings.ContainsAny(n.Name, "/\x00"):
		return fmt.Errorf("erofs: bad name %q", n.Name)
	case len(n.Name) > maxName:
		return fmt.Errorf("erofs: name %.40q… has %d bytes, Linux allows %d", n.Name, len(n.Name), maxName)
	case n.Kind == File && (n.Size < 0 || n.Size > maxFile):
		return fmt.Errorf("erofs: %q: size %d is out of range", n.Name, n.Size)
	case n.Kind == File && n.Size > 0 && (n.Redirect == "" || n.Redirect[0] != '/' || len(n.Redirect) > maxTarget):
		return fmt.Errorf("erofs: %q: redirect %q is not an absolute path", n.Name, n.Redirect)
	case n.Kind == Symlink && (n.Target == "" || strings.Contains(n.Target, "\x00")):
		return fmt.Errorf("erofs: %q: bad link target %q", n.Name, n.Target)
	case n.Kind == Symlink && len(n.Target) > maxTarget:
		return fmt.Errorf("erofs: %q: link target of %d bytes, Linux allows %d", n.Name, len(n.Target), maxTarget)
	}
	return nil
}

// layOut gives each inode its place and returns where the image ends.
func (b *builder) layOut() int64 {
	pos := int64(firstInode)
	for i := range b.inodes {
		n := &b.inodes[i]
		b.measure(int32(i))
		pos = align(pos, slot)
		// The kernel wants an inode, and what it has inline, in one block.
		fixed := n.size()
		if n.layout == flatInline {
			fixed += int64(n.xattrs + n.tail)
		}
		if pos%blockSize+fixed > blockSize {
			pos = align(pos, blockSize)
		}
		n.off = pos
		pos += n.size() + int64(n.xattrs+n.tail)
	}
	pos = align(pos, blockSize)
	for i := range b.inodes {
		n := &b.inodes[i]
		if whole := n.data - int64(n.tail); n.layout != chunked && whole > 0 {
			n.block = uint32(pos / blockSize)
			pos += align(whole, blockSize)
		}
	}
	return pos
}

// measure finds the sizes and the layout of an inode.
func (b *builder) measure(i int32) {
	n := &b.inodes[i]
	n.wide = n.links > 1<<16-1 || n.node.Size > 1<<32-1 || b.UID > 1<<16-1 || b.GID > 1<<16-1
	switch n.node.Kind {
	case Directory:
		if n.node.Opaque {
			n.xattrs = xattrHeader + xattrSize(opaqueName, "y")
		}
		b.list(i)
		n.data = packed(b.entries)
		n.wide = n.wide || n.data > 1<<32-1
		n.tail = int32(n.data % blockSize)
	case Symlink:
		n.data = int64(len(n.node.Target))
		n.tail = int32(n.data)
	case File:
		if n.node.Size > 0 {
			n.xattrs = xattrHeader + xattrSize(metacopyName, "") + xattrSize(redirectName, n.node.Redirect)
			n.layout, n.tail = chunked, 4
		}
		return
	case Whiteout:
		return
	}
	if n.tail > 0 && n.size()+int64(n.xattrs+n.tail) <= blockSize {
		n.layout = flatInline
	} else {
		n.tail = 0 // all of it in blocks of its own
	}
}

func align(n, to int64) int64 { return (n + to - 1) &^ (to - 1) }

// superblock writes struct erofs_super_block. The build time is also the time
// of every inode of 32 bytes.
func (b *builder) superblock() {
	const chunkedFile = 4 // feature_incompat
	sb, le := b.image[superblock:], binary.LittleEndian
	le.PutUint32(sb, 0xE0F5E1E2)
	sb[12] = 12 // log2 of blockSize
	le.PutUint16(sb[14:], uint16(b.inodes[0].number()))
	le.PutUint64(sb[16:], uint64(len(b.inodes)))
	le.PutUint64(sb[24:], uint64(b.MTime))
	le.PutUint32(sb[36:], uint32(len(b.image)/blockSize))
	le.PutUint32(sb[80:], chunkedFile)
}
