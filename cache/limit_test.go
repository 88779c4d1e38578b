package cache

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
