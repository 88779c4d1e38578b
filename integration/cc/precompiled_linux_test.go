package cc_test

import (
	"testing"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// TestClangPrecompiled caches what clang precompiles if it holds no times, and what
// is compiled with it; and nothing that may hold some.
func TestClangPrecompiled(t *testing.T) {
	if testing.Short() {
		return // it is tested elsewhere
	}
	for _, c := range []struct {
		name, header, change string
		make, use            string
		out                  string
	}{
		{"a header", "pre.h", "#define A 22\n", "clang -x c-header -Xclang -fno-pch-timestamp pre.h -o pre.h.pch", "clang -include pre.h -c a.c", "pre.h.pch"},
		{"a header by its name", "pre.h", "#define A 22\n", "clang -x c-header -Xclang -fno-pch-timestamp pre.h -o x.pch", "clang -include-pch x.pch -c a.c", "x.pch"},
		{"a module", "m.cppm", "export module m;\nexport inline int f() { return 22; }\n", "clang++ -std=c++20 --precompile m.cppm -o m.pcm", "clang++ -std=c++20 -O1 -fmodule-file=m.pcm -c u.cc", "m.pcm"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.write("pre.h", "#define A 1\n")
			w.write("a.c", "int a = A;\n")
			w.write("m.cppm", "export module m;\nexport inline int f() { return 1; }\n")
			w.write("u.cc", "import m;\nint g() { return f(); }\n")
			makes, uses := words(c.make), words(c.use)
			build := func(what string, want ...cc.Outcome) effect {
				w.remove(c.out) // so that it is among what is made
				made := w.bare(makes)
				if made.code != 0 {
					t.Fatalf("control: %s", made.stderr)
				}
				w.expect(what+": precompile", makes, made, want...)
				w.write(c.out, made.files[c.out].data)
				used := w.bare(uses)
				if used.code != 0 {
					t.Fatalf("control: %s", used.stderr)
				}
				w.expect(what+": use it", uses, used, want...)
				return used
			}
			first := build("at first", cc.Miss)
			build("again", cc.Hit)
			before := w.tree()
			w.write(c.header, c.change)
			if second := build("changed", cc.Miss); second.differs(first) == "" {
				t.Error("control: the change makes no difference")
			}
			w.restore(before)
			build("changed back", cc.Hit)
		})
	}
	for _, c := range []struct{ make, use string }{
		{"clang -x c-header pre.h -o x.pch", "clang -include-pch x.pch -c a.c"},
		{"clang -x c-header pre.h -o pre.h.gch", "clang -include pre.h -c a.c"},
	} {
		w := newWorld(t)
		w.write("pre.h", "#define A 1\n")
		w.write("a.c", "int a = A;\n")
		if _, outcome, reason := w.wrapped(words(c.make)); outcome != cc.Unkept || reason != cc.ReasonTimes {
			t.Errorf("%s: %s (%s)", c.make, outcome, reason)
		}
		w.host(words(c.make)...)
		for range 2 {
			if got, outcome, reason := w.wrapped(words(c.use)); outcome != cc.Unkept || reason != cc.ReasonTimes || got.code != 0 {
				t.Errorf("%s: %s (%s) %s", c.use, outcome, reason, got.stderr)
			}
		}
	}
	w := newWorld(t)
	w.write("a.c", "int a;\n")
	if _, outcome, reason := w.wrapped(words("clang -fmodules -fmodules-cache-path=mc -c a.c")); outcome != cc.Plain || reason != cc.ReasonTimes {
		t.Errorf("implicit modules: %s (%s)", outcome, reason)
	}
}
