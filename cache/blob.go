package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/durable"
)

// BlobDir is the directory that the paths of BlobPath are below.
func (s *Store) BlobDir() string { return s.dir + "/blob" }

// BlobPath is the path of d below BlobDir, with a slash in front.
func (s *Store) BlobPath(d action.Digest) string { return BlobPath(d) }

// Open opens a blob for reading, at its start. The caller closes it.
func (s *Store) Open(ctx context.Context, d action.Digest) (*os.File, error) {
	fd, err := s.open(ctx, d, use)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), s.shard("blob", d)), nil
}

// An intent says why the store looks at one of its files.
type intent int

const (
	use     intent = iota // for a caller: marks it as used
	inspect               // for ourselves: leaves no trace
	hold                  // as use, but it need not have a file
)

// openFile is open without a pack.
func (s *Store) openFile(ctx context.Context, d action.Digest, why intent) (int, error) {
	path := s.shard("blob", d)
	fd, err := durable.OpenRead(path)
	if absent(err) && d.IsEmpty() {
		return s.openEmpty(d, path)
	}
	if absent(err) {
		return -1, miss(d, "blob", "not present")
	}
	if errors.Is(err, syscall.ELOOP) {
		return -1, miss(d, "blob", "damaged: it is a link")
	}
	if err != nil {
		return -1, fmt.Errorf("blob %v: %w", d, s.explain(err))
	}
	fi, err := durable.FStat(fd, path)
	if err == nil {
		err = s.check(ctx, d, path, &fi, why)
	}
	if err != nil {
		durable.Close(fd)
		return -1, err
	}
	return fd, nil
}

// openEmpty serves the blob that is always present where nobody has made it.
func (s *Store) openEmpty(d action.Digest, path string) (int, error) {
	if !s.opts.ReadOnly && s.prepare(shardDir(path)) == nil && s.createEmpty(d.Function()) == nil {
		if fd, err := durable.OpenRead(path); err == nil {
			return fd, nil
		}
	}
	fd, err := durable.OpenRead(os.DevNull)
	if err != nil {
		return -1, fmt.Errorf("open the empty blob: %w", err)
	}
	return fd, nil
}

// prepareEmpty makes the empty blobs of our own functions. Those of the others
// are made when they are asked for.
func (s *Store) prepareEmpty() error {
	return errors.Join(s.createEmpty(action.SHA256), s.createEmpty(action.BLAKE3))
}

func (s *Store) createEmpty(f action.Function) error {
	path := s.shard("blob", action.Sum(f, nil))
	if err := s.mkdirs(shardDir(path)); err != nil {
		return err
	}
	err := s.disk.CreateEmpty(path, durable.TempMode)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return s.explain(err)
	}
	return nil
}

// Has says whether d is present, and marks it as used.
func (s *Store) Has(ctx context.Context, d action.Digest) bool { return s.has(ctx, d, use) == nil }

// hasFile is has without a pack.
func (s *Store) hasFile(ctx context.Context, d action.Digest, why intent) error {
	if d.IsEmpty() {
		return nil
	}
	if d.IsZero() {
		return miss(d, "blob", "it is the zero digest")
	}
	fi, found, err := s.lookup(d)
	if err != nil && !absent(err) {
		return fmt.Errorf("blob %v: %w", d, s.explain(err))
	}
	if !found {
		return miss(d, "blob", "not present")
	}
	return s.check(ctx, d, s.shard("blob", d), &fi, why)
}

// lookup describes the file of d.
func (s *Store) lookup(d action.Digest) (durable.FileInfo, bool, error) {
	var room [256]byte
	return durable.LookupZ(append(s.appendShard(room[:0], "blob", d), 0))
}

// check returns a miss if the file path, which fi describes, cannot be the
// blob d. A suspect file is verified, at the cost of reading it; what is good
// is not suspect any more.
func (s *Store) check(ctx context.Context, d action.Digest, path string, fi *durable.FileInfo, why intent) error {
	if !fi.Mode.IsRegular() {
		return miss(d, "blob", "damaged: it is no regular file")
	}
	if fi.Size != d.Size() {
		return miss(d, "blob", fmt.Sprintf("damaged, or asked for by a wrong size: it has %d bytes", fi.Size))
	}
	trusted, changed := s.trusted(fi), s.changed(fi)
	if !trusted || changed || s.damaged.Load() {
		if _, known := s.verified.Load(d); !known {
			if err := s.verify(ctx, d, path); err != nil {
				return err
			}
			if trusted { // and would change its time
				s.verified.Store(d, nil)
			} else {
				s.trust(d, path)
			}
			if why != inspect && s.used(path, changed) != nil {
				return miss(d, "blob", "it was just removed")
			}
			return nil
		}
	}
	if why == use && s.touch(path, fi) != nil {
		return miss(d, "blob", "it was just removed")
	}
	return nil
}

// verify reads the file path and returns a miss if its digest is not d.
func (s *Store) verify(ctx context.Context, d action.Digest, path string) error {
	fd, err := durable.OpenRead(path)
	if err != nil {
		return fmt.Errorf("blob %v: %w", d, s.explain(err))
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	got, err := hashReader(ctx, d.Function(), d.Size(), f)
	if err != nil {
		return fmt.Errorf("blob %v: %w", d, s.explain(err))
	}
	if got.Bytes() != d.Bytes() || got.Size() != d.Size() { // d may be shortened
		return miss(d, "blob", "damaged: its contents are "+got.String())
	}
	return nil
}

// trust remembers that the contents of path were found to be d.
func (s *Store) trust(d action.Digest, path string) {
	if !s.opts.ReadOnly && s.stamp() != 0 && s.disk.Stamp(path, s.stampTime()) == nil {
		return
	}
	s.verified.Store(d, nil)
}

// Put stores the content of r under d, and refuses content that is not d's. If
// d is present, r is not read.
func (s *Store) Put(ctx context.Context, d action.Digest, r io.Reader) error {
	if d.IsZero() {
		return errors.New("put blob: it has no digest")
	}
	if !d.IsEmpty() && s.has(ctx, d, use) == nil {
		return nil
	}
	w := s.NewWriterOf(ctx, d)
	defer w.Abort()
	// One byte more than there may be shows that there is too much.
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, io.LimitReader(r, d.Size()+1), make([]byte, copyBlock))
	if err != nil {
		return fmt.Errorf("put blob %v: %w", d, err)
	}
	if n > d.Size() {
		return fmt.Errorf("put blob %v: %w: it is longer: %v begins it", d, ErrContent, w.sum())
	}
	if got := w.sum(); got != d {
		return fmt.Errorf("put blob %v: %w: it has digest %v", d, ErrContent, got)
	}
	_, err = w.Commit()
	return err
}

// stored says whether d needs no writing. Unlike has, it wants the empty blob
// to be a file, because whoever has put a blob may use its BlobPath.
func (s *Store) stored(ctx context.Context, d action.Digest) bool {
	if d.IsEmpty() && !s.opts.ReadOnly {
		_, err := durable.Stat(s.shard("blob", d))
		return err == nil
	}
	return s.has(ctx, d, use) == nil
}

// PutBytes stores data and returns its digest.
func (s *Store) PutBytes(ctx context.Context, f action.Function, data []byte) (action.Digest, error) {
	d := action.Sum(f, data)
	if s.stored(ctx, d) {
		return d, nil
	}
	return d, s.putBytes(ctx, d, data)
}

func (s *Store) putBytes(ctx context.Context, d action.Digest, data []byte) error {
	if err := s.writable("put blob " + d.String()); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	t, err := s.draft(shardDir(s.shard("blob", d)))
	if err != nil {
		return fmt.Errorf("put blob %v: %w", d, err)
	}
	defer t.Close()
	if _, err := t.Write(data); err != nil {
		return fmt.Errorf("put blob %v: %w", d, s.explain(err))
	}
	return s.publish(ctx, t, d)
}

// publish makes the finished draft t the blob d, unless d is present.
func (s *Store) publish(ctx context.Context, t *durable.Temp, d action.Digest) error {
	path := s.shard("blob", d)
	s.watchClock()
	err := t.Stamp(s.stampTime())
	if err == nil {
		err = s.inDir(shardDir(path), func() error {
			err := t.Publish(path)
			if !inTheWay(err) {
				return err
			}
			damage := s.hasFile(ctx, d, use)
			if damage == nil {
				return nil // another was faster
			}
			s.warn(fmt.Errorf("written again: %w", damage))
			return s.supplant(t, path)
		})
	}
	if err != nil {
		return fmt.Errorf("put blob %v: %w", d, s.explain(err))
	}
	s.logbook.add(s, KindBlob, d, d.Size())
	return nil
}

const (
	copyBlock = 256 << 10
	// smallBlob is the size up to which a file is hashed in memory before
	// anything is written, so that one that is present costs no write.
	smallBlob = 256 << 10
	// sparseSize is from which size on a file that takes less than half of it on the
	// disk is looked through for runs of zeros.
	sparseSize = 1 << 20
)

// PutFile stores what src holds from its start to its end, by sharing extents
// or copying, and returns its digest. The digest is that of the bytes stored,
// whatever happens to src meanwhile. The offset of src does not matter and
// stays.
func (s *Store) PutFile(ctx context.Context, f action.Function, src *os.File) (action.Digest, error) {
	fi, err := durable.FStat(int(src.Fd()), src.Name())
	if err != nil {
		return action.Digest{}, fmt.Errorf("put file: %w", err)
	}
	if !fi.Mode.IsRegular() {
		return action.Digest{}, fmt.Errorf("put file %s: it is no regular file", src.Name())
	}
	in := io.NewSectionReader(src, 0, 1<<62)
	if fi.Size <= smallBlob {
		// One byte more than it has, to see the end.
		buf := make([]byte, fi.Size+1)
		n, err := io.ReadFull(in, buf)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return s.PutBytes(ctx, f, buf[:n])
		}
		if err != nil {
			return action.Digest{}, fmt.Errorf("put file %s: %w", src.Name(), err)
		}
		in = io.NewSectionReader(src, 0, 1<<62) // it grew
	}
	w := s.NewSizedWriter(ctx, f, fi.Size)
	defer w.Abort()
	if err := w.clone(src); err != nil {
		if fi.Blocks <= fi.Size/2 && fi.Size >= sparseSize {
			w.sparse = true
		}
		if _, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{in}, make([]byte, copyBlock)); err != nil {
			return action.Digest{}, fmt.Errorf("put file %s: %w", src.Name(), err)
		}
	}
	return w.Commit()
}

// hashReader returns the digest of what r gives, which is expected bytes, or
// else another digest than that of anything with so many.
func hashReader(ctx context.Context, f action.Function, expected int64, r io.Reader) (action.Digest, error) {
	h := f.NewSized(expected)
	buf := make([]byte, copyBlock)
	var size int64
	for {
		if err := ctx.Err(); err != nil {
			return action.Digest{}, err
		}
		n, err := r.Read(buf)
		h.Write(buf[:n])
		size += int64(n)
		if err == io.EOF {
			return action.DigestOf(f, h.Sum(nil), size)
		}
		if err != nil {
			return action.Digest{}, err
		}
	}
}
