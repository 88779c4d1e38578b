package cc_test

import (
	"testing"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// TestUmaskOfOwner calls a compiler with umasks that take rights from the owner of new
// files, its temporary ones too, which only root's compiler survives: with a result in
// the cache, and without.
func TestUmaskOfOwner(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write("a.c", usesA)
	w.write("a.h", "#define A 1\n")
	w.env["TMPDIR"] = "/tmp" // which masked looks for
	known, other := words("gcc -c a.c -MD"), words("gcc -c a.c -MD -g")
	want := w.bare(known)
	w.expect("with the usual umask", known, want, cc.Miss)
	w.atOnce("with the usual umask", known, want)
	for _, w.umask = range []string{"0277", "0222", "0777"} {
		for _, call := range [][]string{known, other} {
			want := w.bare(call)
			got, outcome, reason := w.wrapped(call)
			want.stderr, got.stderr = masked(want.stderr), masked(got.stderr)
			if diff := got.differs(want); diff != "" || outcome != cc.Plain || reason != cc.ReasonUmask {
				t.Errorf("umask %s, %q: %s; ended with %s (%s)", w.umask, call, diff, outcome, reason)
			}
		}
	}
}
