package cache

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/durable"
)

// A layer is a directory layer/NAME, published whole by a rename, of "data"
// and "refs". The payload of the record refs is the bytes that data takes on
// the disk (8 bytes), what layerSum says of it (32), and for each blob 1 byte
// of function, 8 of size and 32 of hash; numbers are little-endian.
const (
	layerMagic = "sbL2"
	layerHead  = 8 + 32
	refSize    = 1 + 8 + 32
)

// checkLayerName keeps names to what is one harmless path component.
func checkLayerName(name string) error {
	ok := name != "" && len(name) <= 200 && name[0] != '.'
	for _, c := range []byte(name) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		ok = ok && (letter || c == '.' || c == '-' || c == '_')
	}
	if !ok {
		return fmt.Errorf("malformed layer name %q: want up to 200 of A-Z a-z 0-9 . _ -, and no dot in front", name)
	}
	return nil
}

func (s *Store) layerDir(name string) string { return filepath.Join(s.dir, "layer", name) }

// Layer returns the path of the layer called name and marks it as used, or an
// error wrapping [action.ErrMiss]. The blobs that it needs are kept with it.
func (s *Store) Layer(ctx context.Context, name string) (string, error) {
	if err := checkLayerName(name); err != nil {
		return "", err
	}
	dir := s.layerDir(name)
	refs := filepath.Join(dir, "refs")
	fi, err := durable.Stat(refs)
	if absent(err) {
		return "", missLayer(name, "not present")
	}
	if err != nil {
		return "", fmt.Errorf("layer %s: %w", name, s.explain(err))
	}
	idle := s.now().Sub(fi.ATime) > layerIdle && !s.opts.ReadOnly
	if idle || int64(fi.MTime.Nanosecond()) != s.stamp() || s.stamp() == 0 {
		if err := s.renewLayer(ctx, name, &fi); err != nil {
			return "", err
		}
	}
	if s.touch(refs, &fi) != nil {
		return "", missLayer(name, "it was just removed")
	}
	return filepath.Join(dir, "data"), nil
}

// layerIdle is after how long without use the blobs of a layer are looked after
// again: what removes them without asking us, a cleaner of old files, comes then.
const layerIdle = time.Hour

// renewLayer decides about a layer that another boot made, or that nobody used for
// layerIdle. Its own contents have no digest: what may not have reached the disk is
// dropped. Its blobs are checked here, and not at each use, because the kernel opens
// them without us.
func (s *Store) renewLayer(ctx context.Context, name string, fi *durable.FileInfo) error {
	dir := s.layerDir(name)
	refs := filepath.Join(dir, "refs")
	if !s.trusted(fi) {
		if !s.opts.ReadOnly && s.stamp() != 0 {
			s.warn(s.bury(dir))
		}
		return missLayer(name, "it may not have reached the disk before the machine was last stopped")
	}
	l, err := readLayer(refs, name)
	if err == nil {
		for _, d := range l.refs {
			if err = s.has(ctx, d, use); err != nil {
				break
			}
		}
	}
	if errors.Is(err, action.ErrMiss) || errors.Is(err, errRecord) {
		return missLayer(name, err.Error())
	}
	if err != nil {
		return fmt.Errorf("layer %s: %w", name, s.explain(err))
	}
	if !s.opts.ReadOnly && int64(fi.MTime.Nanosecond()) != s.stamp() {
		s.warn(s.disk.Stamp(refs, s.stampTime()))
	}
	return nil
}

// ForgetLayers removes the layers that need any of the blobs, as these were found to
// be missing or damaged: who makes such a layer again looks after its blobs.
func (s *Store) ForgetLayers(blobs []action.Digest) error {
	if err := s.writable("remove layers"); err != nil {
		return err
	}
	list, err := s.layers()
	if err != nil {
		return err
	}
	bad := make(map[action.Digest]bool, len(blobs))
	for _, d := range blobs {
		bad[d] = true
	}
	var errs []error
	for i := range list {
		l, err := readLayer(list[i].times(list[i].path(s)), list[i].name)
		if err == nil && slices.ContainsFunc(l.refs, func(d action.Digest) bool { return bad[d] }) {
			errs = append(errs, s.bury(s.layerDir(list[i].name)))
		}
	}
	return errors.Join(errs...)
}

// layerRecord is the payload of a layer's refs.
type layerRecord struct {
	size int64
	sum  [32]byte
	refs []action.Digest
}

func (l *layerRecord) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(l.size))
	b = append(b, l.sum[:]...)
	for _, d := range l.refs {
		sum := d.Bytes()
		b = append(b, byte(d.Function()))
		b = binary.LittleEndian.AppendUint64(b, uint64(d.Size()))
		b = append(b, sum[:]...)
	}
	return b
}

func readLayer(path, name string) (*layerRecord, error) {
	data, _, err := readRecord(path, layerMagic, name)
	if err != nil {
		return nil, err
	}
	if len(data) < layerHead || (len(data)-layerHead)%refSize != 0 {
		return nil, fmt.Errorf("%w: %d bytes of references", errRecord, len(data))
	}
	l := &layerRecord{size: int64(binary.LittleEndian.Uint64(data))}
	copy(l.sum[:], data[8:])
	l.refs = make([]action.Digest, 0, (len(data)-layerHead)/refSize)
	for b := data[layerHead:]; len(b) > 0; b = b[refSize:] {
		d, err := action.Shortened(action.Function(b[0]), [32]byte(b[9:refSize]), int64(binary.LittleEndian.Uint64(b[1:])))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errRecord, err)
		}
		l.refs = append(l.refs, d)
	}
	return l, nil
}

// PutLayer calls build with the path of something that does not exist yet,
// publishes what build makes there, and returns its path. The blobs refs, which
// must be present, are kept for as long as the layer is. If the layer is there
// already, or another process was faster, that one is returned.
func (s *Store) PutLayer(ctx context.Context, name string, refs []action.Digest, build func(path string) error) (string, error) {
	if err := s.writable("put layer " + name); err != nil {
		return "", err
	}
	path, err := s.Layer(ctx, name)
	if err == nil || !errors.Is(err, action.ErrMiss) {
		return path, err
	}
	draft, err := s.tmp.name(s)
	if err != nil {
		return "", fmt.Errorf("put layer %s: %w", name, err)
	}
	defer func() { s.warn(s.disk.RemoveAll(draft)) }() // nothing, once published
	if err := s.disk.Mkdir(draft, 0o755); err != nil {
		return "", fmt.Errorf("put layer %s: %w", name, s.explain(err))
	}
	data := filepath.Join(draft, "data")
	if err := build(data); err != nil {
		if durable.IsFull(err) { // it writes into the store, too
			err = s.explain(err)
		}
		return "", fmt.Errorf("build layer %s: %w", name, err)
	}
	if err := s.finishLayer(draft, name, refs); err != nil {
		return "", fmt.Errorf("put layer %s: %w", name, s.explain(err))
	}
	return s.publishLayer(ctx, draft, name)
}

// finishLayer writes the record of the layer in the directory draft.
func (s *Store) finishLayer(draft, name string, refs []action.Digest) error {
	size, err := diskSize(filepath.Join(draft, "data"))
	if err != nil {
		return err
	}
	l := layerRecord{size: size, refs: refs}
	if l.sum, err = layerSum(filepath.Join(draft, "data")); err != nil {
		return err
	}
	s.watchClock()
	s.logbook.grow(size)
	t, err := s.draft(draft)
	if err != nil {
		return err
	}
	defer t.Close()
	if _, err := t.Write(appendRecord(nil, layerMagic, name, l.append(nil))); err != nil {
		return err
	}
	if err := t.Stamp(s.stampTime()); err != nil {
		return err
	}
	return t.Publish(filepath.Join(draft, "refs"))
}

func (s *Store) publishLayer(ctx context.Context, draft, name string) (string, error) {
	dir := s.layerDir(name)
	var err error
	for range 10 {
		err = s.inDir(filepath.Dir(dir), func() error { return s.disk.Rename(draft, dir) })
		if err == nil {
			return filepath.Join(dir, "data"), nil
		}
		// A file in the way is ENOTDIR.
		if !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, fs.ErrExist) && !errors.Is(err, syscall.ENOTDIR) {
			break
		}
		path, lerr := s.Layer(ctx, name)
		if lerr == nil || !errors.Is(lerr, action.ErrMiss) {
			return path, lerr
		}
		if err = s.bury(dir); err != nil { // damaged, and in the way
			break
		}
	}
	return "", fmt.Errorf("put layer %s: %w", name, s.explain(err))
}

// layerSum is a hash of everything in the file or tree at path that a command
// may see: names, kinds, permissions, link targets and contents. Verify compares
// it; no user of a layer does, because that would cost as much as making it.
func layerSum(path string) (sum [32]byte, err error) {
	h := action.NewHasher(action.BLAKE3)
	err = walkLayer(path, func(at, rel string, e os.DirEntry) error {
		info, err := e.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%q %v\n", rel, info.Mode())
		switch info.Mode().Type() {
		case fs.ModeSymlink:
			target, err := os.Readlink(at)
			fmt.Fprintf(h, "%q\n", target)
			return err
		case 0:
			fmt.Fprintf(h, "%d\n", info.Size())
			f, err := os.Open(at)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = io.Copy(h, f)
			return err
		}
		return nil
	})
	return h.Sum().Bytes(), err
}

// diskSize is what the file or tree at path takes on the disk.
func diskSize(path string) (int64, error) {
	var total int64
	err := walkLayer(path, func(at, _ string, _ os.DirEntry) error {
		fi, err := durable.Stat(at)
		if fi.NLink > 1 && !fi.Mode.IsDir() {
			// A link to a blob is counted there, and among links in the
			// layer each counts its share.
			fi.Blocks /= int64(fi.NLink)
		}
		total += fi.Blocks
		return err
	})
	return total, err
}
