package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"iter"
	"os"
	"runtime"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/durable"
)

// A Writer takes a blob whose digest is not known yet. What is small stays in
// memory until Commit. Not for use by several goroutines at once.
type Writer struct {
	s    *Store
	ctx  context.Context
	f    action.Function
	h    hash.Hash
	want int64 // bytes that were announced
	size int64
	buf  []byte        // everything, while draft is nil
	t    *durable.Temp // everything, else
	path string        // of t, if others may take it up; "" else
	near string        // where t is made, if path is ""

	sparse bool // zeros are to take no room on the disk

	err error // the first; Commit returns it
}

// NewWriter begins a blob of the digest function f. The caller calls Commit or
// Abort, or both. After ctx is done, Write and Commit return its error. GitSHA1
// needs NewSizedWriter.
func (s *Store) NewWriter(ctx context.Context, f action.Function) *Writer {
	return &Writer{s: s, ctx: ctx, f: f, h: f.New(), near: s.BlobDir()}
}

// NewSizedWriter is NewWriter for a blob that will have size bytes: with
// another number, its digest is not right for functions that begin with it.
func (s *Store) NewSizedWriter(ctx context.Context, f action.Function, size int64) *Writer {
	return &Writer{s: s, ctx: ctx, f: f, h: f.NewSized(size), want: size, near: s.BlobDir()}
}

// NewWriterOf is NewSizedWriter for a blob that should be d: see [Writer.CommitAs].
// What can be made ready for that is, while the blob is written.
func (s *Store) NewWriterOf(ctx context.Context, d action.Digest) *Writer {
	w := s.NewSizedWriter(ctx, d.Function(), d.Size())
	w.near = shardDir(s.shard("blob", d))
	return w
}

// NewKeptWriter is NewSizedWriter for a blob that comes in pieces over a long
// time. What does not fit into memory is in the file path, on the file system of
// the store and of no other use to anybody. If that file is there, because the
// process of an earlier writer has died or has called Leave, the blob goes on
// where it ended; Size says where.
func (s *Store) NewKeptWriter(ctx context.Context, f action.Function, size int64, path string) (*Writer, error) {
	w := s.NewSizedWriter(ctx, f, size)
	w.path = path
	t, err := s.disk.ReopenTemp(path)
	if errors.Is(err, fs.ErrNotExist) {
		return w, nil
	}
	if err == nil && t.Len() > size {
		t.Close()
		return w, nil
	}
	if err != nil {
		return nil, s.explain(err)
	}
	w.t = t
	if w.size, err = io.CopyBuffer(w.h, t.Reader(), make([]byte, copyBlock)); err != nil {
		w.Abort()
		return nil, s.explain(err)
	}
	return w, nil
}

// Leave is Abort for a writer that NewKeptWriter made, and keeps what was written
// for the next one.
func (w *Writer) Leave() {
	if w.t == nil && len(w.buf) > 0 && w.spill() != nil {
		w.Abort()
		return
	}
	if w.t != nil && w.path != "" {
		w.t.Leave()
		w.t = nil
	}
	w.Abort()
}

// Write appends to the blob.
func (w *Writer) Write(p []byte) (int, error) { return w.WriteParts([][]byte{p}) }

// WriteParts appends what is in several slices.
func (w *Writer) WriteParts(parts [][]byte) (int, error) {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	if w.err == nil {
		w.err = w.ctx.Err()
	}
	if w.err != nil {
		return 0, w.err
	}
	if busy := w.s.writers.Add(1); size < hashBeside || int(busy)*2 > runtime.GOMAXPROCS(0) {
		w.inTurn(parts)
	} else {
		w.beside(parts, size)
	}
	w.s.writers.Add(-1)
	if w.err != nil {
		return 0, w.err
	}
	w.size += int64(size)
	return size, nil
}

// hashBeside is from how many bytes on it pays to hash them on another processor
// while they are written, where one has nothing else to do.
const hashBeside = 128 << 10

// beside hashes parts, and writes them.
func (w *Writer) beside(parts [][]byte, size int) {
	hashed := make(chan struct{})
	go func() {
		hashParts(w.h, parts)
		close(hashed)
	}()
	w.err = w.keep(parts, size)
	<-hashed
}

// inTurn hashes some of parts and writes them, until there are no more.
func (w *Writer) inTurn(parts [][]byte) {
	for some, size := range portions(parts) {
		hashParts(w.h, some)
		if w.err = w.keep(some, size); w.err != nil {
			return
		}
	}
}

func hashParts(h hash.Hash, parts [][]byte) {
	for _, p := range parts {
		h.Write(p)
	}
}

// portion is how much is hashed and then written: so much is still in the cache of
// the processor.
const portion = 256 << 10

// portions are parts, some at a time, with the number of bytes in them.
func portions(parts [][]byte) iter.Seq2[[][]byte, int] {
	return func(yield func([][]byte, int) bool) {
		for from := 0; from < len(parts); {
			to, size := from, 0
			for ; to < len(parts) && size < portion; to++ {
				size += len(parts[to])
			}
			if !yield(parts[from:to], size) {
				return
			}
			from = to
		}
	}
}

func (w *Writer) keep(parts [][]byte, size int) error {
	if w.t == nil && len(w.buf)+size > smallBlob {
		if err := w.spill(); err != nil {
			return err
		}
	}
	if w.t == nil {
		for _, p := range parts {
			w.buf = append(w.buf, p...)
		}
		return nil
	}
	if w.sparse {
		return w.s.explain(w.keepSparse(parts))
	}
	_, err := w.t.WriteParts(parts)
	return w.s.explain(err)
}

// zeroRun is how many zeros, where they begin at a multiple of it, are kept as a hole.
const zeroRun = 64 << 10

var zeros [zeroRun]byte

// keepSparse is keep for the draft of a sparse blob. What the kernel says of holes is
// not asked for: some file systems were wrong about files that were just written.
func (w *Writer) keepSparse(parts [][]byte) error {
	for _, p := range parts {
		for len(p) > 0 {
			some := p[:min(int64(len(p)), zeroRun-w.t.Len()%zeroRun)]
			p = p[len(some):]
			var err error
			if bytes.Equal(some, zeros[:]) {
				err = w.t.Skip(zeroRun)
			} else {
				_, err = w.t.Write(some)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// spill moves the blob from memory to a draft.
func (w *Writer) spill() error {
	if err := w.s.writable("write a blob"); err != nil {
		return err
	}
	t, err := w.draft()
	if err != nil {
		return err
	}
	w.t = t
	if len(w.buf) > 0 {
		_, err = t.Write(w.buf)
	}
	w.buf = nil
	return w.s.explain(err)
}

func (w *Writer) draft() (*durable.Temp, error) {
	if w.path == "" {
		return w.s.draft(w.near)
	}
	t, err := w.s.disk.NamedTemp(w.path)
	return t, w.s.explain(err)
}

// clone fills the empty blob by sharing what src holds. An error means that
// the blob is still empty.
func (w *Writer) clone(src *os.File) error {
	if err := w.spill(); err != nil {
		return err
	}
	if err := w.t.Clone(src); err != nil {
		return err
	}
	// What is hashed is our clone: nobody else can change it any more.
	d, err := hashReader(w.ctx, w.f, w.want, w.t.Reader())
	if err != nil {
		w.err = err
		return nil
	}
	w.h, w.size = known{d}, d.Size()
	return nil
}

// known is a hash.Hash that has its result; it takes no more.
type known struct{ d action.Digest }

func (k known) Write([]byte) (int, error) { panic("cache: write after clone") }
func (k known) Sum(b []byte) []byte       { return k.d.AppendHash(b) }
func (k known) Reset()                    {}
func (k known) Size() int                 { return k.d.Function().Size() }
func (k known) BlockSize() int            { return 1 }

// sum is the digest of what was written so far.
func (w *Writer) sum() action.Digest {
	d, err := action.DigestOf(w.f, w.h.Sum(nil), w.size)
	if err != nil {
		panic(err) // f.New has accepted f
	}
	return d
}

// Commit stores the blob and returns its digest. The Writer is done then.
func (w *Writer) Commit() (action.Digest, error) {
	defer w.Abort()
	if w.err == nil {
		w.err = w.ctx.Err()
	}
	if w.err != nil {
		return action.Digest{}, w.err
	}
	d := w.sum()
	if w.s.stored(w.ctx, d) {
		return d, nil
	}
	var err error
	if w.t == nil {
		err = w.s.putBytes(w.ctx, d, w.buf)
	} else if got := w.t.Len(); got != d.Size() {
		err = fmt.Errorf("put blob %v: %d bytes were written", d, got)
	} else {
		err = w.s.publish(w.ctx, w.t, d)
	}
	if err != nil {
		return action.Digest{}, err
	}
	return d, nil
}

// Sum is the digest of what was written so far.
func (w *Writer) Sum() action.Digest { return w.sum() }

// Rehash makes f the digest function of the blob, at the cost of reading what was
// written.
func (w *Writer) Rehash(f action.Function) error {
	if w.err != nil {
		return w.err
	}
	in := io.Reader(bytes.NewReader(w.buf))
	if w.t != nil {
		in = w.t.Reader()
	}
	h := f.NewSized(w.size)
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{in}, make([]byte, copyBlock)); err != nil {
		w.err = w.s.explain(err)
		return w.err
	}
	w.f, w.h = f, h
	return nil
}

// Size is how much was written so far.
func (w *Writer) Size() int64 { return w.size }

// CommitAs is Commit for content that must be d's.
func (w *Writer) CommitAs(d action.Digest) error {
	if w.err == nil && w.sum() != d {
		w.err = fmt.Errorf("put blob %v: %w: it has digest %v", d, ErrContent, w.sum())
	}
	_, err := w.Commit()
	return err
}

// SetContext replaces the context that Write and Commit heed: for a blob that
// comes in several calls.
func (w *Writer) SetContext(ctx context.Context) { w.ctx = ctx }

// Abort drops the blob if it was not committed.
func (w *Writer) Abort() {
	if w.t != nil {
		w.t.Close()
		w.t = nil
	}
	w.buf = nil
	if w.err == nil {
		w.err = errors.New("write a blob: its writer is closed")
	}
}
