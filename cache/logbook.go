package cache

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/durable"
)

// The file "log" tells the index of what was written since: records of 48
// bytes, appended by any process, many in one write. A record is its kind, the
// digest function, 2 zero bytes, the CRC-32 of the rest, the hash, and the
// bytes on the disk; numbers are little-endian. It may lack what a killed
// process wrote: the walk that the index is made from now and then finds that.
const (
	logName   = "log"
	logRecord = 48
	logBatch  = 256 // records
	diskBlock = 4096
)

// A logbook holds the records that are not in the log yet.
type logbook struct {
	mu    sync.Mutex
	buf   []byte
	grown int64 // bytes on the disk since grew was called
}

// grew returns how many bytes were written since it was last called.
func (l *logbook) grew() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.grown
	l.grown = 0
	return n
}

// grow notes what was written and is not in the log: a layer.
func (l *logbook) grow(bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.grown += bytes
}

func (l *logbook) add(s *Store, kind Kind, d action.Digest, size int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var rec [logRecord]byte
	sum := d.Bytes()
	size = (size + diskBlock - 1) / diskBlock * diskBlock
	l.grown += size
	rec[0], rec[1] = byte(kind), byte(d.Function())
	copy(rec[8:], sum[:])
	binary.LittleEndian.PutUint64(rec[40:], uint64(size))
	binary.LittleEndian.PutUint32(rec[4:], shortSum(rec[:4], rec[8:]))
	l.buf = append(l.buf, rec[:]...)
	if len(l.buf) >= logBatch*logRecord {
		s.warn(l.write(s))
	}
}

func logSum(rec *[logRecord]byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE(rec[:4]), crc32.IEEETable, rec[8:])
}

func (l *logbook) flush(s *Store) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.buf) == 0 {
		return nil
	}
	return l.write(s)
}

// write appends to the log. What it cannot write is dropped: see above.
func (l *logbook) write(s *Store) error {
	buf := l.buf
	l.buf = l.buf[:0]
	path := filepath.Join(s.dir, logName)
	_, err := s.disk.AppendExisting(path, buf)
	if errors.Is(err, fs.ErrNotExist) { // taken, or never there
		err = s.appendNew(path, buf)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the store was removed, and what we tell of with it
	}
	return s.explain(err)
}

// appendNew is Append for a file that is mostly not there.
func (s *Store) appendNew(path string, data []byte) error {
	err := s.disk.Append(path, data)
	if err == nil {
		s.share(path, 0o664)
	}
	return err
}

// takeLog calls each with what the log tells, and then done, which keeps it,
// and removes the log. A record that is written at this very instant may be
// lost. It returns the number of bytes that were no records. Where it cannot be
// written that the size is not known, the log stays: see limit.go.
func (s *Store) takeLog(each func(e *entry), done func() error) (garbage int, err error) {
	path := filepath.Join(s.dir, logName)
	taken := path + ".taken" // by us, or by one of us that died before done
	if err := s.forgetSize(); err != nil {
		return 0, err
	}
	for range 2 {
		data, err := durable.ReadRecords(taken)
		if errors.Is(err, fs.ErrNotExist) {
			if err := s.disk.Rename(path, taken); err != nil {
				return garbage, ignoreMissing(err)
			}
			data, err = durable.ReadRecords(taken)
		}
		if err != nil {
			return garbage, err
		}
		garbage += parseLog(data, s.now(), each)
		if err := done(); err != nil {
			return garbage, err
		}
		if err := s.disk.Remove(taken); err != nil {
			return garbage, err
		}
	}
	return garbage, nil
}

func parseLog(data []byte, now time.Time, each func(e *entry)) (garbage int) {
	for len(data) >= logRecord {
		rec := [logRecord]byte(data)
		e := entry{kind: Kind(rec[0]), f: action.Function(rec[1]), hash: [32]byte(rec[8:]), used: now.Unix()}
		e.bytes = int64(binary.LittleEndian.Uint64(rec[40:]))
		if logSum(&rec) != binary.LittleEndian.Uint32(rec[4:]) || e.check() != nil {
			garbage++ // find the next record
			data = data[1:]
			continue
		}
		each(&e)
		data = data[logRecord:]
	}
	return garbage + len(data)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
