package durable

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRemoveHeld removes a tree on a file system that gives files that are open another
// name instead of removing them, each time anew. It has to end.
func TestRemoveHeld(t *testing.T) {
	for _, prefix := range []string{".fuse_hidden", ".nfs"} {
		top := filepath.Join(t.TempDir(), "top")
		for _, name := range []string{"lock", "1", "below/2"} {
			name = filepath.Join(top, name)
			if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		open, renamed := "lock", 0
		r := remover{unlink: func(path string) error {
			if filepath.Base(path) == open {
				renamed++
				open = prefix + strconv.Itoa(renamed)
				return os.Rename(path, filepath.Join(filepath.Dir(path), open))
			}
			return unix.Unlink(path)
		}}
		st, err := Stat(top)
		if err != nil {
			t.Fatal(err)
		}
		r.dev = st.Dev
		if err := r.emptyDir(top, top, 0); !errors.Is(err, ErrHeld) || renamed > 3 {
			t.Errorf("%s: %v, and it was renamed %d times", prefix, err, renamed)
		}
		names, err := filepath.Glob(filepath.Join(top, "*"))
		if err != nil || len(names) != 1 || filepath.Base(names[0]) != open {
			t.Errorf("%s: %q are left, %v", prefix, names, err)
		}
		open = "" // it is closed
		if err := new(Disk).RemoveAll(top); err != nil {
			t.Errorf("%s, afterwards: %v", prefix, err)
		}
	}
}
