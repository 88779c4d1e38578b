package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sbx-action/sbx-action/internal/durable"
)

// syncedFile is what the file "synced" says: a record whose payload has a line
// "STAMP NANOSECONDS" for each of the latest boots during which [Store.Sync]
// ran. Files with that stamp that have not changed since that time are on the
// disk. A file that is missing or damaged says nothing.
type syncedFile struct {
	mu     sync.Mutex
	loaded time.Time // when it was read; zero: never
	until  map[int64]int64
	order  []int64 // stamps, the latest last
}

const (
	syncedName  = "synced"
	syncedMagic = "sbS1"
	syncedBoots = 16
	// syncedSlack covers that the kernel takes a file's times from a clock
	// that ticks every few milliseconds.
	syncedSlack = time.Second
)

// load reads the file if what we know is older than maxAge. Needs mu.
func (f *syncedFile) load(s *Store, maxAge time.Duration) {
	if !f.loaded.IsZero() && time.Since(f.loaded) < maxAge {
		return
	}
	f.loaded = time.Now()
	f.until, f.order = map[int64]int64{}, nil
	data, _, err := readRecord(filepath.Join(s.dir, syncedName), syncedMagic, syncedName)
	if err != nil {
		return
	}
	for line := range strings.Lines(string(data)) {
		stamp, until, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		a, err1 := strconv.ParseInt(stamp, 10, 64)
		b, err2 := strconv.ParseInt(until, 10, 64)
		if err1 != nil || err2 != nil {
			continue
		}
		f.until[a] = b
		f.order = append(f.order, a)
	}
}

// set changes what is known of this boot; a zero time means nothing. Needs mu.
func (f *syncedFile) set(s *Store, until time.Time) error {
	f.load(s, 0)
	stamp := s.stamp()
	var b strings.Builder
	f.order = append(f.order, stamp)
	seen := map[int64]bool{}
	var keep []int64
	for i := len(f.order) - 1; i >= 0 && len(keep) < syncedBoots; i-- {
		if !seen[f.order[i]] {
			seen[f.order[i]] = true
			keep = append([]int64{f.order[i]}, keep...)
		}
	}
	f.order = keep
	f.until[stamp] = 0
	if !until.IsZero() {
		f.until[stamp] = until.UnixNano()
	}
	for _, k := range f.order {
		fmt.Fprintf(&b, "%d %d\n", k, f.until[k])
	}
	path := filepath.Join(s.dir, syncedName)
	data := appendRecord(nil, syncedMagic, syncedName, []byte(b.String()))
	return s.replace(path, topDraft(path), data, 0o644)
}

// trusted says whether the contents of the file are those that were written:
// it is of this boot, or was on the disk before that of its own ended.
func (s *Store) trusted(fi *durable.FileInfo) bool {
	stamp := int64(fi.MTime.Nanosecond())
	if stamp == 0 {
		return false
	}
	if stamp == s.stamp() {
		return true
	}
	s.synced.mu.Lock()
	defer s.synced.mu.Unlock()
	s.synced.load(s, time.Hour) // boots that have ended do not change
	until := s.synced.until[stamp]
	return until > 0 && fi.ChangedAt.Before(time.Unix(0, until).Add(-syncedSlack))
}

// watchClock is called before a file is written. If the clock has gone back
// behind the last Sync, the times of new files would say that they are on the
// disk: then that Sync is forgotten.
func (s *Store) watchClock() {
	f := &s.synced
	f.mu.Lock()
	defer f.mu.Unlock()
	f.load(s, 10*time.Second)
	if until := f.until[s.stamp()]; until > 0 && s.now().UnixNano() < until {
		s.warn(f.set(s, time.Time{}))
	}
}

// Sync makes everything that was written before durable: a power cut loses
// none of it, and it need not be verified after one. It may take seconds when
// others have written much to the same file system. A process that runs for
// long calls it now and then; a short-lived one never has to.
func (s *Store) Sync(ctx context.Context) error {
	if err := s.writable("sync the cache"); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if _, err := durable.Stat(filepath.Join(s.dir, versionName)); errors.Is(err, fs.ErrNotExist) {
		return nil // nothing was ever written
	}
	began := s.now()
	err := s.disk.SyncFS(s.dir)
	if err != nil {
		return fmt.Errorf("sync the cache: %w", s.explain(err))
	}
	if s.now().Before(began) {
		return errors.New("sync the cache: the clock went back meanwhile: try again")
	}
	s.synced.mu.Lock()
	defer s.synced.mu.Unlock()
	if err := s.synced.set(s, began); err != nil {
		return fmt.Errorf("sync the cache: %w", s.explain(err))
	}
	return nil
}
