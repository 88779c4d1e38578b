package cc_test

import (
	"os"
	"time"
)

var timeLongAgo = time.Unix(1000000000, 0)

const mainF = "int f(void);\nint main(void) { return f(); }\n"

func linkMutations() []mutation {
	objects := func(w *world) {
		w.write("main.c", mainF)
		w.write("one.c", "int f(void) { return 1; }\n")
		w.write("two.c", "int f(void) { return 2; }\n")
		w.host("sh", "-c", "gcc -c main.c one.c two.c && mkdir -p l e && cp one.o f.o")
		w.host("sh", "-c", "ar rcs one.a one.o && ar rcs two.a two.o && gcc -shared -o one.so one.o && gcc -shared -o two.so two.o")
	}
	copied := func(from, to string) func(*world) { return func(w *world) { w.host("cp", from, to) } }
	return []mutation{
		{name: "an object", make: objects, call: "gcc main.o f.o -o prog", change: copied("two.o", "f.o")},
		{name: "a static library", make: steps(objects, copied("one.a", "l/libf.a")), call: "gcc main.o -Ll -lf -o prog", change: copied("two.a", "l/libf.a")},
		{name: "a shared library", make: steps(objects, copied("one.so", "l/libf.so")), call: "gcc main.o -Ll -lf -o prog", change: func(w *world) {
			w.host("sh", "-c", "gcc -shared -Wl,-soname,libother.so -o l/libf.so two.o")
		}},
		{name: "a library appears earlier on the search path", make: steps(objects, copied("one.a", "l/libf.a")), call: "gcc main.o -Le -Ll -lf -o prog", change: copied("two.a", "e/libf.a"), back: gone("e/libf.a")},
		{name: "a shared library appears beside a static one", make: steps(objects, copied("one.a", "l/libf.a")), call: "gcc main.o -Ll -lf -o prog", change: copied("two.so", "l/libf.so"), back: gone("l/libf.so")},
		{name: "the variable LIBRARY_PATH", make: steps(objects, copied("one.a", "l/libf.a"), copied("two.a", "e/libf.a"), func(w *world) { w.env["LIBRARY_PATH"] = w.path("l") }), call: "gcc main.o -lf -o prog", change: func(w *world) { w.env["LIBRARY_PATH"] = w.path("e") }, back: func(w *world) { w.env["LIBRARY_PATH"] = w.path("l") }},
		{name: "a linker script", make: steps(objects, func(w *world) {
			w.write("a.ld", "SECTIONS { .text 0x1000 : { *(.text*) } }\n")
		}), call: "gcc -nostdlib -static -Wl,-T,a.ld one.o -o prog", change: text("a.ld", "SECTIONS { .text 0x2000 : { *(.text*) } }\n")},
		{name: "a library that is a linker script", make: steps(objects, text("l/libf.so", "INPUT(one.o)\n")), call: "gcc main.o -Ll -lf -o prog", change: text("l/libf.so", "INPUT(two.o)\n")},
		{name: "a version script", make: steps(objects, text("v", "V1 { global: f; };\n")), call: "gcc -shared one.o -Wl,--version-script=v -o lib.so", change: text("v", "V2 { global: f; };\n")},
		{name: "libgcc", make: steps(objects, func(w *world) {
			w.host("sh", "-c", "mkdir b && cp $(gcc -print-libgcc-file-name) b/libgcc.a")
			w.write("main.c", "int main(int c, char **v) { return (int)((__int128)c / (c + 2)); }\n")
			w.write("div.c", "__int128 __divti3(__int128 a, __int128 b) { return 7; }\n")
			w.host("sh", "-c", "gcc -c main.c div.c")
		}), call: "gcc -Bb/ -static-libgcc main.o -o prog", change: func(w *world) {
			w.host("ar", "rcs", "b/libgcc.a", "div.o")
			w.host("sh", "-c", "rm b/libgcc.a && ar rcs b/libgcc.a div.o")
		}},
		{name: "crt1.o", make: steps(objects, func(w *world) {
			w.host("sh", "-c", "mkdir b && cp $(gcc -print-file-name=Scrt1.o) b/Scrt1.o")
		}), call: "gcc -Bb/ main.o f.o -o prog", change: func(w *world) {
			w.write("s.s", ".globl _start\n_start: call main\nnop\nhlt\n.section .note.GNU-stack,\"\",@progbits\n")
			w.host("gcc", "-c", "s.s", "-o", "b/Scrt1.o")
		}, back: func(w *world) { w.host("sh", "-c", "cp $(gcc -print-file-name=Scrt1.o) b/Scrt1.o; rm -f s.s") }},
		{name: "the linker", make: steps(objects, func(w *world) { w.script("b/ld", "exec "+real(w, "ld")+" --defsym=sbx=1 \"$@\"") }), call: "gcc -Bb/ main.o f.o -o prog", change: func(w *world) { w.script("b/ld", "exec "+real(w, "ld")+" --defsym=sbx=2 \"$@\"") }},
		{name: "a compile that links", files: map[string]string{"a.c": "#include \"a.h\"\nint main(void) { return A; }\n", "a.h": "#define A 1\n"}, call: "gcc a.c -o a", change: text("a.h", "#define A 2\n")},
		{name: "link-time optimisation", files: map[string]string{"a.c": "int f(void);\nint main(void) { return f(); }\n", "b.c": "int f(void) { return 1; }\n"}, call: "gcc -O2 -flto=1 a.c b.c -o a", change: text("b.c", "int f(void) { return 2; }\n")},
		{name: "the linker alone", make: objects, call: "ld -r one.o main.o -o both.o", change: copied("two.o", "one.o"), back: func(w *world) { w.host("gcc", "-c", "one.c") }},
		{name: "a member of an archive", make: objects, call: "ar rcs lib.a f.o main.o", change: copied("two.o", "f.o")},
		{name: "the archive that members are put into", make: steps(objects, copied("one.a", "lib.a")), call: "ar rcs lib.a main.o", change: copied("two.a", "lib.a"), back: copied("one.a", "lib.a")},
		{name: "what ranlib indexes", make: steps(objects, func(w *world) { w.host("ar", "rcS", "lib.a", "one.o") }), call: "ranlib lib.a", change: func(w *world) { w.host("ar", "rcS", "lib.a", "main.o") }},
	}
}

func otherMutations() []mutation {
	gen := map[string]string{
		"gen.py":  "import os, sys\nsys.dont_write_bytecode = True\nimport part\nopen('out.txt', 'w').write(part.text + ' '.join(sorted(os.listdir('data'))) + os.environ.get('VALUE', ''))\n",
		"part.py": "text = 'one '\n", "data/x": "x",
	}
	return []mutation{
		{name: "any program: its script", files: gen, call: "--any python3 gen.py", change: text("gen.py", "open('out.txt', 'w').write('other')\n")},
		{name: "any program: a module", files: gen, call: "--any python3 gen.py", change: text("part.py", "text = 'two '\n")},
		{name: "any program: a listed directory", files: gen, call: "--any python3 gen.py", change: text("data/y", "")},
		{name: "any program: a module appears earlier", files: gen, make: func(w *world) {
			w.mkdir("m")
			w.env["PYTHONPATH"] = w.path("m") + ":" + w.dir
			w.write("n/gen.py", gen["gen.py"])
		}, call: "--any python3 n/gen.py", change: text("m/part.py", "text = 'three '\n"), back: gone("m/part.py")},
		{
			name: "any program: a function of the shell", make: steps(env("SHELL", "/bin/sh"), env("BASH_FUNC_f%%", "() { echo one; }")), call: "--any --no-stdin bash -c f>o",
			change: env("BASH_FUNC_f%%", "() { echo two; }"), back: env("BASH_FUNC_f%%", "() { echo one; }"),
		},
		{name: "any program: a variable", files: gen, make: env("VALUE", "1"), call: "--any python3 gen.py", change: env("VALUE", "2"), back: env("VALUE", "1")},
		{name: "any program: the width that it is told", files: gen, make: env("COLUMNS", "40"), call: "--any sh -c echo${IFS}$COLUMNS>o", change: env("COLUMNS", "50"), back: env("COLUMNS", "40")},
		{name: "any program: the terminal that it is told", files: gen, make: env("TERM", "dumb"), call: "--any --no-stdin sh -c echo${IFS}$TERM>o", change: env("TERM", "xterm"), back: env("TERM", "dumb")},
		{name: "any program: a user's name", files: gen, make: env("LOGNAME", "me"), call: "--any --no-stdin sh -c echo${IFS}$LOGNAME>o", change: env("LOGNAME", "you"), back: env("LOGNAME", "me")},
		{name: "any program: where data is", files: gen, make: env("XDG_DATA_DIRS", "/usr/share"), call: "--any --no-stdin sh -c echo${IFS}$XDG_DATA_DIRS>o", change: unset("XDG_DATA_DIRS"), back: env("XDG_DATA_DIRS", "/usr/share")},
		{name: "any program: a link it follows", files: map[string]string{"one": "1", "two": "2"}, make: func(w *world) { w.link("one", "in") }, call: "--any cp in out", change: func(w *world) { w.link("two", "in") }},
		{name: "any program: the target of a link it reads", files: map[string]string{"x": ""}, make: func(w *world) { w.link("one", "in") }, call: "--any readlink in", change: func(w *world) { w.link("two", "in") }},
		{name: "any program: whether a file is there", files: map[string]string{"x": ""}, call: "--any sh -c test${IFS}-e${IFS}y&&echo${IFS}yes||echo${IFS}no", change: text("y", "")},
		{name: "any program: whether a file can be executed", files: map[string]string{"x": ""}, call: "--any sh -c test${IFS}-x${IFS}x&&echo${IFS}yes||echo${IFS}no", change: func(w *world) { w.must(os.Chmod(w.path("x"), 0o755)) }, back: func(w *world) { w.must(os.Chmod(w.path("x"), 0o644)) }},
		{name: "any program: the size of a file", files: map[string]string{"x": "1"}, call: "--any stat -c %s x", change: text("x", "22")},
	}
}
