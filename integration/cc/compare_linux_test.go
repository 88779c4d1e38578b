package cc_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// A row is a script of the shell that is run with the bare compilers, then through us with
// nothing in the cache, then again and again. Each time it starts from the same files, and
// has to have the same effect. In it $CC, $CXX, $CLANG, $CLANGXX, $AS, $LD, $AR, $RANLIB and
// $CPP stand for the programs, $T for a directory outside of the project, which is empty,
// and tick waits for the next tick of the clock that files are stamped with: what changes
// in the one in which a call begins may have changed after that.
type row struct {
	name  string
	files map[string]string // besides those of sources, or in their place
	call  string
	with  []string // programs that $CC stands for, one after the other; nil: gcc

	// How the calls end when all that can be is in the cache, such as "fail, hit": see ends.
	// "": all are hits. That of clang, and of who is not root,
	// may be another one.
	want, clang, user string

	varies []string // outputs that no two runs of the bare compiler have alike
}

var both = []string{"gcc", "clang"}

// sources are what every row has.
var sources = map[string]string{
	"a.c":     "#include \"a.h\"\nint f(int x) { int unused; return x + A; }\n",
	"a.h":     "#define A 1\n",
	"b.c":     "#include <stddef.h>\nsize_t g(void) { return sizeof(int); }\n",
	"m.c":     "int f(int);\nint main(void) { return f(-1); }\n",
	"bad.c":   "int f(void) { return y; }\n",
	"a.cc":    "#include \"a.h\"\ntemplate <class T> T twice(T x) { return x + x; }\nint f(int x) { int unused; return twice(x) + A; }\n",
	"bad.cc":  "#include \"a.h\"\nint f(void) { return y; }\n",
	"s.s":     ".globl s\ns:\t.long 1\n.incbin \"data\"\n",
	"S.S":     "#include \"a.h\"\n.globl s\ns:\t.long A\n.incbin \"data\"\n",
	"data":    "0123456789",
	"src/c.c": "#include \"../a.h\"\n#include \"c.h\"\nint h(void) { return A + C; }\n",
	"src/c.h": "#define C 2\n",
}

var programs = map[string]string{
	"CC": "gcc", "CXX": "g++", "CLANG": "clang", "CLANGXX": "clang++", "AS": "as", "LD": "ld", "AR": "ar", "RANLIB": "ranlib", "CPP": "cpp",
}

// run runs the row's script, with front in front of each compiler.
func (r *row) run(w *world, cc, front string) effect {
	w.env["T"] = w.path("../t")
	for name, program := range programs {
		w.env[name] = front + program
	}
	w.env["CC"] = front + cc
	w.mkdir("../t")
	e := w.run([]string{"/bin/sh", "-c", "tick() { sleep 0.02; }\n" + r.call})
	w.host("sh", "-c", "chmod -R u+rwx ../t && rm -rf ../t")
	e.stdout, e.stderr = masked(e.stdout), masked(e.stderr)
	for name, f := range e.files {
		if f.data = masked(f.data); slices.Contains(r.varies, name) {
			f.data = ""
		}
		e.files[name] = f
	}
	return e
}

var temporary = regexp.MustCompile(`/tmp/cc[A-Za-z0-9]{6}`)

// masked is text without the names that GCC makes up for temporary files.
func masked(text string) string { return temporary.ReplaceAllString(text, "/tmp/cc......") }

// ends is how calls have ended since before: the kinds, with the reasons of those that are
// executed. first says that misses are what will be hits.
func (w *world) ends(before map[totalKey]int64, first bool) string {
	kinds := map[string]bool{}
	for k, n := range w.totals() {
		switch {
		case n == before[k]:
		case k.o == cc.Hit, k.o == cc.Miss && first:
			kinds["hit"] = true
		case k.o == cc.Miss, k.o == cc.Failed:
			kinds[string(k.o)] = true
		default:
			kinds[fmt.Sprintf("%s (%s)", k.o, k.r)] = true
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(kinds)), ", ")
}

// compareAll compares rows, one after the other in one place.
func compareAll(t *testing.T, rows []row) {
	t.Parallel()
	w := newWorld(t)
	w.env["LC_ALL"], w.env["TMPDIR"] = "C", "/tmp"
	w.dirs = true
	for i, r := range rows {
		if r.with == nil {
			r.with = []string{"gcc"}
		}
		for _, program := range r.with {
			// Clang takes longest; as another user than root, what is about rights is of interest.
			few := program == "clang" || os.Geteuid() != 0 && r.user == ""
			if few && i%5 != 0 || testing.Short() && (i%6 != 0 || program != "gcc") {
				continue
			}
			t.Run(strings.ReplaceAll(r.name+", "+program, " ", "-"), func(t *testing.T) {
				w := *w
				w.t = t
				w.env = maps.Clone(w.env)
				w.cache = filepath.Join(w.top, fmt.Sprint("cache", i, program))
				w.remove(".")
				w.mkdir(".")
				w.files(sources)
				w.files(r.files)
				r.compare(&w, program)
				w.must(os.RemoveAll(w.cache))
			})
		}
	}
}

func (r *row) compare(w *world, program string) {
	bare := r.run(w, program, "")
	want := "hit"
	for _, o := range []struct {
		want string
		ok   bool
	}{{r.want, true}, {r.clang, program == "clang"}, {r.user, os.Geteuid() != 0}} {
		if o.ok && o.want != "" {
			want = o.want
		}
	}
	for round, late := 1, false; round <= 3; round++ {
		w.settle()
		before := w.totals()
		got := r.run(w, program, command+" cc --cache-links ")
		if diff := got.differs(bare); diff != "" {
			w.t.Errorf("round %d: %s", round, diff)
		}
		ends := w.ends(before, round == 1)
		// Where the clock stood still although we waited, nothing could be kept.
		if late = late || strings.Contains(ends, "changed meanwhile"); late {
			continue
		}
		if ends != want {
			w.t.Errorf("round %d: ended with %s, want %s", round, ends, want)
		}
	}
}

// TestCompareSees has a compiler that does not do what it should, which the comparer has to see.
func TestCompareSees(t *testing.T) {
	w := newWorld(t)
	w.dirs = true
	w.files(sources)
	r := row{call: "$CC a.c"}
	w.script("../gcc", "echo out; echo err >&2; echo object >a.o; mkdir d; exit 3")
	want := r.run(w, "gcc", w.top+"/")
	if want.code != 3 || len(want.files) != 2 {
		t.Fatalf("control: %+v", want)
	}
	for _, wrong := range []string{
		"echo oUt; echo err >&2; echo object >a.o; mkdir d; exit 3",
		"echo out; echo erR >&2; echo object >a.o; mkdir d; exit 3",
		"echo out; echo err >&2; echo objecT >a.o; mkdir d; exit 3",
		"echo out; echo err >&2; echo object >a.o; exit 3",
		"echo out; echo err >&2; echo object >a.o; mkdir d; exit 2",
		"echo out; echo err >&2; echo object >a.o; mkdir d; kill -9 $$",
		"echo out; echo err >&2; echo object >a.o; mkdir d; chmod 755 a.o; exit 3",
		"echo out; echo err >&2; echo object >a.o; mkdir -m 700 d; exit 3",
		"echo out; echo err >&2; echo object >a.o; mkdir d; echo >b; exit 3",
		"echo out; echo err >&2; ln -s x a.o; mkdir d; exit 3",
		"echo out; echo err >&2; echo object >a.o; mkdir d; rm a.h; exit 3",
	} {
		w.script("../gcc", wrong)
		if r.run(w, "gcc", w.top+"/").differs(want) == "" {
			t.Errorf("%q is not told from what it should be", wrong)
		}
	}
}
