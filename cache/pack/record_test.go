package pack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
)

func key(n int) action.Digest {
	all := action.Functions()
	return action.Sum(all[n%len(all)], fmt.Appendf(nil, "key %d", n))
}

func value(n int, version string) string {
	return fmt.Sprintf("%s of %d %s", version, n, strings.Repeat("y", n*11%900))
}

func putRecords(t *testing.T, p *Pack, to int, version string) {
	t.Helper()
	for n := range to {
		if err := p.PutRecord(key(n), []byte(value(n, version))); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRecords: the last record under a key counts, also after restarts of all
// kinds, and one that was dropped does not come back.
func TestRecords(t *testing.T) {
	for _, boot := range []string{"one", "two"} {
		for _, kill := range []bool{false, true} {
			dir := t.TempDir()
			p := open(t, dir, Options{Boot: "one", FileBytes: 20_000})
			putRecords(t, p, 100, "first")
			putRecords(t, p, 60, "second")
			for n := range 20 {
				if err := p.DropRecord(key(n)); err != nil {
					t.Fatal(err)
				}
			}
			if err := p.DropRecord(key(1000)); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				for n := range 100 {
					want := value(n, "first")
					if n < 60 {
						want = value(n, "second")
					}
					got, ok := p.Record(key(n))
					if ok != (n >= 20) || ok && string(got) != want {
						t.Errorf("boot %s, kill %v: record %d is %q, %v", boot, kill, n, got, ok)
					}
				}
				// A key is not a blob, though it is the digest of one.
				if p.Has(key(50)) {
					t.Error("there is a blob with the name of a key")
				}
				if !kill {
					if err := p.Close(); err != nil {
						t.Fatal(err)
					}
				}
				p = open(t, dir, Options{Boot: boot, FileBytes: 20_000})
			}
		}
	}
}

// TestRecordDamage: a record that was changed is none.
func TestRecordDamage(t *testing.T) {
	dir := t.TempDir()
	p := open(t, dir, Options{Boot: "one"})
	putRecords(t, p, 50, "first")
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "1.pack")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 100; i < len(data); i += 211 {
		data[i] ^= 1
	}
	if err := os.WriteFile(path, data, 0); err != nil {
		t.Fatal(err)
	}
	for _, boot := range []string{"one", "two"} {
		p := open(t, dir, Options{Boot: boot, Warn: func(error) {}})
		good := 0
		for n := range 50 {
			if got, ok := p.Record(key(n)); ok {
				good++
				if string(got) != value(n, "first") {
					t.Errorf("record %d is %q", n, got)
				}
			}
		}
		if good == 50 {
			t.Error("nothing was damaged: the test proves nothing")
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSpillRecords: of records, only the last under each key goes elsewhere.
func TestSpillRecords(t *testing.T) {
	spilled := map[action.Digest]string{}
	moved := make(chan struct{}, 1000)
	o := Options{Boot: "one", FileBytes: 10_000, MaxBytes: 100_000}
	o.SpillRecord = func(_ context.Context, key action.Digest, data []byte, current func() bool) error {
		if !current() {
			return errors.New("it is outdated")
		}
		k, err := action.Shortened(key.Function(), key.Bytes(), 1)
		spilled[k] = string(data) // one at a time
		moved <- struct{}{}
		return err
	}
	p := open(t, t.TempDir(), o)
	putRecords(t, p, 40, "first")
	putRecords(t, p, 20, "second")
	for n := 1000; len(moved) == 0; n++ {
		if err := p.Put([]cache.Checked{blob(t, n)}); err != nil && !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	for n := range 40 {
		k, err := action.Shortened(key(n).Function(), key(n).Bytes(), 1)
		want := value(n, "first")
		if n < 20 {
			want = value(n, "second")
		}
		if got, ok := spilled[k]; err != nil || ok && got != want {
			t.Errorf("record %d went as %q, %v", n, got, err)
		}
	}
}
