package staging

import (
	"strings"
	"testing"
)

func TestPathGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, base string
		yes, no       []string
	}{
		{"*.o", "", []string{"a.o", ".o"}, []string{"a.c", "d/a.o"}},
		{"out/*.o", "out", []string{"out/a.o"}, []string{"a.o", "out/d/a.o", "out"}},
		{"out/**", "out", []string{"out/a", "out/b/c"}, []string{"a"}},
		{"**/*.o", "", []string{"a.o", "x/y/a.o"}, []string{"a.c"}},
		{"a/**/b/**/c", "a", []string{"a/b/c", "a/x/b/y/z/c"}, []string{"a/c", "a/b"}},
		{"{a,b}/x.[co]", "", []string{"a/x.c", "b/x.o"}, []string{"c/x.c", "a/x.d"}},
		{"d/{a,b}/?", "d", []string{"d/a/1", "d/b/2"}, []string{"d/a/12"}},
		{`lit\*eral`, "", []string{"lit*eral"}, []string{"litXeral"}},
		{"[!a]x", "", []string{"bx"}, []string{"ax"}},
	} {
		g, err := parsePathGlob(c.pattern)
		if err != nil {
			t.Errorf("%q: %v", c.pattern, err)
			continue
		}
		if g.base != c.base {
			t.Errorf("%q: base %q, want %q", c.pattern, g.base, c.base)
		}
		for _, p := range c.yes {
			if !g.match(p) {
				t.Errorf("%q does not match %q", c.pattern, p)
			}
		}
		for _, p := range c.no {
			if g.match(p) {
				t.Errorf("%q matches %q", c.pattern, p)
			}
		}
	}
	for _, p := range []string{"[a", "x/[", `x\`} {
		if _, err := parsePathGlob(p); err == nil {
			t.Errorf("%q is accepted", p)
		}
	}
}

// TestPathGlobEnds: many "**" are no more work than one for each name.
func TestPathGlobEnds(t *testing.T) {
	g, err := parsePathGlob(strings.Repeat("**/a/", 30) + "b")
	if err != nil {
		t.Fatal(err)
	}
	if names := strings.Repeat("a/", 100); g.match(names+"c") || !g.match(names+"b") || g.match("a/b") {
		t.Error("it is matched wrongly")
	}
}

// TestMatchSegs compares with trying all that each "**" may stand for.
func TestMatchSegs(t *testing.T) {
	var slow func(segs []globSeg, names []string) bool
	slow = func(segs []globSeg, names []string) bool {
		if len(segs) == 0 {
			return len(names) == 0
		}
		if segs[0].kind == globDeep && slow(segs[1:], names) {
			return true
		}
		return len(names) > 0 && (segs[0].kind == globDeep && slow(segs, names[1:]) || segs[0].match(names[0]) && slow(segs[1:], names[1:]))
	}
	kinds := []globSeg{{globDeep, ""}, {globAny, ""}, {globLiteral, "a"}, {globLiteral, "b"}}
	for n := range 4 * 4 * 4 * 4 * 4 {
		segs := []globSeg{kinds[n%4], kinds[n/4%4], kinds[n/16%4], kinds[n/64%4], kinds[n/256]}[:1+n%5]
		for m := range 2 * 2 * 2 * 2 * 2 {
			names := []string{"ab"[m%2:][:1], "ab"[m/2%2:][:1], "ab"[m/4%2:][:1], "ab"[m/8%2:][:1], "ab"[m/16:][:1]}[:m%6]
			if got, want := matchSegs(segs, names), slow(segs, names); got != want {
				t.Fatalf("%v, %q: %v, want %v", segs, names, got, want)
			}
		}
	}
}
