package cache

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/durable"
)

// The file "index" is a bbolt database that knows every blob, result and note,
// so that trim and stat need not look at a million files. Files are the truth:
// the index is made from a walk where it is missing, damaged, of another
// version, or older than indexMaxAge, and the log brings it up to date. What
// it says of last use can be too old, so trim asks the file before it removes.
//
// Bucket "meta": "version" is indexVersion, "walked" the seconds of the walk.
// Bucket "entry": kind, function and hash -> bytes on the disk, seconds of the
// last use. Numbers are 8 bytes, big-endian.
//
// bbolt does not survive a database that is damaged: some of its goroutines
// panic. So "index.sum", a record, has the digest of the file as we left it,
// and bbolt never sees any other. One process at a time uses the two; nobody
// waits: a process that finds them in use walks.
const (
	indexName    = "index"
	indexMagic   = "sbI1"
	indexVersion = "1"
	indexMaxAge  = 24 * time.Hour
	indexWait    = 50 * time.Millisecond
)

var (
	bucketMeta  = []byte("meta")
	bucketEntry = []byte("entry")
	keyVersion  = []byte("version")
	keyWalked   = []byte("walked")
)

// errIndex says that the index cannot be used and must be made again.
var errIndex = errors.New("the index is of no use")

// An index is the open database.
type index struct {
	db    *bolt.DB
	lock  *os.File
	dirty bool // since it was opened
}

func (s *Store) closeIndex(x *index) {
	if x == nil {
		return
	}
	path := filepath.Join(s.dir, indexName)
	err := guard(x.db.Close)
	if err == nil && x.dirty {
		var d action.Digest
		if d, err = hashFile(path); err == nil {
			data := appendRecord(nil, indexMagic, indexName, []byte(d.String()))
			err = s.replace(path+".sum", path+".sum.new", data, 0o644)
		}
	}
	if err != nil {
		s.warn(err) // then the sum does not match, and it is made again
	}
	_ = x.lock.Close()
}

// hashFile returns the digest of a regular file: not that of a link, which may lead to
// what never ends.
func hashFile(path string) (action.Digest, error) {
	fd, err := durable.OpenRead(path)
	if err != nil {
		return action.Digest{}, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if fi, err := durable.FStat(fd, path); err != nil || !fi.Mode.IsRegular() {
		return action.Digest{}, cmp.Or(err, fmt.Errorf("%s is no file", path))
	}
	return hashReader(context.Background(), action.BLAKE3, 0, f)
}

// entries returns everything in the store, from the index where it can be had.
// The caller closes the index, which is nil where another process has it, or the log
// could not be taken.
func (s *Store) entries(ctx context.Context) ([]entry, *index, error) {
	layers, err := s.layers()
	if err != nil {
		return nil, nil, err
	}
	x, err := s.openIndex(false)
	if err == nil {
		list, err := s.readIndex(x)
		if err == nil {
			return append(list, layers...), x, nil
		}
		s.closeIndex(x)
	}
	if err == nil || errors.Is(err, errIndex) { // it is of no use: begin anew
		x, err = s.openIndex(true)
	}
	if err != nil {
		x = nil
	} else if _, err := s.takeLog(func(*entry) {}, func() error { return nil }); err != nil {
		// The index would be told again of what is trimmed now, or it would be counted twice.
		s.warnUnlessFull(err)
		s.closeIndex(x)
		x = nil
	}
	list, err := s.walkEntries(ctx)
	if err != nil {
		s.closeIndex(x)
		return nil, nil, err
	}
	if x != nil {
		s.warn(s.buildIndex(x, list))
	}
	return append(list, layers...), x, nil
}

func (s *Store) walkEntries(ctx context.Context) ([]entry, error) {
	var list []entry
	err := s.walk(ctx, func(e *entry, fi *durable.FileInfo) error {
		s.fixFuture(e.path(s), fi)
		list = append(list, *e)
		return nil
	})
	return list, err
}

// fixFuture sets a last use that lies in the future, because the clock went
// back, to now: else it would be young for ever.
func (s *Store) fixFuture(path string, fi *durable.FileInfo) {
	if now := s.now(); fi.ATime.After(now.Add(touchAfter)) && !s.opts.ReadOnly {
		_ = s.disk.Touch(path, now)
	}
}

// openIndex opens the database, or an empty one in its place. The error wraps
// errIndex where it is damaged; any other means that it is not to be had now.
func (s *Store) openIndex(anew bool) (*index, error) {
	if s.opts.ReadOnly {
		return nil, ErrReadOnly
	}
	if _, err := durable.Stat(filepath.Join(s.dir, versionName)); err != nil {
		return nil, err
	}
	lock, err := s.openLocks()
	if err != nil {
		return nil, err
	}
	x := &index{lock: lock, dirty: anew}
	ok, err := durable.TryLock(lock, indexOffset, 1)
	if err == nil && !ok {
		err = errors.New("another process uses the index")
	}
	path := filepath.Join(s.dir, indexName)
	if err == nil && anew {
		err = s.disk.RemoveAll(path)
	} else if err == nil {
		err = s.checkSum(path)
	}
	if err == nil {
		err = guard(func() (err error) {
			x.db, err = bolt.Open(path, 0o600, &bolt.Options{
				Timeout: indexWait,
				// It can be made again: a power cut may cost it.
				NoSync: true, FreelistType: bolt.FreelistMapType,
				OpenFile: func(name string, flag int, perm os.FileMode) (*os.File, error) {
					return os.OpenFile(name, flag|syscall.O_NOFOLLOW, perm)
				},
			})
			return err
		})
	}
	if err == nil && anew {
		s.share(path, 0o660)
	}
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	return x, nil
}

// checkSum returns an error unless the file is as we left it.
func (s *Store) checkSum(path string) error {
	want, _, err := readRecord(path+".sum", indexMagic, indexName)
	if err != nil {
		return fmt.Errorf("%w: %w", errIndex, err)
	}
	got, err := hashFile(path)
	if err != nil || got.String() != string(want) {
		return fmt.Errorf("%w: it has digest %v, want %s", errIndex, got, want)
	}
	return nil
}

// guard turns the panics with which bbolt meets damaged pages, and the faults
// of a file that is shorter than it was, into errors. It cannot reach bbolt's
// own goroutines: see "index.sum".
func guard(f func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errIndex, p)
		}
	}()
	return f()
}

func parseEntry(k, v []byte) (entry, error) {
	if len(k) != 34 || len(v) != 16 {
		return entry{}, fmt.Errorf("%w: an entry has %d+%d bytes", errIndex, len(k), len(v))
	}
	e := entry{
		kind: Kind(k[0]), f: action.Function(k[1]), hash: [32]byte(k[2:]),
		bytes: int64(binary.BigEndian.Uint64(v)), used: int64(binary.BigEndian.Uint64(v[8:])),
	}
	return e, e.check()
}

// check refuses what cannot be in the store.
func (e *entry) check() error {
	known := e.kind == KindResult || e.kind == KindNote || e.kind == KindBlob
	if !known || !e.f.Known() || e.bytes < 0 {
		return fmt.Errorf("%w: an entry of kind %d, function %d, %d bytes", errIndex, e.kind, e.f, e.bytes)
	}
	return nil
}

func indexKey(e *entry) []byte {
	return append([]byte{byte(e.kind), byte(e.f)}, e.hash[:]...)
}

func indexValue(e *entry) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(e.bytes))
	return binary.BigEndian.AppendUint64(b, uint64(e.used))
}

// readIndex brings the index up to date with the log and returns what it says.
func (s *Store) readIndex(x *index) (list []entry, err error) {
	now := s.now().Unix()
	err = guard(func() error {
		if err := x.db.View(s.checkIndex); err != nil {
			return err
		}
		var news []entry
		garbage, err := s.takeLog(
			func(e *entry) { news = append(news, *e) },
			func() error {
				defer func() { news = nil }()
				return x.update(news, nil)
			})
		if err != nil {
			return err
		}
		if garbage > 0 {
			return fmt.Errorf("%w: the log is damaged in %d bytes", errIndex, garbage)
		}
		return x.db.View(func(tx *bolt.Tx) error {
			return tx.Bucket(bucketEntry).ForEach(func(k, v []byte) error {
				e, err := parseEntry(k, v)
				e.used = min(e.used, now) // the clock may have gone back
				list = append(list, e)
				return err
			})
		})
	})
	return list, err
}

func (s *Store) checkIndex(tx *bolt.Tx) error {
	meta := tx.Bucket(bucketMeta)
	if meta == nil || tx.Bucket(bucketEntry) == nil || string(meta.Get(keyVersion)) != indexVersion {
		return fmt.Errorf("%w: it is new or of another version", errIndex)
	}
	walked := meta.Get(keyWalked)
	if len(walked) != 8 {
		return fmt.Errorf("%w: it does not say when it was made", errIndex)
	}
	age := s.now().Sub(time.Unix(int64(binary.BigEndian.Uint64(walked)), 0))
	if age < 0 || age > indexMaxAge {
		return fmt.Errorf("%w: it is old", errIndex)
	}
	return nil
}

// buildIndex fills the index with what a walk found.
func (s *Store) buildIndex(x *index, list []entry) error {
	return guard(func() error {
		x.dirty = true
		err := x.db.Update(func(tx *bolt.Tx) error {
			for _, b := range [][]byte{bucketMeta, bucketEntry} {
				if tx.Bucket(b) != nil {
					if err := tx.DeleteBucket(b); err != nil {
						return err
					}
				}
				if _, err := tx.CreateBucket(b); err != nil {
					return err
				}
			}
			meta := tx.Bucket(bucketMeta)
			walked := binary.BigEndian.AppendUint64(nil, uint64(s.now().Unix()))
			if err := meta.Put(keyWalked, walked); err != nil {
				return err
			}
			return meta.Put(keyVersion, []byte(indexVersion))
		})
		if err != nil {
			return err
		}
		return x.update(list, nil)
	})
}

// update changes what the index knows.
func (x *index) update(put, remove []entry) error {
	if len(put)+len(remove) == 0 {
		return nil
	}
	x.dirty = true
	return guard(func() error {
		return x.db.Update(func(tx *bolt.Tx) error {
			b := tx.Bucket(bucketEntry)
			for i := range put {
				if put[i].kind == KindLayer {
					continue
				}
				if err := b.Put(indexKey(&put[i]), indexValue(&put[i])); err != nil {
					return err
				}
			}
			for i := range remove {
				if err := b.Delete(indexKey(&remove[i])); err != nil {
					return err
				}
			}
			return nil
		})
	})
}
