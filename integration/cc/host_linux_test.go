package cc

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRealPath: it says what EvalSymlinks does.
func TestRealPath(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir+"/a/b", 0o755); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"l": "a/b", "a/up": "..", "abs": dir + "/a", "dangling": "none", "loop": "loop", "pid": "/proc/self", "null": "/dev/null"} {
		if err := os.Symlink(target, dir+"/"+link); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a/b/file", "gone (deleted)"} {
		if err := os.WriteFile(dir+"/"+name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	gone, err := os.Create(dir + "/gone")
	if err != nil {
		t.Fatal(err)
	}
	defer gone.Close()
	if err := os.Remove(dir + "/gone"); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	number := func(f *os.File) string { return filepath.Join("/proc/self/fd", strconv.Itoa(int(f.Fd()))) }
	found := 0
	for _, p := range []string{
		dir, "/", dir + "/a/b/", dir + "/a/../a/./b", dir + "/l", dir + "/l/file", dir + "/a/up/abs/b/file", dir + "/dangling", dir + "/loop",
		dir + "/loop/x", dir + "/none", dir + "/a/b/file/x", dir + "/pid", dir + "/null", dir + "/gone (deleted)", dir + "/gone", "", ".", "a", "/dev/fd/0",
		"/proc/self/cwd", number(gone), number(r),
	} {
		want, werr := filepath.EvalSymlinks(p)
		have, err := realPath(p)
		if have != want || (err == nil) != (werr == nil) || os.IsNotExist(err) != os.IsNotExist(werr) || os.IsPermission(err) != os.IsPermission(werr) {
			t.Errorf("%q: %q, %v; want %q, %v", p, have, err, want, werr)
		}
		if err == nil {
			found++
		}
	}
	if found < 12 {
		t.Errorf("only %d of them are there", found)
	}
}

// TestMountPoints: what is mounted and unmounted is seen by the process that has asked
// before.
func TestMountPoints(t *testing.T) {
	has := func(dir string) bool {
		t.Helper()
		list, err := mountPoints()
		if err != nil || !slices.Contains(list, "/") || !slices.IsSorted(list) {
			t.Fatal(list, err)
		}
		return slices.Contains(list, dir)
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if has(dir) {
		t.Fatal("it is a mount point")
	}
	if os.Geteuid() != 0 {
		return // only root can mount something where others can see it
	}
	for range 2 {
		if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		mounted := has(dir)
		if err := os.Rename(filepath.Dir(dir), filepath.Dir(dir)+"-moved"); err != nil {
			t.Fatal(err)
		}
		moved := has(filepath.Join(filepath.Dir(dir)+"-moved", filepath.Base(dir)))
		if err := os.Rename(filepath.Dir(dir)+"-moved", filepath.Dir(dir)); err != nil {
			t.Fatal(err)
		}
		if !moved {
			t.Error("it is not seen where a directory above it was moved to")
		}
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
		if !mounted || has(dir) {
			t.Errorf("it was seen: %v; and when it was gone: %v", mounted, has(dir))
		}
	}
}
