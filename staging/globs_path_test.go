package staging

import "testing"

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
