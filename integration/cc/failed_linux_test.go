package cc_test

import (
	"os"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// TestMistakes wants a mistake in a source to be told by the compiler that found it,
// in the sandbox, and all that may have to do with the sandbox by one outside.
func TestMistakes(t *testing.T) {
	for _, c := range []struct {
		name, call string
		make       func(*world)
		want       cc.Reason
	}{
		{"syntax", "gcc -c a.c -o a.o", text("a.c", "int main( {\n"), cc.ReasonMistake},
		{"syntax with an older object", "gcc -c a.c", func(w *world) { w.write("a.c", "int main( {\n"); w.write("a.o", "old") }, cc.ReasonMistake},
		{"a header that is not there", "gcc -MD -c a.c", func(w *world) { w.write("a.c", "#include \"absent.h\"\n"); w.write("a.d", "old") }, cc.ReasonMistake},
		{"C++", "g++ -c a.cc", text("a.cc", "int f() { return missing; }\n"), cc.ReasonMistake},
		{"assembler", "gcc -c a.s", text("a.s", "nonsense\n"), cc.ReasonMistake},
		{"output before the mistake", "gcc -E a.c", text("a.c", "int a;\n#error no\n"), cc.ReasonMistake},
		{"colours", "gcc -fdiagnostics-color=always -c a.c", text("a.c", "int main( {\n"), cc.ReasonMistake},
		{"one source of two", "gcc -c a.c b.c", func(w *world) { w.write("a.c", "int a;\n"); w.write("b.c", "int b(\n") }, cc.ReasonMistake},
		{"a wrapper that knows a variable which is not passed on", "./gcc -c a.c", func(w *world) {
			w.write("wrapper.c", "#include <stdlib.h>\n#include <unistd.h>\nint main(int c, char **v) { char *more = getenv(\"SSH_FLAGS\"); "+
				"return execl(\"/usr/bin/gcc\", \"gcc\", v[1], v[2], more, (char *)0); }\n")
			w.host("gcc", "wrapper.c", "-o", "gcc")
			w.write("a.c", "int a = A;\n")
			w.env["SSH_FLAGS"] = "-DA=1"
		}, "failed in the sandbox"},
		{"a header of a place that is not shown", "gcc -c a.c", func(w *world) {
			dir, err := os.MkdirTemp("/dev/shm", "sbx-test-")
			w.must(err)
			w.t.Cleanup(func() { os.RemoveAll(dir) })
			w.must(os.Chmod(dir, 0o755))
			w.write(dir+"/h.h", "#define A 1\n")
			w.link(dir, "inc")
			w.write("a.c", "#include \"inc/h.h\"\nint a = A;\n")
		}, cc.ReasonConcealed},
		{"no line", "gcc -c absent.c", nil, "failed in the sandbox"},
		{"an option", "gcc -fno-such-thing -c a.c", text("a.c", "int a;\n"), "failed in the sandbox"},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if c.make != nil {
				c.make(w)
			}
			want := w.bare(words(c.call))
			got, outcome, reason := w.wrapped(words(c.call))
			if diff := got.differs(want); diff != "" {
				t.Error(diff)
			}
			ended := cc.Failed
			if c.want == cc.ReasonConcealed {
				ended = cc.Plain
			}
			if outcome != ended || reason != c.want {
				t.Errorf("ended with %s (%s), want %s (%s)", outcome, reason, ended, c.want)
				w.flags = []string{"--recache", "--verbose"}
				got, _, _ = w.wrapped(words(c.call))
				t.Log(got.stderr)
			}
			got, outcome, reason = w.wrapped(words(c.call))
			if diff := got.differs(want); diff != "" || outcome != ended {
				t.Errorf("the second time: ended with %s (%s): %s", outcome, reason, diff)
			}
		})
	}
}
