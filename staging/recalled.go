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
	files map[StatID]FileDigest // by the StatID without its mode, as in the table
}

// recalledMost is of how many files something is kept.
const recalledMost = 1 << 14

// of returns what is known of the table of h, and forgets others.
func (r *Recalled) of(table *os.File, h *FileHasher) *recalledTable {
	if r == nil {
		return nil
	}
	id, err := statFD(int(table.Fd()))
	if err != nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.last
	if t == nil || t.dir != h.dir || t.fn != h.fn || t.dev != id.Dev || t.ino != id.Ino {
		t = &recalledTable{dir: h.dir, fn: h.fn, dev: id.Dev, ino: id.Ino, files: map[StatID]FileDigest{}}
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
	d, ok = t.files[key]
	d.ID = *id
	return d, ok
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
	t.files[key] = *d
}
