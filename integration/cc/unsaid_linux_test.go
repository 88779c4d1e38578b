package cc_test

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// wantFronts wants the front to answer at least that many calls of the test.
func wantFronts(t *testing.T, want int32) func(bool) {
	var answered atomic.Int32
	t.Cleanup(func() {
		if n := answered.Load(); n < want && runtime.GOARCH == "amd64" {
			t.Errorf("the front was there for %d calls, want %d", n, want)
		}
	})
	return func(did bool) {
		if did {
			answered.Add(1)
		}
	}
}

// TestUnsaid has standard output or error that cannot be written to: full, or a pipe that
// nobody reads. The call ends as the compiler's alone does, whether it would have been a
// miss, a hit, or one by the front.
func TestUnsaid(t *testing.T) {
	if testing.Short() {
		return // it is tested elsewhere
	}
	fronts := wantFronts(t, 5)
	for _, c := range []struct {
		call, streams string
		code          int  // of the compiler, where we know; -1: another one than 0
		said          bool // by us: what cannot be written is not there
	}{
		{"gcc -E a.c", ">/dev/full", 1, false},
		{"gcc -E a.c", ">&4", -1, false},
		{"gcc -E a.c", "2>/dev/full", 0, true},
		{"gcc -E -MMD -MF a.d a.c", ">/dev/full", 1, false},
		{"gcc -Wall -S -o - a.c", ">/dev/full", 1, false},
		{"gcc -Wall -S -o - a.c", ">/dev/full 2>&1", -1, false},
		{"gcc -Wall -S -o - a.c", "2>&4", -1, false},
		{"gcc -Wall -S -o - a.c", "2>/dev/full", 0, true},
		{"gcc -M a.c", ">&4", -1, false},
		{"gcc -Wall -c a.c", ">/dev/full", 0, true},
		{"gcc -Wall -c a.c", "2>/dev/full", 0, false},
		{"gcc -Wall -c a.c", "2>&4", -1, false},
		{"clang -E a.c", ">/dev/full", -1, false},
		{"clang -E a.c", ">&4", -1, false},
		{"clang -Wall -c a.c", "2>/dev/full", -1, false},
	} {
		t.Run(strings.NewReplacer(" ", "_", "/", "_").Replace(c.call+c.streams), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.write("a.c", "#include <stdio.h>\nstatic int f(void) { return 1; }\nint main(void) { return puts(\"\"); }\n")
			w.must(syscall.Mkfifo(filepath.Join(w.top, "pipe"), 0o600))
			call := words(c.call)
			lost := []string{"sh", "-c", "exec 3<>../pipe 4>../pipe 3<&-; exec \"$@\" " + c.streams + " 4>&-", "sh"}
			why := cc.ReasonUnsaid
			if strings.HasSuffix(c.streams, "2>&1") {
				why = cc.ReasonMixed
			}
			want := w.run(slices.Concat(lost, []string{"/usr/bin/env"}, call))
			if want.code != c.code && (c.code != -1 || want.code == 0) {
				t.Fatalf("control: the compiler ends with %d, want %d", want.code, c.code)
			}
			cannot := func(when string, otherwise cc.Outcome) {
				t.Helper()
				w.front = lost
				defer func() { w.front = nil }()
				got, outcome, reason := w.wrapped(call)
				if strings.HasPrefix(c.call, "clang") { // which says where in memory it was
					got.stderr, want.stderr = "", ""
				}
				if diff := got.differs(want); diff != "" {
					t.Errorf("%s: %s (%s %s)", when, diff, outcome, reason)
				}
				if c.said && outcome != otherwise || !c.said && reason != why {
					t.Errorf("%s: ended with %s (%s)", when, outcome, reason)
				}
			}
			cannot("a miss", cc.Miss)
			w.expect("a hit after it", call, w.bare(call), cc.Hit)
			cannot("a hit", cc.Hit)
			fronts(w.atOnce("by the front", call, w.bare(call)))
			cannot("a hit by the front", cc.Hit)
		})
	}
}

// TestLinked has outputs that have another name, too, or that are symbolic links: what
// the compiler writes to is changed under both, and what it replaces is not.
func TestLinked(t *testing.T) {
	if testing.Short() {
		return // it is tested elsewhere
	}
	fronts := wantFronts(t, 4)
	for _, c := range []struct {
		call string
		same bool // control: both names have what was written
	}{
		{"gcc -S a.c -o out", true},
		{"gcc -E a.c -o out", true},
		{"gcc -c a.c -o a.o -MD -MF out", true},
		{"gcc -c a.c -o out", false},
		{"clang -c a.c -o out", false},
	} {
		for _, link := range []func(old, name string) error{os.Link, os.Symlink} {
			t.Run(strings.ReplaceAll(c.call, " ", "_"), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.write("a.c", usesA)
				w.write("a.h", "#define A 1\n")
				call := words(c.call)
				w.expect("at first", call, w.bare(call), cc.Miss)
				fronts(w.atOnce("by the front", call, w.bare(call)))
				linked := func() {
					w.remove("out")
					w.write("other", "old\n")
					w.must(link(w.path("other"), w.path("out")))
				}
				linked()
				want := w.bare(call)
				info, err := os.Lstat(w.path("out"))
				w.must(err)
				if _, changed := want.files["other"]; info.Mode().IsRegular() && changed != c.same {
					t.Fatalf("control: the compiler has changed the other name: %v", changed)
				}
				linked()
				w.expect("a hit", call, want, cc.Plain)
				linked()
				w.write("a.h", "#define A 2\n")
				want = w.bare(call)
				linked()
				w.expect("a miss", call, want, cc.Plain)
			})
		}
	}
}
