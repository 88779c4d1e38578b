package cc_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// TestRot damages blobs of the store and puts their times back. Nobody gets what is in
// them then, whoever answers, and the next call finds them healed.
func TestRot(t *testing.T) {
	for _, c := range []struct {
		name, size string
		flags      []string
		front      bool // it has answered before
		ends       cc.Outcome
		heals      bool
	}{
		{"small, with a memo", "9000", nil, true, cc.Miss, true},
		{"small", "9000", nil, false, cc.Miss, true},
		{"large, with a memo", "300000", nil, true, cc.Miss, true},
		{"large", "300000", nil, false, cc.Miss, true},
		{"sparse", "1<<22", nil, false, cc.Miss, true},
		{"fixed", "9000", []string{"--path", "fixed"}, false, cc.Miss, true},
		{"only read", "9000", []string{"--read-only"}, false, cc.Unkept, false},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.write("a.c", "int a["+c.size+"/4] = { 1, 2, 3 };\n")
			call := words("gcc -MMD -c a.c")
			want := w.bare(call)
			if slices.Equal(c.flags, []string{"--read-only"}) {
				w.expect("at first", call, want, cc.Miss)
			}
			w.flags = c.flags
			w.expect("at first or again", call, want, cc.Miss, cc.Hit)
			w.expect("again", call, want, cc.Hit)
			if c.front && !w.atOnce("before", call, want) {
				t.Log("the front does not answer") // on a slow machine
			}
			if n := w.rot(); n == 0 {
				t.Fatal("no blob was damaged")
			}
			w.expect("damaged", call, want, c.ends)
			if !c.heals {
				w.expect("damaged, again", call, want, c.ends)
				return
			}
			w.expect("healed", call, want, cc.Hit)
			w.atOnce("healed, by the front", call, want)
			if out, err := exec.Command(command, "cache", "verify", "--cache", w.cache).CombinedOutput(); err != nil {
				t.Errorf("cache verify: %v\n%s", err, out)
			}
		})
	}
}

// rot changes a bit in the middle of each blob and keeps its size and time. It returns
// how many there are.
func (w *world) rot() (n int) {
	w.t.Helper()
	w.must(filepath.WalkDir(filepath.Join(w.cache, "blob"), func(p string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		var st unix.Stat_t
		w.must(unix.Stat(p, &st))
		data, err := os.ReadFile(p)
		if err != nil || len(data) == 0 {
			return err
		}
		data[len(data)/2] ^= 1
		w.must(os.Chmod(p, 0o600))
		w.must(os.WriteFile(p, data, 0))
		w.must(os.Chmod(p, os.FileMode(st.Mode&0o777)))
		n++
		return unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{st.Atim, st.Mtim}, 0)
	}))
	return n
}
