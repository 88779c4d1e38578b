package cache

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/durable"
)

// The files "history.old" and "history" tell what happened, the oldest first:
// one record for each run, hit or miss, and one for each thing that trim or
// verify removed and that a run in them had made. A record is
//
//	4 bytes   "sbH1"
//	u32       the length of the payload
//	u32       the CRC-32 of length and payload
//	payload   1 byte kind: 'R' a run, 'X' a removal
//	          1 byte digest function
//	          i64 time in nanoseconds since 1970
//	          32 bytes hash of the action's key; of a removal, of what was removed
//	          a run:     32 bytes hash of the unsealed key, and bytes that
//	                     package history knows
//	          a removal: 1 byte [Kind], 1 byte [Cause], text
//
// with numbers in little-endian. It is written by one O_APPEND write, so that
// the records of several processes do not mix. Nothing is synced. A reader
// passes by what is not a record, such as what a full disk or a power cut left
// of one: the next record begins at the next "sbH1".
//
// "history" becomes "history.old" when it has grown to historyMax, so the two
// never hold much more than twice that; trim makes them smaller for a small
// store. Only time and space are at stake: nothing depends on what they say.
const (
	historyName    = "history"
	historyOldName = "history.old"
	historyMagic   = "sbH1"
	historyFrame   = 12
	historyHead    = 1 + 1 + 8 + 32
	historyMax     = 16 << 20
	historyOffset  = indexOffset + 1 // of the lock, in the file "locks"

	// HistoryRecordMax is the most bytes that a run may have to say.
	HistoryRecordMax = 64 << 10

	kindRun     = 'R'
	kindRemoval = 'X'
)

// A Cause is why something was removed.
type Cause uint8

// The causes. Their values are on the disk.
const (
	Trimmed Cause = 1 // it was not used for longest
	Damaged Cause = 2 // verify found it damaged, or lacking something
)

// A Run is a record of the history that some program has added. What Data
// says is its own business.
type Run struct {
	Time          time.Time
	Key, Unsealed [32]byte
	Function      action.Function
	Data          []byte
}

// A Removal is a record of the history: that the store removed something.
type Removal struct {
	Time     time.Time
	Kind     Kind
	Function action.Function
	Hash     [32]byte
	Cause    Cause
	Reason   string // of damage
}

// AddRun appends a run to the history. It is one write, and all that a hit
// leaves behind.
func (s *Store) AddRun(r *Run) error {
	b, err := r.Record()
	if err != nil {
		return err
	}
	if err := s.writable("add to the history"); err != nil {
		return err
	}
	return s.addHistory(b)
}

// Record is what is appended to the history for the run.
func (r *Run) Record() ([]byte, error) {
	if len(r.Data) > HistoryRecordMax {
		return nil, fmt.Errorf("add to the history: the record has %d bytes, at most %d are allowed", len(r.Data), HistoryRecordMax)
	}
	b := make([]byte, 0, historyFrame+historyHead+32+len(r.Data))
	b = beginHistory(b, kindRun, r.Function, r.Time, r.Key)
	b = append(b, r.Unsealed[:]...)
	b = append(b, r.Data...)
	return endHistory(b, 0), nil
}

// HistoryFile is the name of the file in a store to which records are appended, and
// how large it may be before it has to become the old one.
func HistoryFile() (name string, most int64) { return historyName, historyMax }

func beginHistory(b []byte, kind byte, f action.Function, t time.Time, hash [32]byte) []byte {
	b = append(b, historyMagic...)
	b = append(b, make([]byte, 8)...)
	b = append(b, kind, byte(f))
	b = binary.LittleEndian.AppendUint64(b, uint64(t.UnixNano()))
	return append(b, hash[:]...)
}

// endHistory completes the record that begins at b[at:].
func endHistory(b []byte, at int) []byte {
	rec := b[at:]
	binary.LittleEndian.PutUint32(rec[4:], uint32(len(rec)-historyFrame))
	binary.LittleEndian.PutUint32(rec[8:], shortSum(rec[4:8], rec[historyFrame:]))
	return b
}

// shortSum is the CRC-32 (IEEE) of a and b, for who makes one record and ends. What
// [crc32.Update] does is ten times as fast, but its first call makes tables of 8 KiB,
// which takes 0.02 ms.
func shortSum(a, b []byte) uint32 {
	sum := ^uint32(0)
	for _, data := range [][]byte{a, b} {
		for _, c := range data {
			sum = crc32.IEEETable[byte(sum)^c] ^ sum>>8
		}
	}
	return ^sum
}

func historySum(rec []byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE(rec[4:8]), crc32.IEEETable, rec[historyFrame:])
}

// addHistory appends records, which are not split between two files.
func (s *Store) addHistory(records []byte) error {
	path := filepath.Join(s.dir, historyName)
	end, err := s.disk.AppendExisting(path, records)
	if errors.Is(err, fs.ErrNotExist) { // the first one, or just renamed, or no store yet
		if err = s.prepare(s.dir); err == nil {
			err = s.appendNew(path, records)
		}
	}
	if err != nil {
		return s.explain(err)
	}
	if end > historyMax {
		s.rotateHistory()
	}
	return nil
}

// rotateHistory begins a new file, unless another process does.
func (s *Store) rotateHistory() {
	path := filepath.Join(s.dir, historyName)
	_ = s.withHistory(func() error {
		fi, err := durable.Stat(path)
		if err != nil || fi.Size <= historyMax {
			return err
		}
		return s.disk.Rename(path, filepath.Join(s.dir, historyOldName))
	})
}

// errHistoryBusy says that another process changes the history's files.
var errHistoryBusy = errors.New("another process tidies the history")

// withHistory calls f while no other process changes which files there are.
func (s *Store) withHistory(f func() error) error {
	lock, err := s.openLocks()
	if err != nil {
		return err
	}
	defer lock.Close()
	ok, err := durable.TryLock(lock, historyOffset, 1)
	if errors.Is(err, errors.ErrUnsupported) {
		ok, err = true, nil // two at once lose history, and nothing else
	}
	if err == nil && !ok {
		err = errHistoryBusy
	}
	if err != nil {
		return err
	}
	return f()
}

// History calls run and removal with what happened, the oldest first; either
// may be nil. What they are given is theirs. A store without a history has an
// empty one.
func (s *Store) History(run func(Run), removal func(Removal)) error {
	data, err := s.readHistory()
	if err != nil {
		return fmt.Errorf("read the history: %w", err)
	}
	parseHistory(data, func(payload, _ []byte) {
		switch payload[0] {
		case kindRun:
			if r, ok := parseRun(payload); ok && run != nil {
				run(r)
			}
		case kindRemoval:
			if r, ok := parseRemoval(payload); ok && removal != nil {
				removal(r)
			}
		}
	})
	return nil
}

// readHistory returns both files. The new one is read first, so that what is
// renamed meanwhile is not lost; parseHistory leaves out what is there twice.
func (s *Store) readHistory() ([]byte, error) {
	var news, olds []byte
	for _, f := range []struct {
		name string
		data *[]byte
	}{{historyName, &news}, {historyOldName, &olds}} {
		fd, err := durable.OpenRead(filepath.Join(s.dir, f.name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, s.explain(err)
		}
		file := os.NewFile(uintptr(fd), f.name)
		*f.data, err = readAtMost(file, 4*historyMax)
		_ = file.Close() // it was only read
		if err != nil {
			return nil, s.explain(err)
		}
	}
	return append(olds, news...), nil
}

// readAtMost reads the last limit bytes of a regular file.
func readAtMost(f *os.File, limit int64) ([]byte, error) {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	data := make([]byte, min(info.Size(), limit))
	n, err := f.ReadAt(data, max(0, info.Size()-limit))
	if n < len(data) && err != nil && n == 0 && info.Size() > 0 {
		return nil, err
	}
	return data[:n], nil
}

// parseHistory calls each with the payload of every whole record, and with the
// record, once for each: two runs are never of the same nanosecond, length and
// checksum.
func parseHistory(data []byte, each func(payload, record []byte)) {
	const told = historyFrame + 10
	seen := map[[told]byte]bool{}
	for {
		i := bytes.Index(data, []byte(historyMagic))
		if i < 0 {
			return
		}
		data = data[i:]
		if n, ok := wholeRecord(data); ok {
			if head := [told]byte(data); !seen[head] {
				seen[head] = true
				each(data[historyFrame:n:n], data[:n:n])
			}
			data = data[n:]
			continue
		}
		data = data[1:]
	}
}

// wholeRecord returns the length of the record at the start of data, if it is
// one.
func wholeRecord(data []byte) (int, bool) {
	if len(data) < historyFrame+historyHead {
		return 0, false
	}
	n := int64(binary.LittleEndian.Uint32(data[4:]))
	if n < historyHead || n > HistoryRecordMax+historyHead+32 || n > int64(len(data)-historyFrame) {
		return 0, false
	}
	end := historyFrame + int(n)
	return end, historySum(data[:end]) == binary.LittleEndian.Uint32(data[8:])
}

func historyTime(payload []byte) time.Time {
	return time.Unix(0, int64(binary.LittleEndian.Uint64(payload[2:])))
}

func parseRun(p []byte) (Run, bool) {
	if len(p) < historyHead+32 {
		return Run{}, false
	}
	return Run{
		Time: historyTime(p), Function: action.Function(p[1]), Key: [32]byte(p[10:]),
		Unsealed: [32]byte(p[historyHead:]), Data: p[historyHead+32:],
	}, true
}

func parseRemoval(p []byte) (Removal, bool) {
	if len(p) < historyHead+2 {
		return Removal{}, false
	}
	return Removal{
		Time: historyTime(p), Function: action.Function(p[1]), Hash: [32]byte(p[10:]),
		Kind: Kind(p[historyHead]), Cause: Cause(p[historyHead+1]), Reason: string(p[historyHead+2:]),
	}, true
}

// A madeKey is what a run may have made: its result, or its note.
type madeKey struct {
	kind Kind
	f    action.Function
	hash [32]byte
}

// madeBefore is what the runs of the history may have made.
func (s *Store) madeBefore() map[madeKey]bool {
	made := map[madeKey]bool{}
	err := s.History(func(r Run) {
		made[madeKey{KindResult, r.Function, r.Key}] = true
		made[madeKey{KindNote, r.Function, r.Unsealed}] = true
	}, nil)
	s.warn(err)
	return made
}

// tellRemoved adds to the history that entries, which runs in it had made,
// were removed. Records go out in writes of at most 64 KiB.
func (s *Store) tellRemoved(gone []entry, cause Cause, reason func(*entry) string) error {
	if len(gone) == 0 {
		return nil
	}
	made, now := s.madeBefore(), s.now()
	var b []byte
	for i := range gone {
		e := &gone[i]
		if e.kind != KindBlob && !made[madeKey{e.kind, e.f, e.hash}] || e.kind == KindBlob && cause == Trimmed || e.kind == KindLayer {
			continue
		}
		at, text := len(b), ""
		if reason != nil {
			text = strings.ToValidUTF8(reason(e), "?")
			text = text[:min(len(text), 1<<10)]
		}
		b = beginHistory(b, kindRemoval, e.f, now, e.hash)
		b = append(b, byte(e.kind), byte(cause))
		b = endHistory(append(b, text...), at)
		if len(b) >= 64<<10 {
			if err := s.addHistory(b); err != nil {
				return err
			}
			b = b[:0]
		}
	}
	if len(b) == 0 {
		return nil
	}
	return s.addHistory(b)
}

// HistorySize is how many bytes the history takes.
func (s *Store) HistorySize() (n int64) {
	for _, name := range []string{historyName, historyOldName} {
		if fi, err := durable.Stat(filepath.Join(s.dir, name)); err == nil {
			n += fi.Blocks
		}
	}
	return n
}

// shrinkHistory keeps of the history the newest records that were written
// since cutoff and fit into limit bytes; zero values are no limit. A record
// that is written at this very instant may be lost.
func (s *Store) shrinkHistory(limit int64, cutoff time.Time) error {
	return s.withHistory(func() error {
		data, err := s.readHistory()
		if err != nil {
			return err
		}
		var records [][]byte
		var total int64
		dropped := false
		parseHistory(data, func(payload, record []byte) {
			if historyTime(payload).Before(cutoff) {
				dropped = true
				return
			}
			records = append(records, record)
			total += int64(len(record))
		})
		if limit > 0 && total > limit {
			dropped = true
			for len(records) > 0 && total > limit/2 {
				total -= int64(len(records[0]))
				records = records[1:]
			}
		}
		if !dropped {
			return nil
		}
		old := filepath.Join(s.dir, historyOldName)
		draft := topDraft(old)
		if err := s.replace(old, draft, bytes.Join(records, nil), 0o644); err != nil {
			return err
		}
		return ignoreMissing(s.disk.Remove(filepath.Join(s.dir, historyName)))
	})
}

// Peek returns the result under key as it is: it marks nothing as used, and
// does not ask whether the blobs that it names are there. The error wraps
// [action.ErrMiss] where there is none or it is damaged.
func (s *Store) Peek(key action.Digest) (*action.Result, error) {
	res, _, err := s.readResult(s.shard("result", key), key)
	return res, err
}

// Find returns the digests of the results and blobs whose hash begins with
// prefix, at least two lower-case hex digits, at most limit of each. Of a
// result's digest the size is not known, and 0.
func (s *Store) Find(prefix string, limit int) (results, blobs []action.Digest, err error) {
	if len(prefix) < 2 || len(prefix) > 64 || strings.Trim(prefix, "0123456789abcdef") != "" {
		return nil, nil, fmt.Errorf("%q is not the beginning of a hash: want at least two of 0-9 and a-f", prefix)
	}
	for _, kind := range []Kind{KindResult, KindBlob} {
		for _, f := range action.Functions() {
			names, err := os.ReadDir(filepath.Join(s.dir, kind.String(), f.String(), prefix[:2]))
			if err != nil && !absent(err) {
				return nil, nil, s.explain(err)
			}
			for _, e := range names {
				raw, err := hex.DecodeString(e.Name())
				if err != nil || len(raw) != 32 || !strings.HasPrefix(e.Name(), prefix) {
					continue
				}
				list, size := &results, int64(0)
				if kind == KindBlob {
					list = &blobs
					if info, err := e.Info(); err == nil {
						size = info.Size()
					}
				}
				if d, err := action.Shortened(f, [32]byte(raw), size); err == nil && len(*list) < limit {
					*list = append(*list, d)
				}
			}
		}
	}
	return results, blobs, nil
}
