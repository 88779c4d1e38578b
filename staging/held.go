package staging

import (
	"strconv"
	"strings"
)

// A Fact is one thing that a command saw of the host, as far as a look at stat data
// shows that it still holds.
type Fact struct {
	Kind FactKind
	Path string // on the host
	Seen string // as the command saw it
	ID   StatID // of an Unchanged; of the directory of an Absent, if Stable
	Perm uint32 // of a Passed
	Size int64  // of a Looked, with ID.Mode

	// Stable says of an Absent that nothing was in its directory by that name
	// when the directory was ID.
	Stable bool
}

// A FactKind says what is to be compared.
type FactKind byte

// The kinds.
const (
	Unchanged FactKind = iota // the whole StatID
	Passed                    // a directory, and its permissions
	Looked                    // ID.Mode, and of a regular file the size
	Missing                   // nothing is there
)

// Held returns the facts that the last [HostWitness.Recall] found to hold, or that
// the last [HostWitness.Seal] saw, and says no if some of them cannot be seen to hold
// by a look at stat data: because they are too young to be trusted, or not of the
// host.
func (w *HostWitness) Held() ([]Fact, bool) {
	if w.held == nil {
		return nil, false
	}
	facts := w.Hash.keep.factRoom(len(w.held.seen))
	last, lastHost, lastOk := "", "", false // the directory that was asked for last
	for i := range w.held.seen {
		s := &w.held.seen[i]
		host, ok := w.Host(s.path)
		if !ok || s.kind == seenMade {
			return nil, false
		}
		f := Fact{Path: host, Seen: s.path, ID: s.id, Stable: s.stable, Perm: s.perm}
		switch s.kind {
		case seenAbsent:
			f.Kind = Missing
			if dir := dirOf(s.path); dir != last {
				last = dir
				lastHost, lastOk = w.Host(dir)
			}
			if !lastOk || lastHost != dirOf(host) {
				f.Stable = false
			}
		case seenDir:
			if s.text == notListed {
				return nil, false // which an owner decides, too
			}
			f.Kind = Passed
		case seenMeta:
			mode, size, _ := strings.Cut(s.text, " ")
			m, err1 := strconv.ParseUint(mode, 8, 32)
			n, err2 := strconv.ParseInt(size, 10, 64)
			if err1 != nil || err2 != nil {
				return nil, false
			}
			f.Kind, f.ID.Mode, f.Size = Looked, uint32(m), n
		default:
			if !s.stable {
				return nil, false
			}
			f.Kind = Unchanged
		}
		facts = append(facts, f)
	}
	return facts, true
}
