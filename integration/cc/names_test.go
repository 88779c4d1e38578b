package cc

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/staging"
)

// TestUsesClock puts a macro over the edges of the pieces in which a file is read.
func TestUsesClock(t *testing.T) {
	s := &Session{command: &action.Command{}, parts: &Parts{Hash: staging.NewFileHasher(t.TempDir(), action.BLAKE3)}}
	name := filepath.Join(t.TempDir(), "x.h")
	for _, size := range []int{0, 10, 64 << 10, 200 << 10} {
		data := bytes.Repeat([]byte("_"), size)
		check := func(want bool) {
			t.Helper()
			if err := os.WriteFile(name, data, 0o644); err != nil {
				t.Fatal(err)
			}
			d, err := s.parts.Hash.Digest(name)
			if have := s.usesClock(name, d); have != want || err != nil {
				t.Errorf("%d bytes: %v, %v; want %v", size, have, err, want)
			}
		}
		check(false)
		for at := range 40 {
			for _, edge := range []int{0, 64 << 10, 128<<10 - 13, 128 << 10} {
				from := edge + at - 20
				if from < 0 || from+13 > size {
					continue
				}
				copy(data[from:], "__TIMESTAMP__")
				check(true)
				copy(data[from:], "_____________")
			}
		}
	}
}

// TestMarks: what is noted of an old file is believed, and not of another one.
func TestMarks(t *testing.T) {
	table := t.TempDir()
	name := filepath.Join(t.TempDir(), "x.h")
	old := time.Now().Add(-time.Hour)
	check := func(text, date string, want bool) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			s := &Session{command: &action.Command{}, parts: &Parts{Hash: staging.NewFileHasher(table, action.BLAKE3)}}
			if date != "" {
				s.command.Environment = []action.EnvironmentVariable{{Name: "SOURCE_DATE_EPOCH", Value: date}}
			}
			d, err := s.parts.Hash.Digest(name)
			if have := s.usesClock(name, d); have != want || err != nil {
				t.Errorf("%q, %q: %v, %v; want %v", text, date, have, err, want)
			}
			// The change time is what counts, and a file is not believed while it is new.
			_ = os.Chtimes(name, old, old)
			time.Sleep(150 * time.Millisecond)
		}
	}
	check("int a;", "", false)
	check("__DATE", "", false)
	check("__DATE__", "", true)
	check("__DATE__", "1", false)
	check("__TIMESTAMP__", "1", true)
	check("int b;", "1", false)
}

func TestNames(t *testing.T) {
	macro := []byte("__TIME__")
	for _, text := range []string{
		"", "_", "TIME__", "_TIME__", "__TIME__", "___TIME__", "x__TIME__y", "TIME__ __TIME__", "_TIME____TIME__", "__TIME_", "__TIMETIME__",
		"TIME__TIME__", "a\n__TIME__", "__TIMESTAMP__", "TIMETIME__\x00__TIME__",
	} {
		if have, want := names([]byte(text), macro), bytes.Contains([]byte(text), macro); have != want {
			t.Errorf("%q: %v, want %v", text, have, want)
		}
	}
}

// TestHeeds: not every compiler takes the time from SOURCE_DATE_EPOCH, and a result with
// the time of the run in it is nobody else's.
func TestHeeds(t *testing.T) {
	const gcc = "/usr/lib/gcc/x86_64-linux-gnu/"
	for name, c := range map[string]struct {
		part  string
		op    backends.Op
		heeds bool
	}{
		"GCC":           {gcc + "12/cc1plus", backends.Exec, true},
		"an old GCC":    {gcc + "6.3.0/cc1", backends.Exec, false},
		"Fortran":       {gcc + "12/f951", backends.Exec, false},
		"clang":         {"/usr/lib/llvm-16/lib/clang/16/include", backends.Stat, true},
		"an old clang":  {"/usr/lib/llvm-14/lib/clang/14.0.6/include", backends.Stat, false},
		"who knows":     {"/usr/bin/x", backends.Exec, false},
		"a clang of 19": {"/opt/llvm/lib/clang/19", backends.Stat, true},
	} {
		s := &Session{call: &Call{Kind: Compile, Args: []string{"cc"}}, named: true, command: &action.Command{
			Environment: []action.EnvironmentVariable{{Name: epochName, Value: "1"}},
		}}
		err := s.asked([]backends.Lookup{{Path: c.part, Op: c.op}, {Path: localZone, Op: backends.Open}})
		if heeds := err == nil; heeds != c.heeds {
			t.Errorf("%s: %v", name, err)
		}
	}
}
