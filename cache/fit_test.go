package cache

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/durable"
)

// TestFitKeepsTheOrderOfMinutes: results go with their blobs, and not before all of
// them, as they do where trim only has times that are right to ten minutes.
func TestFitKeepsTheOrderOfMinutes(t *testing.T) {
	s := openIn(t, TempStoreDir(t), Options{})
	keys, list := fill(t, s, 10)
	control := openIn(t, TempStoreDir(t), Options{})
	ckeys, _ := fill(t, control, 10)
	trim(t, control, Policy{MaxSize: 6 * perResult, LowWater: 1, Spare: time.Nanosecond})
	if got := have(control, ckeys); got == "----++++++" {
		t.Fatal("control: trim has this order anyway")
	}
	fit(t, s, 7*perResult) // to 6.3
	if got, blobs := have(s, keys), present(s, list); got != "----++++++" || blobs != got {
		t.Errorf("left are results %s, blobs %s", got, blobs)
	}
	undamaged(t, s)
	z, err := s.Size()
	if err != nil || z.Trimmed.IsZero() || z.Limit != 7*perResult || z.Unable || z.Reach < 6*time.Minute || z.Reach > 8*time.Minute {
		t.Errorf("Size = %+v, %v", z, err)
	}
}

// TestFitKeepsTheOrderOfTheLog: so it is with an index, which the log has told of what is new.
func TestFitKeepsTheOrderOfTheLog(t *testing.T) {
	s := openIn(t, TempStoreDir(t), Options{})
	if _, err := s.PutBytes(t.Context(), action.BLAKE3, []byte("first")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stat(t.Context()); err != nil { // makes the index
		t.Fatal(err)
	}
	keys, list := fill(t, s, 10)
	fit(t, s, 7*perResult+4096) // as above, and the first one
	if got, blobs := have(s, keys), present(s, list); got != "----++++++" || blobs != got {
		t.Errorf("left are results %s, blobs %s", got, blobs)
	}
	undamaged(t, s)
}

func TestFitBelowTheLimit(t *testing.T) {
	s := openIn(t, TempStoreDir(t), Options{})
	keys, _ := fill(t, s, 10)
	if r := fit(t, s, 11*perResult); r.Removed.Total().N != 0 || have(s, keys) != "++++++++++" {
		t.Errorf("below the limit: %+v", r)
	}
	if _, err := os.Lstat(filepath.Join(s.dir, indexName)); err == nil {
		t.Error("it has looked at everything, which it need not")
	}
	fit(t, s, 0)
	if got := have(s, keys); got != "++++++++++" {
		t.Errorf("left without a limit: %s", got)
	}
}

// TestFitSpares: what is in use is not taken, by whomever.
func TestFitSpares(t *testing.T) {
	for _, tt := range []struct {
		name string
		use  func(t *testing.T, s *Store) // in another process
		want string
	}{
		{"nobody", func(*testing.T, *Store) {}, "----------"},
		{"an action", func(t *testing.T, s *Store) { lock(t, s) }, "++++++++++"},
		{"an action that needs nothing", func(t *testing.T, s *Store) {
			s.opts.Lean = true
			lock(t, s)
		}, "----------"},
		{"one of those that began five minutes ago", func(t *testing.T, s *Store) {
			later(s, -5*time.Minute)
			s.opts.Lean = true
			lock(t, s)
		}, "-----+++++"},
		{"one that stays", func(_ *testing.T, s *Store) { s.Stay() }, "++++++++++"},
		{"a server", func(t *testing.T, s *Store) {
			if err := os.Mkdir(filepath.Join(s.dir, "serve"), 0o700); err != nil {
				t.Fatal(err)
			}
		}, "++++++++++"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := openIn(t, TempStoreDir(t), Options{})
			keys, list := fill(t, s, 10)
			tt.use(t, openIn(t, s.dir, Options{}))
			fit(t, s, 1)
			if got := have(s, keys); got != tt.want || present(s, list) != got {
				t.Errorf("left are results %s, blobs %s; want %s", got, present(s, list), tt.want)
			}
			z, err := s.Size()
			if err != nil || z.Unable != (z.Bytes > 1) {
				t.Errorf("Size = %+v, %v", z, err)
			}
		})
	}
}

func lock(t *testing.T, s *Store) {
	t.Helper()
	unlock, err := s.Lock(t.Context(), action.Sum(action.BLAKE3, []byte("in flight")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(unlock)
}

// TestFitRests: a time of rest in the far future is of a clock that went back, and who has
// not to rest does not.
func TestFitRests(t *testing.T) {
	for _, tt := range []struct {
		until time.Duration
		want  bool
	}{{restMost / 2, true}, {100 * restMost, false}, {-time.Second, false}} {
		s := openIn(t, TempStoreDir(t), Options{})
		keys, _ := fill(t, s, 10)
		now := time.Now()
		s.now = func() time.Time { return now }
		note := func() {
			s.writeSize(&Size{Bytes: 1 << 30, Known: true, Counted: now, rest: now.Add(tt.until)})
		}
		note()
		var rests []time.Duration
		_, err := s.Fit(t.Context(), 5*perResult, FitOptions{Rest: func(_ context.Context, d time.Duration) {
			if got := have(s, keys); got != "++++++++++" {
				t.Errorf("until %v: left are %s before the rest", tt.until, got)
			}
			rests = append(rests, d)
		}})
		if err != nil || (len(rests) == 1 && rests[0] > restMost/4) != tt.want {
			t.Errorf("until %v: rests %v, %v", tt.until, rests, err)
		}
		if got := have(s, keys); got != "------++++" {
			t.Errorf("until %v: left are %s", tt.until, got)
		}
		note()
		fit(t, s, 1)
		if got := have(s, keys); got != "----------" {
			t.Errorf("until %v: who does not rest leaves %s", tt.until, got)
		}
	}
}

// TestFitAgain: what was written while it trimmed or rested is trimmed as well, and others
// leave that to it.
func TestFitAgain(t *testing.T) {
	s := openIn(t, TempStoreDir(t), Options{})
	keys, _ := fill(t, s, 10)
	other := openIn(t, s.dir, Options{})
	rests := 0
	now := time.Now()
	s.now = func() time.Time { return now }
	s.writeSize(&Size{Bytes: 0, Known: true, rest: now.Add(restMost)})
	r, err := s.Fit(t.Context(), 5*perResult, FitOptions{
		Rest: func(context.Context, time.Duration) { rests++ },
		Keep: func(context.Context) error {
			if r, err := other.Fit(t.Context(), 1, FitOptions{Rest: func(context.Context, time.Duration) {}}); err != nil || r.Removed.Total().N != 0 {
				t.Errorf("another one: %+v, %v", r, err)
			}
			return nil
		},
	})
	if err != nil || rests != 1 || r.Before.Results.N != 10 || r.Removed.Results.N != 6 || r.After.Results.N != 4 {
		t.Errorf("once: %d rests, %+v, %v", rests, r, err)
	}
	// The clock stands still, so that each rest takes time.
	now = time.Now().Add(time.Hour)
	fill(t, s, 10)
	trims, wrote := 0, 0
	rests = 0
	s.disk.Fault = func(op durable.Op, _ string, do func() error) error {
		if op == durable.OpRename && trims > wrote && wrote < 2 && strings.HasPrefix(have(other, keys), "-") {
			wrote++ // while it removes
			fill(t, other, 20*wrote)
			if err := other.logbook.flush(other); err != nil {
				t.Error(err)
			}
		}
		return do()
	}
	r, err = s.Fit(t.Context(), 5*perResult, FitOptions{
		Keep: func(context.Context) error { trims++; return nil },
		Rest: func(_ context.Context, d time.Duration) { rests++; now = now.Add(d) },
	})
	s.disk.Fault = nil
	z, serr := s.Size()
	if err != nil || serr != nil || wrote != 2 || trims != 3 || rests < 2 || !z.Known || z.Bytes > 5*perResult || r.Removed.Results.N < 40 {
		t.Errorf("%d trims, %d rests, %d times written, %+v, %+v, %v, %v", trims, rests, wrote, r, z, err, serr)
	}
}

// TestFitUnable: where what is in use exceeds the limit it gives up, for this time.
func TestFitUnable(t *testing.T) {
	s := openIn(t, TempStoreDir(t), Options{})
	fill(t, s, 3)
	now := time.Now()
	s.now = func() time.Time { return now }
	lock(t, openIn(t, s.dir, Options{}))
	rests := 0
	r, err := s.Fit(t.Context(), 1, FitOptions{Rest: func(context.Context, time.Duration) { rests++ }})
	z, serr := s.Size()
	if err != nil || serr != nil || rests != fitTries-1 || !z.Unable || r.Removed.Total().N != 0 {
		t.Errorf("%d rests, %+v, %+v, %v, %v", rests, r, z, err, serr)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err = s.Fit(ctx, 1, FitOptions{Rest: func(context.Context, time.Duration) { cancel() }}); !errors.Is(err, context.Canceled) {
		t.Errorf("ended while it rests: %v", err)
	}
}

// TestFitInterrupted breaks each change that Fit makes, both ways: nothing is damaged,
// and nobody takes the store for smaller than it is.
func TestFitInterrupted(t *testing.T) {
	for n := 1; ; n++ {
		hit := ""
		for _, persisted := range []bool{false, true} {
			s := openIn(t, TempStoreDir(t), Options{})
			fill(t, s, 6)
			if err := s.logbook.flush(s); err != nil {
				t.Fatal(err)
			}
			b := &breaker{n: n, persisted: persisted, err: errInjected}
			s.disk.Fault = b.fault
			_, err := s.Fit(t.Context(), 4*perResult, FitOptions{})
			s.disk.Fault = nil
			hit = b.hit
			if err != nil && !errors.Is(err, errInjected) {
				t.Errorf("%d (%s): %v", n, b.hit, err)
			}
			other := openIn(t, s.dir, Options{ReadOnly: true})
			undamaged(t, other)
			u, err := other.Stat(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if z, err := other.Size(); err != nil || z.Known && z.Bytes < u.Total().Bytes {
				t.Errorf("%d (%s, persisted %v): Size = %+v, %v; there are %d bytes", n, b.hit, persisted, z, err, u.Total().Bytes)
			}
			later(s, time.Hour) // and the next one does it
			fit(t, s, 4*perResult)
			if z, err := s.Size(); err != nil || !z.Known || z.Bytes > 4*perResult {
				t.Errorf("%d (%s, persisted %v): after the next: %+v, %v", n, b.hit, persisted, z, err)
			}
		}
		if hit == "" {
			if n < 10 {
				t.Errorf("only %d changes were broken", n-1)
			}
			return
		}
	}
}

// TestFitKilledAnywhere lets nothing change any more from each change on that Fit makes, as
// if it were killed there: with an index and without one, nobody takes the store for smaller
// than it is, nothing is damaged, and the next one trims.
func TestFitKilledAnywhere(t *testing.T) {
	const most = 4 * perResult
	for _, indexed := range []bool{false, true} {
		unknown := 0 // kills that have left no size
		for n := 1; ; n++ {
			s := openIn(t, TempStoreDir(t), Options{})
			if indexed {
				fill(t, s, 3)
				fit(t, s, 100*most)
				if _, err := s.Stat(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			fill(t, s, 6)
			if err := s.logbook.flush(s); err != nil {
				t.Fatal(err)
			}
			later(s, time.Hour)
			left, hit := n, ""
			s.disk.Fault = func(op durable.Op, path string, do func() error) error {
				if left--; left > 0 {
					return do()
				}
				hit = cmp.Or(hit, fmt.Sprintf("%s %s", op, filepath.Base(path)))
				return errInjected
			}
			// As the background does, which must come to an end.
			o := FitOptions{Rest: func(context.Context, time.Duration) {}}
			if _, err := s.Fit(t.Context(), most, o); err != nil && !errors.Is(err, errInjected) {
				t.Errorf("indexed %v, %d (%s): %v", indexed, n, hit, err)
			}
			s.disk.Fault = nil
			other := openIn(t, s.dir, Options{ReadOnly: true})
			undamaged(t, other)
			u, err := other.Stat(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			z, err := other.Size()
			if err != nil || z.Known && z.Bytes < u.Total().Bytes {
				t.Errorf("indexed %v, killed at %d (%s): Size = %+v, %v; there are %d bytes", indexed, n, hit, z, err, u.Total().Bytes)
			}
			if !z.Known {
				unknown++
			}
			later(s, 2*time.Hour)
			fit(t, s, most)
			if z, err := s.Size(); err != nil || !z.Known || z.Bytes > most {
				t.Errorf("indexed %v, killed at %d (%s): after the next: %+v, %v", indexed, n, hit, z, err)
			}
			if hit == "" {
				if n < 10 || unknown == 0 {
					t.Errorf("indexed %v: only %d changes, %d of them left no size", indexed, n-1, unknown)
				}
				break
			}
		}
	}
}

// TestFitByMany: many at a time trim once, fail at nothing, and leave what is whole.
func TestFitByMany(t *testing.T) {
	dir := TempStoreDir(t)
	s := openIn(t, dir, Options{})
	keys, list := fill(t, s, 30)
	for i := range keys { // all of them within the minutes whose order is known
		used := time.Duration(len(keys)-i) * 15 * time.Second
		age(t, s.shard("blob", list[i]), used)
		age(t, s.shard("result", keys[i]), used)
	}
	if err := s.logbook.flush(s); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	reports := make([]*TrimReport, 8)
	for i := range reports {
		one := openIn(t, dir, Options{Lean: true})
		wg.Go(func() {
			var err error
			if reports[i], err = one.Fit(t.Context(), 20*perResult, FitOptions{Rest: func(context.Context, time.Duration) {}}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	removed := int64(0)
	for _, r := range reports {
		removed += r.Removed.Results.N
	}
	if got := have(s, keys); removed != 12 || got != present(s, list) || got != string(slices.Concat(bytes.Repeat([]byte("-"), 12), bytes.Repeat([]byte("+"), 18))) {
		t.Errorf("%d results removed, left are %s, blobs %s", removed, got, present(s, list))
	}
	undamaged(t, s)
}
