package cc_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sbx-action/sbx-action/integration/cc"
)

func mutations() (list []mutation) {
	list = append(list, sourceMutations()...)
	list = append(list, clockMutations()...)
	list = append(list, searchMutations()...)
	list = append(list, optionMutations()...)
	list = append(list, toolMutations()...)
	list = append(list, environmentMutations()...)
	list = append(list, linkMutations()...)
	list = append(list, otherMutations()...)
	list = append(list, hostMutations()...)
	list = append(list, privateMutations()...)
	list = append(list, foreignMutations()...)
	return list
}

var twoFiles = map[string]string{"a.c": usesA, "a.h": "#define A 1\n"}

const compileA = "gcc -g -O1 -Wall -MD -c a.c -o a.o"

// keepTime makes a change that leaves a file's modification time.
func keepTime(name string, change func(*world)) func(*world) {
	return func(w *world) {
		info, err := os.Stat(w.path(name))
		w.must(err)
		change(w)
		w.must(os.Chtimes(w.path(name), info.ModTime(), info.ModTime()))
	}
}

// twins is a source that includes two headers of that content.
func twins(content string) map[string]string {
	return map[string]string{
		"a.c":   "#define Y(n) v##n\n#define Z(n) Y(n)\n#define X(n) Z(n)\n#include \"i/a.h\"\n#include \"j/a.h\"\n",
		"i/a.h": content, "j/a.h": content,
	}
}

func imported(files map[string]string) map[string]string {
	files["a.c"] = strings.ReplaceAll(files["a.c"], "#include", "#import")
	return files
}

func sameTime(from, to string) func(*world) {
	return func(w *world) { w.host("touch", "-r", from, to) }
}

func touched(name string) func(*world) {
	return func(w *world) { w.must(os.Chtimes(w.path(name), timeLongAgo, timeLongAgo)) }
}

func hardLinked(from, to string) func(*world) {
	return func(w *world) { w.host("ln", "-f", from, to) }
}

func sourceMutations() []mutation {
	return []mutation{
		{name: "source", files: twoFiles, call: compileA, change: text("a.c", usesA+"int more;\n")},
		{name: "source of the same size", files: twoFiles, call: compileA, change: text("a.c", strings.Replace(usesA, "value", "eulav", 1))},
		{name: "source of the same size and time", files: twoFiles, call: compileA, change: keepTime("a.c", text("a.c", strings.Replace(usesA, "value", "eulav", 1)))},
		{name: "header", files: twoFiles, call: compileA, change: text("a.h", "#define A 2\n")},
		{name: "header of the same size and time", files: twoFiles, call: compileA, change: keepTime("a.h", text("a.h", "#define A 2\n"))},
		{
			name: "header's header", files: map[string]string{"a.c": usesA, "a.h": "#include \"b.h\"\n", "b.h": "#define A 1\n"},
			call: compileA, change: text("b.h", "#define A 2\n"),
		},
		{name: "times of equal headers that are read once", files: twins("#pragma once\nint X(__COUNTER__);\n"), make: sameTime("i/a.h", "j/a.h"), call: "gcc -c a.c", ends: []cc.Outcome{cc.Unkept}, change: touched("j/a.h"), back: sameTime("i/a.h", "j/a.h")},
		{name: "equal headers become one that is read once", files: twins("#pragma once\nint X(__COUNTER__);\n"), call: "clang -c a.c", ends: []cc.Outcome{cc.Unkept}, change: hardLinked("i/a.h", "j/a.h"), back: steps(gone("j/a.h"), text("j/a.h", "#pragma once\nint X(__COUNTER__);\n"))},
		{name: "equal headers that are imported become one", files: imported(twins("int X(__COUNTER__);\n")), call: "clang -c a.c", ends: []cc.Outcome{cc.Unkept}, change: hardLinked("i/a.h", "j/a.h"), back: steps(gone("j/a.h"), text("j/a.h", "int X(__COUNTER__);\n"))},
		{name: "equal headers become one, with debug information", files: twins("int X(__COUNTER__)(void) { return 1; }\n"), call: "clang -g -c a.c", ends: []cc.Outcome{cc.Unkept}, change: hardLinked("i/a.h", "j/a.h"), back: steps(gone("j/a.h"), text("j/a.h", "int X(__COUNTER__)(void) { return 1; }\n"))},
		{name: "control: equal headers become one", files: twins("int X(__COUNTER__);\n"), call: "clang -c a.c", same: true, change: hardLinked("i/a.h", "j/a.h")},
		{name: "header is deleted", files: twoFiles, call: compileA, change: gone("a.h")},
		{name: "header becomes a directory", files: twoFiles, call: compileA, change: steps(gone("a.h"), func(w *world) { w.mkdir("a.h") }), back: steps(gone("a.h"), text("a.h", "#define A 1\n"))},
		{name: "header becomes a dangling link", files: twoFiles, call: compileA, change: func(w *world) { w.link("nowhere", "a.h") }},
		{
			name: "link to a header", files: map[string]string{"a.c": usesA, "one.h": "#define A 1\n", "two.h": "#define A 2\n"},
			make: func(w *world) { w.link("one.h", "a.h") }, call: compileA, change: func(w *world) { w.link("two.h", "a.h") },
		},
		{
			name: "link to a directory of headers", files: map[string]string{"a.c": usesA, "one/a.h": "#define A 1\n", "two/a.h": "#define A 2\n"},
			make: func(w *world) { w.link("one", "inc") }, call: "gcc -Iinc -c a.c", change: func(w *world) { w.link("two", "inc") },
		},
		{
			name: "link of a link", files: map[string]string{"a.c": usesA, "one/a.h": "#define A 1\n", "two/a.h": "#define A 2\n"},
			make: func(w *world) { w.link("one", "x"); w.link("x", "inc") }, call: "gcc -Iinc -c a.c", change: func(w *world) { w.link("two", "x") },
		},
		{
			name: "a generated header with the version", files: map[string]string{"a.c": "#include <gen/version.h>\nconst char *v = VERSION;\n", "out/gen/version.h": "#define VERSION \"v1-3-gabc\"\n"},
			call: "gcc -Iout -c a.c", change: text("out/gen/version.h", "#define VERSION \"v1-4-gabd\"\n"),
		},
		{name: "only the time of files", files: twoFiles, call: compileA, same: true, change: func(w *world) {
			for _, n := range []string{"a.c", "a.h"} {
				info, err := os.Stat(w.path(n))
				w.must(err)
				w.must(os.Chtimes(w.path(n), info.ModTime().Add(1e9), info.ModTime().Add(1e9)))
			}
		}},
		{name: "a file is written again as it was", files: twoFiles, call: compileA, same: true, change: steps(gone("a.h"), text("a.h", "#define A 1\n"))},
		{name: "an unrelated file appears", files: twoFiles, call: compileA, same: true, change: text("unrelated.h", "#define A 3\n")},
		{name: "the source is a link", files: map[string]string{"one.c": "int one;\n", "two.c": "int two;\n"}, make: func(w *world) { w.link("one.c", "a.c") }, call: "gcc -c a.c", change: func(w *world) { w.link("two.c", "a.c") }},
		{name: "a source that is the output", files: map[string]string{"a.c": "#define A 1\nint a = A;\n"}, call: "clang -E -P a.c -o a.c", change: text("a.c", "#define A 2\nint a = A;\n")},
		{name: "a header that is the output", files: map[string]string{"a.c": "#include \"b.h\"\nint a = A;\n", "b.h": "#define A 1\n"}, call: "clang -E -P a.c -o b.h", change: text("b.h", "#define A 2\n")},
		{name: "a header that the list of dependencies replaces", files: map[string]string{"a.c": "#include \"b.h\"\nint a = A;\n", "b.h": "#define A 1\n"}, call: "gcc -MD -MF b.h -c a.c", change: text("b.h", "#define A 2\n")},
		{name: "a list of dependencies that is appended to", files: map[string]string{"a.c": "int a;\n"}, make: env("DEPENDENCIES_OUTPUT", "deps x.o"), call: "gcc -c a.c", change: text("deps", "old:\n")},
		{name: "what the list of dependencies is appended to", files: map[string]string{"a.c": "int a;\n", "deps.d": "old:\n"}, make: env("SUNPRO_DEPENDENCIES", "deps.d x.o"), call: "gcc -c a.c", change: text("deps.d", "older:\n")},
		{name: "remarks that are appended", files: map[string]string{"a.c": "int f(int *a) { int s = 0; for (int i = 0; i < 99; i++) s += a[i]; return s; }\n"}, call: "gcc -O3 -fopt-info-vec=remarks -c a.c", change: text("remarks", "old\n")},
		{
			name: "dumps that are in the place of others", same: true, files: map[string]string{"a.c": "int a;\n", "a.c.006t.original": "one", "a.su": "one", "deps": "one"},
			call: "gcc -fdump-tree-original -fstack-usage -MD -MF deps -c a.c", change: steps(text("a.c.006t.original", "two"), text("a.su", "two"), text("deps", "two")),
		},
		{name: "an object that is in the place of the output", same: true, files: map[string]string{"a.c": "int a;\n", "a.o": "one", "a.d": "one"}, call: "gcc -MD -g -gsplit-dwarf -c a.c", change: steps(text("a.o", "two"), text("a.d", "two"))},
		{name: "standard input", make: func(w *world) { w.stdin = "int one;\n" }, call: "gcc -x c -c - -o a.o", change: func(w *world) { w.stdin = "int two;\n" }, back: func(w *world) { w.stdin = "int one;\n" }},
		{name: "the second source", files: map[string]string{"a.c": "int a;\n", "b.c": "int b;\n"}, call: "gcc -c a.c b.c", change: text("b.c", "int c;\n")},
	}
}

// clockMutations are of macros that tell the time and are put together of pieces.
func clockMutations() (list []mutation) {
	const pasted = "#define P(a, b) a##b\n#define C(a, b) P(a, b)\n"
	for _, compiler := range []string{"gcc", "clang"} {
		add := func(name, of, call string, files map[string]string, make func(*world)) {
			at := func(years int) func(*world) {
				return func(w *world) {
					w.must(os.Chtimes(w.path(of), timeLongAgo.AddDate(years, 0, 0), timeLongAgo.AddDate(years, 0, 0)))
				}
			}
			list = append(list, mutation{
				name: name + ", with " + compiler, watched: true, ends: []cc.Outcome{cc.Unkept}, files: files, make: steps(make, at(0)),
				call: compiler + call, change: at(1), back: at(0),
			})
		}
		add("the last digit of the time of a header", "b.h", " -c a.c",
			map[string]string{"a.c": "#include \"b.h\"\n", "b.h": pasted + "int last = C(__TIMES, TAMP__)[23];\n"}, steps())
		add("the time of a source in what is compressed", "a.c", " -flto -frandom-seed=1 -c a.c",
			map[string]string{"a.c": pasted + "const char *when = C(__TIMES, TAMP__);\n"}, env("TZ", "UTC0"))
		add("the time of a source where the day is said", "a.c", " -c a.c",
			map[string]string{"a.c": pasted + "int last = C(__TIMES, TAMP__)[23];\n"}, env("SOURCE_DATE_EPOCH", "1"))
	}
	return list
}

func searchMutations() []mutation {
	onPath := map[string]string{"src/a.c": "#include <a.h>\nint value(void) { return A; }\n", "late/a.h": "#define A 1\n", "early/other.h": "\n"}
	has := map[string]string{"a.c": "#if __has_include(\"opt.h\")\nint with;\n#else\nint without;\n#endif\n", "x.h": "\n"}
	return []mutation{
		{name: "a header appears earlier on the search path", files: onPath, call: "gcc -Iearly -Ilate -c src/a.c -o a.o", change: text("early/a.h", "#define A 2\n")},
		{name: "a header appears in a directory that was not there", files: onPath, call: "gcc -Inew -Ilate -c src/a.c -o a.o", change: text("new/a.h", "#define A 2\n"), back: gone("new")},
		{name: "a header appears beside the source", files: map[string]string{"src/a.c": usesA, "inc/a.h": "#define A 1\n"}, call: "gcc -Iinc -c src/a.c -o a.o", change: text("src/a.h", "#define A 2\n")},
		{name: "a header appears in a directory for quotes", files: map[string]string{"src/a.c": usesA, "inc/a.h": "#define A 1\n", "q/x": ""}, call: "gcc -iquote q -Iinc -c src/a.c -o a.o", change: text("q/a.h", "#define A 2\n")},
		{name: "a header appears in a system directory", files: map[string]string{"src/a.c": usesA, "inc/a.h": "#define A 1\n", "sys/x": ""}, call: "gcc -isystem sys -idirafter inc -c src/a.c -o a.o", change: text("sys/a.h", "#define A 2\n")},
		{
			name: "a header appears in the host's system directory", root: true, files: map[string]string{"a.c": "#include <sbx-test-shadow.h>\nint a = A;\n", "inc/sbx-test-shadow.h": "#define A 1\n"},
			// Not one in which compilers look that other packages' tests run meanwhile.
			make: func(w *world) {
				w.mkdir("/usr/src")
				dir, err := os.MkdirTemp("/usr/src", "sbx-test-")
				w.must(err)
				w.t.Cleanup(func() { os.RemoveAll(dir) })
				w.env["C_INCLUDE_PATH"] = dir
			},
			call:   "gcc -idirafter inc -c a.c",
			change: func(w *world) { w.write(w.env["C_INCLUDE_PATH"]+"/sbx-test-shadow.h", "#define A 2\n") },
			back:   func(w *world) { w.remove(w.env["C_INCLUDE_PATH"] + "/sbx-test-shadow.h") },
		},
		{name: "a header of include_next appears", files: map[string]string{"a.c": "#include <n.h>\nint a = A;\n", "one/n.h": "#include_next <n.h>\n", "two/x": "", "three/n.h": "#define A 1\n"}, call: "gcc -Ione -Itwo -Ithree -c a.c", change: text("two/n.h", "#define A 2\n")},
		{name: "has_include turns true", files: has, call: "gcc -c a.c", change: text("opt.h", "\n")},
		{name: "has_include turns false", files: has, make: text("opt.h", "\n"), call: "gcc -c a.c", change: gone("opt.h")},
		{name: "has_include_next turns true", files: map[string]string{"a.c": "#include <n.h>\n", "one/n.h": "#if __has_include_next(<n.h>)\nint with;\n#else\nint without;\n#endif\n", "two/x": ""}, call: "gcc -Ione -Itwo -c a.c", change: text("two/n.h", "\n")},
		{name: "a directory on the search path becomes a link", files: map[string]string{"a.c": "#include <a.h>\nint a = A;\n", "one/a.h": "#define A 1\n", "two/a.h": "#define A 2\n"}, call: "gcc -Ione -c a.c", change: func(w *world) { w.link("two", "one") }, back: steps(gone("one"), text("one/a.h", "#define A 1\n"))},
		{name: "a header of a sysroot", files: map[string]string{"a.c": "#include <a.h>\nint a = A;\n", "root/usr/include/a.h": "#define A 1\n"}, call: "gcc --sysroot=root -c a.c", change: text("root/usr/include/a.h", "#define A 2\n")},
		{name: "a header appears for clang", files: onPath, call: "clang -Iearly -Ilate -c src/a.c -o a.o", change: text("early/a.h", "#define A 2\n")},
		{name: "a module map", files: map[string]string{"a.c": usesA, "a.h": "#define A 1\n", "b.h": "", "m": "module m { header \"a.h\" }\n"}, call: "clang -fmodule-map-file=m -fmodule-name=m -fmodules-strict-decluse -c a.c", change: text("m", "module m { header \"b.h\" }\n")},
		{name: "data of embed", files: embeds, make: embedding, call: "./e-gcc -c a.c", change: text("data", "two")},
		{name: "data of embed appears earlier", files: embeds, make: embedding, call: "./e-gcc -c a.c", change: text("early/data", "two")},
		{name: "a header map of modules for clang", ends: []cc.Outcome{cc.Plain}, files: map[string]string{"a.c": "#include <m.h>\nint a = A;\n", "inc/m.h": "#define A 1\n", "inc/module.modulemap": "module m { header \"m.h\" }\n"}, call: "clang -fmodules -fmodules-cache-path=mc -Iinc -c a.c", make: func(w *world) { w.skip = "mc" }, change: text("inc/m.h", "#define A 2\n")},
	}
}

var embeds = map[string]string{"a.c": "const char d[] = {\n#embed \"data\"\n};\n", "data": "one", "early/x": ""}

// embedding makes a compiler that has #embed: a script stands for it.
func embedding(w *world) {
	w.script("e-gcc", `{ cat a.c; for d in early .; do [ -e $d/data ] && { cat $d/data; break; }; done; } >a.o`)
}

func optionMutations() []mutation {
	return []mutation{
		{name: "a macro", files: map[string]string{"a.c": "int a = A;\n", "r": "-DA=1\n"}, call: "gcc @r -c a.c", change: text("r", "-DA=2\n")},
		{name: "the output is in a response file", files: map[string]string{"a.c": "int a;\n", "r": "-o a.o\n"}, call: "gcc @r -c a.c", change: text("r", "-o b.o -MD\n")},
		{name: "the processor is in a response file", files: map[string]string{"a.c": "int a;\n", "r": "-O1\n"}, call: "gcc @r -frecord-gcc-switches -c a.c", change: text("r", "-march=native\n")},
		{name: "a response file is a link", files: map[string]string{"a.c": "int a = A;\n", "one": "-DA=1\n", "two": "-DA=2\n"}, make: func(w *world) { w.link("one", "r") }, call: "gcc @r -c a.c", change: func(w *world) { w.link("two", "r") }},
		{name: "objects in a response file", files: map[string]string{"a.s": ".globl a\na: .long 1\n", "b.s": ".globl a\na: .long 2\n", "r": "a.o\n"}, make: func(w *world) { w.host("gcc", "-c", "a.s", "b.s") }, call: "gcc -shared @r -o z", change: text("r", "b.o\n")},
		{name: "a response file of the same size and time", files: map[string]string{"a.c": "int a = A;\n", "r": "-DA=1\n"}, call: "gcc @r -c a.c", change: keepTime("r", text("r", "-DA=2\n"))},
		{
			name: "a variable that a compiler that is a script reads", files: map[string]string{"a.c": "int a = A;\n"}, make: func(w *world) {
				w.env["MORE"] = "-DA=1"
				w.script("gcc", "exec "+w.host("sh", "-c", "command -v gcc")+" $MORE \"$@\"")
			}, call: "./gcc -c a.c", change: env("MORE", "-DA=2"), back: env("MORE", "-DA=1"),
		},
		{
			name: "the colours of those that are asked for", files: map[string]string{"a.c": "int f(void) { int unused; return 1; }\n"}, make: env("GCC_COLORS", "warning=01;34"),
			call: "gcc -Wall -fdiagnostics-color=always -c a.c", change: env("GCC_COLORS", "warning=01;35"), back: env("GCC_COLORS", "warning=01;34"),
		},
		{name: "a response file in a response file", files: map[string]string{"a.c": "int a = A;\n", "r": "@s\n", "s": "-DA=1 -g\n"}, call: "gcc @r -c a.c", change: text("s", "-DA=2 -g\n")},
		{name: "incbin in assembler with macros", files: map[string]string{"a.S": ".globl x\nx: .incbin \"data\"\n", "data": "one"}, call: "gcc -c a.S", change: text("data", "two")},
		{name: "incbin in plain assembler", files: map[string]string{"a.s": ".incbin \"data\"\n", "data": "one"}, call: "gcc -c a.s", change: text("data", "two")},
		{name: "incbin made of pieces in C", files: map[string]string{"a.c": "#define S(x) #x\n#define INC \".inc\" \"bin \\\"da\" \"ta\\\"\"\n__asm__(INC);\n", "data": "one"}, call: "gcc -c a.c", change: text("data", "two")},
		{name: "include of the assembler", files: map[string]string{"a.s": ".include \"b.s\"\n", "b.s": ".long 1\n"}, call: "gcc -c a.s", change: text("b.s", ".long 2\n")},
		{name: "include path of the assembler", files: map[string]string{"a.s": ".include \"b.s\"\n", "i/b.s": ".long 1\n", "h/x": ""}, call: "as -Ih -Ii a.s -o a.o", change: text("h/b.s", ".long 2\n")},
		{name: "a file of -include", files: map[string]string{"a.c": "int a = A;\n", "pre.h": "#define A 1\n"}, call: "gcc -include pre.h -c a.c", change: text("pre.h", "#define A 2\n")},
		{name: "a file of -imacros", files: map[string]string{"a.c": "int a = A;\n", "pre.h": "#define A 1\n"}, call: "gcc -imacros pre.h -c a.c", change: text("pre.h", "#define A 2\n")},
		{name: "a specs file", files: map[string]string{"a.c": "int a = A;\n", "my.specs": "*cpp_unique_options:\n+ -DA=1\n\n"}, call: "gcc -specs=my.specs -c a.c", change: text("my.specs", "*cpp_unique_options:\n+ -DA=2\n\n")},
		{
			name: "a precompiled header", files: map[string]string{"a.c": "#include \"pre.h\"\nint a = A;\n", "pre.h": "#define A 1\n"},
			make: func(w *world) { w.precompile("pre.h") }, call: "gcc -c a.c",
			change: func(w *world) {
				w.write("pre2.h", "#define A 2\n")
				w.precompile("pre2.h")
			},
		},
		{
			name: "a precompiled header appears", files: map[string]string{"a.c": "#include \"pre.h\"\nint a = A;\n", "pre.h": "#define A 1\n"},
			call: "gcc -c a.c", change: func(w *world) {
				w.write("pre2.h", "#define A 2\n")
				w.precompile("pre2.h")
			},
		},
		{
			name: "the header of a precompiled one", same: true, files: map[string]string{"a.c": "#include \"pre.h\"\nint a = A;\n", "pre.h": "#define A 1\n"},
			make: func(w *world) { w.precompile("pre.h") }, call: "gcc -c a.c", change: text("pre.h", "#define A 2\n"),
		},
		{
			name: "clang's precompiled header is out of date", ends: []cc.Outcome{cc.Unkept}, files: map[string]string{"a.c": "int a = A;\n", "pre.h": "#define A 1\n"},
			make: func(w *world) { w.host("clang", "-x", "c-header", "pre.h", "-o", "pre.h.pch") }, call: "clang -include-pch pre.h.pch -c a.c",
			change: func(w *world) {
				w.must(os.Chtimes(w.path("pre.h"), timeLongAgo, timeLongAgo))
			},
			back: func(w *world) { w.host("clang", "-x", "c-header", "pre.h", "-o", "pre.h.pch") },
		},
		{
			name: "the data of a profile", files: map[string]string{"a.c": profiled},
			make:   func(w *world) { w.profile("one"); w.profile("two", "x", "y", "z"); w.host("cp", "one", "a.gcda") },
			call:   "gcc -O2 -fprofile-use -Wno-missing-profile -c a.c -o a.o",
			change: func(w *world) { w.host("cp", "two", "a.gcda") },
		},
		{
			name: "the data of a profile appears", files: map[string]string{"a.c": profiled},
			make:   func(w *world) { w.profile("kept") },
			call:   "gcc -O2 -fprofile-use -Wno-missing-profile -c a.c -o a.o",
			change: func(w *world) { w.host("cp", "kept", "a.gcda") },
		},
		{
			name: "a plugin", files: map[string]string{"a.c": "int a;\n", "p1.c": plugin(1), "p2.c": plugin(2)},
			make: func(w *world) {
				w.host("sh", "-c", "gcc -shared -fPIC p1.c -o p1.so && gcc -shared -fPIC p2.c -o p2.so && cp p1.so p.so")
			},
			call:   "gcc -fplugin=./p.so -c a.c",
			change: func(w *world) { w.host("cp", "p2.so", "p.so") },
		},
		{name: "a dump of the compiler", files: twoFiles, call: "gcc -O1 -fdump-tree-optimized -fstack-usage -c a.c", change: text("a.h", "#define A 2\n")},
		{name: "separate debug information", files: twoFiles, call: "gcc -g -gsplit-dwarf -c a.c -o a.o", change: text("a.h", "#define A 2\n")},
		{name: "notes of coverage", files: twoFiles, call: "gcc --coverage -frandom-seed=1 -c a.c -o a.o", change: text("a.c", usesA+"\nint f(int a) { if (a) return 1; return 2; }\n")},
		{name: "temporary files that are saved", files: twoFiles, call: "gcc -save-temps -c a.c", change: text("a.h", "#define A 2\n")},
		{name: "a dependency file elsewhere", files: twoFiles, make: func(w *world) { w.mkdir(".deps") }, call: "gcc -MMD -MP -MF .deps/a.Tpo -MT x -c a.c", change: text("a.h", "#include \"b.h\"\n#define A 1\n"), back: text("a.h", "#define A 1\n")},
		{name: "what is preprocessed", files: twoFiles, call: "gcc -E a.c", change: text("a.h", "#define A 2\n")},
		{name: "what is preprocessed into a file", files: twoFiles, call: "cpp a.c a.i", change: text("a.h", "#define A 2\n")},
		{name: "assembler text", files: twoFiles, call: "gcc -S a.c", change: text("a.h", "#define A 2\n")},
		{name: "a list of dependencies", files: twoFiles, make: text("b.h", "\n"), call: "gcc -MM a.c", change: text("a.h", "#include \"b.h\"\n#define A 1\n")},
	}
}

const profiled = "int f(int);\nint main(int c, char **v) { int n = 0; for (int i = 0; i < 1000; i++) n += f(i * c); return n == 7; }\n" +
	"int g(int);\nint f(int i) { return i > 2000 ? g(i) : i % 3 ? i * 7 : -i; }\n__attribute__((noinline)) int g(int i) { return i / 3 + (i & 1 ? 5 : i); }\n"

// profile runs a program that writes down what it does most.
func (w *world) profile(to string, args ...string) {
	w.t.Helper()
	w.host("sh", "-c", "gcc -O2 -fprofile-generate a.c -o prof && ./prof "+strings.Join(args, " ")+"; mv *.gcda "+to+" && rm prof")
}

// precompile makes pre.h.gch through the program under test, which remembers that
// nothing in it depends on the date.
func (w *world) precompile(header string) {
	w.t.Helper()
	w.settle()
	cmd := exec.Command(command, "cc", "gcc", "-x", "c-header", header, "-o", "pre.h.gch")
	cmd.Dir = w.dir
	cmd.Env = append(os.Environ(), "SBX_CACHE="+w.cache)
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("precompile: %v\n%s", err, out)
	}
}

func plugin(n int) string {
	return fmt.Sprintf("int puts(const char *);\nint plugin_is_GPL_compatible;\nint plugin_init(void *a, void *b) { puts(\"plugin %d\"); return 0; }\n", n)
}

// real is the path of a part of gcc.
func real(w *world, name string) string {
	p := w.host("gcc", "-print-prog-name="+name)
	if !strings.Contains(p, "/") {
		p = w.host("sh", "-c", "command -v "+p)
	}
	return p
}

func toolMutations() []mutation {
	part := func(dir, name, extra string) func(*world) {
		return func(w *world) { w.script(dir+"/"+name, "exec "+real(w, name)+" "+extra+" \"$@\"") }
	}
	return []mutation{
		{name: "the compiler", files: map[string]string{"a.c": "int a = A;\n"}, make: func(w *world) { w.script("x-gcc", `exec gcc -DA=1 "$@"`) }, call: "./x-gcc -c a.c", change: func(w *world) { w.script("x-gcc", `exec gcc -DA=2 "$@"`) }},
		{name: "the compiler proper", files: map[string]string{"a.c": "int a = A;\n"}, make: part("b", "cc1", "-DA=1"), call: "gcc -Bb/ -c a.c", change: part("b", "cc1", "-DA=2")},
		{name: "the assembler", files: map[string]string{"a.s": ".long A\n"}, make: part("b", "as", "--defsym A=1"), call: "gcc -Bb/ -c a.s", change: part("b", "as", "--defsym A=2")},
		{name: "an assembler appears", files: map[string]string{"a.c": "int a;\n", "b/x": ""}, call: "gcc -Bb/ -c a.c", change: part("b", "as", "--execstack"), back: gone("b/as")},
		{name: "an assembler of COMPILER_PATH", files: map[string]string{"a.c": "int a;\n"}, make: steps(func(w *world) { w.mkdir("b"); w.env["COMPILER_PATH"] = w.path("b") }), call: "gcc -c a.c", change: part("b", "as", "--execstack"), back: gone("b/as")},
		{name: "an assembler earlier on PATH", files: map[string]string{"a.c": "int a;\n"}, make: func(w *world) { w.mkdir("b"); w.env["PATH"] = w.path("b") + ":" + os.Getenv("PATH") }, call: "gcc -c a.c", change: part("b", "as", "--execstack"), back: gone("b/as")},
		{name: "a compiler earlier on PATH", files: map[string]string{"a.c": "int a;\n"}, make: func(w *world) { w.mkdir("b"); w.env["PATH"] = w.path("b") + ":" + os.Getenv("PATH") }, call: "gcc -c a.c", change: func(w *world) { w.script("b/gcc", "exec /usr/bin/gcc -g \"$@\"") }, back: gone("b/gcc")},
		{name: "the order of PATH", files: map[string]string{"a.c": "int a;\n"}, make: steps(part("b", "as", "--execstack"), part("c", "as", ""), func(w *world) { w.env["PATH"] = w.path("b") + ":" + w.path("c") + ":" + os.Getenv("PATH") }), call: "gcc -c a.c", change: func(w *world) { w.env["PATH"] = w.path("c") + ":" + w.path("b") + ":" + os.Getenv("PATH") }, back: func(w *world) { w.env["PATH"] = w.path("b") + ":" + w.path("c") + ":" + os.Getenv("PATH") }},
		{name: "a library that the compiler loads", files: map[string]string{"a.c": "int a;\n", "one.c": loaded(1), "two.c": loaded(2)}, make: func(w *world) {
			w.host("sh", "-c", "mkdir l && gcc -shared -fPIC one.c -o l/libone.so && gcc -shared -fPIC two.c -o l2.so")
			w.write("m.c", "#include <unistd.h>\nvoid say(void);\nint main(int c, char **v) { say(); v[0] = \"gcc\"; execvp(\"gcc\", v); return 9; }\n")
			w.host("gcc", "m.c", "-Ll", "-lone", "-o", "y-gcc")
			w.env["LD_LIBRARY_PATH"] = w.path("l")
		}, call: "./y-gcc -c a.c", change: func(w *world) { w.host("cp", "l2.so", "l/libone.so") }},
	}
}

func loaded(n int) string {
	return fmt.Sprintf("#include <stdio.h>\nvoid say(void) { printf(\"library %d\\n\", %d); fflush(stdout); }\n", n, n)
}

func environmentMutations() []mutation {
	two := map[string]string{"a.c": "#include <a.h>\nint a = A;\n", "one/a.h": "#define A 1\n", "two/a.h": "#define A 2\n"}
	searches := func(name, call string) mutation {
		return mutation{
			name: "the variable " + name, files: two, make: func(w *world) { w.env[name] = w.path("one") }, call: call,
			change: func(w *world) { w.env[name] = w.path("two") }, back: func(w *world) { w.env[name] = w.path("one") },
		}
	}
	date := map[string]string{"a.c": "const char *d = __DATE__ \" \" __TIME__;\n"}
	warn := map[string]string{"a.c": "int f(void) { int unused; return 0; }\n"}
	return []mutation{
		searches("CPATH", "gcc -c a.c"),
		{
			name: "the variable COLLECT_AS_OPTIONS", files: map[string]string{"a.c": "asm(\".globl s\\n.set s, A\");\nint main(void) { return 0; }\n"},
			make: env("COLLECT_AS_OPTIONS", "'--defsym' 'A=1'"), call: "gcc -flto=1 a.c -o a.o", change: env("COLLECT_AS_OPTIONS", "'--defsym' 'A=2'"), back: env("COLLECT_AS_OPTIONS", "'--defsym' 'A=1'"),
		},
		searches("C_INCLUDE_PATH", "gcc -c a.c"),
		searches("CPLUS_INCLUDE_PATH", "g++ -x c++ -c a.c"),
		searches("OBJC_INCLUDE_PATH", "clang -x objective-c -c a.c"),
		{name: "a directory of CPATH changes", files: map[string]string{"a.c": "#include <a.h>\nint a = A;\n", "two/a.h": "#define A 2\n", "one/x": ""}, make: func(w *world) { w.env["CPATH"] = w.path("one") + ":" + w.path("two") }, call: "gcc -c a.c", change: text("one/a.h", "#define A 1\n")},
		{name: "the variable SOURCE_DATE_EPOCH", files: date, make: env("SOURCE_DATE_EPOCH", "1"), call: "gcc -c a.c", change: env("SOURCE_DATE_EPOCH", "100000"), back: env("SOURCE_DATE_EPOCH", "1")},
		{name: "the variable SOURCE_DATE_EPOCH, which nothing uses", files: twoFiles, make: env("SOURCE_DATE_EPOCH", "1"), call: compileA, same: true, change: env("SOURCE_DATE_EPOCH", "100000")},
		{name: "the variable LC_ALL", files: warn, make: env("LC_ALL", "C"), call: "gcc -Wall -c a.c", change: env("LC_ALL", "C.UTF-8"), back: env("LC_ALL", "C")},
		{name: "the variable LANG", files: warn, make: env("LANG", "C.UTF-8"), call: "gcc -Wall -c a.c", change: env("LANG", "C"), back: env("LANG", "C.UTF-8")},
		{name: "the variable DEPENDENCIES_OUTPUT", files: twoFiles, make: env("DEPENDENCIES_OUTPUT", "one.d"), call: "gcc -c a.c", change: env("DEPENDENCIES_OUTPUT", "two.d"), back: env("DEPENDENCIES_OUTPUT", "one.d")},
		{name: "the variable SUNPRO_DEPENDENCIES", files: twoFiles, make: env("SUNPRO_DEPENDENCIES", "one.d"), call: "gcc -c a.c", change: env("SUNPRO_DEPENDENCIES", "two.d"), back: env("SUNPRO_DEPENDENCIES", "one.d")},
		{name: "the variable GCC_EXEC_PREFIX", files: map[string]string{"a.c": "#include <stddef.h>\nint a;\n"}, silent: true, call: "gcc -c a.c", change: env("GCC_EXEC_PREFIX", "/nowhere/"), back: unset("GCC_EXEC_PREFIX")},
		{name: "the variable GCC_ROOT", files: map[string]string{"a.c": "#include <stddef.h>\nint a;\n"}, call: "gcc -c a.c", change: env("GCC_ROOT", "/nowhere"), back: unset("GCC_ROOT")},
		{name: "the variable COMPILER_PATH", files: map[string]string{"a.c": "int a;\n"}, make: func(w *world) {
			for _, d := range []string{"one", "two"} {
				w.script(d+"/as", "exec "+real(w, "as")+" "+map[string]string{"one": "--execstack", "two": "--noexecstack"}[d]+" \"$@\"")
			}
			w.env["COMPILER_PATH"] = w.path("one")
		}, call: "gcc -c a.c", change: func(w *world) { w.env["COMPILER_PATH"] = w.path("two") }, back: func(w *world) { w.env["COMPILER_PATH"] = w.path("one") }},
		{name: "a variable that is passed on", files: map[string]string{"a.c": "int a = A;\n"}, make: func(w *world) {
			w.script("x-gcc", `exec gcc -DA=${VALUE:-0} "$@"`)
			w.env["VALUE"], w.env["SBX_CC_ENV"] = "1", "VALUE OTHER"
		}, call: "./x-gcc -c a.c", change: env("VALUE", "2"), back: env("VALUE", "1")},
		{name: "a variable that says nothing", files: twoFiles, call: compileA, same: true, change: steps(env("MAKEFLAGS", "-j2"), env("OLDPWD", "/"), env("COLUMNS", "77"))},
		{name: "the working directory with -g", files: twoFiles, make: func(w *world) {
			w.must(os.MkdirAll(filepath.Join(w.top, "q"), 0o755))
			w.must(os.WriteFile(filepath.Join(w.top, "q/a.c"), []byte("int a;\n"), 0o644))
			w.write("a.c", "int a;\n")
			w.write("q/a.c", "int a;\n")
		}, call: "gcc -g -c a.c -o a.o", change: func(w *world) { w.in = "p/q" }, back: func(w *world) { w.in = "" }},
		{name: "another name of the working directory", files: map[string]string{"a.c": "int a;\n"}, make: func(w *world) {
			w.must(os.Symlink(w.dir, filepath.Join(w.top, "other")))
		}, call: "gcc -g -c a.c", change: func(w *world) { w.env["PWD"] = filepath.Join(w.top, "other") }, back: unset("PWD")},
		{name: "the variable TMPDIR, which nothing shows", files: map[string]string{"a.c": usesA, "a.h": "#define A 1\n", "elsewhere/x": ""}, call: compileA, same: true, change: func(w *world) { w.env["TMPDIR"] = w.path("elsewhere") }},
		{name: "the umask", files: twoFiles, call: compileA, make: func(w *world) { w.umask = "022" }, change: func(w *world) { w.umask = "077" }, back: func(w *world) { w.umask = "022" }, changed: []cc.Outcome{cc.Hit}},
		{name: "permissions of a header", files: twoFiles, call: compileA, silent: os.Geteuid() == 0, changed: asRoot(cc.Plain), change: func(w *world) { w.must(os.Chmod(w.path("a.h"), 0)) }, back: func(w *world) { w.must(os.Chmod(w.path("a.h"), 0o644)) }},
		{name: "permissions of a directory", files: map[string]string{"a.c": "#include <a.h>\nint a = A;\n", "one/a.h": "#define A 1\n", "two/a.h": "#define A 2\n"}, call: "gcc -Ione -Itwo -c a.c", silent: os.Geteuid() == 0, changed: asRoot(cc.Failed), change: func(w *world) { w.must(os.Chmod(w.path("one"), 0)) }, back: func(w *world) { w.must(os.Chmod(w.path("one"), 0o755)) }},
	}
}
