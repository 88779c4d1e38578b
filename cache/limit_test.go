package cache

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/durable"
)

// fill puts n results with a blob of 8 KiB each. The last one was last used half a minute
// ago, the one before a minute earlier, and so on. It returns the keys and the blobs.
func fill(t *testing.T, s *Store, n int) (keys, list []action.Digest) {
	t.Helper()
	for i := range n {
		data := bytes.Repeat([]byte{byte(i)}, 8192)
		d, err := s.PutBytes(t.Context(), action.BLAKE3, data)
		if err != nil {
			t.Fatal(err)
		}
		key := action.Sum(action.BLAKE3, fmt.Append(nil, "key", i))
		if err := s.PutResult(t.Context(), key, &action.Result{Files: []action.OutputFile{{Path: "x", Digest: d}}}); err != nil {
			t.Fatal(err)
		}
		used := time.Duration(n-i)*time.Minute - 30*time.Second
		age(t, s.shard("blob", d), used)
		age(t, s.shard("result", key), used)
		keys, list = append(keys, key), append(list, d)
	}
	return keys, list
}

// perResult is what fill makes for each.
const perResult = 8192 + 4096

func fit(t *testing.T, s *Store, limit int64) *TrimReport {
	t.Helper()
	r, err := s.Fit(t.Context(), limit, FitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// have says which of the results are there.
func have(s *Store, keys []action.Digest) string {
	b := make([]byte, len(keys))
	for i, k := range keys {
		b[i] = '-'
		if _, err := os.Lstat(s.shard("result", k)); err == nil {
			b[i] = '+'
		}
	}
	return string(b)
}

// later lets the store live in another time.
func later(s *Store, by time.Duration) { s.now = func() time.Time { return time.Now().Add(by) } }

// undamaged wants every result to be whole.
func undamaged(t *testing.T, s *Store) {
	t.Helper()
	r, err := s.Verify(t.Context(), nil)
	if err != nil || len(r.Damaged) > 0 {
		t.Errorf("Verify: %+v, %v", r, err)
	}
}

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

// TestOutgrows: who wrote nothing looks at nothing, and who wrote much looks.
func TestOutgrows(t *testing.T) {
	s := openIn(t, TempStoreDir(t), Options{})
	asked, thrown := 0, 0
	most := func(limit int64) func() int64 { return func() int64 { asked++; return limit } }
	throws := int64(0)
	s.dice = func(int64) int64 { thrown++; return throws }
	if s.Outgrows(most(1)) || asked+thrown != 0 {
		t.Error("who wrote nothing asks for the limit")
	}
	keys, _ := fill(t, s, 10)
	if !s.Outgrows(most(1)) || thrown != 0 { // more than a look's worth
		t.Errorf("the limit is exceeded, and nobody says so; dice thrown %d times", thrown)
	}
	if s.Outgrows(most(1)) {
		t.Error("it says so although nothing was written since it was asked")
	}
	for _, tt := range []struct {
		limit, throws int64
		want          bool
	}{
		{perResult, 0, true},
		{perResult, 1 << 50, false}, // the dice are against it
		{100 * perResult, 0, false},
		{0, 0, false},
		{-1, 0, false},
	} {
		throws = tt.throws
		if err := s.PutNote(t.Context(), keys[0], []byte("note")); err != nil {
			t.Fatal(err)
		}
		if got := s.Outgrows(most(tt.limit)); got != tt.want {
			t.Errorf("limit %d, dice %d: Outgrows = %v", tt.limit, tt.throws, got)
		}
	}
	// A layer counts, which the log does not tell of.
	_, err := s.PutLayer(t.Context(), "layer", nil, func(path string) error { return os.WriteFile(path, make([]byte, 1<<20), 0o444) })
	if err != nil || !s.Outgrows(most(1<<20)) {
		t.Errorf("after a layer: Outgrows = false, %v", err)
	}
	// While another one trims, or rests before that, nobody starts one more.
	throws = 0
	again := func() bool {
		if err := s.PutNote(t.Context(), keys[0], []byte("note")); err != nil {
			t.Fatal(err)
		}
		return s.Outgrows(most(1))
	}
	for _, off := range []int64{trimOffset, fitOffset} {
		unlock, err := s.lockOnly(off)
		if err != nil {
			t.Fatal(err)
		}
		if again() {
			t.Errorf("Outgrows = true while another one trims: %d", off)
		}
		unlock()
		if !again() {
			t.Errorf("control: Outgrows = false after that: %d", off)
		}
	}
}

// TestOutgrowsFull: who could write nothing because the disk is full looks, too.
func TestOutgrowsFull(t *testing.T) {
	s := openIn(t, TempStoreDir(t), Options{})
	fill(t, s, 3)
	if err := s.logbook.flush(s); err != nil {
		t.Fatal(err)
	}
	one := openIn(t, s.dir, Options{})
	one.dice = func(n int64) int64 { return n - 1 }
	one.disk.Fault = func(durable.Op, string, func() error) error { return syscall.ENOSPC }
	if _, err := one.PutBytes(t.Context(), action.BLAKE3, []byte("no room")); !errors.Is(err, ErrUnwritable) {
		t.Fatalf("PutBytes = %v", err)
	}
	one.disk.Fault = nil
	limit := int64(perResult)
	if !one.Outgrows(func() int64 { return limit }) {
		t.Error("Outgrows = false with a full disk")
	}
	if one.Outgrows(func() int64 { return limit }) {
		t.Error("Outgrows = true, and nothing was tried since")
	}
}

func TestOutgrowsReadOnly(t *testing.T) {
	dir := TempStoreDir(t)
	written := openIn(t, dir, Options{})
	fill(t, written, 10)
	if err := written.logbook.flush(written); err != nil {
		t.Fatal(err)
	}
	s := openIn(t, dir, Options{ReadOnly: true})
	if _, err := s.Fit(t.Context(), 1, FitOptions{}); !errors.Is(err, ErrReadOnly) {
		t.Errorf("Fit = %v", err)
	}
	if z, err := s.Size(); err != nil || !z.Known || z.Bytes < 10*perResult {
		t.Errorf("Size = %+v, %v", z, err)
	}
	if s.Outgrows(func() int64 { return 1 }) {
		t.Error("Outgrows = true")
	}
}

// TestSize compares what is estimated with what is there, whatever was lost.
func TestSize(t *testing.T) {
	s := openIn(t, TempStoreDir(t), Options{})
	if z, err := s.Size(); err != nil || !z.Known || z.Bytes != 0 {
		t.Errorf("of no store: %+v, %v", z, err)
	}
	fill(t, s, 10)
	layer := func(name string) {
		t.Helper()
		_, err := s.PutLayer(t.Context(), name, nil, func(path string) error { return os.WriteFile(path, make([]byte, 8192), 0o444) })
		if err != nil {
			t.Fatal(err)
		}
	}
	layer("a")
	check := func(what string, counted bool) {
		t.Helper()
		other := openIn(t, s.dir, Options{ReadOnly: true}) // counts without leaving a trace
		u, err := other.Stat(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		z, err := s.Size()
		if err != nil || !z.Known || z.Bytes != u.Total().Bytes || z.Counted.IsZero() == counted {
			t.Errorf("%s: Size = %+v, %v; there are %d bytes", what, z, err, u.Total().Bytes)
		}
	}
	check("from the log", false)
	if _, err := s.Stat(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("after Stat", true)
	if _, err := s.PutBytes(t.Context(), action.BLAKE3, []byte("more")); err != nil {
		t.Fatal(err)
	}
	layer("b")
	check("counted, and what was written since", true)

	path := filepath.Join(s.dir, sizeName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func() error{
		"gone":  func() error { return os.Remove(path) },
		"empty": func() error { return os.WriteFile(path, nil, 0o644) },
		"cut":   func() error { return os.WriteFile(path, good[:len(good)-3], 0o644) },
		"damaged": func() error {
			bad := bytes.Clone(good)
			bad[recordHead] ^= 1
			return os.WriteFile(path, bad, 0o644)
		},
		"short":     func() error { return os.WriteFile(path, appendRecord(nil, sizeMagic, sizeName, []byte("x")), 0o644) },
		"directory": func() error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if z, err := s.Size(); err != nil || z.Known {
			t.Errorf("%s: Size = %+v, %v; want that it is not known", name, z, err)
		}
		if s.due(1<<40) == nil {
			t.Errorf("%s: nobody is to find out", name)
		}
		if name == "directory" {
			os.Remove(path)
		}
		fit(t, s, 1<<40)
		check(name+", found out", true)
	}
	later(s, recount-time.Hour)
	if s.due(1<<40) != nil {
		t.Error("it is counted again too early")
	}
	later(s, recount+time.Hour)
	if s.due(1<<40) == nil {
		t.Error("it is not counted again")
	}
	later(s, -recount) // the clock went back: nobody knows how old it is
	if z, err := s.Size(); err != nil || !z.Counted.IsZero() {
		t.Errorf("counted in the future: %+v, %v", z, err)
	}
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

// TestSizeThatCannotBeForgotten: where it cannot be written that the size is not known, the
// log stays, so that a kill before there is an index leaves the size that it tells of. A
// full disk is no news.
func TestSizeThatCannotBeForgotten(t *testing.T) {
	for _, full := range []bool{false, true} {
		var warned []error
		s := openIn(t, TempStoreDir(t), Options{Warn: func(err error) { warned = append(warned, err) }})
		fill(t, s, 6)
		if err := s.logbook.flush(s); err != nil {
			t.Fatal(err)
		}
		draft, log := "", filepath.Join(s.dir, logName)
		s.disk.Fault = func(op durable.Op, path string, do func() error) error {
			if op != durable.OpCreate || draft != "" && path != draft {
				return do()
			}
			draft = path
			if full {
				return syscall.ENOSPC
			}
			return errInjected
		}
		list, db, err := s.entries(t.Context())
		if err != nil || db != nil || len(list) != 6+6+2 { // and the empty blob of each function
			t.Errorf("entries: %d, an index: %v, %v", len(list), db != nil, err)
		}
		s.disk.Fault = nil
		if _, err := os.Stat(log); draft == "" || err != nil {
			t.Errorf("the log is gone: %v", err)
		}
		if full != (len(warned) == 0) {
			t.Errorf("full %v: warned of %v", full, warned)
		}
		fit(t, s, 4*perResult)
		if z, err := s.Size(); err != nil || !z.Known || z.Bytes > 4*perResult {
			t.Errorf("then: %+v, %v", z, err)
		}
		if _, err := os.Stat(log); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("control: the log is there: %v", err)
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
