package cc_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// foreignMutations change a variable that no compiler reads, but something that is no
// part of the compiler and that the call executes.
func foreignMutations() (list []mutation) {
	source := map[string]string{"a.c": "int a = 1;\n", "b/x": ""}
	assembler := func(w *world) { w.script("b/as", "exec "+real(w, "as")+" --defsym foo=$FOO \"$@\"") }
	onPath := func(w *world) { w.env["PATH"] = w.path("b") + ":" + os.Getenv("PATH") }
	foo := env("FOO", "1")
	add := func(name, call string, make ...func(*world)) {
		list = append(list, mutation{
			name: "a variable of " + name, files: source, make: steps(append(make, foo)...), call: call,
			change: env("FOO", "2"), back: foo,
		})
	}
	add("an assembler on PATH", "gcc -c a.c", assembler, onPath)
	add("an assembler of -B", "gcc -Bb -c a.c", assembler)
	add("an assembler of COMPILER_PATH", "gcc -c a.c", assembler, func(w *world) { w.env["COMPILER_PATH"] = w.path("b") })
	add("an assembler that is compiled", "gcc -c a.c", onPath, func(w *world) {
		w.compiled("b/as", real(w, "as"), "--defsym", `sprintf(v[2], "foo=%s", getenv("FOO"))`)
	})
	add("a program in front of the compiler", "./gcc -c a.c", func(w *world) {
		w.write("a.c", "int a = A;\n")
		w.compiled("gcc", w.host("sh", "-c", "command -v gcc"), "-include", `sprintf(v[2], "%s.h", getenv("FOO"))`)
		w.write("1.h", "#define A 1\n")
		w.write("2.h", "#define A 2\n")
	})
	add("a plugin", "gcc -fplugin=./p.so -c a.c", func(w *world) {
		w.write("p.c", "#include <stdio.h>\n#include <stdlib.h>\nint plugin_is_GPL_compatible;\n"+
			"int plugin_init(void *info, void *version) { fprintf(stderr, \"it is %s\\n\", getenv(\"FOO\")); return 0; }\n")
		w.host("gcc", "-shared", "-fPIC", "p.c", "-o", "p.so")
	})
	add("a specs file", "gcc -specs=my.specs -c a.c", text("a.c", "int a = A;\n"),
		text("my.specs", "*cpp_unique_options:\n+ -DA=%:getenv(FOO 0)\n\n"))
	add("what clang is told to load", "clang -Xclang -load -Xclang ./p.so -c a.c", func(w *world) {
		w.write("p.c", "#include <stdio.h>\n#include <stdlib.h>\n__attribute__((constructor)) static void f(void) { fprintf(stderr, \"it is %s\\n\", getenv(\"FOO\")); }\n")
		w.host("gcc", "-shared", "-fPIC", "p.c", "-o", "p.so")
	})
	return append(list, mutation{
		name: "an assembler that reads a variable appears", files: source, make: steps(foo, onPath), call: "gcc -c a.c", change: assembler,
	})
}

// compiled makes a program that executes another one with two
// arguments more: option, and what value, an expression in C, has put into v[2].
func (w *world) compiled(name, program, option, value string) {
	w.t.Helper()
	w.write(name+".front.c", "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>\n"+
		"int main(int c, char **a) {\n\tchar *v[c + 3];\n\tv[0] = \""+program+"\";\n\tv[1] = \""+option+"\";\n\tv[2] = malloc(99);\n\t"+value+";\n"+
		"\tmemcpy(v + 3, a + 1, c * sizeof *a);\n\treturn execv(\""+program+"\", v);\n}\n")
	w.host("gcc", name+".front.c", "-o", name)
	w.remove(name + ".front.c")
}

// TestUnrelatedVariable wants compilers of all kinds, wherever they are installed, to
// share results between environments that differ in a variable which is none of theirs.
func TestUnrelatedVariable(t *testing.T) {
	for i, c := range []struct {
		call string
		make func(*world)
	}{
		{"gcc -O1 -c a.c", nil},
		{"g++ -c a.cc", nil},
		{"cc -c a.c", nil},
		{"clang -c a.c", nil},
		{"clang++ -c a.cc", nil},
		{"clang -fno-integrated-as -c a.c", nil},
		{"aarch64-linux-gnu-gcc -c a.c", nil},
		{"gcc -g -gsplit-dwarf -c a.c", nil},
		{"gcc -c a.s", nil},
		{"gcc -E a.c -o a.i", nil},
		{"cpp a.c -o a.i", nil},
		{"as a.s -o a.o", nil},
		{"gcc a.c -o a", nil},
		{"g++ a.cc -o a", nil},
		{"clang a.c -o a", nil},
		{"gcc -O1 -flto a.c -o a", nil},
		{"gcc -O1 -flto=2 a.c -o a", nil},
		{"ld -r one.o -o both.o", func(w *world) { w.host("gcc", "-c", "a.s", "-o", "one.o") }},
		{"gcc-ar rcs lib.a one.o", func(w *world) { w.host("gcc", "-c", "a.s", "-o", "one.o") }},
		{"gcc -B/usr/bin -c a.c", nil},
		{"bin/cc -c a.c", func(w *world) { // as alternatives are
			w.mkdir("etc")
			w.mkdir("bin")
			w.link(w.host("sh", "-c", "command -v gcc"), "etc/cc")
			w.link("../etc/cc", "bin/cc")
		}},
		{"tool/bin/gcc -c a.c", func(w *world) { // of somebody's own
			for _, name := range []string{"cc1", "as"} {
				from := real(w, name)
				to := "tool" + strings.TrimPrefix(from, "/usr")
				if name == "as" {
					to = "tool/" + w.host("gcc", "-dumpmachine") + "/bin/as"
				}
				w.mkdir(filepath.Dir(to))
				w.host("cp", "-L", from, to)
			}
			w.mkdir("tool/bin")
			w.host("sh", "-c", `cp -L "$(command -v gcc)" tool/bin/gcc`)
		}},
	} {
		if testing.Short() && i%4 != 0 {
			continue
		}
		t.Run(strings.NewReplacer(" ", "_", "/", "_", "=", "_").Replace(c.call), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.write("a.c", "int main(void) { return 0; }\n")
			w.write("a.cc", "int main() { return 0; }\n")
			w.write("a.s", ".globl x\nx: .long 1\n")
			if c.make != nil {
				c.make(w)
			}
			w.flags = []string{"--cache-links"}
			call := words(c.call)
			w.env["FOO"] = "1"
			want := w.bare(call)
			if want.code != 0 {
				t.Fatalf("control: %s", want.stderr)
			}
			w.expect("at first", call, want, cc.Miss)
			w.env["FOO"] = "2"
			w.expect("with another variable", call, want, cc.Hit)
			delete(w.env, "FOO")
			w.expect("without it", call, want, cc.Hit)
		})
	}
}

// TestPreload wants calls to be executed into which something is loaded by the linker.
func TestPreload(t *testing.T) {
	w := newWorld(t)
	w.write("a.c", "int a;\n")
	w.write("l.c", "unsigned la_version(unsigned v) { return v; }\n")
	w.host("gcc", "-shared", "-fPIC", "l.c", "-o", "l.so")
	for name, value := range map[string]string{
		"LD_PRELOAD": w.path("l.so"), "LD_AUDIT": w.path("l.so"), "LD_DEBUG": "help", "LD_TRACE_LOADED_OBJECTS": "", "LD_SHOW_AUXV": "",
	} {
		w.env = map[string]string{name: value}
		call := words("gcc -c a.c")
		want := w.bare(call)
		got, outcome, reason := w.wrapped(call)
		if strings.HasPrefix(name, "LD_S") || strings.HasPrefix(name, "LD_T") { // it says addresses, which differ
			if got.stdout == "" || want.stdout == "" {
				t.Errorf("%s: nothing is said", name)
			}
			got.stdout = want.stdout
		}
		if diff := got.differs(want); diff != "" || outcome != cc.Plain || reason != cc.ReasonPreload {
			t.Errorf("%s: ended with %s (%s): %s", name, outcome, reason, diff)
		}
	}
}

// TestBlindVariables wants what is no part of a compiler to get its variables where nothing
// can be observed, whether its results are kept or not.
func TestBlindVariables(t *testing.T) {
	for _, flags := range [][]string{nil, {"--read-only"}} {
		w := newWorld(t)
		w.write("a.c", "int a;\n")
		w.script("b/as", "exec "+real(w, "as")+" --defsym foo=$FOO \"$@\"")
		w.env["PATH"] = w.path("b") + ":" + os.Getenv("PATH")
		w.flags = flags
		w.blind("sandboxes")
		w.must(os.MkdirAll(filepath.Join(w.cache, "stat"), 0o700)) // which --read-only does not make
		for _, value := range []string{"1", "2", "1"} {
			w.env["FOO"] = value
			want := w.bare(words("gcc -c a.c"))
			got, outcome, reason := w.wrapped(words("gcc -c a.c"))
			if diff := got.differs(want); diff != "" {
				t.Errorf("%q, FOO=%s: %s (%s %s)", flags, value, diff, outcome, reason)
			}
		}
	}
}
