package staging

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/action"
)

func TestExpandBraces(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"a", "a"},
		{"{a,b}", "a b"},
		{"x{a,b}y{c,d}", "xayc xayd xbyc xbyd"},
		{"{a,{b,c}d}", "a bd cd"},
		{"{a,}", "a "},
		{"{a}", "{a}"},
		{"{", "{"},
		{"{a,b", "{a,b"},
		{`\{a,b}`, `\{a,b}`},
		{`{a\,b,c}`, `a\,b c`},
		{"{a}{b,c}", "{a}b {a}c"},
		{"{a/b,c}/d", "a/b/d c/d"},
	} {
		got, err := expandBraces(tt.in)
		if err != nil || strings.Join(got, " ") != tt.want {
			t.Errorf("%q: %q, %v; want %q", tt.in, got, err, tt.want)
		}
	}
}

// slowRule is a rule as a regular expression on paths.
type slowRule struct {
	exclude bool
	re      *regexp.Regexp
}

func makeSlowRule(text string) slowRule {
	text, exclude := strings.CutPrefix(text, "!")
	var b strings.Builder
	segs := strings.Split(text, "/")
	for i, s := range segs {
		if s == "**" && i == len(segs)-1 {
			b.WriteString("[^/]+(/[^/]+)*")
			continue
		}
		if s == "**" {
			b.WriteString("([^/]+/)*")
			continue
		}
		for _, c := range s {
			switch c {
			case '*':
				b.WriteString("[^/]*")
			case '?':
				b.WriteString("[^/]")
			default:
				b.WriteString(regexp.QuoteMeta(string(c)))
			}
		}
		if i < len(segs)-1 {
			b.WriteByte('/')
		}
	}
	return slowRule{exclude, regexp.MustCompile("^(?s:" + b.String() + ")$")}
}

// slowSelect says which paths of files the rules select: the last rule that
// matches the path or a directory above it decides.
func slowSelect(rules []slowRule, files []string) []string {
	var out []string
	for _, f := range files {
		in := false
		for _, r := range rules {
			for p := f; p != "."; p = filepath.Dir(p) {
				if r.re.MatchString(p) {
					in = !r.exclude
				}
			}
		}
		if in {
			out = append(out, f)
		}
	}
	return out
}

// The selection of random rules in a fixed tree, against the definition.
func TestSelectionByDefinition(t *testing.T) {
	ws := t.TempDir()
	names := []string{"a", "b", "ab", "c.x"}
	var files []string
	for _, d1 := range names {
		for _, d2 := range names {
			for _, f := range names {
				files = append(files, d1+"/d"+d2+"/"+f)
			}
			files = append(files, d1+"/"+d2)
		}
		files = append(files, "f"+d1)
	}
	makeTree(t, ws, files...)
	slices.Sort(files)
	rnd := rand.New(rand.NewPCG(1, 2))
	parts := []string{"a", "b", "ab", "*", "**", "?", "a*", "*b", "d*", "da", "c.x", "*.x", "f?", "**", "d?b"}
	cache := t.TempDir()
	compared := 0
	for range 1500 {
		var inputs []string
		var rules []slowRule
		for range 1 + rnd.IntN(4) {
			var segs []string
			for range 1 + rnd.IntN(4) {
				segs = append(segs, parts[rnd.IntN(len(parts))])
			}
			text := strings.Join(segs, "/")
			if rnd.IntN(3) == 0 {
				text = "!" + text
			}
			inputs = append(inputs, text)
			rules = append(rules, makeSlowRule(text))
		}
		cfg := ScanConfig{Workspace: ws, Inputs: inputs, Function: action.BLAKE3, StatCache: cache}
		s, err := Scan(t.Context(), cfg)
		if err != nil {
			if !strings.Contains(err.Error(), "matches nothing") && !strings.Contains(err.Error(), "does not exist") {
				t.Fatalf("%q: %v", inputs, err)
			}
			continue
		}
		var got []string
		for _, p := range contents(t, s) {
			if !strings.HasSuffix(p, "/") {
				got = append(got, p)
			}
		}
		slices.Sort(got)
		compared++
		if want := slowSelect(rules, files); !slices.Equal(got, want) {
			t.Fatalf("%q:\ngot  %q\nwant %q", inputs, got, want)
		}
	}
	if compared < 300 {
		t.Errorf("only %d selections compared", compared)
	}
}

// Many "**" do not take exponential time.
func TestDeepPatternIsLinear(t *testing.T) {
	ws := t.TempDir()
	makeTree(t, ws, strings.Repeat("a/", 100)+"b")
	pattern := strings.Repeat("**/a/", 60) + "b"
	s := mustScan(t, ScanConfig{Workspace: ws, Inputs: []string{pattern, "!" + strings.Repeat("**/a/", 30) + "c"}, Function: action.BLAKE3})
	if s.Files != 1 {
		t.Errorf("%d files", s.Files)
	}
}

// Lists of many files take time in proportion.
func TestLongList(t *testing.T) {
	ws := t.TempDir()
	var list strings.Builder
	for i := range 3000 {
		name := fmt.Sprintf("d%d/f%d", i%50, i)
		makeTree(t, ws, name)
		fmt.Fprintln(&list, name)
	}
	file := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(file, []byte(list.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	s := mustScan(t, ScanConfig{Workspace: ws, Inputs: []string{"@" + file}, Function: action.BLAKE3})
	if want := naiveTree(t, ws, action.BLAKE3); s.Root != want {
		t.Errorf("got %v, want %v", s.Root, want)
	}
}

func FuzzInputs(f *testing.F) {
	for _, s := range []string{"a.c", "**/*.c", "!a\n.", "{a,b}/c", "[a-", `\`, "./a/../b/", "@list", "sha256:/1", "d=blake3:", "a//b", "l/x", "\x00", "***", "[!a]*", "d/"} {
		f.Add(s)
	}
	ws := f.TempDir()
	makeTree(f, ws, "a.c", "d/b.c", "d/e/f", "l->d", "o->/etc", "[a-", "list=d/b.c\n!d/e\n")
	f.Fuzz(func(t *testing.T, text string) {
		cfg := ScanConfig{Workspace: ws, Inputs: strings.Split(text, "\n"), Function: action.BLAKE3}
		s, err := Scan(t.Context(), cfg)
		if err != nil {
			return
		}
		// What is in the tree is in the workspace, and is found.
		err = s.Walk(func(path string, e Entry) error {
			if _, err := os.Lstat(filepath.Join(ws, path)); err != nil && e.Kind != KindTree && !strings.Contains(text, "=") {
				t.Errorf("%q: %v", text, err)
			}
			if got, ok := s.Find(path); !ok || got != e {
				t.Errorf("%q: %q is not found", text, path)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		// Naming all files one by one gives a tree with the same files.
		again := ScanConfig{Workspace: ws, Function: action.BLAKE3}
		s.Walk(func(path string, e Entry) error {
			if e.Kind == KindFile || e.Kind == KindLink {
				again.Inputs = append(again.Inputs, "./"+strings.NewReplacer(`\`, `\\`).Replace(path))
			}
			return nil
		})
		if s2, err := Scan(t.Context(), again); err != nil || s2.Files != s.Files {
			t.Errorf("%q: again: %v", text, err)
		}
	})
}

func FuzzExpandBraces(f *testing.F) {
	f.Add("{a,b}{c,{d,e}}")
	f.Fuzz(func(t *testing.T, s string) {
		out, err := expandBraces(s)
		if err != nil {
			return
		}
		for _, p := range out {
			again, err := expandBraces(p)
			if err != nil || len(again) != 1 || again[0] != p {
				t.Errorf("%q: %q expands to %q, %v", s, p, again, err)
			}
		}
	})
}
