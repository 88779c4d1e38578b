package action

import (
	"context"
	"fmt"
	"io"
)

// A Doubter keeps blobs, and can be told that one of them seems to be damaged: that
// its content is not what its digest says, although everything else about its file is
// as it was. It looks itself, and gives away no longer what is damaged, so that whoever
// makes the content again stores it anew.
type Doubter interface {
	Doubt(ctx context.Context, d Digest) error
}

// Doubted is the error of somebody who has read the blob d from blobs and found
// another content: it wraps [ErrMiss]. The blob is damaged, and [Doubter] hears of it.
func Doubted(ctx context.Context, blobs Blobs, d Digest) error {
	err := fmt.Errorf("blob %v is damaged: %w", d, ErrMiss)
	if b, ok := blobs.(Doubter); ok {
		if derr := b.Doubt(ctx, d); derr != nil {
			return fmt.Errorf("%w; %w", err, derr)
		}
	}
	return err
}

// Verify reads what is left of r, and says whether it is the content of d.
func (d Digest) Verify(r io.Reader) (bool, error) {
	h := d.Function().NewSized(d.Size())
	n, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{r}, make([]byte, min(max(d.Size(), 512), 256<<10)))
	return err == nil && n == d.Size() && d.Is(h.Sum(nil)), err
}

// IsOf says whether data is the content of d.
func (d Digest) IsOf(data []byte) bool {
	h := d.Function().NewSized(d.Size())
	h.Write(data)
	return int64(len(data)) == d.Size() && d.Is(h.Sum(nil))
}

// Is says whether sum is the hash of d. What d has of it may be shortened.
func (d Digest) Is(sum []byte) bool {
	b := d.Bytes()
	var whole [32]byte
	copy(whole[:], sum)
	return b == whole
}
