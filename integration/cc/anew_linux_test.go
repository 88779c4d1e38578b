package cc_test

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// TestOutputsInPlace calls programs a second time where what they made is there, after a
// change of their source, and again: what only makes its output anew has a hit, what looks
// at it in any other way gets what it would do there itself.
func TestOutputsInPlace(t *testing.T) {
	for _, c := range []struct {
		name, script string
		anew         bool // what was there is no input
	}{
		{"made", "cat i >o", true},
		{"made by another program", "sed s/a/b/ i >d/o", true},
		{"made below a directory that is made", "mkdir -p e/f && cat i >e/f/o", false},
		{"given the name", `cat i >t && perl -e 'rename "t", "o" or die'`, true},
		{"given the name, with a look before", "cat i >t && mv t o", false},
		{"made by way of another directory", "cat i >link/../o", false},
		{"written and read", "cat i >o && cat o >p", false},
		{"read and written", "cat o 2>&-; cat i >o", false},
		{"appended to", "cat i >>o", false},
		{"written over, from the start", "printf x 1<>o; cat i >p", false},
		{"there or not", "test -e o && echo is there; cat i >o", false},
		{"size", "test -s o && echo has a size; cat i >o", false},
		{"removed before", "rm -f o; cat i >o", false},
		{"not to be replaced", "(set -C; cat i >o) 2>&- || echo is there; cat i >p", false},
		{"listed", "ls >p; cat i >o", false},
		{"another name kept", "cat i >t; mv o old 2>&-; mv t o", false},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.mkdir("d/sub")
			w.write("i", "a")
			w.link("d/sub", "link")
			w.flags = []string{"--any"}
			args := []string{"sh", "-c", c.script}
			call := func(what string, hit bool) {
				t.Helper()
				want, ends := w.bare(args), []cc.Outcome{cc.Miss}
				if hit {
					ends = []cc.Outcome{cc.Hit}
				} else if !c.anew {
					ends = append(ends, cc.Hit, cc.Plain, cc.Broken)
				}
				w.expect(what, args, want, ends...)
				for _, name := range want.gone {
					w.remove(name)
				}
				for name, f := range want.files {
					w.write(name, f.data)
				}
			}
			call("at first", false)
			call("a second time", c.anew)
			call("a third time", c.anew)
			w.write("i", "ab")
			call("changed", false)
			call("changed, a second time", c.anew)
			w.write("i", "a")
			call("changed back", c.anew)
		})
	}
}

// TestOutputsOfAnotherKind has something in the place of an output that is not a file as
// the program itself would make it: then it does what it does there.
func TestOutputsOfAnotherKind(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(w *world)
		ends []cc.Outcome
	}{
		{"control: nothing", func(*world) {}, []cc.Outcome{cc.Hit}},
		{"control: a file", func(w *world) { w.write("o", "other") }, []cc.Outcome{cc.Hit}},
		{"an empty directory", func(w *world) { w.mkdir("o") }, []cc.Outcome{cc.Plain, cc.Broken, cc.Failed}},
		{"a directory", func(w *world) { w.write("o/x", "") }, []cc.Outcome{cc.Plain, cc.Broken, cc.Failed}},
		{"a link", func(w *world) { w.write("other", "x"); w.link("other", "o") }, []cc.Outcome{cc.Plain}},
		{"a link that leads nowhere", func(w *world) { w.link("other", "o") }, []cc.Outcome{cc.Plain}},
		{"a link to nowhere that can be", func(w *world) { w.link("no/such", "o") }, []cc.Outcome{cc.Plain, cc.Broken, cc.Failed}},
		{"read-only", func(w *world) { w.write("o", "x"); w.must(os.Chmod(w.path("o"), 0o444)) }, []cc.Outcome{cc.Plain, cc.Broken, cc.Failed}},
		{"executable", func(w *world) { w.script("o", "x") }, []cc.Outcome{cc.Plain}},
		{"private", func(w *world) { w.write("o", "x"); w.must(os.Chmod(w.path("o"), 0o600)) }, []cc.Outcome{cc.Plain}},
	} {
		for _, call := range []struct{ name, script string }{
			{"made", "cat i >o"},
			{"renamed", `cat i >t && perl -e 'rename "t", "o" or die'`},
		} {
			t.Run(strings.ReplaceAll(c.name+" "+call.name, " ", "-"), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.write("i", "text")
				w.flags = []string{"--any"}
				args := []string{"sh", "-c", call.script}
				w.expect("before", args, w.bare(args), cc.Miss)
				c.make(w)
				ends := c.ends
				if call.name == "renamed" { // there it may be what bare does, too
					ends = append([]cc.Outcome{cc.Hit}, ends...)
				}
				w.expect("with it in the way", args, w.bare(args), ends...)
				if err := os.RemoveAll(w.path("o")); err != nil && !errors.Is(err, syscall.ENOENT) {
					t.Fatal(err)
				}
				w.expect("afterwards", args, w.bare(args), cc.Hit)
			})
		}
	}
}

// TestStaleOutput has an output that is newer than its source although it was made of
// another one, as when an old source is put back: make and its like leave it alone.
func TestStaleOutput(t *testing.T) {
	w := newWorld(t)
	w.write("i", "text")
	w.must(os.Chtimes(w.path("i"), timeLongAgo, timeLongAgo))
	w.flags = []string{"--any"}
	args := []string{"sh", "-c", "if test -e o && test o -nt i; then echo is up to date; else cat i >o; fi"}
	w.expect("at first", args, w.bare(args), cc.Miss)
	w.write("o", "stale")
	want := w.bare(args)
	if want.stdout != "is up to date\n" {
		t.Errorf("control: %q", want.stdout)
	}
	w.expect("with one that is newer", args, want, cc.Miss)
}

// TestReadOnlyOutput is a program that reads what it could not write to, and then replaces
// that: what was there is an input, although it was opened to be emptied.
func TestReadOnlyOutput(t *testing.T) {
	w := newWorld(t)
	w.write("o", "one\n")
	w.must(os.Chmod(w.path("o"), 0o444))
	w.flags = []string{"--any"}
	args := []string{"sh", "-c", "{ echo two >o; } 2>&-; cat o >t; echo three >>t; perl -e 'rename \"t\", \"o\"'"}
	w.expect("read-only", args, w.bare(args), cc.Miss, cc.Plain)
	w.must(os.Chmod(w.path("o"), 0o644))
	w.expect("to be written to", args, w.bare(args), cc.Miss)
	w.write("o", "other\n")
	w.must(os.Chmod(w.path("o"), 0o444))
	w.expect("another one, read-only", args, w.bare(args), cc.Miss, cc.Plain)
}

// TestOutputKeepsRights is a program that writes to a file that is executable, which it
// then still is: a new one is not.
func TestOutputKeepsRights(t *testing.T) {
	for _, script := range []string{"cat i >o", `perl -e 'open F, ">", "o"; printf "%o", (stat F)[2]; print F 1'`} {
		w := newWorld(t)
		w.write("i", "text")
		w.flags = []string{"--any"}
		args := []string{"sh", "-c", script}
		w.script("o", "x")
		w.expect("executable", args, w.bare(args), cc.Miss)
		w.remove("o")
		w.expect("new", args, w.bare(args), cc.Miss)
		w.write("o", "x")
		w.expect("usual", args, w.bare(args), cc.Hit)
	}
}
