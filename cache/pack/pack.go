// Package pack keeps small blobs in few large files, because a file system takes
// ten times as long to make a file as to write what is in it. A [Pack] is the
// young part of a store of one process: what it has no room for any more is given
// to that store, blob by blob, the oldest first.
//
// # On-disk format, version 1
//
//	N.pack    records, one after the other; N are decimal numbers that grow
//	N.index   where the records of N.pack are: written once it takes no more
//
// The record of a blob is the byte 'P', a byte that is the digest function, two
// zeros, the size of the blob in 4 bytes, the first 32 bytes of its hash, and the
// blob. What is kept under a key has the byte 'K' instead, and the key in the place
// of the hash; what follows is the SHA-256 of key and data, and the data. Of
// several with one key, the last counts; one without data says that there is none.
// An index is the 4 bytes "sbP1", the first 8 bytes of the SHA-256 of the boot's
// id, and for each record 8 bytes that are its tag and 8 that are its place: see
// place. Numbers are little-endian.
//
// Nothing is believed: a blob is only given out if it has the digest that was
// asked for. A pack file without an index of this boot is read, and what in it
// has its digest is in the pack. So SIGKILL loses nothing that Put has returned
// for, a power cut what had not been synced, and neither gives a wrong blob.
package pack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
)

var _ cache.Packed = (*Pack)(nil)

// MaxSize is the size of the largest blob that a pack takes: what is larger does
// not suffer much from having a file.
const MaxSize = 4096

// ErrFull is returned by Put when there is no room until the oldest blobs are
// elsewhere.
var ErrFull = errors.New("the pack is full")

// Options of a [Pack].
type Options struct {
	// Boot names this boot of the machine; "": none is known to be the same.
	Boot string

	// MaxBytes and MaxBlobs bound what is in the pack. The blobs cost memory:
	// about 30 bytes each, and as much again for the garbage collector. 0: 1 GiB,
	// and a million.
	MaxBytes int64
	MaxBlobs int

	// FileBytes is the size of a file; 0: 16 MiB, which is the most.
	FileBytes int64

	// Spill stores a blob elsewhere, for good: [cache.Store.Unpacked].
	Spill func(ctx context.Context, d action.Digest, data []byte) error

	// SpillRecord does so with what PutRecord was given, if current says, while
	// nobody can replace it, that it is not outdated.
	SpillRecord func(ctx context.Context, key action.Digest, data []byte, current func() bool) error

	// Warn, where not nil, is told of what went wrong and was got over.
	Warn func(error)
}

// A Pack is a directory of pack files. Its methods may be called by any number of
// goroutines, of one process at a time.
type Pack struct {
	dir    string
	o      Options
	boot   [8]byte
	loaded chan struct{} // closed when places is whole
	whole  atomic.Bool   // it is closed, which costs less to ask
	cancel context.CancelFunc
	ctx    context.Context
	wake   chan struct{} // there is something to spill
	done   sync.WaitGroup

	mu     sync.RWMutex
	places map[uint64]place
	files  []*file // the oldest first
	open   *file   // the last of them, if it takes more
	last   uint32  // the number of the newest file there ever was
	moved  atomic.Uint64
	bytes  int64
	blobs  int
	buf    []byte // for Put
}

// A file is one pack file.
type file struct {
	number  uint32
	f       *os.File
	end     int64   // of what was written
	entries []entry // while it is open
	count   int
}

type entry struct {
	tag uint64
	at  place
}

// A place is where a record is: its file's number in 27 bits, its offset there
// in 24, and the size of the blob in 13. The zero place is none.
type place uint64

func placeOf(number uint32, offset int64, size int) place {
	return place(number)<<37 | place(offset)<<13 | place(size)
}

func (p place) number() uint32 { return uint32(p >> 37) }
func (p place) offset() int64  { return int64(p >> 13 & (1<<24 - 1)) }
func (p place) size() int      { return int(p & (1<<13 - 1)) }

const (
	header     = 8 + 32
	blobMark   = 'P'
	keyMark    = 'K'
	fileMax    = 16 << 20
	indexMagic = "sbP1"
	indexHead  = len(indexMagic) + 8
	maxNumber  = 1<<27 - 1
	maxFiles   = 256 // a restart begins a new one
)

func appendHeader(b []byte, mark byte, d action.Digest, size int) []byte {
	sum := d.Bytes()
	b = append(b, mark, byte(d.Function()), 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(size))
	return append(b, sum[:]...)
}

// tagOf is what a blob is found by. Two blobs can have the same, but for one to
// be made for another takes 2^64 attempts; then one of the two is lost.
func tagOf(mark byte, f action.Function, sum [32]byte) uint64 {
	return binary.LittleEndian.Uint64(sum[:]) ^ (uint64(f)|uint64(mark)<<8)*0x9e3779b97f4a7c15
}

// Open opens the pack in the directory dir, which need not be there. It does not
// wait until what is in it is known: other methods do. The caller closes it.
func Open(dir string, o Options) (*Pack, error) {
	if o.MaxBytes == 0 {
		o.MaxBytes = 1 << 30
	}
	if o.MaxBlobs == 0 {
		o.MaxBlobs = 1 << 20
	}
	if o.FileBytes == 0 || o.FileBytes > fileMax {
		o.FileBytes = fileMax
	}
	p := &Pack{dir: dir, o: o, loaded: make(chan struct{}), wake: make(chan struct{}, 1), places: map[uint64]place{}}
	if o.Boot != "" {
		sum := sha256.Sum256([]byte(o.Boot))
		copy(p.boot[:], sum[:])
	}
	numbers, err := p.list()
	if err != nil {
		return nil, err
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.done.Go(func() { p.load(numbers) })
	p.done.Go(p.spillAll)
	return p, nil
}

// list returns the numbers of the pack files, and removes what was left behind.
func (p *Pack) list() (numbers []uint32, err error) {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, err
	}
	names, err := os.ReadDir(p.dir)
	if err != nil {
		return nil, err
	}
	for _, e := range names {
		base, ext, _ := strings.Cut(e.Name(), ".")
		n, err := strconv.ParseUint(base, 10, 27)
		if err == nil && n > 0 && ext == "pack" && strconv.FormatUint(n, 10) == base {
			numbers = append(numbers, uint32(n))
		} else if strings.HasSuffix(ext, ".new") {
			_ = os.Remove(filepath.Join(p.dir, e.Name()))
		}
	}
	slices.Sort(numbers)
	if len(numbers) > 0 {
		p.last = numbers[len(numbers)-1]
	}
	return numbers, nil
}

func (p *Pack) path(number uint32, ext string) string {
	return filepath.Join(p.dir, strconv.FormatUint(uint64(number), 10)+ext)
}

func (p *Pack) warn(err error) {
	if err != nil && p.o.Warn != nil {
		p.o.Warn(fmt.Errorf("pack: %w", err))
	}
}

// Close closes the files, after what is being done with them.
func (p *Pack) Close() error {
	p.cancel()
	p.done.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seal()
	var errs []error
	for _, f := range p.files {
		errs = append(errs, f.f.Close())
	}
	p.files, p.open = nil, nil
	clear(p.places)
	return errors.Join(errs...)
}

// Has says whether d is in the pack.
func (p *Pack) Has(d action.Digest) bool {
	_, ok := p.find(d)
	return ok
}

func (p *Pack) find(d action.Digest) (place, bool) {
	at, ok := p.lookup(blobMark, d.Function(), d.Bytes())
	return at, ok && int64(at.size()) == d.Size()
}

// Size is the size of the blob with that hash.
func (p *Pack) Size(f action.Function, sum [32]byte) (int64, bool) {
	at, ok := p.lookup(blobMark, f, sum)
	return int64(at.size()), ok
}

func (p *Pack) lookup(mark byte, f action.Function, sum [32]byte) (place, bool) {
	if !p.whole.Load() {
		<-p.loaded
	}
	tag := tagOf(mark, f, sum)
	p.mu.RLock()
	at, ok := p.places[tag]
	p.mu.RUnlock()
	return at, ok
}

// Get returns the content of d.
func (p *Pack) Get(d action.Digest) ([]byte, bool) {
	at, ok := p.find(d)
	if !ok {
		return nil, false
	}
	return p.content(blobMark, d, at, func(data []byte) bool { return holds(d, data) })
}

// content returns what is at a place where that is of d, and is good; else it
// forgets the place.
func (p *Pack) content(mark byte, d action.Digest, at place, good func([]byte) bool) ([]byte, bool) {
	buf := make([]byte, header+at.size())
	p.mu.RLock()
	err := p.read(buf, at)
	p.mu.RUnlock()
	if err == nil && (!isHeader(buf, mark, d, at.size()) || !good(buf[header:])) {
		err = fmt.Errorf("what was kept of %v is damaged", d)
	}
	if err != nil {
		if !errors.Is(err, errGone) { // into a file, this instant
			p.warn(err)
		}
		p.drop(mark, d, at)
		return nil, false
	}
	return buf[header:], true
}

func isHeader(b []byte, mark byte, d action.Digest, size int) bool {
	var want [header]byte
	return bytes.Equal(b[:header], appendHeader(want[:0], mark, d, size))
}

// holds says whether data has the digest d, of which 32 bytes are known.
func holds(d action.Digest, data []byte) bool {
	got := action.Sum(d.Function(), data)
	return got.Bytes() == d.Bytes() && got.Size() == d.Size()
}

var errGone = errors.New("its file is gone")

// read fills buf from a place. Needs mu.
func (p *Pack) read(buf []byte, at place) error {
	f := p.file(at.number())
	if f == nil {
		return errGone
	}
	_, err := f.f.ReadAt(buf, at.offset())
	return err
}

func (p *Pack) file(number uint32) *file {
	i, ok := slices.BinarySearchFunc(p.files, number, func(f *file, n uint32) int { return int(f.number) - int(n) })
	if !ok {
		return nil
	}
	return p.files[i]
}

// drop forgets that d is at a place.
func (p *Pack) drop(mark byte, d action.Digest, at place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if tag := tagOf(mark, d.Function(), d.Bytes()); p.places[tag] == at {
		delete(p.places, tag)
	}
}

// Moved is another number after blobs have gone elsewhere.
func (p *Pack) Moved() uint64 { return p.moved.Load() }

// Max is the size of the largest blob that the pack takes.
func (p *Pack) Max() int64 { return MaxSize }

// Put stores blobs in one write. If it returns an error, none of those that were
// not there before are there.
func (p *Pack) Put(list []cache.Checked) error {
	<-p.loaded
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		return p.ctx.Err()
	}
	p.buf = p.buf[:0]
	added := make([]entry, 0, len(list))
	for _, b := range list {
		d := b.Digest()
		if d.Size() > MaxSize {
			return fmt.Errorf("pack: blob %v is too large", d)
		}
		if p.same(d) {
			continue
		}
		added = append(added, entry{tagOf(blobMark, d.Function(), d.Bytes()), placeOf(0, 0, int(d.Size()))})
		p.buf = append(appendHeader(p.buf, blobMark, d, int(d.Size())), b.Data()...)
	}
	return p.append(added)
}

// append writes buf, which has the records of added, whose places are not known
// yet. Needs mu.
func (p *Pack) append(added []entry) error {
	if len(added) == 0 {
		return nil
	}
	if err := p.room(int64(len(p.buf)), len(added)); err != nil {
		return err
	}
	f := p.open
	if _, err := f.f.WriteAt(p.buf, f.end); err != nil {
		return err // what came of it is after the end
	}
	for _, e := range added {
		e.at = placeOf(f.number, f.end, e.at.size())
		p.places[e.tag] = e.at
		f.entries = append(f.entries, e)
		f.end += int64(header + e.at.size())
	}
	f.count += len(added)
	p.blobs += len(added)
	p.bytes += int64(len(p.buf))
	return nil
}

// same says whether d is here, and not only another with its tag. Needs mu.
func (p *Pack) same(d action.Digest) bool {
	at, ok := p.places[tagOf(blobMark, d.Function(), d.Bytes())]
	if !ok || int64(at.size()) != d.Size() {
		return false
	}
	var got [header]byte
	return p.read(got[:], at) == nil && isHeader(got[:], blobMark, d, at.size())
}

// room sees to it that the open file has room for n bytes. Needs mu.
func (p *Pack) room(n int64, blobs int) error {
	bytes, count := p.bytes+n, p.blobs+blobs
	if bytes > p.o.MaxBytes-p.o.MaxBytes/4 || count > p.o.MaxBlobs-p.o.MaxBlobs/4 || len(p.files) > maxFiles {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
	if bytes > p.o.MaxBytes || count > p.o.MaxBlobs || n > p.o.FileBytes {
		return ErrFull
	}
	if p.open != nil && p.open.end+n <= p.o.FileBytes {
		return nil
	}
	p.seal()
	return p.begin()
}

// begin begins a file. Needs mu.
func (p *Pack) begin() error {
	if p.last == maxNumber {
		return ErrFull
	}
	const flags = os.O_RDWR | os.O_CREATE | os.O_EXCL
	p.last++
	f, err := os.OpenFile(p.path(p.last, ".pack"), flags, 0o600)
	if errors.Is(err, os.ErrNotExist) { // somebody has removed the store
		if err = os.MkdirAll(p.dir, 0o700); err == nil {
			f, err = os.OpenFile(p.path(p.last, ".pack"), flags, 0o600)
		}
	}
	if err != nil {
		return err
	}
	p.open = &file{number: p.last, f: f}
	p.files = append(p.files, p.open)
	return nil
}

// seal ends the open file, and writes its index. Needs mu.
func (p *Pack) seal() {
	f := p.open
	p.open = nil
	if f == nil {
		return
	}
	p.warn(p.writeIndex(f.number, f.entries))
	f.entries = nil
}
