package action

import "hash"

// A Hasher makes a [Digest] of what is written to it.
type Hasher struct {
	hash     hash.Hash
	function Function
	size     int64
}

// NewHasher returns a Hasher of f, as [Function.New] has it.
func NewHasher(f Function) *Hasher { return &Hasher{hash: f.New(), function: f} }

// Write adds p. It never fails.
func (h *Hasher) Write(p []byte) (int, error) {
	h.size += int64(len(p))
	return h.hash.Write(p)
}

// Sum is the digest of everything written so far; more may follow.
func (h *Hasher) Sum() Digest {
	d := Digest{function: h.function, size: h.size}
	h.hash.Sum(d.sum[:0])
	return d
}

// Reset forgets what was written.
func (h *Hasher) Reset() {
	h.hash.Reset()
	h.size = 0
}
