package staging

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"sync"
	"unsafe"

	"github.com/sbx-action/sbx-action/action"
)

// # The stat cache of a tree
//
// There is one file for each directory of a workspace that was declared as a
// whole or searched by a pattern, and for each digest function: so its size,
// and what it costs to read and write, is in proportion to the tree that has
// to be looked at anyway, and an action with a few small inputs touches none.
// Its name is a hash of the workspace, the directory and the function.
//
//	"sbxstat1", the digest function, seven zero bytes; then dirRecords
//
// Of several records of one path the last one counts. A record stands for
// itself: it says which stat has which content, which stays true whatever the
// others say. So changed records are appended in one write, by any number of
// processes at a time, until half of the file is dead; then it is written anew
// and renamed over the old one. Whoever loses that race loses time only.
//
// Damage ends the reading there, or loses the one record whose checksum it
// breaks; then the next change writes the file anew. Any of the files may be
// removed at any time.

const (
	treeMagic = "sbxstat1"
	treeHead  = 16
	// Trees below both of these are not worth a file.
	treeMinFiles, treeMinBytes = 16, 128 << 10
)

// A treeCache is the stat cache of one tree during one scan.
type treeCache struct {
	file string // "": none
	root string // the directory, from the workspace on
	fn   action.Function

	recs map[string]dirRecord // by path; not written to while directories are scanned
	size int64                // of the file
	good bool                 // the file may be appended to

	mu    sync.Mutex
	used  []*scanDir
	dirty []*scanDir
	whole bool // everything below root was looked at
}

func openTreeCache(dir, workspace, root string, fn action.Function) *treeCache {
	t := &treeCache{root: root, fn: fn, whole: true}
	if dir == "" {
		return t
	}
	sum := action.Sum(action.BLAKE3, []byte(workspace+"\x00"+root+"\x00"+fn.String())).Bytes()
	t.file = filepath.Join(dir, "tree-"+hex.EncodeToString(sum[:16]))
	data, err := os.ReadFile(t.file)
	if err != nil || len(data) < treeHead || !bytes.Equal(data[:treeHead], treeHeader(fn)) {
		return t
	}
	t.size = int64(len(data))
	t.recs, t.good = splitRecords(data[treeHead:])
	return t
}

func treeHeader(fn action.Function) []byte {
	head := make([]byte, treeHead)
	copy(head, treeMagic)
	head[8] = byte(fn)
	return head
}

// splitRecords finds the records of data by path. It checks as much as it
// needs for that; [dirRecord.verify] does the rest when a record is used.
func splitRecords(data []byte) (recs map[string]dirRecord, whole bool) {
	recs = make(map[string]dirRecord, len(data)/2048)
	for len(data) >= recHead {
		n := int64(le.Uint32(data))
		pathLen := int64(le.Uint32(data[16:]))
		if n < recHead || n%8 != 0 || n > int64(len(data)) || pathLen > n-recHead {
			return recs, false
		}
		r := dirRecord(data[:n:n])
		recs[viewString(r.path())] = r
		data = data[n:]
	}
	return recs, len(data) == 0
}

// viewString is b as a string, which must not outlive it or see it change.
func viewString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// statChecksum tells damage from data. It is 64 bits long, because it decides
// what is rebuilt, and needs no table, because most processes need it once or
// twice. Every step is a bijection of the state and of the word, so a change of
// one word is always seen.
func statChecksum(seed uint64, b []byte) uint64 {
	const odd = 0x9e3779b97f4a7c15
	h := seed*odd + uint64(len(b))
	for ; len(b) >= 8; b = b[8:] {
		h = bits.RotateLeft64((h^le.Uint64(b))*odd, 29)
	}
	for _, c := range b {
		h = bits.RotateLeft64((h^uint64(c))*odd, 29)
	}
	h = (h ^ h>>32) * odd
	return h ^ h>>29
}

func (r dirRecord) checksum() uint64 { return statChecksum(1, r[12:]) }

// verify says why r is damaged, or nil.
func (r dirRecord) verify() error {
	if le.Uint64(r[4:]) != r.checksum() {
		return errors.New("the checksum is wrong")
	}
	return r.check()
}

// seal makes r fit to be written.
func (r dirRecord) seal() {
	for i := range r.count() {
		r.entry(i)[79] &= entStable | entBad
	}
	le.PutUint64(r[4:], r.checksum())
}

// lookup returns the record of a directory, by its path from the root of t.
func (t *treeCache) lookup(path string) dirRecord {
	r, ok := t.recs[path]
	if !ok {
		return nil
	}
	if r.verify() != nil {
		t.mu.Lock()
		t.good = false
		t.mu.Unlock()
		return nil
	}
	return r
}

// note says that d was scanned, and whether its record has to be written.
func (t *treeCache) note(d *scanDir, dirty bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.used = append(t.used, d)
	if dirty {
		t.dirty = append(t.dirty, d)
	}
	t.whole = t.whole && d.sel.whole()
}

// save writes what has changed. root is the descriptor of the directory.
func (t *treeCache) save(gone func(path string) bool) error {
	if t.file == "" || len(t.dirty) == 0 {
		return nil
	}
	var files, size int64
	for _, d := range t.used {
		files += int64(d.rec.count())
		size += d.ownBytes
	}
	if t.size == 0 && files < treeMinFiles && size < treeMinBytes {
		return nil
	}
	changed := 0
	for _, d := range t.dirty {
		d.rec.seal()
		changed += len(d.rec)
	}
	live, kept := t.live(gone)
	if t.good && t.size+int64(changed) <= 2*live+4096 {
		return t.append(changed)
	}
	return t.rewrite(live, kept)
}

// live returns the records that were not looked at but are still of use, and
// the size of all that are. gone says whether a directory is no more.
func (t *treeCache) live(gone func(path string) bool) (size int64, kept []dirRecord) {
	seen := make(map[string]bool, len(t.used))
	for _, d := range t.used {
		seen[d.recPath()] = true
		size += int64(len(d.rec))
	}
	if t.whole {
		return size, nil
	}
	for path, r := range t.recs {
		if !seen[path] && r.verify() == nil && !gone(path) {
			kept = append(kept, r)
			size += int64(len(r))
		}
	}
	return size, kept
}

func (t *treeCache) append(size int) error {
	buf := make([]byte, 0, size)
	for _, d := range t.dirty {
		buf = append(buf, d.rec...)
	}
	f, err := os.OpenFile(t.file, os.O_WRONLY|os.O_APPEND, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil // whoever removed it wants it gone
	}
	if err != nil {
		return fmt.Errorf("write the stat cache: %w", err)
	}
	_, err = f.Write(buf) // one write, so that records of others do not mix in
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the stat cache: %w", err)
	}
	return nil
}

func (t *treeCache) rewrite(size int64, kept []dirRecord) error {
	if err := os.MkdirAll(filepath.Dir(t.file), 0o700); err != nil {
		return fmt.Errorf("write the stat cache: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(t.file), "new-")
	if err != nil {
		return fmt.Errorf("write the stat cache: %w", err)
	}
	buf := make([]byte, 0, size+treeHead)
	buf = append(buf, treeHeader(t.fn)...)
	for _, d := range t.used {
		d.rec.seal()
		buf = append(buf, d.rec...)
	}
	for _, r := range kept {
		buf = append(buf, r...)
	}
	_, err = f.Write(buf)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), t.file)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("write the stat cache: %w", err)
	}
	return nil
}
