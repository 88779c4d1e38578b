package cache

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestHoldsImages asks about a store that is not made yet, in this test's directory
// and in /dev/shm, which is a tmpfs nearly everywhere.
func TestHoldsImages(t *testing.T) {
	for _, dir := range []string{t.TempDir(), "/dev/shm"} {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			t.Fatal(err)
		}
		s, err := Open(filepath.Join(dir, "sbx-none", "store"), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := s.HoldsImages(), st.Type != unix.TMPFS_MAGIC && st.Type != unix.OVERLAYFS_SUPER_MAGIC; got != want {
			t.Errorf("%s: %v, want %v", dir, got, want)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
