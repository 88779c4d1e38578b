package staging

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func pattern(t *testing.T, text string) *Pattern {
	t.Helper()
	p, err := ParsePattern(text)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return p
}

func TestPattern(t *testing.T) {
	for _, c := range []struct {
		pattern, path   string
		covers, meetsIt bool
	}{
		{"a/b", "a/b", true, true},
		{"a/b", "a", false, true},
		{"a/b", "a/b/c", true, true},
		{"a/b", "a/c", false, false},
		{".", "a", true, true},
		{"./a//b/", "a/b", true, true},
		{"*.o", "x.o", true, true},
		{"*.o", "d/x.o", false, false},
		{"*.o", "x.c", false, false},
		{"src/**/*.h", "src/a.h", true, true},
		{"src/**/*.h", "src/a/b/c.h", true, true},
		{"src/**/*.h", "src", false, true},
		{"src/**/*.h", "src/a/b.c", false, true}, // which may be a directory
		{"{a,b}/x", "b/x", true, true},
		{"{a,b}/x", "c/x", false, false},
		{"!a/*", "a/b", true, true},
		{`a\*`, "a*", true, true},
		{`a\*`, "ab", false, false},
	} {
		p := pattern(t, c.pattern)
		if got := p.Covers(c.path); got != c.covers {
			t.Errorf("%q covers %q: %v", c.pattern, c.path, got)
		}
		q := pattern(t, strings.ReplaceAll(c.path, "*", `\*`))
		if p.Meets(q) != c.meetsIt || q.Meets(p) != c.meetsIt {
			t.Errorf("%q meets %q: %v, and the other way round %v", c.pattern, c.path, p.Meets(q), q.Meets(p))
		}
	}
}

func TestPatternsMeet(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"*.o", "*.o", true},
		{"*.o", "lib*.a", false},
		{"lib*", "*.a", true},
		{"lib*", "obj*", false},
		{"**/*.c", "gen/*.c", true},
		{"**/*.c", "gen/*.h", true}, // gen/x.h may be a directory with c files
		{"src/*.c", "gen/*.c", false},
		{"a/**", "a", true},
		{"a/**/z", "a/b/**/y", true}, // z may be below y
		{"[ab]x", "[cd]x", true},     // we do not look into classes
		{"x?z", "y?z", false},
	} {
		if got := pattern(t, c.a).Meets(pattern(t, c.b)); got != c.want {
			t.Errorf("%q meets %q: %v", c.a, c.b, got)
		}
	}
}

func TestParsePatternRefuses(t *testing.T) {
	for _, text := range []string{"", "!", "/etc", "../x", "a/../../x", "a\x00", "[", "{a,/../..}"} {
		if p, err := ParsePattern(text); err == nil {
			t.Errorf("%q: %+v", text, p)
		}
	}
}

func TestExpand(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.c", "b.c", "b.h", "src/c.c", "src/deep/d.c", "src/deep/d.o", "other/e.c"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ patterns, want string }{
		{"*.c", "a.c b.c"},
		{"**/*.c", "a.c b.c other/e.c src/c.c src/deep/d.c"},
		{"**/*.c !src", "a.c b.c other/e.c"},
		{"src", "src/c.c src/deep/d.c src/deep/d.o"},
		{"b.c a.c *.c", "a.c b.c"},
		{"!*.c a.c", "a.c"},
		{"none/*.c", ""},
		{"{src,other}/*.c", "other/e.c src/c.c"},
	} {
		var patterns []*Pattern
		for text := range strings.FieldsSeq(c.patterns) {
			patterns = append(patterns, pattern(t, text))
		}
		got, err := Expand(dir, patterns)
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, %v", c.patterns, got, err)
		}
	}
	if _, err := Expand(dir, []*Pattern{pattern(t, "gone.c")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}
