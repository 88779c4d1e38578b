package cc_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// A shared is a script of the shell that is run in two checkouts, in directories of which
// one's name begins with the other's: with the bare compiler, and with --path fixed. In it
// $P is the checkout, and $CC, $CLANG and so on stand for the programs, as in [row].
type shared struct {
	name  string
	call  string
	in    string // the working directory in the checkout; "": the checkout
	files map[string]string

	// What the second checkout has of the first: "hit", or "own", where everything is
	// as with --path same. "": not all of it is kept, which is not looked at.
	want string

	plain  bool     // and one of the calls is executed as it is
	varies []string // outputs of which only the names of directories are compared: lines are broken elsewhere, or no two runs are alike
}

// checkout is what each one has.
var checkout = map[string]string{
	".sbx-cc":     "# nothing to say\n",
	"src/a.c":     "#include \"a.h\"\nint f(int x) { int unused; return x + A; }\n",
	"src/m.c":     "int f(int);\nint main(void) { return f(-1); }\n",
	"src/bad.c":   "#include \"a.h\"\nint f(void) { return y; }\n",
	"src/file.c":  "#include <assert.h>\nconst char *name(int x) { assert(x > 3); return __FILE__; }\n",
	"src/a.cc":    "#include \"a.h\"\ntemplate <class T> T twice(T x) { return x + x; }\nint f(int x) { int unused; return twice(x) + A; }\n",
	"src/s.S":     "#include \"a.h\"\n.globl s\ns:\t.long A\n",
	"src/p.y":     "%%\ns: 'a'\n",
	"inc/a.h":     "#define A 1\n",
	"inc/all.h":   "#include \"a.h\"\nint all(int);\n",
	"lib/x":       "",
	"build/sub/x": "",
}

// run runs the script in the checkout, with front in front of each program.
func (r *shared) run(w *world, front string) effect {
	w.env["P"], w.in = w.dir, ""
	for name, program := range programs {
		w.env[name] = front + program
	}
	w.env["BISON"] = front + "--any --no-stdin bison"
	if front == "" {
		w.env["BISON"] = "bison"
	}
	if r.in != "" {
		w.in = strings.TrimPrefix(w.path(r.in), w.top)
	}
	e := w.run([]string{"/bin/sh", "-c", "tick() { sleep 0.02; }\n" + r.call})
	e.stdout, e.stderr = masked(e.stdout), masked(e.stderr)
	for name, f := range e.files {
		f.data = masked(f.data)
		e.files[name] = f
	}
	return e
}

// TestExchanged has the same calls with everything at its own place, where what the two
// checkouts get must be the compiler's to the last byte.
func TestExchanged(t *testing.T) {
	for i, r := range sharedRows {
		if testing.Short() && i%8 != 4 {
			continue
		}
		t.Run(strings.ReplaceAll(r.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			late := false // see [row.compare]
			for i, w := range r.places(t) {
				want := r.run(w, "")
				w.settle()
				for round := 1; round <= 1+i; round++ {
					before := w.totals()
					got := r.run(w, command+" cc --cache-links ")
					for _, name := range r.varies {
						if !isText(name, want.files[name].data) {
							got.files[name] = want.files[name]
						}
					}
					if diff := got.differs(want); diff != "" {
						t.Errorf("place %d, round %d: %s", i+1, round, diff)
					}
					ends, _, _ := strings.Cut(w.ends(before, false), ", plain")
					if late = late || strings.Contains(ends, "changed meanwhile"); round == 2 && ends != "hit" && !late && r.want != "" {
						t.Errorf("place %d, round %d: ended with %s", i+1, round, ends)
					}
				}
			}
		})
	}
}

// TestOddNames has checkouts whose names are written otherwise in lists of dependencies, in
// JSON or by a shell.
func TestOddNames(t *testing.T) {
	r := shared{call: `$CC -Wall -g -MD -I"$P/inc" -c "$P/src/a.c"; $CC -E -I"$P/inc" "$P/src/file.c" -o x; $CC -Iinc -MM src/a.c "$P/src/m.c"; $CLANG -MJ y -g -MD -MF z -Iinc -c src/a.c -o b.o`}
	for i, name := range []string{"a b", "a$b#", `a\b"`, "é", "a:b,c=d", "a\xffb'"} {
		if testing.Short() && i != 0 {
			continue
		}
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			for _, mode := range []string{"same", "fixed"} {
				w := newWorld(t)
				w.env["LC_ALL"], w.env["TMPDIR"] = "C", "/tmp"
				for _, place := range []string{"w/" + name, "w/" + name + "2"} {
					w := w.at(place)
					w.files(checkout)
					want := r.run(w, "")
					w.settle()
					for range 2 {
						if diff := r.run(w, command+" cc --path "+mode+" ").differs(want); diff != "" {
							t.Errorf("%q, %s: %s", place, mode, diff)
						}
					}
				}
			}
		})
	}
}

// TestSharedMake builds in two checkouts, which differ in what is in a header for a while:
// make has to see that by the lists of dependencies that came from the other one.
func TestSharedMake(t *testing.T) {
	w := newWorld(t)
	w.env["LC_ALL"], w.env["TMPDIR"], w.env["CC"] = "C", "/tmp", command+" cc --path fixed gcc"
	makefile := "P := $(abspath ..)\nm: a.o m.o\n\tgcc -o m a.o m.o\n%.o: $(P)/src/%.c\n\t$(CC) -I$(P)/inc -MMD -MP -MF $*.needs -c $< -o $@\n-include a.needs m.needs\n"
	places := []*world{w.at("one"), w.at("one2")}
	late := false
	build := func(w *world, want int, outcome cc.Outcome, calls int64) {
		t.Helper()
		w.settle()
		before := w.totals()
		cmd := exec.Command("sh", "-c", "make -s -C build && make -q -C build && build/m")
		cmd.Dir = w.dir
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.path("../home"), "SBX_CACHE=" + w.cache, "CC=" + w.env["CC"], "LC_ALL=C", "SBX_WARM=off"}
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != want {
			t.Errorf("%s: %v, want exit code %d: %s", w.dir, err, want, out)
		}
		for k, n := range w.totals() {
			if n -= before[k]; n != 0 && k.o == cc.Unkept {
				late = true
			} else if n != 0 && !late && (k.o != outcome || n != calls) {
				t.Errorf("%s: %d calls ended with %s (%s), want %d with %s", w.dir, n, k.o, k.r, calls, outcome)
			}
		}
	}
	change := func(w *world, name, text string) { // to a time of its own for make
		t.Helper()
		modified := func(name string) time.Time {
			info, err := os.Stat(w.path(name))
			w.must(err)
			return info.ModTime()
		}
		for w.write(name, text); !modified(name).After(modified("build/a.o")) || !modified(name).After(modified("build/m.o")); {
			w.write(name, text)
		}
	}
	for i, w := range places {
		w.files(checkout)
		w.files(map[string]string{"src/m.c": "#include \"a.h\"\nint f(int);\nint main(void) { return f(A); }\n", "build/Makefile": makefile})
		build(w, 2, []cc.Outcome{cc.Miss, cc.Hit}[i], 2)
	}
	one, two := places[0], places[1]
	change(two, "inc/a.h", "#define A 20\n")
	build(two, 40, cc.Miss, 2)
	build(one, 2, "", 0)
	change(one, "inc/a.h", "#define A 20\n")
	build(one, 40, cc.Hit, 2)
	change(two, "src/a.c", "int f(int x) { return x; }\n")
	build(two, 20, cc.Miss, 1)
	two.remove("inc/a.h")
	change(two, "src/m.c", "int f(int);\nint main(void) { return f(3); }\n")
	build(two, 3, cc.Miss, 1)
}

// isText says whether an output is text whose names are those of the checkout.
func isText(name, data string) bool {
	return !strings.ContainsRune(data, 0) && !strings.HasPrefix(data, "!<arch>") && !slices.Contains([]string{".s", ".ll", ".asm"}, filepath.Ext(name))
}

// misnamed says what of an effect names another place than it should: the compiler alone
// gives want, in the checkout dir.
func (r *shared) misnamed(got, want effect, dir, other string) string {
	got.files, want.files = maps.Clone(got.files), maps.Clone(want.files)
	names := func(text string) []string {
		return slices.DeleteFunc(strings.Fields(strings.ReplaceAll(text, "\\\n", " ")), func(s string) bool { return !strings.Contains(s, dir) })
	}
	for name, f := range want.files {
		g, ok := got.files[name]
		if !ok {
			continue
		}
		if _, has := strings.CutPrefix(nameOf(g.data, other), nameOf(g.data, dir)); nameOf(g.data, other) != "" && has {
			return name + " names the other checkout"
		}
		switch text := isText(name, f.data); {
		case text && (slices.Contains(r.varies, name) || filepath.Ext(name) == ".d"):
			if a, b := names(g.data), names(f.data); !slices.Equal(a, b) || strings.Contains(g.data, " /build") {
				return fmt.Sprintf("%s names %q, want %q", name, a, b)
			}
		case slices.Contains(r.varies, name): // no two are alike
		case text || r.want != "hit":
			continue
		case strings.Contains(g.data, dir):
			return name + " names the checkout"
		}
		got.files[name] = file{mode: g.mode}
		want.files[name] = file{mode: f.mode}
	}
	got.stdout, want.stdout = joined(got.stdout), joined(want.stdout)
	return got.differs(want)
}

// joined is text without the ends of lines in lists of dependencies, which are where the
// names before them left room.
func joined(text string) string { return strings.ReplaceAll(text, " \\\n", "") }

// nameOf is name where text has it as the whole name of a directory, or "".
func nameOf(text, name string) string {
	for rest := text; ; {
		_, after, ok := strings.Cut(rest, name)
		if !ok {
			return ""
		}
		if after == "" || strings.ContainsRune("/ \n\t\"':;,\x00", rune(after[0])) {
			return name
		}
		rest = after
	}
}

// places are the two checkouts.
func (r *shared) places(t *testing.T) []*world {
	one := newWorld(t) // in a directory that has the name of the test, which is to have nothing odd in it
	one.env["LC_ALL"], one.env["TMPDIR"] = "C", "/tmp"
	one.dirs = true
	one = one.at("w/one")
	list := []*world{one, one.at("w/one.two/deeper")}
	for _, w := range list {
		w.files(checkout)
		w.files(r.files)
	}
	return list
}

func (r *shared) try(t *testing.T) {
	front := command + " cc --path fixed --cache-links "
	objects := map[string]string{}
	places, late := r.places(t), false
	for i, w := range places {
		want := r.run(w, "")
		if want.code != 0 {
			t.Fatalf("control: %s", want.stderr)
		}
		w.settle()
		for round := 1; round <= 2; round++ {
			before := w.totals()
			got := r.run(w, front)
			if diff := r.misnamed(got, want, w.dir, places[1-i].dir); diff != "" {
				t.Errorf("place %d, round %d: %s", i+1, round, diff)
			}
			ends := w.ends(before, false)
			// Where something changed while a compiler ran, nothing could be kept.
			if late = late || strings.Contains(ends, "changed meanwhile"); late || r.want == "" {
				continue
			}
			allowed := "hit"
			switch {
			case i == 0 && round == 1, i == 1 && round == 1 && r.want == "own":
				allowed = "miss"
			}
			if r.plain {
				ends, _, _ = strings.Cut(ends, ", plain")
			}
			if ends != allowed && !(allowed == "miss" && i == 1 && ends == "hit, miss") {
				t.Errorf("place %d, round %d: ended with %s, want %s", i+1, round, ends, allowed)
			}
			for name, f := range got.files {
				if r.want != "hit" || isText(name, f.data) || slices.Contains(r.varies, name) {
					continue
				}
				if o, ok := objects[name]; ok && o != f.data {
					t.Errorf("place %d: %s is another one", i+1, name)
				}
				objects[name] = f.data
			}
		}
	}
}

var sharedRows = []shared{
	{name: "MD", call: "$CC -Wall -g -I$P/inc -MD -c $P/src/a.c -o a.o", want: "hit"},
	{name: "MF of any name", call: "$CC -I$P/inc -MD -MP -MF deps/x.dep.in -c $P/src/a.c -o a.o; $CC -MMD -MF$P/y.dd -Iinc -c src/a.c -o b.o", files: map[string]string{"deps/x": ""}, want: "hit", varies: []string{"deps/x.dep.in", "y.dd"}},
	{name: "MT", call: "$CC -I$P/inc -MD -MT $P/obj/a.o -MQ $P/x.o -MF x -c $P/src/a.c -o a.o", want: "hit", varies: []string{"x"}},
	{name: "M -o", call: "$CC -I$P/inc -M $P/src/a.c -o list; $CC -I$P/inc -MM $P/src/a.c", want: "hit", varies: []string{"list"}},
	{name: "Wp", call: "$CC -I$P/inc -Wp,-MD,$P/x.list -c $P/src/a.c; $CC -Iinc -Xpreprocessor -MD -Xpreprocessor y.list -c $P/src/a.c -o b.o", want: "hit", varies: []string{"x.list", "y.list"}},
	{name: "DEPENDENCIES_OUTPUT", call: "DEPENDENCIES_OUTPUT=\"$P/x.list $P/a.o\" $CC -I$P/inc -c $P/src/a.c; SUNPRO_DEPENDENCIES=y $CC -I$P/inc -c $P/src/a.c", want: "hit", varies: []string{"x.list", "y"}},
	{name: "clang MD", call: "$CLANG -Wall -g -I$P/inc -MD -MF x -MJ y.json -c $P/src/a.c -o $P/a.o", want: "hit", varies: []string{"x"}},
	{name: "in build", in: "build", call: "$CC -Wall -g -I$P/inc -MD -MT $P/build/a.o -c $P/src/a.c -o $P/build/a.o; $CC -E -I../inc $P/build/../src/a.c; $CLANG -I$P/inc -M $P/src/a.c -o x", want: "hit", varies: []string{"build/x"}},
	{name: "in build/sub", in: "build/sub", call: "$CXX -Wall -I$P/inc -MD -c $P/src/a.cc; $CC -g -Wall -I../../inc -MD -c ../../src/a.c -o $P/build/sub/b.o", want: "hit"},
	{name: "E", call: "$CC -E -g -I$P/inc $P/src/a.c; $CC -E -I$P/inc $P/src/file.c -o x; $CC -E -dD -I$P/inc $P/src/a.c -o y.i; $CLANG -E -I$P/inc $P/src/file.c -o z.ii; $CPP -I$P/inc $P/src/a.c", want: "hit"},
	{name: "E of what names /build", call: "$CC -E -I$P/inc $P/b.c; $CC -E -I$P/inc $P/b.c -o x", files: map[string]string{"b.c": "#include \"a.h\"\nchar *s = \"/build/x\";\n"}, want: "own"},
	{name: "an error in a line that names /build", call: "$CC -Wall -c $P/b.c", files: map[string]string{"b.c": "int f(void) { char *unused = \"/build/x\"; return 0; }\n"}, want: "own"},
	{name: "an argument names /build", call: "$CC -I/build/inc -Iinc -c $P/src/a.c", want: "own"},
	{name: "S", call: "$CC -S -g -I$P/inc $P/src/file.c; $CC -S -I$P/inc $P/src/a.c -o x.asm; $CLANG -S -emit-llvm -I$P/inc $P/src/file.c -o y.ll", want: "hit"},
	{name: "colours", call: "$CC -Wall -fdiagnostics-color=always -I$P/inc -c $P/src/a.c; $CLANG -Wall -fcolor-diagnostics -I$P/inc -c $P/src/a.c; $CC -fdiagnostics-urls=always -Wall -I$P/inc -c $P/src/a.c", want: "hit"},
	{name: "UTF-8", call: "LC_ALL=C.UTF-8 $CC -Wall -I$P/inc -I$P/lib/x -c $P/src/a.c -Wmissing-include-dirs; LC_ALL=C.UTF-8 $CC -Wall -I$P/nothing -I$P/inc -Wmissing-include-dirs -E $P/src/m.c", want: "hit"},
	{name: "json", call: "$CC -Wall -fdiagnostics-format=json -I$P/inc -c $P/src/a.c", want: "hit"},
	{name: "dia", call: "$CLANG -Wall --serialize-diagnostics x.dia -I$P/inc -c $P/src/a.c", want: "own"},
	{name: "dia relative", call: "$CLANG -Wall --serialize-diagnostics x.dia -Iinc -c src/a.c", want: "hit"},
	{name: "aux-info", call: "$CC -aux-info x -I$P/inc -c $P/src/a.c", want: "hit"},
	{name: "dumps", call: "$CC -O1 -g -fdump-tree-all-lineno -fdump-rtl-expand -fdump-noaddr -I$P/inc -c $P/src/a.c; $CC -O2 -fopt-info-all=opt.txt -I$P/inc -c $P/src/a.c; $CC -O2 -fopt-info-all -I$P/inc -c $P/src/a.c", want: "hit"},
	{name: "su ci", call: "$CC -fstack-usage -fcallgraph-info=su -I$P/inc -c $P/src/a.c", want: "hit"},
	{name: "save-temps", call: "$CC -save-temps -g -MD -I$P/inc -c $P/src/a.c; $CC -save-temps=obj -I$P/inc -c $P/src/file.c -o lib/x.o", want: "hit"},
	{name: "coverage", call: "$CC -frandom-seed=1 --coverage -Iinc -c src/a.c; $CC -frandom-seed=1 -fprofile-arcs -ftest-coverage -I$P/inc -c $P/src/m.c", want: "own"},
	{name: "split", call: "$CC -g -gsplit-dwarf -Iinc -c src/a.c", want: "own"},
	{name: "macro", call: "$CC -DDATA=\\\"$P/data\\\" -c src/d.c; $CC -D DATA=\\\"$P/data\\\" -c src/d.c -o d2.o", files: map[string]string{"src/d.c": "const char *data = DATA;\n"}, want: "own"},
	{name: "assert", call: "$CC -c $P/src/file.c", want: "hit"},
	{name: "maps", call: "$CC -g -ffile-prefix-map=$P=. -I$P/inc -c $P/src/file.c; $CC -g -ffile-prefix-map=$P=/build -fdebug-prefix-map=$P/src=/s -I$P/inc -MD -c $P/src/a.c", want: "hit"},
	{name: "switches", call: "$CC -frecord-gcc-switches -g -I$P/inc -c src/a.c", want: "hit"},
	{name: "lto", call: "$CC -frandom-seed=1 -flto -g -I$P/inc -c $P/src/a.c; $CLANG -flto -g -I$P/inc -c $P/src/a.c -o b.o", want: "hit"},
	{name: "gz", call: "$CC -gz -g3 -I$P/inc -c $P/src/a.c", want: "hit"},
	{name: "record", call: "$CC -O2 -fsave-optimization-record -I$P/inc -c $P/src/a.c", want: "own", varies: []string{"a.c.opt-record.json.gz"}},
	{name: "pch", call: "$CC -I$P/inc -x c-header -c $P/inc/all.h -o inc/all.h.gch; tick; $CC -MD -I$P/inc -include all.h -c src/m.c", want: "own", varies: []string{"inc/all.h.gch"}},
	{name: "pch clang", call: "$CLANG -Xclang -fno-pch-timestamp -Iinc -x c-header -c inc/all.h -o all.pch", want: "own"},
	{name: "response", call: "printf '%s' \"-I$P/inc -c $P/src/a.c -o $P/a.o -MD\" >rsp; tick; $CC @rsp; $CC -Wall @$P/rsp", want: "own"},
	{name: "response relative", call: "printf '%s' '-Iinc -c src/a.c -o a.o -MD' >rsp; tick; $CC -g @$P/rsp", want: "hit"},
	{name: "S with cpp", call: "$CC -g -MD -I$P/inc -c $P/src/s.S -o s.o; $CC -I$P/inc -Wa,--MD,x -Wa,-I,$P/inc -c $P/src/s.S -o t.o", want: "hit", varies: []string{"x"}},
	{name: "listing", call: "$CC -Wa,-adhln=x.lst -Iinc -c src/a.c -o a.o", want: "hit"},
	{name: "link", call: "$CC -I$P/inc -c $P/src/a.c -o $P/a.o; $CC -c src/m.c -o m.o; tick; $CC $P/a.o $P/m.o -o prog -Wl,-Map,$P/x.map -Wl,--dependency-file=y; ./prog", want: "hit", varies: []string{"x.map", "y"}},
	{name: "link at once", call: "$CC -MD -g -I$P/inc $P/src/a.c $P/src/m.c -o $P/prog; ./prog", want: "hit"},
	{name: "rpath", call: "$CC -shared -fPIC -I$P/inc src/a.c -o lib/liba.so; $CC -c src/m.c -o m.o; tick; $CC m.o -o prog -L$P/lib -la -Wl,-rpath,$P/lib; ./prog", want: "own"},
	{name: "LD_RUN_PATH", call: "$CC -shared -fPIC -I$P/inc src/a.c -o lib/liba.so; $CC -c src/m.c -o m.o; tick; LD_RUN_PATH=$P/lib $CC m.o -o prog -Llib -la; ./prog", want: "own"},
	{name: "binary", call: "$LD -r -b binary $P/inc/a.h -o x.o; nm x.o", want: "own"},
	{name: "ar", call: "$CC -Iinc -g -c src/a.c; $CC -c src/m.c; tick; $AR rcsD $P/liba.a $P/a.o $P/m.o; $AR t liba.a", want: "hit", plain: true},
	{name: "thin", call: "$CC -Iinc -c src/a.c; tick; $AR rcTD $P/lib/liba.a $P/a.o; $AR rcsTD lib/libb.a $P/a.o", want: "own"},
	{name: "thin relative", call: "$CC -Iinc -g -c src/a.c; tick; cd lib; $AR rcsTD $P/lib/liba.a ../a.o; $AR t liba.a", want: "hit", plain: true},
	{name: "beside", call: "$CC -I../beside -Iinc -c src/a.c -o a.o -MD", files: map[string]string{"../beside/a.h": "#define A 7\n"}, want: "own"},
	{name: "beside not there", call: "$CC -I../early -Iinc -c src/a.c -o a.o -MD", want: "own"},
	{name: "error", call: "export SBX_CC_CACHE_FAILURES=1; $CC -I$P/inc -c $P/src/bad.c || $CLANG -I$P/inc -c $P/src/bad.c || $CC -c $P/src/none.c || echo $?", want: "hit"},
	{name: "outside", call: "mkdir -p ../out; tick; $CC -I$P/inc -MD -MF $P/../out/x -c $P/src/a.c -o a.o; cat ../out/x; rm -r ../out", want: "own"},
	{name: "elsewhere", call: "$CC -I$P/inc -MD -MF $HOME/x -c $P/src/a.c -o a.o; cat $HOME/x; rm $HOME/x", want: "hit"},
	{name: "an absolute link", call: "ln -s $P/inc lib/inc; ln -s $P/inc/a.h lib/b.h; tick; $CC -Ilib/inc -MD -c src/a.c; $CC -include lib/b.h -MD -c src/m.c", want: "own"},
	{name: "a link to build", call: "ln -s /build/inc lib/inc; tick; $CC -Ilib/inc -Iinc -MD -c src/a.c; rm lib/inc; ln -s /build/inc/a.h lib/a.h; tick; $CC -Ilib -Iinc -MD -c src/a.c", want: "own"},
	{name: "a link out", call: "ln -s ../../beside lib/inc; tick; $CC -Ilib/inc -Iinc -MD -c src/a.c; ln -s ../../beside/a.h lib/a.h; tick; $CC -Ilib -Iinc -MD -c src/a.c -o b.o", files: map[string]string{"../beside/a.h": "#define A 7\n"}, want: "own"},
	{name: "full names of members", call: "$CC -c src/m.c; tick; $AR rcsDP lib/a.a $P/m.o; $AR t lib/a.a", want: "own", plain: true},
	{name: "stdin", call: "$CC -g -x c -I$P/inc -MD -MF x -c - -o a.o <$P/src/a.c; $CC -E -I$P/inc - <src/a.c", want: "hit", varies: []string{"x"}},
	{name: "stdin that names build", call: "echo 'char *s = \"/build\";' | $CC -E -I$P/inc -", want: "own"},
	{name: "include", call: "$CC -MD -include $P/inc/a.h -imacros $P/inc/a.h -isystem$P/inc -iquote$P/lib -c $P/src/m.c; $CC -idirafter $P/inc -MM $P/src/a.c -MT $P/x", want: "hit"},
	{name: "modules", call: "export SOURCE_DATE_EPOCH=1; $CXX -std=c++20 -fmodules-ts -MD -I$P/inc -x c++ -c $P/src/m.cppm -o m.o; tick; $CXX -std=c++20 -fmodules-ts -MD -c $P/src/u.cc -o u.o", files: map[string]string{"src/m.cppm": "module;\n#include \"a.h\"\nexport module m;\nexport int q() { return A; }\n", "src/u.cc": "import m;\nint u() { return q(); }\n"}},
	{name: "plain assembler", call: "$CC -S -g -I$P/inc $P/src/a.c -o a.s; $CC -c a.s -o b.o; $AS $P/a.s -o $P/c.o", want: "hit"},
	{name: "preprocessed", call: "$CC -E -I$P/inc $P/src/a.c -o a.i; tick; $CC -Wall -c a.i -o b.o", want: "own"},
	{name: "linker script", call: "$CC -c $P/src/m.c -o $P/m.o; $CC -I$P/inc -c src/a.c; tick; $LD -r -o $P/x.o $P/m.o $P/a.o -Map $P/x.map; $LD -r -T $P/t.ld -o $P/y.o $P/m.o", files: map[string]string{"t.ld": "SECTIONS { .text : { *(.text*) } }\n"}, want: "hit", varies: []string{"x.map"}},
	{name: "bison", call: "unset P; $BISON -d src/p.y -o p.c", want: "hit"},
	{name: "bison absolute", call: "$BISON -d $P/src/p.y -o $P/p.c", want: "own"},
	{name: "PWD of a link", call: "ln -s $P ../l$(basename $P); cd ../l$(basename $P); tick; $CC -g -Iinc -MD -c src/a.c; rm ../l$(basename $P)", want: "hit"},
	{name: "an output by a link", call: "ln -s $P ../l$(basename $P); tick; $CC -Iinc -c src/a.c -MD -o $P/../l$(basename $P)/a.o; rm ../l$(basename $P)", want: "own"},
}

// TestShared has each kind of output of a project at a fixed place, in two checkouts.
func TestShared(t *testing.T) {
	for i, r := range sharedRows {
		if testing.Short() && i%8 != 0 {
			continue
		}
		t.Run(strings.ReplaceAll(r.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			r.try(t)
		})
	}
}

// TestSharedSees has the comparison see outputs that name the wrong place.
func TestSharedSees(t *testing.T) {
	r := shared{want: "hit", varies: []string{"list"}}
	right := effect{stdout: "/w/two/a.c: warning\n", files: map[string]file{
		"a.d": {data: "a.o: /w/two/a.c \\\n /w/two/a.h\n"}, "list": {data: "a.o: /w/two/a.c"}, "a.i": {data: "# 1 \"/w/two/a.c\"\n"}, "a.o": {data: "\x7fELF\x00/build"},
	}}
	bare := right
	bare.files = maps.Clone(right.files)
	bare.files["a.o"] = file{data: "\x7fELF\x00/w/two"}
	if diff := r.misnamed(right, bare, "/w/two", "/w/one"); diff != "" {
		t.Fatal(diff)
	}
	for _, place := range []string{"/build", "/w/one"} {
		for _, what := range []string{"stdout", "a.d", "list", "a.i", "a.o"} {
			wrong := right
			wrong.files = maps.Clone(right.files)
			if what == "stdout" {
				wrong.stdout = strings.ReplaceAll(right.stdout, "/w/two", place)
			} else {
				wrong.files[what] = file{data: strings.ReplaceAll(strings.ReplaceAll(right.files[what].data, "/w/two", place), "/build", place)}
			}
			if what == "a.o" && place == "/build" {
				continue // that is right
			}
			if r.misnamed(wrong, bare, "/w/two", "/w/one") == "" {
				t.Errorf("%s in %s is not seen", place, what)
			}
		}
	}
}
