package staging

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

// TestGoneBetweenLooks removes a file after the first look into its directory, and
// before the look at itself: that it is not there says nothing of what the command saw.
func TestGoneBetweenLooks(t *testing.T) {
	for _, remove := range []bool{false, true} {
		h := newHostTest(t)
		h.status.Lookups = []backends.Lookup{
			{Path: "/usr/include/never.h", Op: backends.Open},
			{Path: "/usr/include/late.h", Op: backends.Open},
		}
		if remove {
			h.write("usr/include/late.h", "late")
		}
		made, err := StatPath(filepath.Join(h.dir, "usr/include"), KeepLinks)
		h.check(err)
		for began := time.Now(); h.witness.Clock().UnixNano() <= made.CTime; time.Sleep(time.Millisecond) {
			if time.Since(began) > time.Minute {
				t.Fatal("the witness's clock stands still")
			}
		}
		host := h.witness.Host
		h.witness.Host = func(p string) (string, bool) {
			if remove && p == "/usr/include/late.h" {
				remove = false
				h.check(os.Remove(filepath.Join(h.dir, p)))
			}
			return host(p)
		}
		removes := remove
		_, err = h.witness.Seal(t.Context(), h.action, h.status, h.witness.Clock())
		if removes && (err == nil || !strings.Contains(err.Error(), "changed while the command ran")) || !removes && err != nil {
			t.Errorf("removed: %v: %v", removes, err)
		}
	}
}

// TestCanonical shows that the list is what sorting its lines gives.
func TestCanonical(t *testing.T) {
	d := action.Sum(action.BLAKE3, []byte("x"))
	var list []seen
	for _, k := range append(words[:], 'x') {
		for _, p := range []string{"/a", "/a b", "/a!b", "/a-b", "/a/b", "/a\"b", "/a\nb", "/b", "/é", "/a"} {
			s := seen{path: p, kind: k, perm: usualPerm(k)}
			if k == seenFile || k == seenLarge || k == seenList || k == seenMade {
				s.digest = d
			}
			list = append(list, s)
		}
	}
	for range 50 {
		rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		some := slices.Clone(list[:rand.IntN(len(list))])
		for _, sorted := range []bool{false, true} {
			if sorted {
				some = slices.DeleteFunc(some, func(s seen) bool { return s.kind == 'x' || strings.ContainsAny(s.path, " !\"\n") })
				slices.SortFunc(some, func(a, b seen) int { return strings.Compare(a.path, b.path) })
			}
			lines := make([]string, len(some))
			for i, s := range some {
				lines[i] = s.line()
			}
			slices.Sort(lines)
			if have, want := string(canonical([]byte("room")[:0], some)), strings.Join(lines, ""); have != want {
				t.Fatalf("%q, want %q", have, want)
			}
		}
	}
}

// TestSorted shows that the list is sorted by whole paths.
func TestSorted(t *testing.T) {
	h := newHostTest(t)
	for _, name := range []string{"a", "a-b", "a b", "a/x", "a-b/x", "a/", "a0", "ab/x/y", "ab/x-y", "a/x/y", "é/x"} {
		h.check(os.MkdirAll(filepath.Join(h.dir, "usr/sorted", name), 0o755))
		h.write(filepath.Join("usr/sorted", name, "file"), "x")
	}
	c := h.witness.scout()
	h.check(filepath.WalkDir(filepath.Join(h.dir, "usr"), func(p string, _ os.DirEntry, err error) error {
		for _, op := range []backends.Op{backends.Stat, backends.Open} {
			err = errors.Join(err, c.look(backends.Lookup{Path: strings.TrimPrefix(p, h.dir), Op: op}),
				c.look(backends.Lookup{Path: strings.TrimPrefix(p, h.dir) + "-", Op: op}))
		}
		return err
	}))
	found := slices.Clone(c.found)
	list := c.sorted()
	before := func(a, b seen) int { return cmp.Or(strings.Compare(a.path, b.path), int(a.kind)-int(b.kind)) }
	if !slices.IsSortedFunc(list, before) || len(list) < 40 {
		t.Errorf("%d facts: %v", len(list), list)
	}
	for _, s := range found { // each is in the list, or says less than another
		i, ok := slices.BinarySearchFunc(list, s, before)
		less := s.kind == seenMeta || s.kind == seenDir
		if ok && list[i].line() != s.line() || !ok && !less {
			t.Errorf("%s is lost", s.line())
		}
	}
}

func TestPermute(t *testing.T) {
	for n := range 20 {
		list, order := make([]int, n), make([]int32, n)
		for i, from := range rand.Perm(n) {
			list[i], order[i] = i*7, int32(from)
		}
		want := make([]int, n)
		for i, from := range order {
			want[i] = list[from]
		}
		if permute(list, order); !slices.Equal(list, want) {
			t.Errorf("%v, want %v", list, want)
		}
	}
}
