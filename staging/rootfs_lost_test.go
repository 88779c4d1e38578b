package staging

import (
	"archive/tar"
	"bytes"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

// TestRootfsLost loses all files of a tree, and sees which of them look-ups lead to.
func TestRootfsLost(t *testing.T) {
	store := newTestStore(t)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range []struct{ name, target string }{
		{"usr/bin/a", ""},
		{"usr/bin/b", ""},
		{"usr/lib/sub/c", ""},
		{"build/x", ""},
		{"tmp/x", ""},
		{"top", ""},
		{"bin", "usr/bin"},
		{"usr/lib/up", "../.././usr/lib"},
		{"usr/lib/abs", "/bin/a"},
		{"loop", "loop"},
		{"w", "build/in"},
		{"dangling", "nowhere/at/all"},
	} {
		h := &tar.Header{Name: e.name, Linkname: e.target, Mode: 0o644, Typeflag: tar.TypeSymlink}
		if e.target == "" {
			h.Typeflag, h.Size = tar.TypeReg, int64(len(e.name))
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if e.target == "" {
			if _, err := w.Write([]byte(e.name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	im, err := ImportTar(t.Context(), store, &b, ImportOptions{Function: action.BLAKE3})
	if err != nil {
		t.Fatal(err)
	}
	root := TreeRootfs(im.Tree)
	lose := func(content string) {
		if err := os.Remove(store.blob(action.Sum(action.BLAKE3, []byte(content)))); err != nil {
			t.Fatal(err)
		}
	}
	lost := func(use *RootfsUse) string {
		t.Helper()
		gone, err := root.Lost(t.Context(), store, use)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(slices.Sorted(maps.Keys(gone)), " ")
	}
	inputs := map[string]Entry{
		"in": {Kind: KindLink, Target: "/usr/bin/b"}, "d": {Kind: KindDirectory}, "d/out": {Kind: KindLink, Target: "../../top"}, "f": {Kind: KindFile},
	}
	used := func(op backends.Op, paths ...string) *RootfsUse {
		u := &RootfsUse{Input: func(name string) (Entry, bool) { e, ok := inputs[name]; return e, ok }}
		for _, p := range paths {
			u.Lookups = append(u.Lookups, backends.Lookup{Path: p, Op: op})
		}
		return u
	}

	if got := lost(nil); got != "" {
		t.Errorf("a whole tree has lost %q", got)
	}
	lose("top")
	if got := lost(used(backends.Open, "/usr/bin/a", "/usr")); got != "" {
		t.Errorf("files that are there: %q", got)
	}
	for _, content := range []string{"usr/bin/a", "usr/bin/b", "usr/lib/sub/c"} {
		lose(content)
	}
	for _, c := range []struct {
		path string
		op   backends.Op
		want string
	}{
		{"/usr/bin/a", backends.Open, "/usr/bin/a"},
		{"/usr/bin/a", backends.Stat, "/usr/bin/a"},
		{"/bin/b", backends.Exec, "/usr/bin/b"},
		{"//usr/./lib/../bin//a", backends.Open, "/usr/bin/a"},
		{"/bin/../lib/sub/c", backends.Open, "/usr/lib/sub/c"}, // .. of what the link led to
		{"/usr/lib/up/sub/c", backends.Open, "/usr/lib/sub/c"},
		{"/usr/lib/abs", backends.Open, "/usr/bin/a"},
		{"/../../top", backends.Open, "/top"},
		{"/build/in", backends.Open, "/usr/bin/b"},
		{"/w", backends.Open, "/usr/bin/b"},
		{"/build/d/out", backends.Open, "/top"},
		{"/build/made/../d/out", backends.Open, "/top"},
		{"/usr/bin/a/below", backends.Stat, "/usr/bin/a"},
		{"/usr", backends.Open, ""},
		{"/usr", backends.Move, "/usr/bin/a /usr/bin/b /usr/lib/sub/c"},
		{"/usr/lib", backends.Move, "/usr/lib/sub/c"},
		{"/build/x", backends.Open, ""}, // hidden, as are the next
		{"/tmp/x", backends.Open, ""},
		{"/build/f/x", backends.Open, ""},
		{"/build", backends.Move, ""},
		{"/loop", backends.Open, ""},
		{"/dangling", backends.Open, ""},
		{"/usr/bin/none", backends.Open, ""},
		{"/", backends.Open, ""},
		{"", backends.Open, ""},
	} {
		if got := lost(used(c.op, c.path)); got != c.want {
			t.Errorf("%q: lost %q, want %q", c.path, got, c.want)
		}
	}
	if got := lost(used(backends.Stat, "/usr/bin/a", "/usr/bin/a", "/usr/bin/b")); got != "/usr/bin/a /usr/bin/b" {
		t.Errorf("of several: %q", got)
	}
	if got := lost(nil); got != "/top /usr/bin/a /usr/bin/b /usr/lib/sub/c" {
		t.Errorf("of all: %q", got)
	}

	// Nobody can tell what was in a directory that is gone.
	if err := os.Remove(store.blob(im.Tree)); err != nil {
		t.Fatal(err)
	}
	if got := lost(used(backends.Open, "/usr/bin/a")); got != "/" {
		t.Errorf("without its directory: %q", got)
	}
	if got := lost(nil); got != "/" {
		t.Errorf("all without its directory: %q", got)
	}
}
