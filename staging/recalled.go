package staging

import (
	"os"
	"sync"

	"github.com/sbx-action/sbx-action/action"
)

// Recalled is what a process that opens stat caches again and again has read in the
// table of files that it opened last, and seen of names of the host: see
// [FileHasher.Keep].
//
// It cannot be stale. It does not say what is in a file, but that a file with a certain
// [StatID] has a certain content, as the table does and for as long; each time, the file
// is looked at anew, and another StatID is another question. It is of one table: who may
// write to a store says nothing of what is in others.
type Recalled struct {
	mu   sync.Mutex
	last *recalledTable

	dirs  map[string]*knownNames // by path
	count int                    // of names in dirs
	lists map[string]knownList   // by path

	// See Begin.
	free, used           *scout
	freeFacts, usedFacts []Fact
}

// Begin says that nobody uses any more what hashers and witnesses that keep something in r
// have returned, and whether something was mounted, or unmounted, since.
func (r *Recalled) Begin(mounts bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if mounts {
		r.dirs, r.count, r.lists = nil, 0, nil
	}
	r.freeFacts, r.usedFacts = r.usedFacts[:0], nil
	if r.used != nil && cap(r.used.found) <= roomMost && r.used.inUse*nodesOnce <= roomMost {
		r.free = r.used
		r.free.reset()
	}
	r.used = nil
}

// roomMost is for how many facts, and paths that were looked at, room is kept.
const roomMost = 4096

// scout returns a scout that has room, or nil.
func (r *Recalled) scout() *scout {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.free
	r.free = nil
	return c
}

// factRoom returns room for so many facts.
func (r *Recalled) factRoom(n int) []Fact {
	if r == nil || n > roomMost {
		return make([]Fact, 0, n)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	room := r.freeFacts
	if r.freeFacts = nil; cap(room) < n {
		room = make([]Fact, 0, n+n/4)
	}
	r.usedFacts = room
	return room
}

// leave takes a scout for later, when nobody uses what it has found.
func (r *Recalled) leave(c *scout) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used = c
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
