// Package squeeze is the zstd of the Remote Execution API, of servers and of
// clients. Its memory is bounded whatever the data says: encoders and decoders
// have windows of a known size, and start no goroutines.
package squeeze

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

var (
	encoders = sync.Pool{New: func() any {
		w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(1<<20))
		if err != nil {
			panic(err) // the options are right
		}
		return w
	}}
	decoders = sync.Pool{New: func() any {
		// A window larger than 8 MiB is what no encoder makes unasked.
		r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(8<<20))
		if err != nil {
			panic(err)
		}
		return r
	}}
)

// Copy writes to w what in holds, as one frame, and says how much that was
// before.
func Copy(w io.Writer, in io.Reader) (int64, error) {
	e := encoders.Get().(*zstd.Encoder)
	defer encoders.Put(e)
	defer e.Reset(nil)
	e.Reset(w)
	n, err := io.Copy(e, in)
	return n, errors.Join(err, e.Close())
}

// Store writes to w what in holds, as one frame in which nothing is squeezed: for
// when there is no memory to squeeze in. It needs buf alone, and writes no more at
// a time.
func Store(w io.Writer, in io.Reader, buf []byte) error {
	const (
		header    = 3
		blockMax  = 128 << 10
		window    = 7 << 3 // of 128 KiB: no block may be larger
		rawBlock  = 0
		lastBlock = 1
	)
	buf = buf[:min(len(buf), header+blockMax)]
	if _, err := w.Write([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, window}); err != nil {
		return err
	}
	for {
		n, err := io.ReadFull(in, buf[header:])
		ended := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !ended {
			return err
		}
		h := n<<3 | rawBlock<<1
		if ended {
			h |= lastBlock
		}
		buf[0], buf[1], buf[2] = byte(h), byte(h>>8), byte(h>>16)
		if _, err := w.Write(buf[:header+n]); err != nil || ended {
			return err
		}
	}
}

// A Reader reads what the frames in a stream were made of.
type Reader struct{ d *zstd.Decoder }

// NewReader returns a Reader of in. The caller closes it.
func NewReader(in io.Reader) (*Reader, error) {
	d := decoders.Get().(*zstd.Decoder)
	if err := d.Reset(in); err != nil {
		decoders.Put(d)
		return nil, err
	}
	return &Reader{d}, nil
}

// Read implements [io.Reader].
func (r *Reader) Read(p []byte) (int, error) { return r.d.Read(p) }

// Close ends the use of r, but for a second Close.
func (r *Reader) Close() {
	if r.d == nil {
		return
	}
	_ = r.d.Reset(nil)
	decoders.Put(r.d)
	r.d = nil
}

// Expand returns the size bytes that data was made of. Data of more or less is
// refused, without having been expanded any further.
func Expand(data []byte, size int64) ([]byte, error) {
	r, err := NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	out := make([]byte, size)
	if n, err := io.ReadFull(r, out); err != nil {
		return nil, fmt.Errorf("after %d of %d bytes: %w", n, size, err)
	}
	var more [1]byte
	if n, _ := r.Read(more[:]); n > 0 {
		return nil, fmt.Errorf("it has more than %d bytes", size)
	}
	return out, nil
}

// smallest is the size from which squeezing can pay at all.
const smallest = 128

// Shrink returns data squeezed, and true, where that makes it smaller.
func Shrink(data []byte) ([]byte, bool) {
	if len(data) < smallest {
		return data, false
	}
	e := encoders.Get().(*zstd.Encoder)
	defer encoders.Put(e)
	if out := e.EncodeAll(data, make([]byte, 0, len(data))); len(out) < len(data) {
		return out, true
	}
	return data, false
}

// Sample is how much of the beginning of a blob [Pays] wants to see.
const Sample = 32 << 10

// Pays says whether a blob that begins like this is worth squeezing: whether its
// beginning gets smaller by an eighth. What is squeezed already does not.
func Pays(beginning []byte) bool {
	out, ok := Shrink(beginning[:min(len(beginning), Sample)])
	return ok && len(out) <= min(len(beginning), Sample)*7/8
}
