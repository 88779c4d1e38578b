// Package blake3 computes BLAKE3 digests of 32 bytes, without a key.
//
// It promises the result of the specification for inputs of any length and
// split in any way, on every processor, and that a program that links it pays
// nothing for it at its start: which kernels the processor can run is asked
// when enough was hashed for the answer to pay, and never before.
//
// The input is cut into chunks of 1 KiB, the leaves of a binary tree whose left
// subtrees are full. A leaf is a chain of compressions, one per block of 64
// bytes, and hence sequential; but leaves do not depend on each other, so 16
// (AVX-512) or 8 (AVX2) of them are computed side by side, one per lane of the
// vector registers, and so are the parents. With AVX-512 two times 16 leaves take
// turns. Short inputs, tails, and processors without a kernel use one compression
// at a time. The build tag
// purego leaves out all assembly.
package blake3

import (
	"encoding/binary"
	"hash"
)

const (
	blockSize = 64
	chunkSize = 1024
)

// A chain is a chaining value: what a subtree has come to.
type chain [8]uint32

// Sum256 returns the digest of data.
func Sum256(data []byte) [32]byte {
	if len(data) <= chunkSize {
		c := leaf{cv: initial}
		c.write(data)
		return c.sum(root).bytes()
	}
	var t tree
	h := Hasher{leaf: leaf{cv: initial}, tree: &t}
	h.add(data)
	return h.sum().bytes()
}

var initial = chain{iv0, iv1, iv2, iv3, iv4, iv5, iv6, iv7}

var _ hash.Hash = (*Hasher)(nil)

// A Hasher is a [hash.Hash] that computes the digest of what is written to it.
// Large writes are hashed where they are: only what is left of a block is
// copied. Its zero value is not usable: use [New].
type Hasher struct {
	leaf leaf  // the chunk that is being written
	tree *tree // the chunks before it; nil until there is one
}

// New returns a Hasher to which nothing was written.
func New() *Hasher { return &Hasher{leaf: leaf{cv: initial}} }

// Size is that of a digest, 32.
func (h *Hasher) Size() int { return 32 }

// BlockSize is 64; writes of any size are welcome, and large ones are faster.
func (h *Hasher) BlockSize() int { return blockSize }

// Reset forgets what was written.
func (h *Hasher) Reset() {
	h.leaf.reset(0)
	if h.tree != nil {
		h.tree.chunks, h.tree.depth = 0, 0
	}
}

// Write adds p. It never fails.
func (h *Hasher) Write(p []byte) (int, error) {
	h.add(p)
	return len(p), nil
}

// Sum appends the digest of everything written so far to b. More may follow.
func (h *Hasher) Sum(b []byte) []byte {
	sum := h.sum().bytes()
	return append(b, sum[:]...)
}

func (h *Hasher) add(p []byte) {
	if used := h.leaf.len(); used > 0 {
		n := min(chunkSize-used, len(p))
		h.leaf.write(p[:n])
		p = p[n:]
		if len(p) == 0 {
			return
		}
		h.grow().push(h.leaf.sum(0), h.tree.chunks)
		h.tree.chunks++
		h.leaf.reset(h.tree.chunks)
	}
	if len(p) > chunkSize { // so that none of these leaves is the root
		p = h.grow().addChunks(p)
		h.leaf.reset(h.tree.chunks)
	}
	if len(p) > 0 {
		if h.tree != nil {
			h.tree.merge(h.tree.chunks)
		}
		h.leaf.write(p)
	}
}

// grow returns the tree. Most inputs are short and need none.
func (h *Hasher) grow() *tree {
	if h.tree == nil {
		h.tree = new(tree)
	}
	return h.tree
}

// sum closes the tree: the subtrees hang, from right to left, on the way down
// from the root to the last chunk.
func (h *Hasher) sum() chain {
	if h.tree == nil || h.tree.depth == 0 {
		return h.leaf.sum(root)
	}
	rest := h.tree.stack[:h.tree.depth]
	var pair [2]chain
	if h.leaf.len() > 0 {
		pair[1] = h.leaf.sum(0)
	} else {
		pair[1] = rest[len(rest)-1] // the stack has two halves, at least
		rest = rest[:len(rest)-1]
	}
	for i := len(rest) - 1; i > 0; i-- {
		pair[0] = rest[i]
		pair[1] = join(&pair, 0)
	}
	pair[0] = rest[0]
	return join(&pair, root)
}

// A leaf is a chunk that is being written. Its last block waits, because it is
// compressed differently.
type leaf struct {
	cv      chain // of the blocks before
	counter uint64
	blocks  int // how many were compressed
	size    int // how much of block there is
	block   [blockSize]byte
}

// reset makes l the chunk of that number, of which nothing was written.
func (l *leaf) reset(counter uint64) { l.cv, l.counter, l.blocks, l.size = initial, counter, 0, 0 }

func (l *leaf) len() int { return l.blocks*blockSize + l.size }

// write adds p, which must fit.
func (l *leaf) write(p []byte) {
	if l.size > 0 {
		n := copy(l.block[l.size:], p)
		l.size += n
		p = p[n:]
		if len(p) == 0 {
			return
		}
		l.compress(&l.block)
	}
	for len(p) > blockSize {
		l.compress((*[blockSize]byte)(p))
		p = p[blockSize:]
	}
	l.size = copy(l.block[:], p)
}

func (l *leaf) compress(block *[blockSize]byte) {
	var flags uint32
	if l.blocks == 0 {
		flags = chunkStart
	}
	compress(&l.cv, block, l.counter, blockSize, flags)
	l.blocks++
}

// sum is the chaining value of what was written.
func (l *leaf) sum(flags uint32) chain {
	flags |= chunkEnd
	if l.blocks == 0 {
		flags |= chunkStart
	}
	var block [blockSize]byte
	copy(block[:], l.block[:l.size])
	cv := l.cv
	compress(&cv, &block, l.counter, uint32(l.size), flags)
	return cv
}

func (cv chain) bytes() (sum [32]byte) {
	for i, word := range cv {
		binary.LittleEndian.PutUint32(sum[4*i:], word)
	}
	return sum
}
