package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/durable"
)

// Packed holds small blobs that have no file in the store: see package pack.
// Nobody but this process knows of them. Has, Open and whatever else is about
// files makes the file of such a blob first, so that they promise what they always
// do; [Store.Holds], [Store.Read], [Store.OpenContent] and [Store.PutChecked] do
// without.
type Packed interface {
	Has(d action.Digest) bool
	// Get returns the content of d, checked.
	Get(d action.Digest) ([]byte, bool)
	// Size is the size of the blob with that hash.
	Size(f action.Function, hash [32]byte) (int64, bool)
	// Put stores blobs, all or none. After an error they can have files instead.
	Put(list []Checked) error
	// PutRecord keeps data under a key that is not its digest, in place of an
	// earlier one; Record returns it, and DropRecord makes it be none.
	PutRecord(key action.Digest, data []byte) error
	Record(key action.Digest) ([]byte, bool)
	DropRecord(key action.Digest) error
	// Moved is another number after blobs have gone from there into files.
	Moved() uint64
	// Max is the size of the largest blob that it takes.
	Max() int64
}

// SetPacked makes the store use p. Called before anything else is.
func (s *Store) SetPacked(p Packed) { s.packed = p }

// Checked is a digest and its content.
type Checked struct {
	d    action.Digest
	data []byte
}

// Check returns data and its digest d as one, or an error that wraps [ErrContent]
// if d is the digest of something else.
func Check(d action.Digest, data []byte) (Checked, error) {
	if d.IsZero() {
		return Checked{}, errors.New("put blob: it has no digest")
	}
	if got := action.Sum(d.Function(), data); got != d {
		return Checked{}, another(d, got)
	}
	return Checked{d, data}, nil
}

// PutParts stores what is in several slices under d, and refuses it if it is not
// d's. It gets a file, whatever its size.
func (s *Store) PutParts(ctx context.Context, d action.Digest, parts [][]byte) error {
	if d.IsZero() {
		return errors.New("put blob: it has no digest")
	}
	if s.stored(ctx, d) {
		return checkParts(d, parts)
	}
	err := s.putParts(ctx, d, parts)
	if err == nil || errors.Is(err, ErrContent) {
		return err
	}
	if other := checkParts(d, parts); other != nil { // what is wrong with it comes first
		return other
	}
	return err
}

func (s *Store) putParts(ctx context.Context, d action.Digest, parts [][]byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w := s.NewWriterOf(ctx, d)
	defer w.Abort()
	if err := w.spill(); err != nil {
		return err
	}
	if w.inTurn(parts); w.err != nil {
		return fmt.Errorf("put blob %v: %w", d, w.err)
	}
	if err := checkSum(d, w.h, w.t.Len()); err != nil {
		return err
	}
	return s.publish(ctx, w.t, d)
}

// checkParts is Check for content that is in several slices.
func checkParts(d action.Digest, parts [][]byte) error {
	size := int64(0)
	for _, p := range parts {
		size += int64(len(p))
	}
	h := d.Function().NewSized(size)
	hashParts(h, parts)
	return checkSum(d, h, size)
}

func checkSum(d action.Digest, h hash.Hash, size int64) error {
	got, err := action.DigestOf(d.Function(), h.Sum(nil), size)
	if err == nil && got != d {
		err = another(d, got)
	}
	return err
}

func another(d, got action.Digest) error {
	return fmt.Errorf("put blob %v: %w: it has digest %v", d, ErrContent, got)
}

// Digest is the digest.
func (c Checked) Digest() action.Digest { return c.d }

// Data is the content, not to be changed.
func (c Checked) Data() []byte { return c.data }

// PutAs stores data under d, and refuses data that is not d's.
func (s *Store) PutAs(ctx context.Context, d action.Digest, data []byte) error {
	c, err := Check(d, data)
	if err != nil {
		return err
	}
	return s.putFile(ctx, c)
}

func (s *Store) putFile(ctx context.Context, c Checked) error {
	if s.stored(ctx, c.d) {
		return nil
	}
	return s.putBytes(ctx, c.d, c.data)
}

// Pack stores blobs in the pack, all at once, and says whether it did: it does not
// if there is none, or one of them does not belong there, or it has no room.
func (s *Store) Pack(ctx context.Context, list ...Checked) bool {
	if s.packed == nil || s.opts.ReadOnly || ctx.Err() != nil {
		return false
	}
	for _, c := range list {
		if !s.Packs(c.d) {
			return false
		}
	}
	return s.packed.Put(list) == nil
}

// Packs says whether a blob belongs into a pack.
func (s *Store) Packs(d action.Digest) bool {
	return s.packed != nil && d.Size() > 0 && d.Size() <= s.packed.Max()
}

// PutChecked stores a blob, packed if that can be.
func (s *Store) PutChecked(ctx context.Context, c Checked) error {
	if s.Pack(ctx, c) {
		return nil
	}
	return s.putFile(ctx, c)
}

// Holds is Has for those who need no file, and is fast in saying no.
func (s *Store) Holds(ctx context.Context, d action.Digest) bool {
	if s.packed != nil && s.packed.Has(d) || d.IsEmpty() {
		return true
	}
	if d.IsZero() {
		return false
	}
	// What leaves the pack has its file before, and comes back only as something
	// new: whoever looks at the pack first need not look again.
	fi, found, err := s.lookup(d)
	return found && err == nil && s.check(ctx, d, s.shard("blob", d), &fi, use) == nil
}

// Packed returns the content of d, checked, if it is packed: who needs no file spares
// the store to make one.
func (s *Store) Packed(d action.Digest) ([]byte, bool) {
	if s.packed == nil || d.Size() > s.packed.Max() {
		return nil, false
	}
	return s.packed.Get(d)
}

// Read returns the content of a blob that is known to be small enough for memory.
func (s *Store) Read(ctx context.Context, d action.Digest) ([]byte, error) {
	if d.IsEmpty() {
		return nil, nil
	}
	if data, ok := s.Packed(d); ok {
		return data, nil
	}
	file, err := s.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data := make([]byte, d.Size())
	_, err = io.ReadFull(file, data)
	return data, err
}

// Content is what a blob has.
type Content interface {
	io.ReadSeekCloser
	io.ReaderAt
}

// inMemory is the content of a packed blob.
type inMemory struct{ *bytes.Reader }

func (inMemory) Close() error { return nil }

// OpenContent is Open for those who need no file.
func (s *Store) OpenContent(ctx context.Context, d action.Digest) (Content, error) {
	if data, ok := s.Packed(d); ok {
		return inMemory{bytes.NewReader(data)}, nil
	}
	f, err := s.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// FindBlob returns the digest of the blob that has the hash, whatever its size, or an
// error that wraps [action.ErrMiss].
func (s *Store) FindBlob(ctx context.Context, f action.Function, hash string) (action.Digest, error) {
	d, err := action.ParseHash(f, hash, 0)
	if err != nil || d == action.Sum(f, nil) {
		return d, err
	}
	size, ok := int64(0), false
	if s.packed != nil {
		size, ok = s.packed.Size(f, d.Bytes())
	}
	if !ok {
		fi, err := durable.Stat(s.shard("blob", d))
		if absent(err) {
			return d, miss(d, "blob", "not present")
		}
		if err != nil {
			return d, fmt.Errorf("blob %v: %w", d, s.explain(err))
		}
		size = fi.Size
	}
	if d, err = action.ParseHash(f, hash, size); err != nil {
		return d, err
	}
	if !s.Holds(ctx, d) {
		return d, miss(d, "blob", "not present")
	}
	return d, nil
}

// PutPackedResult is PutResult for a result that only users of this pack look for,
// with PackedResult, and whose blobs may be packed.
func (s *Store) PutPackedResult(ctx context.Context, key action.Digest, res *action.Result) error {
	if s.packed == nil {
		return s.PutResult(ctx, key, res)
	}
	if err := s.checkResult(ctx, key, res, hold); err != nil {
		return err
	}
	if err := s.putPacked(KindResult, key, resultMagic, res.Marshal()); err != nil {
		return fmt.Errorf("put result %v: %w", key, err)
	}
	return nil
}

// putPacked keeps data under key in the pack, or in a file if it is too large, or
// there is no room.
func (s *Store) putPacked(kind Kind, key action.Digest, magic string, data []byte) error {
	record := data
	if kind == KindNote {
		record = append([]byte(noteMagic), data...)
	}
	if s.packed.PutRecord(key, record) == nil {
		return nil
	}
	// Who finds it in the pack until the end of this has asked before.
	s.packedMu.Lock()
	defer s.packedMu.Unlock()
	if err := s.writeRecord(kind, key, magic, data); err != nil {
		return err
	}
	return s.packed.DropRecord(key)
}

// PackedNotes are the notes of a store, of which the small ones are packed: only
// users of this pack see what is put there, until it has no room.
type PackedNotes struct{ Store *Store }

// Note is [Store.Note].
func (n PackedNotes) Note(ctx context.Context, key action.Digest) ([]byte, error) {
	if p := n.Store.packed; p != nil {
		if data, ok := p.Record(key); ok {
			note, ok := bytes.CutPrefix(data, []byte(noteMagic))
			if !ok {
				return nil, miss(key, "note", "something else has its key")
			}
			return note, nil
		}
	}
	return n.Store.Note(ctx, key)
}

// PutNote is [Store.PutNote].
func (n PackedNotes) PutNote(ctx context.Context, key action.Digest, data []byte) error {
	s := n.Store
	if s.packed == nil || s.opts.ReadOnly || key.IsZero() || len(data) > noteMax {
		return s.PutNote(ctx, key, data)
	}
	if err := s.putPacked(KindNote, key, noteMagic, data); err != nil {
		return fmt.Errorf("put note %v: %w", key, err)
	}
	return nil
}

// PackedResult is Result for what PutPackedResult stored.
func (s *Store) PackedResult(ctx context.Context, key action.Digest) (*action.Result, error) {
	if s.packed != nil {
		if data, ok := s.packed.Record(key); ok {
			res, err := action.ParseResult(data, key.Function())
			if err != nil {
				return nil, miss(key, "result", "damaged: "+err.Error())
			}
			return res, s.complete(ctx, key, res, hold)
		}
	}
	path := s.shard("result", key)
	res, fi, err := s.readResult(path, key)
	if err != nil {
		return nil, err
	}
	if err := s.complete(ctx, key, res, hold); err != nil {
		return nil, err
	}
	if s.touch(path, &fi) != nil {
		return nil, miss(key, "result", "it was just removed")
	}
	return res, nil
}

// UnpackedRecord stores what PutPackedResult or [PackedNotes] gave to a pack that has
// no room for it any more, if current says that it is still what the pack has. A
// result never begins as a note does: its first field would be one that there is not.
func (s *Store) UnpackedRecord(_ context.Context, key action.Digest, data []byte, current func() bool) error {
	s.packedMu.Lock()
	defer s.packedMu.Unlock()
	if !current() {
		return nil
	}
	if note, ok := bytes.CutPrefix(data, []byte(noteMagic)); ok {
		return s.writeRecord(KindNote, key, noteMagic, note)
	}
	return s.writeRecord(KindResult, key, resultMagic, data)
}

// Unpacked stores what a pack has no room for any more.
func (s *Store) Unpacked(ctx context.Context, d action.Digest, data []byte) error {
	if s.hasFile(ctx, d, use) == nil {
		return nil
	}
	return s.putBytes(ctx, d, data)
}

// open returns the descriptor of a blob that is present and trusted.
func (s *Store) open(ctx context.Context, d action.Digest, why intent) (fd int, err error) {
	err = s.unpacking(ctx, d, why, func() error {
		fd, err = s.openFile(ctx, d, why)
		return err
	})
	return fd, err
}

// has returns a miss where d is not present and trusted.
func (s *Store) has(ctx context.Context, d action.Digest, why intent) error {
	return s.unpacking(ctx, d, why, func() error { return s.hasFile(ctx, d, why) })
}

// unpacking calls look, which looks for the file of d; where that is a miss, and d
// is packed, it makes the file and calls look again.
func (s *Store) unpacking(ctx context.Context, d action.Digest, why intent, look func() error) error {
	if s.packed == nil || why != use {
		return look()
	}
	for {
		moved := s.packed.Moved()
		err := look()
		if err == nil || !errors.Is(err, action.ErrMiss) {
			return err
		}
		data, ok := s.packed.Get(d)
		if ok {
			if err := s.putBytes(ctx, d, data); err != nil {
				return err
			}
			return look()
		}
		if s.packed.Moved() == moved {
			return err
		}
	}
}
