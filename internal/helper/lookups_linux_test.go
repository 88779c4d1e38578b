package helper

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/backends"
)

// TestLookups reads logs of look-ups, whole ones and damaged ones.
func TestLookups(t *testing.T) {
	t.Parallel()
	entry := func(op, how byte, path string) []byte {
		b := binary.NativeEndian.AppendUint16(nil, uint16(len(path)))
		b = append(append(b, op, how), path...)
		return append(b, make([]byte, -len(b)&3)...)
	}
	want := []backends.Lookup{
		{Path: "/usr/include/a.h", Found: true},
		{Path: "", Op: 1},
		{Path: "/tmp/x", Op: backends.Op(opMove), Found: true, Made: true},
		{Path: "/" + strings.Repeat("y", 4094), Op: 2, Made: true},
		{Path: "/o", Op: backends.Open, Made: true, Anew: true},
		{Path: "/p", Op: backends.Move, Made: true, Anew: true},
	}
	var log []byte
	var ends []int
	for _, l := range want {
		how := 0
		if l.Found {
			how |= lookupFound
		}
		if l.Made {
			how |= lookupMade
		}
		op := byte(l.Op)
		switch {
		case l.Anew && l.Op == backends.Open:
			op = opAnew
		case l.Anew:
			op = opReplace
		}
		log = append(log, entry(op, byte(how), l.Path)...)
		ends = append(ends, len(log))
	}
	read := func(log []byte) ([]backends.Lookup, error) {
		name := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(name, log, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		return (&Reply{log: f, logSize: len(log)}).Lookups()
	}
	for i := range len(ends) + 1 {
		end := 0
		if i > 0 {
			end = ends[i-1]
		}
		if got, err := read(log[:end]); err != nil || !slices.Equal(got, want[:i]) {
			t.Errorf("%d entries: %v, %v", i, got, err)
		}
	}
	for what, bad := range map[string][]byte{
		"cut in a path":     log[:ends[3]-2],
		"an unknown call":   entry(opReplace+1, 0, "/x"),
		"a length too long": {8, 0, 0, 0, '/'},
	} {
		if got, err := read(bad); err == nil || !strings.Contains(err.Error(), "damaged at byte") {
			t.Errorf("%s: %v, %v, want an error", what, got, err)
		}
	}
}
