package staging

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
)

// checked copies the blob src to the empty dst, and finds out whether it is what its
// digest says: the store believes a file by its size and time, and what a disk, or
// somebody, did to its content shows nowhere else. What was copied in vain has no name
// yet, and gets none.
func (d *deliverer) checked(dst, src int, blob action.Digest) error {
	size := blob.Size()
	if size > int64(len(d.buf)) {
		cloned := unix.IoctlFileClone(dst, src) == nil
		switch {
		case cloned:
			if err := sizeIs(dst, size); err != nil {
				return err
			}
		case isSparse(dst, src):
			if err := copySparse(dst, src, size); err != nil {
				return err
			}
			cloned = true
		}
		if cloned {
			return d.verified(blob, io.NewSectionReader(preader(src), 0, size))
		}
	}
	h := blob.Function().NewSized(size)
	for left := size; left > 0; {
		n, err := unix.Read(src, d.buf[:min(int64(len(d.buf)), left)])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if n == 0 {
			return fmt.Errorf("%d of %d bytes: %w", size-left, size, io.ErrUnexpectedEOF)
		}
		h.Write(d.buf[:n])
		if err := writeAll(dst, d.buf[:n]); err != nil {
			return err
		}
		left -= int64(n)
	}
	if !blob.Is(h.Sum(nil)) {
		return action.Doubted(d.ctx, d.blobs, blob)
	}
	return nil
}

// verified is nil if what r reads is the blob.
func (d *deliverer) verified(blob action.Digest, r io.Reader) error {
	whole, err := blob.Verify(r)
	if err == nil && !whole {
		err = action.Doubted(d.ctx, d.blobs, blob)
	}
	return err
}

// A preader is an open file.
type preader int

// ReadAt implements [io.ReaderAt].
func (p preader) ReadAt(b []byte, at int64) (int, error) {
	for {
		n, err := unix.Pread(int(p), b, at)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, fmt.Errorf("read: %w", err)
		case n < len(b):
			return n, io.EOF // of a file, less comes only at its end
		}
		return n, nil
	}
}
