package cc_test

import (
	"os"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// TestExistingOutputs has outputs that are there already, with permissions that new files
// would not have. Compilers remove some and write into others: misses, hits and those
// by the front have to leave the same permissions.
func TestExistingOutputs(t *testing.T) {
	fronts := wantFronts(t, 5)
	for _, c := range []struct {
		call, output string
	}{
		{"gcc -MD -c a.c", "a.o"},
		{"gcc -MD -c a.c", "a.d"},
		{"gcc -S a.c", "a.s"},
		{"gcc -E a.c -o a.i", "a.i"},
		{"gcc a.c -o prog", "prog"},
		{"gcc -g -gsplit-dwarf -c a.c", "a.dwo"},
		{"gcc -fstack-usage -c a.c", "a.su"},
		{"clang -MD -c a.c", "a.o"},
		{"clang -MD -c a.c", "a.d"},
		{"clang -S a.c", "a.s"},
		{"as b.s -o b.o", "b.o"},
		{"ar rcs l.a a.c", "l.a"},
	} {
		t.Run(strings.NewReplacer(" ", "_").Replace(c.call+" "+c.output), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.umask = "022"
			w.write("a.c", "#include \"a.h\"\nint main(void) { return 0; }\n")
			w.write("a.h", "")
			w.write("b.s", ".text\nf: nop\n")
			w.flags = []string{"--cache-links"}
			args := words(c.call)
			clean := w.bare(args)
			w.expect("at first", args, clean, cc.Miss)
			fronts(w.atOnce("again", args, clean))
			fresh := clean.files[c.output].mode
			for _, content := range []string{clean.files[c.output].data, "other\n"} {
				for _, mode := range []os.FileMode{0o600, 0o755 | os.ModeSetuid} {
					if c.output == "l.a" && content == "other\n" {
						continue // which ar does not understand
					}
					there := func() {
						w.remove(c.output)
						w.write(c.output, content)
						w.must(os.Chmod(w.path(c.output), mode))
					}
					there()
					want := w.bare(args)
					there()
					got, outcome, reason := w.wrapped(args)
					if diff := got.differs(want); diff != "" {
						t.Errorf("mode %v (new ones have %v), %d bytes: %s (%s %s)", mode, fresh, len(content), diff, outcome, reason)
					}
				}
			}
		})
	}
}

// TestOneStream has standard output and error be one file: it shows in which order they
// were written.
func TestOneStream(t *testing.T) {
	w := newWorld(t)
	w.write("a.c", "#include <stdio.h>\n#warning of this\nint a;\n")
	for _, call := range []string{"gcc -E a.c", "gcc -Wall -S a.c -o -"} {
		want := w.run([]string{"/bin/sh", "-c", call + " >log 2>&1"})
		if log := want.files["log"].data; !strings.Contains(log, "#warning of this") || !strings.Contains(log, "a.c\"") {
			t.Fatalf("control: %q", log)
		}
		for i, streams := range []string{">log 2>&1", ">log 2>&1", "2>&1 | cat >log"} {
			w.settle()
			got := w.run([]string{"/bin/sh", "-c", command + " cc " + call + " " + streams})
			if diff := got.differs(want); diff != "" {
				t.Errorf("%s, call %d: %s", call, i+1, diff)
			}
		}
	}
	if got := w.lines(); len(got) != 1 || got[totalKey{cc.Plain, cc.ReasonMixed}] != 6 {
		t.Errorf("counted: %v", got)
	}
}
