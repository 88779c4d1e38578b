package compare

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/action"
)

const fn = action.BLAKE3

// memory is a store in a directory.
type memory struct {
	t   *testing.T
	dir string
}

func newMemory(t *testing.T) *memory { return &memory{t, t.TempDir()} }

func (m *memory) Open(_ context.Context, d action.Digest) (*os.File, error) {
	return os.Open(filepath.Join(m.dir, d.Hash()))
}

func (m *memory) put(data string) action.Digest {
	m.t.Helper()
	d := action.Sum(fn, []byte(data))
	if err := os.WriteFile(filepath.Join(m.dir, d.Hash()), []byte(data), 0o644); err != nil {
		m.t.Fatal(err)
	}
	return d
}

func (m *memory) forget(d action.Digest) {
	if err := os.Remove(filepath.Join(m.dir, d.Hash())); err != nil {
		m.t.Fatal(err)
	}
}

// tree puts a tree of files, from path to content. A path that ends in "*" is
// executable, a content that begins with "->" is a link, and a path that ends
// in "/" an empty directory.
func (m *memory) tree(files map[string]string) action.Digest {
	m.t.Helper()
	dir := &action.Directory{}
	subs := map[string]map[string]string{}
	for name, content := range files {
		if first, rest, ok := strings.Cut(name, "/"); ok {
			if subs[first] == nil {
				subs[first] = map[string]string{}
			}
			if rest != "" {
				subs[first][rest] = content
			}
			continue
		}
		if target, ok := strings.CutPrefix(content, "->"); ok {
			dir.Symlinks = append(dir.Symlinks, action.SymlinkNode{Name: name, Target: target})
			continue
		}
		plain := strings.TrimSuffix(name, "*")
		dir.Files = append(dir.Files, action.FileNode{Name: plain, Digest: m.put(content), Executable: plain != name})
	}
	for name, sub := range subs {
		dir.Directories = append(dir.Directories, action.DirectoryNode{Name: name, Digest: m.tree(sub)})
	}
	slices.SortFunc(dir.Files, func(a, b action.FileNode) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(dir.Directories, func(a, b action.DirectoryNode) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(dir.Symlinks, func(a, b action.SymlinkNode) int { return strings.Compare(a.Name, b.Name) })
	return m.put(string(dir.Marshal()))
}

func list(changes []Change) string {
	var b strings.Builder
	for _, c := range changes {
		fmt.Fprintln(&b, c)
	}
	return b.String()
}

func TestTrees(t *testing.T) {
	m := newMemory(t)
	type files = map[string]string
	for _, c := range []struct {
		name       string
		a, b       files
		want       string
		beforehand func()
	}{
		{name: "same", a: files{"a": "1", "d/b": "2"}, b: files{"a": "1", "d/b": "2"}},
		{name: "lines", a: files{"d/a": "1\n2\n3\n"}, b: files{"d/a": "1\n3\n4\n"}, want: "tree d/a changed: 1 line added, 1 removed, from line 2 on\n"},
		{name: "last newline", a: files{"a": "1\n2\n"}, b: files{"a": "1\n2"}, want: "tree a changed: 1 line added, 1 removed, from line 2 on; only white space differs\n"},
		{name: "carriage returns", a: files{"a": "1\n2\n"}, b: files{"a": "1\r\n2\r\n"}, want: "tree a changed: 2 lines added, 2 removed, from line 1 on; only white space differs\n"},
		{name: "from nothing", a: files{"a": ""}, b: files{"a": "1\n"}, want: "tree a changed: 1 line added, from line 1 on\n"},
		{name: "bytes", a: files{"a": "\x001\x00"}, b: files{"a": "\x001\x01"}, want: "tree a changed: 1 byte of 3 differ, the first at byte 2\n"},
		{name: "more bytes", a: files{"a": "\x001"}, b: files{"a": "\x0012"}, want: "tree a changed: 2 bytes became 3, the first difference at byte 2\n"},
		{name: "executable", a: files{"a": "1"}, b: files{"a*": "1"}, want: "tree a changed: it is executable now\n"},
		{name: "executable and changed", a: files{"a*": "1\n"}, b: files{"a": "2\n"}, want: "tree a changed: it is not executable any more; 1 line added, 1 removed, from line 1 on\n"},
		{name: "link", a: files{"l": "->a"}, b: files{"l": "->b"}, want: "tree l: \"a\" became \"b\": the target of the link\n"},
		{name: "another kind", a: files{"l": "->a", "x": "1"}, b: files{"l": "1", "x/y": "1"}, want: "tree l changed: a link became a file\ntree x changed: a file became a directory\n"},
		{name: "moved", a: files{"old/a": "content"}, b: files{"new/b": "content"}, want: "tree old/a moved to new/b\n"},
		{name: "empty files do not move", a: files{"a": ""}, b: files{"b": ""}, want: "tree a removed: 0 bytes\ntree b added: 0 bytes\n"},
		{name: "directory", a: files{"a": "1"}, b: files{"a": "1", "d/x": "1", "d/e/": ""}, want: "tree d/e added: an empty directory\ntree d/x added: 1 byte\n"},
		{name: "directory gone", a: files{"d/x/y": "12"}, b: files{}, want: "tree d/x/y removed: 2 bytes\n"},
		{name: "hostile names", a: files{"\x1b[2J\n": "1\n"}, b: files{"\x1b[2J\n": "2\n", "l": "->\a"}, want: "tree \"\\x1b[2J\\n\" changed: 1 line added, 1 removed, from line 1 on\ntree l added: a link to \"\\a\"\n"},
	} {
		cmp := &Comparison{Blobs: m, Limit: 100, Contents: true}
		cmp.Trees(t.Context(), Tree, m.tree(c.a), m.tree(c.b))
		if got := list(cmp.Changes); got != c.want || cmp.More != 0 {
			t.Errorf("%s:\n got %swant %s", c.name, got, c.want)
		}
	}
}

// TestTrimmed: what is not there any more costs details, and nothing else.
func TestTrimmed(t *testing.T) {
	m := newMemory(t)
	a := m.tree(map[string]string{"d/a": "1\n", "e/b": "1\n", "f": "1"})
	b := m.tree(map[string]string{"d/a": "2\n", "e/b": "2\n", "f": "1"})
	m.forget(action.Sum(fn, []byte("1\n")))
	cmp := &Comparison{Blobs: m, Limit: 1, Contents: true}
	cmp.Trees(t.Context(), Tree, a, b)
	if got, want := list(cmp.Changes), "tree d/a changed: 2 bytes, as before; its contents are not in the store any more\n"; got != want || cmp.More != 1 {
		t.Errorf("got %sand %d more; want %s", got, cmp.More, want)
	}
	m.forget(a)
	cmp = &Comparison{Blobs: m, Limit: 10, Contents: true}
	cmp.Trees(t.Context(), Tree, a, b)
	if got, want := list(cmp.Changes), "tree differs: the earlier directory is not in the store any more\n"; got != want {
		t.Errorf("got %swant %s", got, want)
	}
}

// TestShared: a tree in which each directory holds the next one twice has more
// paths than could ever be looked at.
func TestShared(t *testing.T) {
	if testing.Short() {
		return // it is tested elsewhere
	}
	m := newMemory(t)
	bomb := func(leaf action.Digest) action.Digest {
		for range 60 {
			dir := &action.Directory{Directories: []action.DirectoryNode{{Name: "a", Digest: leaf}, {Name: "b", Digest: leaf}}}
			leaf = m.put(string(dir.Marshal()))
		}
		return leaf
	}
	a, b := bomb(m.tree(map[string]string{"f": "1"})), bomb(m.tree(map[string]string{"f": "2"}))
	for _, pair := range [][2]action.Digest{{a, b}, {{}, a}, {a, {}}} {
		c := &Comparison{Blobs: m, Limit: 10}
		c.Trees(t.Context(), Tree, pair[0], pair[1])
		if len(c.Changes) != 10 || c.More == 0 {
			t.Errorf("%d changes and %d more", len(c.Changes), c.More)
		}
	}
}

// TestProperties: trees that differ in nothing that is compared differ.
func TestProperties(t *testing.T) {
	m := newMemory(t)
	mode := uint32(0o700)
	a := m.put(string((&action.Directory{}).Marshal()))
	b := m.put(string((&action.Directory{Properties: &action.NodeProperties{UnixMode: &mode}}).Marshal()))
	c := &Comparison{Blobs: m, Limit: 10}
	c.Trees(t.Context(), Tree, a, b)
	if len(c.Changes) != 1 || c.Changes[0].Kind != Unknown {
		t.Errorf("%v", c.Changes)
	}
}

// slowEdits is the length of the shortest edit script, by the textbook.
func slowEdits(a, b []int32) int {
	t := make([][]int, len(a)+1)
	for i := range t {
		t[i] = make([]int, len(b)+1)
		for j := range t[i] {
			switch {
			case i == 0 || j == 0:
				t[i][j] = i + j
			case a[i-1] == b[j-1]:
				t[i][j] = t[i-1][j-1]
			default:
				t[i][j] = 1 + min(t[i-1][j], t[i][j-1])
			}
		}
	}
	return t[len(a)][len(b)]
}

func TestEdits(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	list := func() []int32 {
		l := make([]int32, r.IntN(30))
		for i := range l {
			l[i] = r.Int32N(4)
		}
		return l
	}
	for range 5000 {
		a, b := list(), list()
		if got, want := edits(a, b), slowEdits(a, b); got != want {
			t.Fatalf("%v to %v: %d edits, want %d", a, b, got, want)
		}
	}
	// Beyond the limit it is about right, and quick.
	a, b := make([][]byte, 50_000), make([][]byte, 60_000)
	for i := range a {
		a[i] = strconv.AppendInt(nil, int64(i), 10)
	}
	for i := range b {
		b[i] = strconv.AppendInt(nil, int64(i+25_000), 10)
	}
	if added, removed := lineChanges(a, b); added != 35_000 || removed != 25_000 {
		t.Errorf("%d lines added, %d removed", added, removed)
	}
}

// TestArguments applies the changes to the old arguments, and has the new ones.
func TestArguments(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	args := func() []string {
		l := make([]string, r.IntN(12))
		for i := range l {
			l[i] = string(rune('a' + r.IntN(4)))
		}
		return l
	}
	for range 5000 {
		a, b := args(), args()
		c := &Comparison{Limit: 1000}
		c.arguments(a, b)
		// What is neither added nor changed in b is what is neither removed
		// nor changed in a, in order.
		restA, restB := slices.Clone(a), slices.Clone(b)
		var removed []string
		for _, x := range slices.Backward(c.Changes) {
			i, err := strconv.Atoi(x.Name)
			if err != nil {
				t.Fatal(err)
			}
			if x.Kind != Removed {
				if restB[i] != x.New {
					t.Fatalf("%v to %v: %v, but %q is there", a, b, x, restB[i])
				}
				restB = slices.Delete(restB, i, i+1)
			}
			if x.Kind != Added {
				removed = append(removed, x.Old)
			}
		}
		for _, old := range removed { // the last first
			i := len(restA) - 1
			for i >= 0 && restA[i] != old {
				i--
			}
			if i < 0 {
				t.Fatalf("%v to %v: %v takes out what is not there", a, b, c.Changes)
			}
			restA = slices.Delete(restA, i, i+1)
		}
		slices.Sort(restA)
		slices.Sort(restB)
		if !slices.Equal(restA, restB) {
			t.Fatalf("%v to %v: after %s left are %v and %v", a, b, list(c.Changes), restA, restB)
		}
	}
}

func TestActions(t *testing.T) {
	m := newMemory(t)
	side := func(change func(a *action.Action, c *action.Command)) *Side {
		c := &action.Command{
			Arguments: []string{"cc", "-c", "a.c"}, OutputPaths: []string{"a.o"},
			Environment: []action.EnvironmentVariable{{Name: "A", Value: "1"}, {Name: "B", Value: "2"}},
		}
		a := &action.Action{
			InputRoot: m.tree(map[string]string{"a.c": "x\n"}),
			Platform:  []action.Property{{Name: "ISA", Value: "x86-64"}, {Name: RootfsProperty, Value: m.tree(map[string]string{"etc/x": "1\n"}).String()}},
		}
		if change != nil {
			change(a, c)
		}
		a.Command = c.Digest(a.InputRoot.Function())
		return &Side{Action: a, Command: c}
	}
	for want, change := range map[string]func(a *action.Action, c *action.Command){
		"":                                   nil,
		"argument 1: \"-c\" became \"-S\"\n": func(_ *action.Action, c *action.Command) { c.Arguments[1] = "-S" },
		"variable A: \"1\" became \"\"\n":    func(_ *action.Action, c *action.Command) { c.Environment[0].Value = "" },
		"variable A removed: \"1\"\nvariable C added: \"1\"\n":  func(_ *action.Action, c *action.Command) { c.Environment[0].Name = "C" },
		"working directory: \"\" became \"d\"\n":                func(_ *action.Action, c *action.Command) { c.WorkingDirectory = "d" },
		"output a.o removed\noutput b.o added\n":                func(_ *action.Action, c *action.Command) { c.OutputPaths[0] = "b.o" },
		"other output directory format: \"0\" became \"2\"\n":   func(_ *action.Action, c *action.Command) { c.OutputDirectoryFormat = 2 },
		"other output node properties: \"\" became \"mtime\"\n": func(_ *action.Action, c *action.Command) { c.OutputNodeProperties = []string{"mtime"} },
		"platform container added: \"x\"\n": func(_ *action.Action, c *action.Command) {
			c.Platform = []action.Property{{Name: "container", Value: "x"}}
		},
		"input a.c changed: 1 line added, from line 2 on\n": func(a *action.Action, _ *action.Command) { a.InputRoot = m.tree(map[string]string{"a.c": "x\ny\n"}) },
		"timeout: \"0s\" became \"1s\"\n":                   func(a *action.Action, _ *action.Command) { a.Timeout = 1e9 },
		"salt: \"\" became \"s\"\n":                         func(a *action.Action, _ *action.Command) { a.Salt = []byte("s") },
		"platform ISA: \"x86-64\" became \"arm-a64\"\n":     func(a *action.Action, _ *action.Command) { a.Platform[0].Value = "arm-a64" },
		"rootfs etc/x changed: 1 line added, from line 2 on\n": func(a *action.Action, _ *action.Command) {
			a.Platform[1].Value = m.tree(map[string]string{"etc/x": "1\n2\n"}).String()
		},
		"rootfs: \"" + m.tree(map[string]string{"etc/x": "1\n"}).String() + "\" became \"host/2\"\n": func(a *action.Action, _ *action.Command) { a.Platform[1].Value = "host/2:blake3:00/1" },
		"digest function: \"blake3\" became \"sha256\"\n":                                            func(a *action.Action, _ *action.Command) { a.InputRoot = action.Sum(action.SHA256, nil) },
	} {
		c := &Comparison{Blobs: m, Limit: 100, Contents: true}
		c.Actions(t.Context(), side(nil), side(change))
		if got := list(c.Changes); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	// A command that is not known any more.
	c := &Comparison{Blobs: m, Limit: 100}
	b := side(func(_ *action.Action, c *action.Command) { c.Arguments[0] = "x" })
	b.Command = nil
	c.Actions(t.Context(), side(nil), b)
	if got, want := list(c.Changes), "other command differs: one of the two is not in the store any more\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestResults(t *testing.T) {
	m := newMemory(t)
	tree := func(content string) action.Digest {
		root := m.tree(map[string]string{"sub/f": content})
		dir, err := (&Comparison{Blobs: m}).directory(t.Context(), root)
		if err != nil {
			t.Fatal(err)
		}
		sub, err := (&Comparison{Blobs: m}).directory(t.Context(), dir.Directories[0].Digest)
		if err != nil {
			t.Fatal(err)
		}
		whole := &action.Tree{Root: *dir, Children: []action.Directory{*sub}}
		return m.put(string(whole.Marshal()))
	}
	a := &action.Result{
		Files:       []action.OutputFile{{Path: "x", Digest: m.put("1\n")}},
		Directories: []action.OutputDirectory{{Path: "d", Tree: tree("1\n")}},
		StdoutRaw:   []byte("one\n"), Stderr: m.put("loud\n"),
	}
	b := &action.Result{
		Files:       []action.OutputFile{{Path: "x", Digest: m.put("2\n"), Executable: true}},
		Directories: []action.OutputDirectory{{Path: "d", Tree: tree("2\n")}},
		Symlinks:    []action.OutputSymlink{{Path: "l", Target: "x"}},
		StdoutRaw:   []byte("one\ntwo\n"), StderrRaw: []byte("loud\n"), ExitCode: 3,
	}
	c := &Comparison{Blobs: m, Limit: 100, Contents: true}
	c.Results(t.Context(), a, b)
	want := "other exit code: \"0\" became \"3\"\n" +
		"output d/sub/f changed: 1 line added, 1 removed, from line 1 on\n" +
		"output l added: a link to x\n" +
		"output x changed: it is executable now; 1 line added, 1 removed, from line 1 on\n" +
		"other standard output changed: 1 line added, from line 2 on\n"
	if got := list(c.Changes); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func FuzzLegible(f *testing.F) {
	f.Add("a\x1b[31m\nü\u202e")
	f.Fuzz(func(t *testing.T, s string) {
		for _, out := range []string{Legible(s), Sentence(s), Change{Part: Input, Kind: Changed, Name: s, Old: s, New: s}.String()} {
			for _, r := range out {
				if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\u202e' {
					t.Fatalf("%q is printed as %q", s, out)
				}
			}
		}
		if out := Legible(s); out != s {
			if back, err := strconv.Unquote(out); err != nil || back != s && !strings.ContainsRune(s, '\ufffd') {
				t.Fatalf("%q is printed as %q, which means %q, %v", s, out, back, err)
			}
		}
	})
}
