package staging

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/action"
)

func TestFind(t *testing.T) {
	ws := t.TempDir()
	makeTree(t, ws, "a/b/c", "a/b/d*", "a/x", "l->a", "z/")
	s := mustScan(t, ScanConfig{Workspace: ws, Inputs: []string{"a/b", "l", "z"}, Function: action.BLAKE3})
	for name, want := range map[string]Kind{"a": KindDirectory, "a/b": KindDirectory, "a/b/c": KindFile, "a/b/d": KindFile, "l": KindLink, "z": KindDirectory} {
		if e, ok := s.Find(name); !ok || e.Kind != want {
			t.Errorf("%s: %v %v", name, e, ok)
		}
	}
	for _, name := range []string{"", "a/x", "a/b/c/", "a/b/c/d", "l/b", "z/z", "q", "a/", "/a"} {
		if e, ok := s.Find(name); ok {
			t.Errorf("%q: found %v", name, e)
		}
	}
	if e, _ := s.Find("a/b/d"); !e.Executable || e.Digest != action.Sum(action.BLAKE3, []byte("a/b/d")) {
		t.Errorf("a/b/d: %+v", e)
	}
}

func TestSave(t *testing.T) {
	ws := t.TempDir()
	makeTree(t, ws, "a/b/c", "a/b/d*", "a/e", "f", "l->a", "z/", "src/x.c", "src/y.c")
	tree := action.Sum(action.BLAKE3, []byte("tree"))
	s := mustScan(t, ScanConfig{Workspace: ws, Inputs: []string{"a", "f", "l", "z", "src/x.c", "v/t=" + tree.String()}, Function: action.BLAKE3})
	b := newScanBlobs()
	if err := s.Save(t.Context(), b, nil); !errors.Is(err, action.ErrMiss) || !strings.Contains(err.Error(), `"v/t"`) {
		t.Fatalf("Save without the placed tree: %v", err)
	}
	b.data[tree] = []byte("tree")
	if err := s.Save(t.Context(), b, nil); err != nil {
		t.Fatal(err)
	}
	if got := restore(t, b, s.Root, ""); !slices.Equal(got, []string{
		"a/b/c=a/b/c", "a/b/d*=a/b/d", "a/e=a/e", "src/x.c=src/x.c", "v/t/tree", "z/", "f=f", "l->a",
	}) {
		t.Errorf("%q", got)
	}
	puts := b.puts
	if err := s.Save(t.Context(), b, nil); err != nil || b.puts != puts {
		t.Errorf("the second Save wrote %d blobs: %v", b.puts-puts, err)
	}
	clear(b.data)
	b.data[tree] = nil
	a, _ := s.Find("a")
	if err := s.Save(t.Context(), b, func(_ string, d action.Digest) bool { return d == a.Digest }); err != nil {
		t.Fatal(err)
	}
	if b.Has(t.Context(), a.Digest) || !b.Has(t.Context(), s.Root) {
		t.Error("Save did not leave out what is known")
	}
}

// restore lists a tree in b.
func restore(t *testing.T, b *scanBlobs, d action.Digest, at string) []string {
	t.Helper()
	data, ok := b.data[d]
	if !ok && !d.IsEmpty() {
		t.Fatalf("%q: no %v", at, d)
	}
	if string(data) == "tree" {
		return []string{at + "tree"}
	}
	m, err := action.ParseDirectory(data, d.Function())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, n := range m.Directories {
		out = append(out, restore(t, b, n.Digest, at+n.Name+"/")...)
	}
	for _, n := range m.Files {
		star := map[bool]string{true: "*"}[n.Executable]
		out = append(out, at+n.Name+star+"="+string(b.data[n.Digest]))
	}
	for _, n := range m.Symlinks {
		out = append(out, at+n.Name+"->"+n.Target)
	}
	if len(out) == 0 {
		out = append(out, at)
	}
	return out
}

func TestSaveChanged(t *testing.T) {
	for _, change := range []func(ws string) error{
		func(ws string) error { return os.WriteFile(ws+"/a/b", []byte("new"), 0o644) },
		func(ws string) error { return os.Remove(ws + "/a/b") },
		func(ws string) error { return os.RemoveAll(ws + "/a") },
		func(ws string) error { return errors.Join(os.Remove(ws+"/a/b"), os.Symlink("c", ws+"/a/b")) },
		func(ws string) error { return errors.Join(os.Rename(ws+"/a", ws+"/x"), os.Symlink("x", ws+"/a")) },
	} {
		ws := t.TempDir()
		makeTree(t, ws, "a/b", "a/c")
		s := mustScan(t, ScanConfig{Workspace: ws, Inputs: []string{"a"}, Function: action.BLAKE3})
		if err := change(ws); err != nil {
			t.Fatal(err)
		}
		if err := s.Save(t.Context(), newScanBlobs(), nil); !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), `"a`) {
			t.Errorf("Save = %v", err)
		}
	}
}
