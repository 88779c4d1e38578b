// Package sha256tree is REAPI's SHA256TREE: SHA-256 up to 1024 bytes, and above
// that a binary tree whose left side is the largest power of two that leaves
// something to the right. A node is one application of SHA-256's block cipher
// to the hashes of its sides, from an initial state of its own, without adding
// that state afterwards.
//
// The library keeps the compression function to itself. It does give the state
// of a hash away and takes it back, so a node is: a hash that begins with our
// state, one block, its state less ours.
package sha256tree

import (
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"hash"
	"math/bits"
	"sync"
)

// Size is the size of a hash in bytes.
const Size = sha256.Size

const leaf = 1024

// initial are the first 32 bits of the fractional parts of the square roots of
// the primes 23 to 53: where SHA-256's own stop.
var initial = [8]uint32{
	0xcbbb9d5d, 0x629a292a, 0x9159015a, 0x152fecd8, 0x67332667, 0x8eb44a87, 0xdb0c2e0d, 0x47b5481d,
}

// New returns a hash of SHA256TREE.
func New() hash.Hash { return &digest{} }

// A digest keeps the last leaf, which may be the only one, and a stack of the
// finished trees to the left of it, each of a power of two of leaves.
type digest struct {
	stack  [][Size]byte
	leaves uint64 // that are in the stack; its binary digits say how
	last   [leaf]byte
	n      int // bytes in last
}

func (d *digest) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		if d.n == leaf { // more follows: the leaf is not the last one
			d.push(sha256.Sum256(d.last[:]))
			d.n = 0
		}
		n := copy(d.last[d.n:], p)
		d.n += n
		p = p[n:]
	}
	return total, nil
}

// push adds the hash of a whole leaf. As many trees are complete as the number
// of leaves has zeros at its end; but the last of them waits for something to
// its right, which is why d.last is never empty once there is a stack.
func (d *digest) push(h [Size]byte) {
	d.leaves++
	for range bits.TrailingZeros64(d.leaves) {
		h = node(d.stack[len(d.stack)-1], h)
		d.stack = d.stack[:len(d.stack)-1]
	}
	d.stack = append(d.stack, h)
}

func (d *digest) Sum(b []byte) []byte {
	h := sha256.Sum256(d.last[:d.n])
	for i := len(d.stack) - 1; i >= 0; i-- {
		h = node(d.stack[i], h)
	}
	return append(b, h[:]...)
}

func (d *digest) Reset()         { *d = digest{stack: d.stack[:0]} }
func (d *digest) Size() int      { return Size }
func (d *digest) BlockSize() int { return leaf }

// begun is the marshaled state of a SHA-256 that begins with initial: see
// crypto/sha256. The state begins after a magic of four bytes.
var begun = sync.OnceValue(func() []byte {
	state, err := sha256.New().(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		panic(err) // it never fails
	}
	for i, v := range initial {
		binary.BigEndian.PutUint32(state[4+4*i:], v)
	}
	return state
})

// node is the hash of a tree with the sides left and right.
func node(left, right [Size]byte) (out [Size]byte) {
	h := sha256.New()
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(begun()); err != nil {
		panic(err)
	}
	h.Write(left[:])
	h.Write(right[:])
	state, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		panic(err)
	}
	for i, v := range initial {
		binary.BigEndian.PutUint32(out[4*i:], binary.BigEndian.Uint32(state[4+4*i:])-v)
	}
	return out
}
