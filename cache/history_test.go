package cache

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
)

func openTemp(t *testing.T) *Store {
	t.Helper()
	s, err := Open(TempStoreDir(t), Options{Warn: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func addRun(t *testing.T, s *Store, n int, at time.Time, data string) action.Digest {
	t.Helper()
	key := action.Sum(action.BLAKE3, fmt.Append(nil, "key", n))
	unsealed := action.Sum(action.BLAKE3, fmt.Append(nil, "unsealed", n))
	if err := s.AddRun(&Run{Time: at, Key: key.Bytes(), Unsealed: unsealed.Bytes(), Function: action.BLAKE3, Data: []byte(data)}); err != nil {
		t.Fatal(err)
	}
	return key
}

func story(t *testing.T, s *Store) (runs []Run, removals []Removal) {
	t.Helper()
	if err := s.History(func(r Run) { runs = append(runs, r) }, func(x Removal) { removals = append(removals, x) }); err != nil {
		t.Fatal(err)
	}
	return runs, removals
}

func TestHistory(t *testing.T) {
	s := openTemp(t)
	if runs, _ := story(t, s); len(runs) != 0 {
		t.Fatalf("a new store tells of %d runs", len(runs))
	}
	at := time.Unix(1e9, 7)
	key := addRun(t, s, 1, at, "one")
	addRun(t, s, 2, at, "")
	runs, _ := story(t, s)
	if len(runs) != 2 || string(runs[0].Data) != "one" || runs[0].Key != key.Bytes() || !runs[0].Time.Equal(at) || len(runs[1].Data) != 0 {
		t.Fatalf("the history tells %+v", runs)
	}
	if _, err := Open(s.Dir(), Options{}); err != nil {
		t.Errorf("a store that holds nothing but a history: %v", err)
	}
	big := &Run{Time: at, Function: action.BLAKE3, Data: make([]byte, HistoryRecordMax)}
	if err := s.AddRun(big); err != nil {
		t.Error(err)
	}
	if runs, _ := story(t, s); len(runs) != 3 {
		t.Errorf("the longest record is not read back: %d runs", len(runs))
	}
	big.Data = make([]byte, HistoryRecordMax+1)
	if err := s.AddRun(big); err == nil {
		t.Error("a record that is too long was taken")
	}
	ro, err := Open(s.Dir(), Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := ro.AddRun(&Run{}); !errors.Is(err, ErrUnwritable) {
		t.Errorf("read-only: %v", err)
	}
}

// TestHistoryDamage damages each byte of a history of three runs, and cuts it
// at each byte: the others are still told.
func TestHistoryDamage(t *testing.T) {
	s := openTemp(t)
	for n := range 3 {
		addRun(t, s, n, time.Unix(int64(n), 0), "sbH1sbH1") // a hostile payload: it looks like the start of a record
	}
	path := filepath.Join(s.Dir(), historyName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tell := func(data []byte) (n int) {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		runs, _ := story(t, s)
		for _, r := range runs {
			if string(r.Data) != "sbH1sbH1" {
				t.Fatalf("a damaged record was told: %q", r.Data)
			}
		}
		return len(runs)
	}
	if n := tell(whole); n != 3 {
		t.Fatalf("control: %d runs", n)
	}
	for i := range whole {
		bad := bytes.Clone(whole)
		bad[i] ^= 0x55
		if n := tell(bad); n != 2 {
			t.Fatalf("byte %d damaged: %d runs are told, want 2", i, n)
		}
		if n, want := tell(whole[:i]), i/(len(whole)/3); n != want {
			t.Fatalf("cut at %d: %d runs are told, want %d", i, n, want)
		}
		if n, want := tell(append(bytes.Clone(whole[:i]), whole...)), 3; n != want {
			t.Fatalf("%d torn bytes before: %d runs are told, want %d", i, n, want)
		}
	}
}

func FuzzHistory(f *testing.F) {
	b := beginHistory(nil, kindRun, action.BLAKE3, time.Unix(1, 2), [32]byte{3})
	f.Add(endHistory(append(b, make([]byte, 40)...), 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		n := 0
		parseHistory(data, func(payload, record []byte) {
			n += len(record)
			parseRun(payload)
			parseRemoval(payload)
		})
		if n > len(data) {
			t.Errorf("%d bytes of records in %d", n, len(data))
		}
	})
}

func TestHistoryRotates(t *testing.T) {
	s := openTemp(t)
	path := filepath.Join(s.Dir(), historyName)
	addRun(t, s, 0, time.Unix(0, 1), "first")
	if err := os.Truncate(path, historyMax); err != nil { // a hole, which is no record
		t.Fatal(err)
	}
	addRun(t, s, 1, time.Unix(1, 0), "last of the old") // grows beyond the limit
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for i := range 50 {
				addRun(t, s, n, time.Unix(int64(2+n), int64(i)), "new")
			}
		})
	}
	all.Wait()
	if runs, _ := story(t, s); len(runs) != 402 {
		t.Errorf("%d runs are told, want 402", len(runs))
	}
	for _, name := range []string{historyName, historyOldName} {
		if fi := statFile(t, filepath.Join(s.Dir(), name)); fi.Size == 0 {
			t.Errorf("%s is empty", name)
		}
	}
}

func TestHistoryShrinks(t *testing.T) {
	s := openTemp(t)
	for n := range 100 {
		addRun(t, s, n, time.Unix(int64(n), 0), strings.Repeat("x", 1000))
	}
	if err := s.shrinkHistory(0, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if runs, _ := story(t, s); len(runs) != 100 {
		t.Fatalf("without limits %d of 100 runs are left", len(runs))
	}
	if err := s.shrinkHistory(0, time.Unix(10, 0)); err != nil {
		t.Fatal(err)
	}
	if runs, _ := story(t, s); len(runs) != 90 || runs[0].Time.Unix() != 10 {
		t.Fatalf("%d runs are left, the first of %v", len(runs), runs[0].Time)
	}
	addRun(t, s, 100, time.Unix(100, 0), "newest")
	if err := s.shrinkHistory(50_000, time.Time{}); err != nil {
		t.Fatal(err)
	}
	runs, _ := story(t, s)
	if len(runs) == 0 || len(runs) > 30 || string(runs[len(runs)-1].Data) != "newest" {
		t.Errorf("%d runs are left of 25,000 bytes", len(runs))
	}
	if n := s.HistorySize(); n > 32<<10 {
		t.Errorf("the history takes %d bytes", n)
	}
}

// TestHistoryTellsOfTrim: what trim removes is told, if a run had made it, and
// a trim for size or age makes the history itself smaller.
func TestHistoryTellsOfTrim(t *testing.T) {
	s := openTemp(t)
	key := addRun(t, s, 1, time.Now(), "")
	other := action.Sum(action.BLAKE3, []byte("of a run that is not in the history"))
	for _, k := range []action.Digest{key, other} {
		if err := s.PutResult(t.Context(), k, &action.Result{}); err != nil {
			t.Fatal(err)
		}
		age(t, s.shard("result", k), 48*time.Hour)
	}
	if r := trim(t, s, Policy{MaxAge: 24 * time.Hour}); r.Removed.Results.N != 2 {
		t.Fatalf("control: %d results were trimmed", r.Removed.Results.N)
	}
	runs, removals := story(t, s)
	if len(runs) != 1 || len(removals) != 1 {
		t.Fatalf("%d runs and %d removals are told", len(runs), len(removals))
	}
	if x := removals[0]; x.Kind != KindResult || x.Hash != key.Bytes() || x.Cause != Trimmed || time.Since(x.Time) > time.Hour {
		t.Errorf("told is %+v", x)
	}
	// A trim that removes what is a day old tells of it for long.
	month, year := addRun(t, s, 2, time.Now().Add(-30*24*time.Hour), ""), addRun(t, s, 3, time.Now().Add(-365*24*time.Hour), "")
	trim(t, s, Policy{MaxAge: 24 * time.Hour})
	runs, _ = story(t, s)
	if len(runs) != 2 || runs[1].Key != month.Bytes() {
		t.Errorf("after a trim %d runs are told, of %v, %v and %v", len(runs), key, month, year)
	}
}

func TestHistoryTellsOfDamage(t *testing.T) {
	s := openTemp(t)
	key := addRun(t, s, 1, time.Now(), "")
	if err := s.PutResult(t.Context(), key, &action.Result{}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.shard("result", key)+".x", []byte("sbR1 but no more"), 0o444); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(s.shard("result", key)+".x", s.shard("result", key)); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Verify(t.Context(), nil); err != nil || len(r.Damaged) != 1 {
		t.Fatalf("control: verify found %v, %v", r, err)
	}
	_, removals := story(t, s)
	if len(removals) != 1 || removals[0].Cause != Damaged || removals[0].Hash != key.Bytes() || !strings.Contains(removals[0].Reason, "damaged") {
		t.Errorf("told is %+v", removals)
	}
}

// TestHistoryStrangeFiles: what is in the place of the history makes it
// empty or an error, and never a hang.
func TestHistoryStrangeFiles(t *testing.T) {
	s := openTemp(t)
	addRun(t, s, 1, time.Now(), "")
	path := filepath.Join(s.Dir(), historyName)
	for name, make := range map[string]func() error{
		"directory": func() error { return os.Mkdir(path, 0o755) },
		"link":      func() error { return os.Symlink("/dev/zero", path) },
		"fifo":      func() error { return unix.Mkfifo(path, 0o644) },
	} {
		if err := errors.Join(os.RemoveAll(path), make()); err != nil {
			t.Fatal(err)
		}
		_ = s.AddRun(&Run{Function: action.BLAKE3})
		_ = s.History(func(Run) { t.Errorf("%s: a run is told", name) }, nil)
	}
}
