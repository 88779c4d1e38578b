package leftover

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestApply makes one directory as another is.
func TestApply(t *testing.T) {
	before, after, outside := t.TempDir(), t.TempDir(), t.TempDir()
	script := func(dir string, files map[string]string) {
		for name, text := range files {
			p := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	script(before, map[string]string{"same": "1", "changed": "1", "gone/deep": "1", "was-dir/x": "1", "was-file": "1"})
	script(after, map[string]string{"same": "1", "changed": "22", "new/deep/er": "1", "was-dir": "now a file", "was-file/x": "1"})
	for _, dir := range []string{before, after} { // a link that both have, and that leads out
		if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("changed", filepath.Join(after, "new-link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(after, "changed"), 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	changes, err := Changes(before, after, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if len(changes) == 0 {
		t.Fatal("no changes")
	}
	if left, err := Apply(after, before, changes); err != nil || left != nil {
		t.Fatalf("%v, %v", left, err)
	}
	if info, err := os.Stat(filepath.Join(before, "changed")); err != nil || info.Mode() != 0o755 {
		t.Errorf("%v, %v: want the mode without its set-user-id bit", info.Mode(), err)
	}
	if err := os.Chmod(filepath.Join(after, "changed"), 0o755); err != nil {
		t.Fatal(err)
	}
	if again, err := Changes(before, after, time.Time{}); err != nil || len(again) != 0 {
		t.Errorf("still different: %+v, %v", again, err)
	}
}

// TestApplyStaysInside: a change below what is a link in the directory.
func TestApplyStaysInside(t *testing.T) {
	after, dir, outside := t.TempDir(), t.TempDir(), t.TempDir()
	if err := os.Mkdir(after+"/d", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(after+"/d/f", []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, dir+"/d"); err != nil {
		t.Fatal(err)
	}
	if _, err := Apply(after, dir, []Change{{Kind: Added, Path: "/d/f"}}); err == nil {
		t.Error("a file was written through a link that leads out")
	}
	if list, err := os.ReadDir(outside); err != nil || len(list) != 0 {
		t.Errorf("outside: %v, %v", list, err)
	}
}

// TestApplyKeepsWhatFilesAre: extended attributes, times, and which names are
// one file, also with one that was there before.
func TestApplyKeepsWhatFilesAre(t *testing.T) {
	before, after := t.TempDir(), t.TempDir()
	long := time.Date(2001, 2, 3, 4, 5, 6, 7000, time.UTC)
	do := func(steps ...error) {
		t.Helper()
		for i, err := range steps {
			if err != nil {
				t.Fatalf("step %d: %v", i, err)
			}
		}
	}
	for _, dir := range []string{before, after} {
		do(os.Mkdir(dir+"/d", 0o755), os.WriteFile(dir+"/old", []byte("old"), 0o644), os.Chtimes(dir+"/old", long, long),
			os.WriteFile(dir+"/marked", []byte("1"), 0o644), os.Chtimes(dir+"/marked", long, long),
			unix.Setxattr(dir+"/marked", "user.gone", []byte("1"), 0), unix.Setxattr(dir+"/d", "user.gone", []byte("1"), 0))
	}
	began := time.Now().Add(-time.Hour)
	do(os.WriteFile(after+"/new", []byte("22"), 0o640), os.Link(after+"/new", after+"/d/new2"), os.Link(after+"/old", after+"/again"),
		unix.Setxattr(after+"/new", "user.a", []byte("b"), 0), os.Chtimes(after+"/new", long, long),
		unix.Removexattr(after+"/marked", "user.gone"), unix.Setxattr(after+"/marked", "user.more", nil, 0),
		unix.Removexattr(after+"/d", "user.gone"), unix.Setxattr(after+"/d", "user.dir", []byte("2"), 0))
	changes, err := Changes(before, after, began)
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, c := range changes {
		said = append(said, c.Kind.String()+" "+c.Path+" "+c.What)
	}
	want := []string{"added /again ", "changed /d extended attributes", "added /d/new2 ", "changed /marked extended attributes", "added /new "}
	if !slices.Equal(said, want) {
		t.Errorf("changes %q, want %q", said, want)
	}
	if left, err := Apply(after, before, changes); err != nil || left != nil {
		t.Fatalf("%v, %v", left, err)
	}
	same := func(a, b string) {
		t.Helper()
		x, err1 := os.Stat(before + a)
		y, err2 := os.Stat(before + b)
		if err1 != nil || err2 != nil || !os.SameFile(x, y) {
			t.Errorf("%s and %s are not one file: %v, %v", a, b, err1, err2)
		}
	}
	same("/new", "/d/new2")
	same("/old", "/again")
	for _, name := range []string{"/new", "/old", "/marked"} {
		if info, err := os.Stat(before + name); err != nil || !info.ModTime().Equal(long) {
			t.Errorf("%s: %v, %v; want its time to be kept", name, info.ModTime(), err)
		}
	}
	if again, err := Changes(before, after, began); err != nil || len(again) != 0 {
		t.Errorf("still different: %+v, %v", again, err)
	}
}
