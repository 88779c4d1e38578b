package cc

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/sbx-action/sbx-action/action"
)

// TestUsesClock puts a macro over the edges of the pieces in which a file is read.
func TestUsesClock(t *testing.T) {
	s := &Session{command: &action.Command{}}
	name := filepath.Join(t.TempDir(), "x.h")
	for _, size := range []int{0, 10, 64 << 10, 200 << 10} {
		data := bytes.Repeat([]byte("_"), size)
		check := func(want bool) {
			t.Helper()
			if err := os.WriteFile(name, data, 0o644); err != nil {
				t.Fatal(err)
			}
			if have, err := s.usesClock(name); have != want || err != nil {
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
