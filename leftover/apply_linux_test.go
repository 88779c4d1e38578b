package leftover

import (
	"os"
	"path/filepath"
	"testing"
	"time"
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
