package cc_test

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// at returns a world like w, with the same store and another project directory.
func (w *world) at(name string) *world {
	w.t.Helper()
	other := *w
	other.dir = filepath.Join(w.top, name)
	other.env = map[string]string{}
	maps.Copy(other.env, w.env)
	other.mkdir(".")
	return &other
}

var project = map[string]string{
	"src/a.c": "#include \"../inc/a.h\"\n#include <stdio.h>\nint value(void) { int unused; return A; }\n",
	"inc/a.h": "#define A 1\n", ".sbx-cc": "# nothing to say\n",
}

func (w *world) files(files map[string]string) {
	w.t.Helper()
	for name, text := range files {
		w.write(name, text)
	}
}

// TestTwoCheckouts compiles the same project in two places.
func TestTwoCheckouts(t *testing.T) {
	for _, c := range []struct {
		name, call  string
		make        func(*world)
		first, then cc.Outcome
	}{
		{"shared", "gcc -Wall -Iinc -MD -c src/a.c -o a.o", nil, cc.Miss, cc.Hit},
		{"from the assembler", "gcc -S -Iinc src/a.c -o a.s", nil, cc.Miss, cc.Hit},
		{"debug information", "gcc -g -Iinc -c src/a.c -o a.o", nil, cc.Miss, cc.Miss},
		{"an absolute argument", "gcc -I$PWD/inc -c src/a.c -o a.o", nil, cc.Miss, cc.Miss},
		{"the name of an absolute source", "gcc -c $PWD/src/a.c -o a.o", nil, cc.Miss, cc.Miss},
		{"the directory in the output", "gcc -c src/b.s -o b.o", func(w *world) { w.write("src/b.s", ".ascii \""+w.dir+"\"\n") }, cc.Miss, cc.Miss},
		{"an absolute include", "gcc -c src/b.c -o b.o", func(w *world) { w.write("src/b.c", "#include \""+w.dir+"/inc/a.h\"\nint a = A;\n") }, cc.Miss, cc.Miss},
		{"an absolute link", "gcc -c src/b.c -o b.o", func(w *world) {
			w.write("src/b.c", "#include \"l.h\"\nint a = A;\n")
			w.link(w.path("inc/a.h"), "src/l.h")
		}, cc.Miss, cc.Miss},
		{"an absolute link into the other place", "gcc -c src/b.c -o b.o", func(w *world) {
			w.write("src/b.c", "#include \"l.h\"\nint a = A;\n")
			w.write("inc/a.h", "#define A "+map[bool]string{true: "1", false: "2"}[w.dir == filepath.Join(w.top, "p")]+"\n")
			w.link(filepath.Join(w.top, "p/inc/a.h"), "src/l.h")
		}, cc.Miss, cc.Miss},
		{"a directory beside the project that is not there", "gcc -I../early -Iinc -c src/a.c -o a.o", nil, cc.Miss, cc.Miss},
		{"a header beside the project", "gcc -I../beside -c src/b.c -o b.o", func(w *world) {
			w.write("src/b.c", "#include <b.h>\nint a = A;\n")
			w.write("../beside/b.h", "#define A 1\n")
		}, cc.Miss, cc.Miss},
		{"a link to beside the project that leads nowhere", "gcc -Ilink -Iinc -c src/a.c -o a.o", func(w *world) { w.link("src/../../early", "link") }, cc.Miss, cc.Miss},
		{"fixed, with debug information", "--path fixed gcc -g -Iinc -MD -c src/a.c -o a.o", nil, cc.Miss, cc.Hit},
		{"fixed, with absolute arguments", "--path fixed gcc -Wall -g -I$PWD/inc -MD -c $PWD/src/a.c -o $PWD/a.o", nil, cc.Miss, cc.Hit},
	} {
		t.Run(strings.NewReplacer(" ", "-", ",", "").Replace(c.name), func(t *testing.T) {
			t.Parallel()
			one := newWorld(t)
			two := one.at("q")
			for i, w := range []*world{one, two} {
				w.files(project)
				if c.make != nil {
					c.make(w)
				}
				args := words(strings.ReplaceAll(c.call, "$PWD", w.dir))
				bare := args
				if args[0] == "--path" {
					w.flags, args = args[:2], args[2:]
					bare = append(append([]string{}, args...), "-ffile-prefix-map="+w.dir+"=/build") // what the object then says
				}
				want := w.bare(bare)
				if want.code != 0 {
					t.Fatalf("control: %s", want.stderr)
				}
				outcome := []cc.Outcome{c.first, c.then}[i]
				got, o, reason := w.wrapped(args)
				if o != outcome {
					t.Errorf("place %d: ended with %s (%s), want %s", i+1, o, reason, outcome)
				}
				if len(w.flags) > 0 { // -ffile-prefix-map is among the compiler's options in the object
					delete(got.files, "a.o")
					delete(want.files, "a.o")
				}
				if d, ok := got.files["a.d"]; ok && len(w.flags) > 0 { // whose lines are broken elsewhere
					got.files["a.d"] = file{d.mode, unbroken(d.data)}
					want.files["a.d"] = file{d.mode, unbroken(want.files["a.d"].data)}
				}
				if diff := got.differs(want); diff != "" {
					t.Errorf("place %d: %s", i+1, diff)
				}
				if _, o, _ := w.wrapped(args); o != cc.Hit {
					t.Errorf("place %d, again: %s", i+1, o)
				}
			}
			if c.then == cc.Hit {
				two.write("inc/a.h", "#define A 2\n")
				args := words(strings.ReplaceAll(c.call, "$PWD", two.dir))
				if args[0] == "--path" {
					args = args[2:]
				}
				if _, o, _ := two.wrapped(args); o != cc.Miss {
					t.Errorf("the second place, changed: %s", o)
				}
			}
		})
	}
}

func unbroken(s string) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(s, "\\\n", " ")), " ")
}

// TestFixed wants the object of a project at a fixed place to say that place, and
// nothing of the real one.
func TestFixed(t *testing.T) {
	w := newWorld(t)
	w.files(project)
	w.flags = []string{"--path", "fixed"}
	got, _, _ := w.wrapped(words("gcc -g -Iinc -MD -c " + w.dir + "/src/a.c -o a.o"))
	if got.code != 0 {
		t.Fatal(got.stderr)
	}
	if o := got.files["a.o"].data; !strings.Contains(o, "/build") || strings.Contains(o, w.dir) {
		t.Error("the object does not say /build, or says the real directory")
	}
	if d := got.files["a.d"].data; !strings.Contains(d, w.dir+"/src/a.c") || strings.Contains(d, "/build") {
		t.Errorf("the list of dependencies is %q", d)
	}
}

// TestStrict shows a strict call what it names, and nothing else.
func TestStrict(t *testing.T) {
	w := newWorld(t)
	w.files(map[string]string{"src/a.c": "#include <a.h>\nint a = A;\n", "inc/a.h": "#define A 1\n", "other/a.h": "#define A 2\n", "early/x": ""})
	call := words("gcc -Iearly -Iinc -c src/a.c -o a.o")
	want := w.bare(call)
	w.flags = []string{"--inputs", "src", "--inputs", "inc"}
	w.expect("at first", call, want, cc.Miss)
	w.expect("again", call, want, cc.Hit)
	w.write("early/a.h", "#define A 2\n")
	w.expect("what is not shown", call, want, cc.Hit)
	w.flags = []string{"--inputs", "src"}
	hidden, outcome, _ := w.wrapped(call)
	if outcome != cc.Failed || hidden.code != 1 || !strings.Contains(hidden.stderr, "add --inputs "+w.path("inc")) {
		t.Errorf("a header that is not shown: %s, %+v", outcome, hidden)
	}
	if _, err := os.Stat(w.path("a.o")); err == nil {
		t.Error("control: outputs are removed between runs")
	}
	w.write("../q/b.h", "#define B 1\n") // outside of the project
	w.write("src/b.c", "#include <b.h>\nint b = B;\n")
	hidden, outcome, _ = w.wrapped(words("clang -I../q -c src/b.c"))
	if hint := "add --inputs " + w.path("../q") + "\n"; outcome != cc.Failed || hidden.code != 1 || strings.Count(hidden.stderr, "add --inputs") != 1 || !strings.Contains(hidden.stderr, hint) {
		t.Errorf("a header that is in another project: %s, %+v", outcome, hidden)
	}
}
