package action

import (
	"hash"
	"io"
	"os"
	"sync"
)

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

// blockSize is how much is read at a time.
const blockSize = 256 << 10

var blocks = sync.Pool{New: func() any { return new([blockSize]byte) }}

// SumReader returns the digest of what r gives until its end.
func SumReader(f Function, r io.Reader) (Digest, error) {
	block := blocks.Get().(*[blockSize]byte)
	defer blocks.Put(block)
	n, err := io.ReadFull(r, block[:])
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return Sum(f, block[:n]), nil
	}
	if err != nil {
		return Digest{}, err
	}
	h := NewHasher(f)
	for {
		h.Write(block[:n])
		n, err = r.Read(block[:])
		if err == io.EOF {
			h.Write(block[:n])
			return h.Sum(), nil
		}
		if err != nil {
			return Digest{}, err
		}
	}
}

// SumFile returns the digest of what file holds from its start to its end,
// wherever it stands. It reads the file and nothing else: a file that is
// written to meanwhile has the digest of something that was read from it.
func SumFile(f Function, file *os.File) (Digest, error) {
	return SumReader(f, io.NewSectionReader(file, 0, 1<<63-1))
}
