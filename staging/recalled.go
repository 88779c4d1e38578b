package staging

import (
	"os"
	"sync"

	"github.com/sbx-action/sbx-action/action"
)

// Recalled is what a process that opens stat caches again and again has read in the
// table of files that it opened last: see [FileHasher.Keep].
//
// It cannot be stale. It does not say what is in a file, but that a file with a certain
// [StatID] has a certain content, as the table does and for as long; each time, the file
// is looked at anew, and another StatID is another question. It is of one table: who may
// write to a store says nothing of what is in others.
type Recalled struct {
	mu   sync.Mutex
	last *recalledTable
}

// A recalledTable is what was read in one table.
type recalledTable struct {
	dir      string
	fn       action.Function
	dev, ino uint64 // of the table

	mu    sync.Mutex
	files map[StatID]recalledFile // by the StatID without its mode, as in the table
}

// A recalledFile is a file of which something was read in the table.
type recalledFile struct {
	FileDigest
	lacks string // see [FileHasher.Lacks]
}

// recalledMost is of how many files something is kept.
const recalledMost = 1 << 14

// of returns what is known of the table of h, and forgets others.
func (r *Recalled) of(table *os.File, h *FileHasher) *recalledTable {
	if r == nil {
		return nil
	}
	id, err := StatFD(int(table.Fd()))
	if err != nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.last
	if t == nil || t.dir != h.dir || t.fn != h.fn || t.dev != id.Dev || t.ino != id.Ino {
		t = &recalledTable{dir: h.dir, fn: h.fn, dev: id.Dev, ino: id.Ino, files: map[StatID]recalledFile{}}
		r.last = t
	}
	return t
}

// get returns what the table said of a file that is id now.
func (t *recalledTable) get(id *StatID) (d FileDigest, ok bool) {
	if t == nil {
		return d, false
	}
	key := *id
	key.Mode = 0
	t.mu.Lock()
	defer t.mu.Unlock()
	f, ok := t.files[key]
	f.ID = *id
	return f.FileDigest, ok
}

// put keeps a digest that is in the table, or will be.
func (t *recalledTable) put(d *FileDigest) {
	if t == nil {
		return
	}
	key := d.ID
	key.Mode = 0
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.files) >= recalledMost {
		clear(t.files)
	}
	f := recalledFile{FileDigest: *d}
	if old, ok := t.files[key]; ok && old.Digest == d.Digest {
		f.lacks = old.lacks
	}
	t.files[key] = f
}

// Lacks says whether [FileHasher.NoteLack] was told that text is not in a file, which
// was seen to be id, not before the moment at.
func (h *FileHasher) Lacks(id StatID, at Moment, text string) bool {
	if h.openTable() == nil || h.known == nil || id.CTime >= int64(at) {
		return false
	}
	id.Mode = 0
	h.known.mu.Lock()
	defer h.known.mu.Unlock()
	f, ok := h.known.files[id]
	return ok && text != "" && f.lacks == text
}

// NoteLack keeps in mind, where something is kept, that text is not in a file that was
// read after it was seen to be id, not before the moment at. One text is kept of each
// file, and none of those of which the table says nothing: so that an equal StatID
// means an equal content.
func (h *FileHasher) NoteLack(id StatID, at Moment, text string) {
	if _, ok := h.recall(&id, at); !ok || h.known == nil {
		return
	}
	id.Mode = 0
	h.known.mu.Lock()
	defer h.known.mu.Unlock()
	if f, ok := h.known.files[id]; ok {
		f.lacks = text
		h.known.files[id] = f
	}
}
