package staging

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
)

// readSpec reads a directory back as a spec.
func readSpec(t testing.TB, root string) spec {
	t.Helper()
	got := spec{}
	err := filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil || p == root {
			return err
		}
		rel := strings.TrimPrefix(p, root+"/")
		switch {
		case e.IsDir():
			list, err := os.ReadDir(p)
			if len(list) == 0 {
				got[rel+"/"] = ""
			}
			return err
		case e.Type() == fs.ModeSymlink:
			target, err := os.Readlink(p)
			got[rel] = "-> " + target
			return err
		case e.Type() != 0:
			got[rel] = e.Type().String()
			return nil
		}
		data, err := os.ReadFile(p)
		got[rel] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// result makes a Result by collecting files, whose paths are the outputs but
// for the directories named.
func result(t testing.TB, store *testStore, files spec, paths ...string) *action.Result {
	t.Helper()
	inRoot := spec{}
	for p, content := range files {
		inRoot["build/"+p] = content
	}
	res, missing, err := collect(t, store, fakeRoot(t, inRoot), Outputs{Paths: paths})
	if err != nil || len(missing) > 0 {
		t.Fatal(err, missing)
	}
	return res
}

func TestDeliver(t *testing.T) {
	outputs := spec{"a.o": "object", "new/dir/prog": "#! program", "link": "-> nowhere", "empty": "", "d/x": "x", "d/y/z": "#! z", "d/l": "-> x", "d/e/": ""}
	paths := []string{"a.o", "new/dir/prog", "link", "empty", "d"}
	for name, before := range map[string]spec{
		"fresh":     {},
		"replacing": {"a.o": "older and longer", "link": "a file", "empty": "-> a.o", "d/old": "old", "d/y": "a file", "new/dir/prog": "#! program", "keep": "keep"},
		"twisted":   {"a.o": "-> target", "target": "not to be written", "d": "-> away", "away/": "", "link": "-> a.o"},
	} {
		t.Run(name, func(t *testing.T) {
			store := newTestStore(t)
			res := result(t, store, outputs, paths...)
			root := fakeRoot(t, before)
			start := time.Now().Add(-time.Second)
			for path := range before {
				if err := os.Chtimes(filepath.Join(root, path), time.Unix(1, 0), time.Unix(1, 0)); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Fatal(err)
				}
			}
			if err := Deliver(t.Context(), store, res, Workspace{Root: root}); err != nil {
				t.Fatal(err)
			}
			want := maps.Clone(before)
			maps.DeleteFunc(want, func(p, _ string) bool { return strings.HasPrefix(p, "d/") || p == "d" })
			maps.Copy(want, outputs)
			if got := readSpec(t, root); !maps.Equal(got, want) {
				t.Errorf("got %q,\nwant %q", got, want)
			}
			for p, content := range outputs {
				info, err := os.Lstat(filepath.Join(root, p))
				if err != nil {
					t.Fatal(err)
				}
				if info.ModTime().Before(start) {
					t.Errorf("%s: from %v, want a new time", p, info.ModTime())
				}
				if want := strings.HasPrefix(content, "#!"); info.Mode().IsRegular() && (info.Mode()&0o111 != 0) != want {
					t.Errorf("%s: mode %v", p, info.Mode())
				}
			}
		})
	}
}

// TestDeliverSame does not write what is there already.
func TestDeliverSame(t *testing.T) {
	store := newTestStore(t)
	res := result(t, store, spec{"f": "same", "g": "other!", "h": "linked"}, "f", "g", "h")
	root := fakeRoot(t, spec{"f": "same", "g": "before", "h": "linked"})
	if err := os.Link(root+"/h", root+"/h2"); err != nil {
		t.Fatal(err)
	}
	inode := func(name string) uint64 {
		var st unix.Stat_t
		if err := unix.Stat(root+"/"+name, &st); err != nil {
			t.Fatal(err)
		}
		return st.Ino
	}
	f, g, h := inode("f"), inode("g"), inode("h")
	if err := Deliver(t.Context(), store, res, Workspace{Root: root}); err != nil {
		t.Fatal(err)
	}
	if inode("f") != f || inode("g") == g || inode("h") == h {
		t.Errorf("kept: f %v, g %v, h %v; want only f", inode("f") == f, inode("g") == g, inode("h") == h)
	}
	if got := inode("h2"); got != h {
		t.Error("the other name of h has changed")
	}
}

// An openStore serves blobs that were opened in advance.
type openStore struct {
	*testStore
	files map[action.Digest]*os.File
}

func (s openStore) Open(_ context.Context, d action.Digest) (*os.File, error) { return s.files[d], nil }

// TestDeliverOverForeign replaces a file that is as it will be but belongs to
// somebody else.
func TestDeliverOverForeign(t *testing.T) {
	store := newTestStore(t)
	res := result(t, store, spec{"f": "same"}, "f")
	root := fakeRoot(t, spec{"f": "same"})
	if err := os.Chmod(root, 0o777); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 { // nobody else's files to be had: a read-only one is near
		if err := os.Chmod(root+"/f", 0o444); err != nil {
			t.Fatal(err)
		}
		if err := Deliver(t.Context(), store, res, Workspace{Root: root}); err != nil {
			t.Error(err)
		}
		return
	}
	// Another user must get to the workspace: by its descriptor, past the
	// directories of the test, which are closed to others.
	ws, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	self := fmt.Sprintf("/proc/self/fd/%d", ws.Fd())
	f, err := store.Open(t.Context(), res.Files[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	blobs := map[action.Digest]*os.File{res.Files[0].Digest: f}
	var touched, delivered error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with its identity
		_ = unix.Setfsuid(65534)
		touched = unix.UtimesNanoAt(int(ws.Fd()), "f", []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}, 0)
		delivered = Deliver(t.Context(), openStore{store, blobs}, res, Workspace{Root: self})
	}()
	<-done
	if !errors.Is(touched, unix.EACCES) {
		t.Errorf("the control: touching gives %v", touched)
	}
	if delivered != nil {
		t.Error(delivered)
	}
}

func TestDeliverUmask(t *testing.T) {
	store := newTestStore(t)
	res := result(t, store, spec{"f": "1", "d/g": "#! 2"}, "f", "d")
	root := t.TempDir()
	old := unix.Umask(0o027)
	err := Deliver(t.Context(), store, res, Workspace{Root: root})
	unix.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]fs.FileMode{"f": 0o640, "d": 0o750 | fs.ModeDir, "d/g": 0o750} {
		if info, err := os.Stat(root + "/" + p); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v; want %v", p, info.Mode(), err, want)
		}
	}
}

// TestDeliverRefuses delivers what must not be delivered, and looks that
// nothing has changed and nothing is left over.
func TestDeliverRefuses(t *testing.T) {
	outside := t.TempDir()
	before := spec{"out": "-> " + outside, "up": "-> ..", "dir/keep": "keep", "file": "file", "abs": "-> /"}
	for _, c := range []struct {
		outputs spec
		path    string
		want    string
	}{
		{spec{"out/x": "x"}, "out/x", "leads out of the workspace"},
		{spec{"up/x": "x"}, "up/x", "leads out of the workspace"},
		{spec{"abs/x": "x"}, "abs/x", "leads out of the workspace"},
		{spec{"dir": "x"}, "dir", "a directory is in its place"},
		{spec{"dir": "-> x"}, "dir", "a directory is in its place"},
		{spec{"file/x": "x"}, "file/x", "not a directory"},
		{spec{strings.Repeat("n", 255) + "/x": ""}, strings.Repeat("n", 255) + "/x", ""},
	} {
		store := newTestStore(t)
		root := fakeRoot(t, before)
		res := result(t, store, c.outputs, c.path)
		good := result(t, store, spec{"good": "good", "made/good": "good"}, "good", "made/good")
		res.Files = append(res.Files, good.Files...)
		slices.SortFunc(res.Files, func(a, b action.OutputFile) int { return strings.Compare(b.Path, a.Path) })
		err := Deliver(t.Context(), store, res, Workspace{Root: root})
		if c.want == "" { // the control
			if err != nil || readSpec(t, root)["made/good"] != "good" {
				t.Errorf("%.20s: %v", c.path, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.path) {
			t.Errorf("%s: %v, want one with %q", c.path, err, c.want)
		}
		if got := readSpec(t, root); !maps.Equal(got, before) {
			t.Errorf("%s: the workspace is now %q", c.path, got)
		}
		if got := readSpec(t, outside); len(got) > 0 {
			t.Errorf("%s: wrote %q outside", c.path, got)
		}
	}
	for _, p := range []string{"../x", "/x", "", ".", "a/../.."} {
		res := &action.Result{Symlinks: []action.OutputSymlink{{Path: p, Target: "t"}}}
		if err := Deliver(t.Context(), newTestStore(t), res, Workspace{Root: t.TempDir()}); err == nil {
			t.Errorf("%q: Deliver accepts it", p)
		}
	}
}

// TestDeliverSpecial leaves devices and pipes in the place of outputs alone.
func TestDeliverSpecial(t *testing.T) {
	store := newTestStore(t)
	root := t.TempDir()
	if err := unix.Mkfifo(root+"/pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	res := result(t, store, spec{"pipe": "x", "f": "y"}, "pipe", "f")
	if err := Deliver(t.Context(), store, res, Workspace{Root: root}); err != nil {
		t.Fatal(err)
	}
	if got, want := readSpec(t, root), (spec{"pipe": "p---------", "f": "y"}); !maps.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A failingStore loses or fails to open one blob.
type failingStore struct {
	*testStore
	bad    action.Digest
	cancel context.CancelFunc
}

func (s *failingStore) Open(ctx context.Context, d action.Digest) (*os.File, error) {
	if d == s.bad {
		if s.cancel != nil {
			s.cancel()
		} else {
			return nil, action.ErrMiss
		}
	}
	return s.testStore.Open(ctx, d)
}

// TestDeliverInterrupted fails at each blob in turn, by a lost blob and by a
// cancelled context: nothing may appear, nothing be left over.
func TestDeliverInterrupted(t *testing.T) {
	outputs := spec{"a": "1", "b": "22", "new/c": "333", "d/e": "4444", "d/f": "55555", "l": "-> x"}
	before := spec{"a": "before", "d/old": "old"}
	store := newTestStore(t)
	res := result(t, store, outputs, "a", "b", "new/c", "d", "l")
	for p, content := range outputs {
		if strings.HasPrefix(content, "-> ") {
			continue
		}
		for _, lost := range []bool{true, false} {
			for _, many := range []bool{false, true} { // with names, and without
				root := fakeRoot(t, before)
				ctx, cancel := context.WithCancel(t.Context())
				s := &failingStore{testStore: store, bad: action.Sum(action.BLAKE3, []byte(content))}
				if !lost {
					s.cancel = cancel
				}
				r := *res
				if many {
					for i := range maxUnnamed {
						r.Symlinks = append(r.Symlinks, action.OutputSymlink{Path: "many" + string(rune('A'+i)), Target: "t"})
					}
				}
				err := Deliver(ctx, s, &r, Workspace{Root: root})
				cancel()
				if lost && !errors.Is(err, action.ErrMiss) {
					t.Errorf("%s: %v, want ErrMiss", p, err)
				}
				if got := readSpec(t, root); err != nil && !maps.Equal(got, before) {
					t.Errorf("%s, lost %v: the workspace is now %q", p, lost, got)
				}
			}
		}
	}
}

// TestDeliverAdvice: an error names the workspace where that is what is wrong.
func TestDeliverAdvice(t *testing.T) {
	w := Workspace{Root: "/some/space"}
	for err, want := range map[error]string{
		unix.ENOSPC: "free some where the workspace /some/space is",
		unix.EDQUOT: "free some where the workspace /some/space is",
		unix.EROFS:  "you may not write there, in the workspace /some/space",
		unix.EACCES: "you may not write there, in the workspace /some/space",
		unix.EIO:    "",
	} {
		got := w.advise(fmt.Errorf("write: %w", err))
		if !errors.Is(got, err) || !strings.HasSuffix(got.Error(), want) || want == "" && strings.Contains(got.Error(), w.Root) {
			t.Errorf("%v: %v, want one that ends in %q", err, got, want)
		}
	}
	if os.Geteuid() == 0 {
		return // may write everywhere
	}
	root := t.TempDir()
	if err := os.Chmod(root, 0o555); err != nil {
		t.Fatal(err)
	}
	store := newTestStore(t)
	err := Deliver(t.Context(), store, result(t, store, spec{"f": "1"}, "f"), Workspace{Root: root})
	if err == nil || !strings.HasSuffix(err.Error(), "in the workspace "+root) {
		t.Errorf("into what cannot be written: %v", err)
	}
}

// TestDeliverFull runs out of space.
func TestDeliverFull(t *testing.T) {
	store := newTestStore(t)
	res := result(t, store, spec{"big": strings.Repeat("x", 200_000), "small": "s"}, "big", "small")
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	small := limit
	small.Cur = 100_000 // as good as a full disk: the write fails in the middle
	root := t.TempDir()
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &small); err != nil {
		t.Fatal(err)
	}
	err := Deliver(t.Context(), store, res, Workspace{Root: root})
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, unix.EFBIG) || !strings.Contains(err.Error(), "big") {
		t.Errorf("got %v, want EFBIG", err)
	}
	if got := readSpec(t, root); len(got) > 0 {
		t.Errorf("left over: %v", slices.Collect(maps.Keys(got)))
	}
}
