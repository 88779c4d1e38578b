package staging

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/action"
)

func TestScanEqualsReadingAll(t *testing.T) {
	for _, f := range []action.Function{action.SHA256, action.BLAKE3} {
		t.Run(f.String(), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(uint64(f), 2))
			ws, cache := t.TempDir(), t.TempDir()
			for step := range 150 {
				for range 1 + rnd.IntN(8) {
					randomEdit(t, rnd, ws)
				}
				cfg := ScanConfig{Workspace: ws, Inputs: []string{"."}, Function: f, StatCache: cache}
				if step%5 == 4 {
					cfg.Inputs = []string{".", "!d1", "!**/f3"} // another selection shares the cache
					mustScan(t, cfg)
					cfg.Inputs = []string{"."}
				}
				if got, want := mustScan(t, cfg).Root, naiveTree(t, ws, f); got != want {
					t.Fatalf("step %d: Scan = %v, reading all of it gives %v", step, got, want)
				}
			}
		})
	}
}

// randomEdit changes something below ws.
func randomEdit(t *testing.T, rnd *rand.Rand, ws string) {
	t.Helper()
	dir := ws
	for range rnd.IntN(4) {
		dir = filepath.Join(dir, fmt.Sprint("d", rnd.IntN(3)))
	}
	if os.MkdirAll(dir, 0o777) != nil {
		return // a file is in the way
	}
	name := filepath.Join(dir, fmt.Sprint("f", rnd.IntN(6)))
	other := filepath.Join(ws, fmt.Sprint("d", rnd.IntN(3)), fmt.Sprint("f", rnd.IntN(6)))
	var err error
	switch rnd.IntN(10) {
	case 0, 1, 2, 3:
		err = os.WriteFile(name, fmt.Append(nil, rnd.IntN(10)), 0o644)
	case 4:
		err = os.Remove(name)
	case 5:
		err = os.Rename(name, other)
	case 6:
		err = os.Symlink(fmt.Sprint("f", rnd.IntN(6)), name)
	case 7:
		err = os.Chmod(name, os.FileMode(0o644|rnd.IntN(2)*0o111))
	case 8:
		err = os.Link(name, other)
	case 9:
		if rnd.IntN(3) == 0 {
			err = os.RemoveAll(dir)
			if dir == ws {
				err = os.Mkdir(ws, 0o777)
			}
		}
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrExist) && !errors.Is(err, syscall.ENOTDIR) && !errors.Is(err, syscall.ELOOP) {
		t.Logf("edit: %v", err) // some edits cannot be done
	}
}

func TestInputs(t *testing.T) {
	ws := t.TempDir()
	makeTree(t, ws, "a.c", "b.c", "b.h", "run.sh*", "src/x.c", "src/x.h", "src/sub/y.c", "src/sub/deep/z.c", "src/empty/",
		"lib/l.c", ".hidden/h", "we ird/new\nline", "[x]", "x", "link->src", "file->a.c", "dangling->nowhere", "star*name=", "@at", "!bang",
		"src/up->../lib/l.c", "hop->link/sub")
	outside := t.TempDir()
	makeTree(t, outside, "lines=a.c\n\nsrc/*.h\n!**/x.h\n", "nul=a.c\x00!bang\x00[x]\x00", "nested=@"+outside+"/lines\nb.c", "loop=@"+outside+"/loop")
	tree := action.Sum(action.SHA256, []byte("tree"))
	tests := []struct {
		name   string
		dir    string
		inputs string // by spaces
		want   string
	}{
		{"nothing", "", "", ""},
		{"file", "", "a.c", "a.c"},
		{"executable", "", "run.sh", "run.sh*"},
		{"duplicates", "", "a.c ./a.c src/../a.c .//a.c " + ws + "/a.c", "a.c"},
		{"directory", "", "src", "src/ src/empty/ src/sub/ src/sub/deep/ src/sub/deep/z.c src/sub/y.c src/up->../lib/l.c src/x.c src/x.h"},
		{"directory with slash", "", "lib/", "lib/ lib/l.c"},
		{"file in directory", "", "src/sub/y.c", "src/ src/sub/ src/sub/y.c"},
		{"overlap", "", "lib lib/l.c lib/", "lib/ lib/l.c"},
		{"star", "", "*.c", "a.c b.c"},
		{"star in directory", "", "src/*.c", "src/ src/x.c"},
		{"question", "", "?.c", "a.c b.c"},
		{"class", "", "[a].c", "a.c"},
		{"not class", "", "[!a].c", "b.c"},
		{"braces", "", "b.{c,h}", "b.c b.h"},
		{"braces with slash", "", "{src/x,b}.{c,h}", "b.c b.h src/ src/x.c src/x.h"},
		{"deep", "", "**/*.h", "b.h src/ src/x.h"},
		{"deep below", "", "src/**/*.c", "src/ src/sub/ src/sub/deep/ src/sub/deep/z.c src/sub/y.c src/x.c"},
		{"deep all", "", "lib/**", "lib/ lib/l.c"},
		{"deep directory", "", "**/deep", "src/ src/sub/ src/sub/deep/ src/sub/deep/z.c"},
		{"deep directory only", "", "**/d*/", "src/ src/sub/ src/sub/deep/ src/sub/deep/z.c"},
		{"pattern with directory", "", "l?b", "lib/ lib/l.c"},
		{"hidden", "", ".h*", ".hidden/ .hidden/h"},
		{"file with brackets wins", "", "[x]", "[x]"},
		{"escaped", "", `\[x]`, "[x]"},
		{"star in a name", "", `star\*name`, "star*name"},
		{"exclude", "", "src !src/sub !**/x.h", "src/ src/empty/ src/up->../lib/l.c src/x.c"},
		{"exclude and again", "", "src !src/sub src/sub/deep !src/up", "src/ src/empty/ src/sub/ src/sub/deep/ src/sub/deep/z.c src/x.c src/x.h"},
		{"later wins", "", "!a.c a.c", "a.c"},
		{"excluded file", "", "a.c b.c !a.c", "b.c"},
		{"emptied directory", "", "lib !lib/**", "lib/"},
		{"link", "", "file", "file->a.c"},
		{"dangling", "", "dangling", "dangling->nowhere"},
		{"link to directory", "", "link", "link->src"},
		{"through link", "", "link/x.c", "link->src src/ src/x.c"},
		{"through two links", "", "hop/y.c", "hop->link/sub link->src src/ src/sub/ src/sub/y.c"},
		{"behind link", "", "hop/", "hop->link/sub link->src src/ src/sub/ src/sub/deep/ src/sub/deep/z.c src/sub/y.c"},
		{"pattern through link", "", "link/*.c", "link->src src/ src/x.c"},
		{"at sign", "", "./@at", "@at"},
		{"bang", "", "./!bang", "!bang"},
		{"exclude bang", "", "./!bang ./@at !!bang", "@at"},
		{"lines", "", "@" + outside + "/lines", "a.c"},
		{"nul", "", "@" + outside + "/nul", "!bang [x] a.c"},
		{"nested", "", "@" + outside + "/nested", "a.c b.c"},
		{"relative", "src", "x.c ../a.c *.h " + ws + "/b.c", "a.c b.c src/ src/x.c src/x.h"},
		{"relative dot", "src/sub", ".", "src/ src/sub/ src/sub/deep/ src/sub/deep/z.c src/sub/y.c"},
		{"tree", "", "dep/lib=" + tree.String() + " a.c", "a.c dep/ dep/lib=" + tree.String()},
		{"tree in directory", "", "src/sub src/empty=" + tree.String(), "src/ src/empty=" + tree.String() + " src/sub/ src/sub/deep/ src/sub/deep/z.c src/sub/y.c"},
		{"tree in listed directory", "", "lib lib/t=" + tree.String(), "lib/ lib/l.c lib/t=" + tree.String()},
		{"tree replaces excluded", "", "src !src/sub src/sub=" + tree.String() + " !src/up !src/x.*", "src/ src/empty/ src/sub=" + tree.String()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, cache := range []string{"", t.TempDir()} {
				cfg := ScanConfig{Workspace: ws, Dir: tt.dir, Inputs: strings.Fields(tt.inputs), Function: action.SHA256, StatCache: cache}
				s, err := Scan(t.Context(), cfg)
				if tt.want == "error" {
					if err == nil {
						t.Errorf("got %q, want an error", contents(t, s))
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				got := contents(t, s)
				if want := strings.Fields(tt.want); !slices.Equal(got, want) {
					t.Errorf("got  %q\nwant %q", got, want)
				}
			}
		})
	}
}

// A selection is the tree that has just these files.
func TestSelectionDigest(t *testing.T) {
	ws, same := t.TempDir(), t.TempDir()
	makeTree(t, ws, "src/a.c", "src/b.c", "src/d/e.c", "src/n/none", "x", "we ird/new\nline", "we ird/ü", "run*=#!", "l->../x y")
	makeTree(t, same, "src/a.c", "src/d/e.c", "we ird/new\nline", "we ird/ü", "run*=#!", "l->../x y")
	s := mustScan(t, ScanConfig{Workspace: ws, Inputs: []string{"src/**/[ae].c", "we ird", "r*n", "l"}, Function: action.BLAKE3})
	if want := naiveTree(t, same, action.BLAKE3); s.Root != want {
		t.Errorf("got %v, want %v: %q", s.Root, want, contents(t, s))
	}
	if s.Files != 5 || s.Bytes != int64(len("src/a.csrc/d/e.c"+"we ird/new\nlinewe ird/ü"+"#!")) {
		t.Errorf("%d files, %d bytes", s.Files, s.Bytes)
	}
}

func TestInputErrors(t *testing.T) {
	ws := t.TempDir()
	makeTree(t, ws, "main.c", "Makefile", "src/util.c", "src/util.h", "out->/etc", "circle->circle", "up->../..", "other/x")
	tree := action.Sum(action.BLAKE3, nil).String()
	tests := []struct{ input, want string }{
		{"mian.c", `input "mian.c" does not exist: did you mean "main.c"?`},
		{"--", `input "--" does not exist: "./" has no such name and none like it`}, // not "up", of which nothing is left
		{"makefile", `did you mean "Makefile"?`},
		{"src/utli.c", `did you mean "src/util.c"`},
		{"scr/util.c", `did you mean "src"?`},
		{"ma/x.c", `"./" has no such name and none like it`}, // not "up", nor "src"
		{"main", `input "main" does not exist: did you mean "main.c"?`},
		{"src/zzzzzzz", `"./src" has no such name and none like it`},
		{"src/*.cpp", `input "src/*.cpp" matches nothing`},
		{"main.c/", "is a file, not a directory"},
		{"main.c/x", "does not exist"},
		{"", "an input is empty"},
		{"!", "nothing follows"},
		{"@", "want @FILE"},
		{"@none", `input list "none"`},
		{"../x", "outside of the workspace"},
		{"/etc/passwd", "--workspace"},
		{"src/../../x", "outside of the workspace"},
		{"out/passwd", `the symbolic link "out" leads out of the workspace, to "/etc"`},
		{"up/x", "leads out of the workspace"},
		{"circle/x", "in a circle"},
		{"a\x00b", "NUL"},
		{"x[", "malformed pattern"},
		{`\.\./x`, "without a backslash"},
		{"{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}", "more than 1024"},
		{"sha256:1234/5", "malformed"},
		{"lib=blake3:1234/5", "malformed"},
		{tree, "this action uses sha256"},
	}
	for _, tt := range tests {
		_, err := Scan(t.Context(), ScanConfig{Workspace: ws, Inputs: []string{tt.input}, Function: action.SHA256})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v\nwant ... %s", tt.input, err, tt.want)
		}
	}
	_, err := Scan(t.Context(), ScanConfig{Workspace: ws, Inputs: []string{"main.c", tree}, Function: action.BLAKE3})
	if err == nil || !strings.Contains(err.Error(), "whole input root") {
		t.Errorf("a root by digest with a file: %v", err)
	}
	_, err = Scan(t.Context(), ScanConfig{Workspace: ws, Inputs: []string{"src", "src=" + tree}, Function: action.BLAKE3})
	if err == nil || !strings.Contains(err.Error(), "given by digest") {
		t.Errorf("a directory by digest and as files: %v", err)
	}
	_, err = Scan(t.Context(), ScanConfig{Workspace: ws, Inputs: []string{"src/util.c", "src=" + tree}, Function: action.BLAKE3})
	if err == nil || !strings.Contains(err.Error(), "given by digest") {
		t.Errorf("a directory by digest and a file in it: %v", err)
	}
	if _, err = Scan(t.Context(), ScanConfig{Workspace: filepath.Join(ws, "none"), Function: action.BLAKE3}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no workspace: %v", err)
	}
}

func TestRootByDigest(t *testing.T) {
	d := action.Sum(action.BLAKE3, []byte("root"))
	s := mustScan(t, ScanConfig{Workspace: t.TempDir(), Inputs: []string{d.String()}, Function: action.BLAKE3})
	if s.Root != d {
		t.Errorf("root %v", s.Root)
	}
	b := newScanBlobs()
	if err := s.Save(t.Context(), b, nil); !errors.Is(err, action.ErrMiss) {
		t.Errorf("Save without the tree: %v", err)
	}
	b.data[d] = nil
	if err := s.Save(t.Context(), b, nil); err != nil {
		t.Error(err)
	}
}

// TestRefusedAdvice follows the advice that comes with a name that is not UTF-8.
func TestRefusedAdvice(t *testing.T) {
	ws := t.TempDir()
	makeTree(t, ws, "sub/good", "sub/ba", "sub/bad")
	if err := os.WriteFile(ws+"/sub/b[\xff\xfe*d", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Scan(t.Context(), ScanConfig{Workspace: ws, Inputs: []string{"sub"}, Function: action.BLAKE3})
	if err == nil {
		t.Fatal("it was accepted")
	}
	_, advice, _ := strings.Cut(err.Error(), "a pattern such as ")
	pattern, err := strconv.Unquote(advice)
	if err != nil || pattern != `!sub/b\[*\*d` {
		t.Fatalf("advice %q, %v", pattern, err)
	}
	snap, err := Scan(t.Context(), ScanConfig{Workspace: ws, Inputs: []string{"sub", pattern}, Function: action.BLAKE3})
	if err != nil || len(snap.Warnings) > 0 {
		t.Fatalf("%v, %v", err, snap)
	}
	for _, name := range []string{"sub/good", "sub/ba", "sub/bad"} {
		if _, ok := snap.Find(name); !ok {
			t.Errorf("%q went, too", name)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, tt := range []struct {
		want string
		make func(dir string) error
	}{
		{`"sub/x" is a FIFO`, func(dir string) error { return syscall.Mkfifo(dir+"/x", 0o644) }},
		{`"sub/x" is a socket`, func(dir string) error {
			return syscall.Mknod(dir+"/x", syscall.S_IFSOCK|0o644, 0)
		}},
		{`"sub/b\xffd" is not UTF-8`, func(dir string) error { return os.WriteFile(dir+"/b\xffd", nil, 0o644) }},
		{`link "sub/x" to "b\xffd"`, func(dir string) error { return os.Symlink("b\xffd", dir+"/x") }},
	} {
		ws := t.TempDir()
		makeTree(t, ws, "sub/good")
		if err := tt.make(ws + "/sub"); err != nil {
			t.Fatal(err)
		}
		for _, input := range []string{".", "sub", "sub/*", "**"} {
			_, err := Scan(t.Context(), ScanConfig{Workspace: ws, Inputs: []string{input}, Function: action.BLAKE3})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %v\nwant ... %s", input, err, tt.want)
			}
		}
		// Left out, it does no harm.
		s := mustScan(t, ScanConfig{Workspace: ws, Inputs: []string{".", "!sub/x", "!sub/b*"}, Function: action.BLAKE3})
		if got := contents(t, s); !slices.Equal(got, []string{"sub/", "sub/good"}) {
			t.Errorf("%q", got)
		}
	}
}

func TestUnreadable(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root reads everything; the suite runs as a user too")
	}
	ws := t.TempDir()
	makeTree(t, ws, "secret", "dir/x")
	if err := errors.Join(os.Chmod(ws+"/secret", 0), os.Chmod(ws+"/dir", 0)); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(ws+"/dir", 0o755)
	for _, input := range []string{"secret", "dir"} {
		_, err := Scan(t.Context(), ScanConfig{Workspace: ws, Inputs: []string{input}, Function: action.BLAKE3})
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q cannot be read", input)) {
			t.Errorf("%s: %v", input, err)
		}
	}
	mustScan(t, ScanConfig{Workspace: ws, Inputs: []string{".", "!secret", "!dir"}, Function: action.BLAKE3})
}

func TestWarnings(t *testing.T) {
	ws := t.TempDir()
	makeTree(t, ws, "in/ok->file", "in/file", "in/undeclared->../out/x", "in/absolute->/etc/passwd", "in/escape->../../x", "in/dangling->nothing",
		"in/dir->../in", "in/loop->.", "out/x", "store/blob", "in/far->dir/file")
	cfg := ScanConfig{Workspace: ws, Inputs: []string{"in", "store", "!nothing", "!**/*.o"}, Function: action.BLAKE3, Never: []string{ws + "/store", "/elsewhere", filepath.Dir(ws)}}
	s := mustScan(t, cfg)
	var got []string
	for _, w := range s.Warnings {
		got = append(got, w.Path)
	}
	if want := []string{"**/*.o", "in/absolute", "in/escape", "in/undeclared", "nothing", "store"}; !slices.Equal(got, want) {
		t.Errorf("warnings %v\nwant %q", s.Warnings, want)
	}
	if _, ok := s.Find("store"); ok {
		t.Error("the store is an input")
	}
	cfg.Inputs = []string{"in/file"}
	if s := mustScan(t, cfg); len(s.Warnings) != 0 {
		t.Errorf("the store was not declared: %v", s.Warnings)
	}
}

func TestScanCanceled(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("why")
	cancel(why)
	if _, err := Scan(ctx, ScanConfig{Workspace: t.TempDir(), Inputs: []string{"."}, Function: action.BLAKE3}); !errors.Is(err, why) {
		t.Errorf("Scan = %v", err)
	}
}

// Something else replaces files and directories all the time: the scan gives a
// tree, or says that it cannot.
func TestScanWhileReplaced(t *testing.T) {
	ws := t.TempDir()
	makeTree(t, ws, "d/x/y", "d/z")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			name := fmt.Sprintf("%s/d/%c", ws, "xz"[i%2])
			os.RemoveAll(name)
			if i%3 == 0 {
				os.MkdirAll(name, 0o777)
			}
			os.WriteFile(name, []byte("f"), 0o644)
			os.Remove(name)
			os.MkdirAll(name+"/y", 0o777)
		}
	}()
	cache, fds := t.TempDir(), countFDs(t)
	for range 300 {
		_, err := Scan(t.Context(), ScanConfig{Workspace: ws, Inputs: []string{"."}, Function: action.BLAKE3, StatCache: cache})
		if err != nil && !errors.Is(err, errReplaced) && !errors.Is(err, errChanging) {
			t.Error(err)
		}
	}
	close(stop)
	<-stopped
	if n := countFDs(t); n > fds+3 {
		t.Errorf("%d descriptors are open, %d were", n, fds)
	}
	if got, want := mustScan(t, ScanConfig{Workspace: ws, Inputs: []string{"."}, Function: action.BLAKE3, StatCache: cache}).Root, naiveTree(t, ws, action.BLAKE3); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Many scans of one workspace share the caches.
func TestScanConcurrent(t *testing.T) {
	ws, cache := t.TempDir(), t.TempDir()
	for i := range 200 {
		makeTree(t, ws, fmt.Sprintf("d%d/s/f%d=%s", i%10, i, strings.Repeat("x", i*100)))
	}
	want := naiveTree(t, ws, action.BLAKE3)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 10 {
				s, err := Scan(t.Context(), ScanConfig{Workspace: ws, Inputs: []string{"."}, Function: action.BLAKE3, StatCache: cache})
				if err != nil || s.Root != want {
					t.Errorf("%v, want %v: %v", s, want, err)
				}
				now := time.Now()
				os.Chtimes(ws+"/d1/s/f1", now, now)
			}
		})
	}
	wait.Wait()
}

func TestLargeDirectory(t *testing.T) {
	ws := t.TempDir()
	for i := range 1000 {
		makeTree(t, ws, fmt.Sprintf("f%d", i))
	}
	makeTree(t, ws, "big1="+strings.Repeat("1", 5<<20), "big2="+strings.Repeat("2", 3<<20), "even="+strings.Repeat("3", 4*readBlock))
	for _, cache := range []string{"", t.TempDir()} {
		for range 2 {
			cfg := ScanConfig{Workspace: ws, Inputs: []string{"."}, Function: action.BLAKE3, StatCache: cache}
			if got, want := mustScan(t, cfg).Root, naiveTree(t, ws, action.BLAKE3); got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		}
	}
}

// TestPipelined: the digest of a file that is read on one goroutine and hashed on
// another one is that of its bytes, wherever its end is.
func TestPipelined(t *testing.T) {
	for _, size := range []int{readBlock, readBlock + 1, readBlock + pipeBlock, readBlock + 3*pipeBlock + 12345} {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(i * i >> 7)
		}
		name := filepath.Join(t.TempDir(), "large")
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		c := &scanReader{fn: action.BLAKE3, buf: make([]byte, readBlock), hasher: action.NewHasher(action.BLAKE3)}
		n, err := readFull(int(f.Fd()), c.buf, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.pipelined(int(f.Fd()), n); err != nil || got != action.Sum(action.BLAKE3, data) {
			t.Errorf("%d bytes: got %v, %v, want %v", size, got, err, action.Sum(action.BLAKE3, data))
		}
	}
}
