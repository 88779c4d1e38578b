package staging

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

// TestManyLookups shows that what a scout notes of many look-ups is what it notes
// of each alone: it does not walk twice to the same directory.
func TestManyLookups(t *testing.T) {
	h := newHostTest(t)
	for name, target := range map[string]string{
		"usr/way": "include", "usr/far": "/usr/way/sub", "usr/dangling": "nowhere/at/all", "usr/round": "round", "usr/include/up": "..",
	} {
		h.check(os.Symlink(target, filepath.Join(h.dir, name)))
	}
	var lookups []backends.Lookup
	for _, dir := range []string{
		"", "/", "/usr", "/usr/", "//usr/./", "/usr/include", "/usr/include/sub", "/usr/way", "/usr/way/sub/..", "/usr/far", "/usr/far/../up", "/usr/include/up/bin",
		"/usr/dangling", "/usr/dangling/x", "/usr/round", "/usr/bin/tool", "/usr/bin/tool/x", "/usr/absent", "/usr/absent/x", "/usr/local", "/build", "/build/x", "/usr/../usr/lib",
	} {
		for _, name := range []string{"a.h", "b.h", "sub", "tool", "absent", ".", "..", "", "way", "far", "up", "lib/looked-at"} {
			for _, op := range []backends.Op{backends.Open, backends.Stat, backends.Exec} {
				lookups = append(lookups, backends.Lookup{Path: "/" + dir + "/" + name, Op: op})
			}
		}
	}
	// What a scout has found, by what there is one seen of.
	facts := func(c *scout) map[string]string {
		h.check(c.settle())
		all := map[string]string{}
		for _, s := range c.found {
			all[s.kind.word()+" "+s.path] = s.line()
		}
		if len(all) != len(c.found) {
			t.Errorf("%d facts, and %d different ones", len(c.found), len(all))
		}
		return all
	}
	alone := map[string]string{}
	together := h.witness.scout()
	for _, l := range lookups {
		one := h.witness.scout()
		h.check(one.look(l))
		h.check(together.look(l))
		maps.Copy(alone, facts(one))
	}
	all := facts(together)
	if len(all) < 20 || !maps.Equal(all, alone) {
		t.Errorf("together:\n%v\nalone:\n%v", all, alone)
	}
	// Other orders lead other ways to the same directories.
	for i := len(lookups) - 1; i >= 0; i-- {
		h.check(together.look(lookups[i]))
	}
	backwards := h.witness.scout()
	for i := len(lookups) - 1; i >= 0; i-- {
		h.check(backwards.look(lookups[i]))
	}
	if len(together.found) != len(all) || len(backwards.found) != len(all) {
		t.Errorf("%d, %d and %d facts", len(all), len(together.found), len(backwards.found))
	}
}

// TestLines pins the lines of the canonical list: to change one changes all keys.
func TestLines(t *testing.T) {
	d := action.Sum(action.BLAKE3, []byte("x"))
	for _, c := range []struct {
		seen
		want string
	}{
		{seen{path: "/usr/a b\n", kind: seenFile, perm: 0o644, digest: d}, fmt.Sprintf("file %q 0644 %v\n", "/usr/a b\n", d)},
		{seen{path: "/usr/l", kind: seenLarge, perm: 0o644, digest: d}, fmt.Sprintf("large %q 0644 %v\n", "/usr/l", d)},
		{seen{path: "/usr/s", kind: seenFile, perm: 0o4755, digest: d}, fmt.Sprintf("file %q 4755 %v\n", "/usr/s", d)},
		{seen{path: "/usr/m", kind: seenMeta, text: "100644 12"}, "meta \"/usr/m\" 100644 12\n"},
		{seen{path: "/usr/é\xff", kind: seenDir, perm: 0o5}, fmt.Sprintf("dir %q 0005\n", "/usr/é\xff")},
		{seen{path: "/usr/d", kind: seenDir}, "dir \"/usr/d\" 0000\n"},
		{seen{path: "/usr/l", kind: seenList, perm: 0o755, digest: d}, fmt.Sprintf("list %q 0755 %v\n", "/usr/l", d)},
		{seen{path: "/etc", kind: seenMade, digest: d}, fmt.Sprintf("made %q %v\n", "/etc", d)},
		{seen{path: "/bin", kind: seenLink, text: "usr\"bin"}, fmt.Sprintf("link %q %q\n", "/bin", "usr\"bin")},
		{seen{path: "/usr/no", kind: seenAbsent}, "absent \"/usr/no\"\n"},
	} {
		if have := c.line(); have != c.want {
			t.Errorf("%q, want %q", have, c.want)
		}
	}
}

func TestAppendQuoted(t *testing.T) {
	for _, s := range []string{"", "/usr/lib", "a b~", `a"b`, `a\b`, "a\nb", "a\x7fb", "\x80", "é", "\xff"} {
		if have, want := string(appendQuoted([]byte("x "), s)), "x "+strconv.Quote(s); have != want {
			t.Errorf("%q: %s, want %s", s, have, want)
		}
	}
}
