package cc_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// TestTellsTime has the time of the compile get into results on all ways: none of them
// may be kept, but those in which it is another one.
func TestTellsTime(t *testing.T) {
	const uses = "const char *t = T;\n"
	now := time.Now().UTC()
	today := now.Format("Jan _2 2006")
	for _, c := range []struct {
		name, call, source string
		make               func(*world)
		want               cc.Outcome
	}{
		{"in a source", "gcc -c a.c", "const char *t = __TIME__;\n", nil, cc.Unkept},
		{"control: no time", "gcc -c a.c", "const char *t = \"__TIME_\";\n", nil, cc.Miss},
		{"control: no time, in an object that is read again", "gcc -gsplit-dwarf -c a.c -o object", "int a;\n", nil, cc.Miss},
		{"by an argument", "gcc -DT=__TIME__ -c a.c", uses, nil, cc.Unkept},
		{"by an argument of two words", "gcc -D T=__DATE__ -c a.c", uses, nil, cc.Unkept},
		{"by an argument, and it is said", "gcc -DT=__TIME__ -c a.c", uses, env("SOURCE_DATE_EPOCH", "1000000000"), cc.Miss},
		{"of the file, and the time is said", "gcc -DT=__TIMESTAMP__ -c a.c", uses, env("SOURCE_DATE_EPOCH", "1000000000"), cc.Unkept},
		{"by a program that does not heed what is said", "--any perl -e print+time", "", env("SOURCE_DATE_EPOCH", "1000000000"), cc.Unkept},
		{"by a file of arguments", "gcc @r -c a.c", uses, text("r", "-DT=__TIME__\n"), cc.Unkept},
		{"by a variable", "clang -c a.c", uses, env("CCC_OVERRIDE_OPTIONS", "+-DT=__TIME__"), cc.Unkept},
		{"on standard input", "gcc -x c -c - -o a.o", "", func(w *world) { w.stdin = "const char *t = __TIME__;\n" }, cc.Unkept},
		{"on standard input, preprocessed", "gcc -x c -E -", "", func(w *world) { w.stdin = "const char *t = __TIME__;\n" }, cc.Unkept},
		{"control: standard input", "gcc -x c -c - -o a.o", "", func(w *world) { w.stdin = "const char *t = \"\";\n" }, cc.Miss},
		{"of pieces", "gcc -c a.c", "#define J(a, b) a##b\n#define K(a, b) J(a, b)\nconst char *t = K(__TI, ME__);\n", nil, cc.Unkept},
		{"the date of pieces", "gcc -c a.c", "#define J(a, b) a##b\n#define K(a, b) J(a, b)\nconst char *t = K(__DA, TE__);\n", nil, cc.Unkept},
		{"of lines", "gcc -c a.c", "const char *t = __TI\\\nME__;\n", nil, cc.Unkept},
		{"of lines, to standard output", "gcc -E a.c", "const char *t = __TI\\\nME__;\n", nil, cc.Unkept},
		{"of the file, of lines", "gcc -c a.c", "const char *t = __TIMES\\\nTAMP__;\n", nil, cc.Unkept},
		{"of the file, of lines, and not of now", "gcc -c a.c", "const char *t = \"Sun Sep  9 03:46:40 2001\";\n", nil, cc.Miss},
		{"that a source says, too", "gcc -S a.c", "", func(w *world) {
			var all strings.Builder // whenever the compile is
			for at := range 24 * 60 * 60 {
				fmt.Fprintf(&all, "%02d:%02d:%02d ", at/3600, at/60%60, at%60)
			}
			w.write("a.c", "const char *t = \""+all.String()+"\";\n")
		}, cc.Miss},
		{"the day, that a header says, too", "gcc -c a.c", "#include \"day.h\"\nconst char *t = DAY;\n", text("day.h", "#define DAY \""+today+"\"\n"), cc.Miss},
		{"the day, that an argument says, too", "gcc @r -c a.c", uses, text("r", `'-DT="`+today+`"'`), cc.Miss},
		{"the day, on standard input", "gcc -x c -c - -o a.o", "", func(w *world) { w.stdin = "const char *t = \"" + today + "\";\n" }, cc.Miss},
		{"the day, of pieces, where no source says it", "gcc -c a.c", "#include \"day.h\"\nconst char *t = K(__DA, TE__);\n", text("day.h", "#define J(a, b) a##b\n#define K(a, b) J(a, b)\n"), cc.Unkept},
		{"the day, to a program", "--any echo " + now.Format(time.DateOnly), "", nil, cc.Miss},
		{"the day, by a program that reads it", "--any ./cat", "", func(w *world) {
			w.write("day", now.Format(time.DateOnly)+" "+now.AddDate(0, 0, 1).Format(time.DateOnly))
			w.script("cat", "cat day")
		}, cc.Unkept},
		{"in the header of an object", "clang --target=x86_64-pc-windows-msvc -c a.c", "int a;\n", nil, cc.Unkept},
		{"control: an object without one", "clang --target=x86_64-pc-windows-gnu -c a.c", "int a;\n", nil, cc.Miss},
		{"by a program", "--any date +%T", "", nil, cc.Unkept},
		{"by a program, in a file", "--any cp", "", func(w *world) { w.script("cp", "date >u") }, cc.Unkept},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.env["TZ"] = "UTC"
			if c.source != "" {
				w.write("a.c", c.source)
			}
			if c.make != nil {
				c.make(w)
			}
			args := words(c.call)
			if args[0] == "--any" {
				w.flags, args = []string{"--any", "--no-stdin"}, args[1:]
				if args[0] == "cp" {
					args = []string{"./cp"}
				}
			}
			again := c.want
			if again == cc.Miss {
				again = cc.Hit
			}
			for i, want := range []cc.Outcome{c.want, again} {
				if got, outcome, reason := w.wrapped(args); got.code != 0 || outcome != want || outcome == cc.Unkept && reason != "uses the date or time" {
					t.Errorf("call %d: code %d, %s (%s), want %s: %s", i+1, got.code, outcome, reason, want, got.stderr)
				}
			}
		})
	}
}
