package staging

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
)

// A fakeRoot is a directory that plays the root that a command left.
func fakeRoot(t testing.TB, files spec) string {
	t.Helper()
	root := t.TempDir()
	for p, content := range files {
		full := filepath.Join(root, p)
		dir := filepath.Dir(full)
		if strings.HasSuffix(p, "/") {
			dir = full
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		switch target, isLink := strings.CutPrefix(content, "-> "); {
		case isLink:
			err = os.Symlink(target, full)
		case strings.HasPrefix(content, "#!"):
			err = os.WriteFile(full, []byte(content), 0o755)
		case !strings.HasSuffix(p, "/"):
			err = os.WriteFile(full, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func collect(t testing.TB, blobs action.Blobs, root string, o Outputs) (*action.Result, []action.Missing, error) {
	t.Helper()
	dir, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if o.Function == 0 {
		o.Function = action.BLAKE3
	}
	return Collect(context.Background(), blobs, dir, o)
}

// show is a Result in a form that tests can write down.
func show(res *action.Result) []string {
	var out []string
	for _, f := range res.Files {
		x := ""
		if f.Executable {
			x = " exec"
		}
		out = append(out, fmt.Sprintf("file %s %d%s", f.Path, f.Digest.Size(), x))
	}
	for _, d := range res.Directories {
		out = append(out, "dir "+d.Path)
	}
	for _, l := range res.Symlinks {
		out = append(out, "link "+l.Path+" -> "+l.Target)
	}
	return out
}

func TestCollect(t *testing.T) {
	root := fakeRoot(t, spec{
		"build/a.o": "object", "build/prog": "#! program", "build/in.c": "unchanged input",
		"build/out/x/y": "y", "build/out/x/z": "#! z", "build/out/l": "-> x/y", "build/out/empty/": "",
		"build/dangling": "-> nowhere", "build/escape": "-> /etc/passwd",
		"build/indirect": "-> /elsewhere", "elsewhere/file": "12345", "etc/passwd": "of the root",
		"build/sub/deep/one.h": "1", "build/sub/two.h": "22", "build/sub/three.c": "333", "build/sub/link.h": "-> two.h",
		"build/lit*eral": "4444", "build/up": "-> ../../../../etc/passwd", "build/work/here": "in the working directory",
	})
	for _, c := range []struct {
		o    Outputs
		want []string
		lost []string
	}{
		{o: Outputs{Paths: []string{"a.o", "prog"}}, want: []string{"file a.o 6", "file prog 10 exec"}},
		{o: Outputs{Paths: []string{"in.c"}}, want: []string{"file in.c 15"}},
		{o: Outputs{Paths: []string{"dangling", "escape", "up"}}, want: []string{"link dangling -> nowhere", "link escape -> /etc/passwd", "link up -> ../../../../etc/passwd"}},
		{o: Outputs{Paths: []string{"out"}}, want: []string{"dir out"}},
		{o: Outputs{Paths: []string{"indirect/file"}}, want: []string{"file indirect/file 5"}},
		{o: Outputs{Paths: []string{"escape/x", "a.o/x", "no", "dangling/x"}}, lost: []string{"escape/x", "a.o/x", "no", "dangling/x"}},
		{o: Outputs{Paths: []string{"sub/**/*.h"}, Globs: true}, want: []string{"file sub/deep/one.h 1", "file sub/two.h 2", "link sub/link.h -> two.h"}},
		{o: Outputs{Paths: []string{"sub/*.h", "sub/two.h"}, Globs: true}, want: []string{"file sub/two.h 2", "link sub/link.h -> two.h"}},
		{o: Outputs{Paths: []string{"sub/*.h"}}, lost: []string{"sub/*.h"}},
		{o: Outputs{Paths: []string{"none/*.h"}, Globs: true}, lost: []string{"none/*.h"}},
		{o: Outputs{Paths: []string{"lit*eral"}, Globs: true}, want: []string{"file lit*eral 4"}},
		{o: Outputs{Paths: []string{"here", "../a.o"}, Dir: "work"}, want: []string{"file ../a.o 6", "file here 24"}},
		{o: Outputs{Paths: []string{""}, Dir: "work"}, want: []string{"dir "}},
		{o: Outputs{Paths: []string{"x"}, Dir: "gone"}, lost: []string{"x"}},
	} {
		res, missing, err := collect(t, newTestStore(t), root, c.o)
		if err != nil {
			t.Errorf("%q: %v", c.o.Paths, err)
			continue
		}
		if got := show(res); !slices.Equal(got, c.want) {
			t.Errorf("%q: got %q, want %q", c.o.Paths, got, c.want)
		}
		var lost []string
		for _, m := range missing {
			lost = append(lost, m.Path)
		}
		if !slices.Equal(lost, c.lost) {
			t.Errorf("%q: missing %q, want %q", c.o.Paths, lost, c.lost)
		}
	}
}

// TestCollectHoles has an output that takes no room and would be read for hours.
func TestCollectHoles(t *testing.T) {
	root := fakeRoot(t, spec{"build/d/vast": ""})
	if err := os.Truncate(root+"/build/d/vast", 1<<40); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"d", "d/vast"} {
		if _, _, err := collect(t, newTestStore(t), root, Outputs{Paths: []string{p}}); err == nil || !strings.Contains(err.Error(), "vast") || !strings.Contains(err.Error(), "1099511627776 bytes") {
			t.Errorf("%s: %v; want one that names the file and its size", p, err)
		}
		if _, missing, err := collect(t, newTestStore(t), root, Outputs{Paths: []string{p}, Failed: true}); err != nil || len(missing) != 1 {
			t.Errorf("%s of a command that failed: %v, %v", p, missing, err)
		}
	}
}

func TestCollectRefuses(t *testing.T) {
	root := fakeRoot(t, spec{"build/d/file": "", "build/s/": "", "build/bad/\xff": "", "build/badlink": "-> \xff"})
	for name, mode := range map[string]uint32{"fifo": unix.S_IFIFO, "d/socket": unix.S_IFSOCK} {
		if err := unix.Mknod(root+"/build/"+name, mode|0o600, 0); err != nil {
			t.Fatal(err)
		}
	}
	for p, want := range map[string]string{
		"fifo": `output "fifo": it is a named pipe`, "d": `"d/socket": it is a socket`,
		"bad": `\xff`, "badlink": `\xff`, "../../x": "leaves", "/x": "absolute", "s/../x": "after a name",
	} {
		_, _, err := collect(t, newTestStore(t), root, Outputs{Paths: []string{p}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want one with %q", p, err, want)
		}
	}
	// Of a command that failed the same is missing, and the rest is there.
	res, missing, err := collect(t, newTestStore(t), root, Outputs{Paths: []string{"bad", "badlink", "d", "d/file", "fifo", "s"}, Failed: true})
	if err != nil {
		t.Fatal(err)
	}
	var lost []string
	for _, m := range missing {
		lost = append(lost, m.Path)
	}
	if want := []string{"bad", "badlink", "d", "fifo"}; !slices.Equal(lost, want) || len(res.Files) != 1 || len(res.Directories) != 1 || len(res.Symlinks) != 0 {
		t.Errorf("of a command that failed %q is missing, want %q; there is %v", lost, want, res)
	}
	res, missing, err = collect(t, newTestStore(t), root, Outputs{Paths: []string{"d/*", "bad/*"}, Globs: true, Failed: true})
	if err != nil || len(missing) != 1 || len(res.Files) != 1 || res.Files[0].Path != "d/file" {
		t.Errorf("patterns of a command that failed: %v, %v, %v", res, missing, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	dir, _ := os.Open(root)
	defer dir.Close()
	if _, _, err := Collect(ctx, newTestStore(t), dir, Outputs{Paths: []string{"d"}, Function: action.SHA256}); !errors.Is(err, why) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestCollectLocked collects what its owner has no right to read.
func TestCollectLocked(t *testing.T) {
	root := fakeRoot(t, spec{"build/d/e/f": "f", "build/d/g": "#! g", "build/h/i": "i", "build/j": "j"})
	for _, p := range []string{"d/e/f", "d/g", "d/e", "d", "h/i", "h", "j"} {
		if err := os.Chmod(root+"/build/"+p, 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.ReadFile(root + "/build/j"); err == nil && os.Geteuid() != 0 {
		t.Error("the control: a file of mode 0 can be read")
	}
	store := newTestStore(t)
	res, missing, err := collect(t, store, root, Outputs{Paths: []string{"d", "h/i", "j"}})
	if err != nil || len(missing) > 0 {
		t.Fatal(err, missing)
	}
	if got, want := show(res), []string{"file h/i 1", "file j 1", "dir d"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestCollectTree holds the messages about a directory against the canon.
func TestCollectTree(t *testing.T) {
	root := fakeRoot(t, spec{
		"build/o/a/same": "s", "build/o/b/same": "s", "build/o/c/d/same": "s", "build/o/c/x": "x",
		"build/o/z/c/d/same": "s", "build/o/e/": "", "build/o/l": "-> a",
	})
	for format := range int32(3) {
		store := newTestStore(t)
		res, _, err := collect(t, store, root, Outputs{Paths: []string{"o"}, Format: format, Function: action.SHA256})
		if err != nil || len(res.Directories) != 1 {
			t.Fatal(err)
		}
		out := res.Directories[0]
		if (format != 1) != !out.Tree.IsZero() || (format != 0) != !out.Root.IsZero() || out.Sorted != (format != 1) {
			t.Errorf("format %d: %+v", format, out)
		}
		if format != 1 {
			data, err := readBlob(t.Context(), store, out.Tree, nil)
			if err != nil {
				t.Fatal(err)
			}
			tree, err := action.ParseTree(data, action.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			if err := checkSorted(tree, action.SHA256); err != nil {
				t.Error(err)
			}
			if len(tree.Children) != 5 { // a = b = c/d, c, z, z/c, e
				t.Errorf("%d children", len(tree.Children))
			}
		}
		if err := Deliver(t.Context(), store, res, Workspace{Root: t.TempDir()}); err != nil {
			t.Errorf("format %d: deliver: %v", format, err)
		}
	}
}

func TestNearMisses(t *testing.T) {
	root := fakeRoot(t, spec{"build/sub/prog": "1", "build/libfo.a": "2", "build/declared.x": "3", "build/input.o": "4", "build/far": "5"})
	staged := []unix.Timespec{{Sec: MTime}, {Sec: MTime}}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, root+"/build/input.o", staged, 0); err != nil {
		t.Fatal(err)
	}
	_, missing, err := collect(t, newTestStore(t), root, Outputs{Paths: []string{"declared.x", "prog", "libfoo.a", "declared.y", "inputs.o", "nothing"}})
	if err != nil {
		t.Fatal(err)
	}
	want := "[{prog [sub/prog]} {libfoo.a [libfo.a]} {declared.y []} {inputs.o []} {nothing []}]"
	if got := fmt.Sprint(missing); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
