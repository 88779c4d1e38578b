package staging

import (
	"io/fs"
	"os"
	"path/filepath"
)

// A HostEntry is a name in a directory of the host.
type HostEntry struct {
	Name   string
	Type   fs.FileMode
	Target string // of a link
}

// A knownList is what is in a directory that was id before it was listed, and after.
type knownList struct {
	id      StatID
	entries []HostEntry
}

// listsMost is of how many directories lists are kept.
const listsMost = 16

// List returns what is in a directory of the host, by name. Where something is kept (see
// [FileHasher.Keep]), a directory that is as it was is not listed again.
func (h *FileHasher) List(dir string) ([]HostEntry, error) {
	if h.keep == nil {
		return listEntries(dir)
	}
	at := Now()
	id, err := StatPath(dir, KeepLinks)
	if err != nil {
		return nil, err
	}
	if list, ok := h.keep.list(dir, &id); ok {
		return list, nil
	}
	list, err := listEntries(dir)
	if err != nil {
		return nil, err
	}
	if now, err := StatPath(dir, KeepLinks); err == nil && now == id && h.Stable(dir, id, at) {
		h.keep.keepList(dir, knownList{id, list})
	}
	return list, nil
}

func listEntries(dir string) ([]HostEntry, error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	entries := make([]HostEntry, len(list))
	for i, e := range list {
		entries[i] = HostEntry{Name: e.Name(), Type: e.Type()}
		if e.Type() != fs.ModeSymlink {
			continue
		}
		if entries[i].Target, err = os.Readlink(filepath.Join(dir, e.Name())); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

// list returns what is known to be in the directory that is id now.
func (r *Recalled) list(dir string, id *StatID) ([]HostEntry, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l, ok := r.lists[dir]
	return l.entries, ok && l.id == *id
}

func (r *Recalled) keepList(dir string, l knownList) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lists == nil || len(r.lists) >= listsMost {
		r.lists = map[string]knownList{}
	}
	r.lists[dir] = l
}
