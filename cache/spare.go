package cache

import (
	"sync"
	"time"

	"github.com/sbx-action/sbx-action/internal/durable"
)

// spareAge is for how long a spare draft is good. Its age counts as that of what it
// becomes, for Trim, which leaves alone what is some minutes old.
const spareAge = 10 * time.Second

// spares are drafts that were made in advance: see [Store.Expect].
type spares struct {
	mu   sync.Mutex
	list []spare // guarded by mu
}

type spare struct {
	*durable.Temp
	dev  uint64
	made time.Time
}

// Expect makes what the next n records or blobs will be written to, while the caller
// has nothing else to do: on a disk it takes most of the time of a small one. It is
// a hint, whose failure somebody else will meet again; Close gives back what was not
// needed.
func (s *Store) Expect(n int) {
	s.spares.mu.Lock()
	defer s.spares.mu.Unlock()
	for len(s.spares.list) < n && !s.noTemp.Load() && !s.opts.ReadOnly {
		t, err := s.disk.Temp(s.dir)
		if err != nil {
			return
		}
		st, err := t.Stat()
		if err != nil {
			t.Close()
			return
		}
		s.spares.list = append(s.spares.list, spare{t, st.Dev, time.Now()})
	}
}

// take returns a draft for the directory dir, which has to be on the same file
// system, or nil.
func (l *spares) take(dir string) *durable.Temp {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n := len(l.list); n > 0; n = len(l.list) {
		t := l.list[n-1]
		if time.Since(t.made) < spareAge {
			if st, err := durable.Stat(dir); err != nil || st.Dev != t.dev {
				return nil
			}
			l.list = l.list[:n-1]
			return t.Temp
		}
		l.list = l.list[:n-1]
		t.Close()
	}
	return nil
}

func (l *spares) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.list {
		t.Close()
	}
	l.list = nil
}
