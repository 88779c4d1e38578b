package staging

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/action"
)

// scanBlobs is a store in memory.
type scanBlobs struct {
	mu   sync.Mutex
	data map[action.Digest][]byte
	puts int
}

func newScanBlobs() *scanBlobs { return &scanBlobs{data: map[action.Digest][]byte{}} }

func (b *scanBlobs) Open(context.Context, action.Digest) (*os.File, error) {
	return nil, action.ErrMiss
}

func (b *scanBlobs) Put(_ context.Context, d action.Digest, r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if action.Sum(d.Function(), data) != d {
		return errors.New("wrong content")
	}
	_, err = b.PutBytes(context.Background(), d.Function(), data)
	return err
}

func (b *scanBlobs) PutBytes(_ context.Context, f action.Function, data []byte) (action.Digest, error) {
	d := action.Sum(f, data)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.data[d] = bytes.Clone(data)
	b.puts++
	return d, nil
}

func (b *scanBlobs) PutFile(ctx context.Context, f action.Function, src *os.File) (action.Digest, error) {
	data, err := io.ReadAll(src)
	if err != nil {
		return action.Digest{}, err
	}
	return b.PutBytes(ctx, f, data)
}

func (b *scanBlobs) Has(_ context.Context, d action.Digest) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.data[d]
	return ok || d.IsEmpty()
}

// naiveTree is the tree of dir, by reading all of it.
func naiveTree(t *testing.T, dir string, f action.Function) action.Digest {
	t.Helper()
	var m action.Directory
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name() < list[j].Name() })
	for _, e := range list {
		name := filepath.Join(dir, e.Name())
		info, err := os.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		switch info.Mode().Type() {
		case os.ModeDir:
			m.Directories = append(m.Directories, action.DirectoryNode{Name: e.Name(), Digest: naiveTree(t, name, f)})
		case os.ModeSymlink:
			target, err := os.Readlink(name)
			if err != nil {
				t.Fatal(err)
			}
			m.Symlinks = append(m.Symlinks, action.SymlinkNode{Name: e.Name(), Target: target})
		default:
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			m.Files = append(m.Files, action.FileNode{Name: e.Name(), Digest: action.Sum(f, data), Executable: info.Mode()&0o111 != 0})
		}
	}
	if err := m.Check(); err != nil {
		t.Fatal(err)
	}
	return m.Digest(f)
}

// makeTree makes what is described in dir: "a/b" a file with its name as its
// content, "a/b=text", "a/" a directory, "a->b" a link, "a*" executable.
func makeTree(t testing.TB, dir string, names ...string) {
	t.Helper()
	for _, n := range names {
		name, target, link := strings.Cut(n, "->")
		name, text, hasText := strings.Cut(name, "=")
		exec := strings.HasSuffix(name, "*")
		name = strings.TrimSuffix(name, "*")
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o777); err != nil {
			t.Fatal(err)
		}
		var err error
		switch {
		case link:
			err = os.Symlink(target, full)
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(full, 0o777)
		default:
			if !hasText {
				text = name
			}
			mode := os.FileMode(0o644)
			if exec {
				mode = 0o755
			}
			err = os.WriteFile(full, []byte(text), mode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// contents lists a snapshot in the language of makeTree.
func contents(t *testing.T, s *Snapshot) []string {
	t.Helper()
	var out []string
	err := s.Walk(func(path string, e Entry) error {
		switch e.Kind {
		case KindDirectory:
			path += "/"
		case KindLink:
			path += "->" + e.Target
		case KindTree:
			path += "=" + e.Digest.String()
		case KindFile:
			if e.Executable {
				path += "*"
			}
		}
		out = append(out, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func mustScan(t testing.TB, cfg ScanConfig) *Snapshot {
	t.Helper()
	s, err := Scan(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if s.StatCacheErr != nil {
		t.Fatal(s.StatCacheErr)
	}
	return s
}

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
		{"makefile", `did you mean "Makefile"?`},
		{"src/utli.c", `did you mean "src/util.c"`},
		{"scr/util.c", `did you mean "src"?`},
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

func countFDs(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
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
