package cc_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// TestStreams has calls read from what can be read once, and is in no sandbox. They are
// executed, and nothing has been taken out of the stream before.
func TestStreams(t *testing.T) {
	for _, c := range []struct {
		name, call string
		make       func(w *world)
		fifo       string // that is written to meanwhile
		want       cc.Reason
	}{
		{"a source that is a FIFO", "gcc -c f.c -o a.o", nil, "f.c", cc.ReasonInput},
		{"a source that is a link to a FIFO", "gcc -c a.c", func(w *world) { w.link("f", "a.c") }, "f", cc.ReasonInput},
		{"an argument of any program that is a FIFO", "--any cat f", nil, "f", cc.ReasonInput},
		{"a source that is a link to standard input", "gcc -c a.c", func(w *world) { w.link("/dev/stdin", "a.c") }, "", cc.ReasonInput},
		{"standard input is asked for by a source", "gcc -c a.c", text("a.c", "#include \"/dev/stdin\"\n"), "", cc.ReasonConcealed},
		{"standard input is asked for by a header that is a link", "gcc -c a.c", func(w *world) {
			w.write("a.c", "#include \"a.h\"\n")
			w.link("/dev/stdin", "a.h")
		}, "", cc.ReasonConcealed},
		{"standard input is asked for by the assembler", "gcc -c a.s", text("a.s", ".include \"/proc/self/fd/0\"\n"), "", cc.ReasonConcealed},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if c.make != nil {
				c.make(w)
			}
			args := words(c.call)
			if args[0] == "--any" {
				w.flags, args = []string{"--any", "--no-stdin"}, args[1:]
			}
			for _, value := range []string{"one", "two", "two"} {
				said := ".globl " + value + "\n"
				if !strings.HasSuffix(c.call, ".s") {
					said = "int " + value + " = 1;\n"
				}
				call := func() {}
				if c.fifo != "" {
					w.remove(c.fifo)
					w.must(unix.Mkfifo(w.path(c.fifo), 0o644))
					call = func() { w.feed(c.fifo, said) }
				} else {
					w.stdin = said
				}
				call()
				want := w.bare(args)
				call()
				got, outcome, reason := w.wrapped(args)
				if diff := got.differs(want); want.code != 0 || diff != "" {
					t.Errorf("%s: %s (%s %s); control: %s", value, diff, outcome, reason, want.stderr)
				}
				if outcome != cc.Plain || reason != c.want {
					t.Errorf("%s: %s (%s), want %q", value, outcome, reason, c.want)
				}
			}
		})
	}
}

// feed has another process write to a FIFO, once somebody reads it.
func (w *world) feed(name, text string) {
	w.t.Helper()
	cmd := exec.Command("sh", "-c", `printf %s "$2" >"$1"`, "sh", w.path(name), text)
	w.must(cmd.Start())
	w.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// TestComparesTimes has a source ask which of two files is newer: that is in no fact.
func TestComparesTimes(t *testing.T) {
	for name, source := range map[string]string{
		"pragma":   "#pragma GCC dependency \"b.y\"\nint a;\n",
		"spaces":   "# pragma GCC \t dependency \"b.y\" say it\nint a;\n",
		"lines":    "#pragma GCC \\\n dependency \"b.y\"\nint a;\n",
		"operator": "_Pragma(\"GCC dependency \\\"b.y\\\"\")\nint a;\n",
		"header":   "#include \"a.h\"\nint a;\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.write("a.c", source)
			w.write("a.h", strings.Repeat("// dependency of GCC\n", 4000)+"#pragma GCC dependency \"b.y\"\n")
			w.write("b.y", "")
			args := words("gcc -c a.c")
			w.must(os.Chtimes(w.path("b.y"), timeLongAgo, timeLongAgo))
			old := w.bare(args)
			w.expect("older", args, old, cc.Unkept)
			for _, f := range []string{"a.c", "a.h"} {
				w.must(os.Chtimes(w.path(f), timeLongAgo, timeLongAgo))
			}
			w.must(os.Chtimes(w.path("b.y"), timeLongAgo.AddDate(1, 0, 0), timeLongAgo.AddDate(1, 0, 0)))
			newer := w.bare(args)
			if !strings.Contains(newer.stderr, "older than b.y") || strings.Contains(old.stderr, "older than") {
				t.Fatalf("control: %q, and before %q", newer.stderr, old.stderr)
			}
			w.expect("newer", args, newer, cc.Unkept)
		})
	}
}

// TestPlaceIsHidden compiles in two places what tells where it is in a way that is not
// seen by looking for the directory's name.
func TestPlaceIsHidden(t *testing.T) {
	for _, c := range []struct {
		name, call string
		make       func(w *world)
	}{
		{"debug information of the assembler with another prefix", "as --gdwarf-5 --debug-prefix-map $TOP=X b.s -o b.o", text("b.s", ".text\nf: nop\n")},
		{"the same by the driver", "gcc -c -Wa,--gdwarf-5 -fdebug-prefix-map=$TOP=X b.s", text("b.s", ".text\nf: nop\n")},
		{"compressed debug information of a configuration file", "clang --config $PWD/../clang.cfg -c b.c", func(w *world) {
			w.write("../clang.cfg", "-g -gz\n")
			w.write("b.c", "int f(void) { return 1; }\n")
		}},
		{"a compiler that is a script", "./gcc -c b.c", func(w *world) {
			w.script("gcc", `exec /usr/bin/gcc -DDIR="$(basename "$(pwd)")" "$@"`)
			w.write("b.c", "#define S(x) #x\n#define T(x) S(x)\nconst char *d = T(DIR);\n")
		}},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			one := newWorld(t)
			var objects []string
			for _, w := range []*world{one, one.at("q")} {
				w.write(".sbx-cc", "# nothing to say\n")
				c.make(w)
				args := words(strings.NewReplacer("$PWD/..", "..", "$TOP", filepath.Clean(w.top)).Replace(c.call))
				want := w.bare(args)
				if want.code != 0 {
					t.Fatalf("control: %s", want.stderr)
				}
				objects = append(objects, want.files["b.o"].data)
				w.expect("in "+w.dir, args, want, cc.Miss)
				w.expect("again in "+w.dir, args, want, cc.Hit)
			}
			if objects[0] == objects[1] {
				t.Error("control: the objects do not tell the places")
			}
		})
	}
}
