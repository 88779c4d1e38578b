package cc_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// privateMutations are changes in a part of /tmp or /run that the call does not name,
// and that its project is not in: a sandbox has others of its own.
func privateMutations() []mutation {
	list := mutationsIn("/tmp")
	for _, place := range []string{"/run", "/run/lock"} { // the second one is everybody's
		if unix.Access(place, unix.W_OK) == nil {
			return append(list, mutationsIn(place)...)
		}
	}
	return list
}

func mutationsIn(place string) (list []mutation) {
	// with adds a mutation that has a directory there, which is $T in what is said.
	with := func(name, call string, files map[string]string, ends []cc.Outcome, make, change func(w *world, there string)) {
		var there string
		var always []cc.Outcome
		if place == "/run/lock" && ends != nil { // which is there, and is not shown
			always = ends
		}
		list = append(list, mutation{
			name: strings.ReplaceAll(name, "tmp", place[1:]), call: call, changed: ends, ends: always,
			make: func(w *world) {
				var err error
				there, err = os.MkdirTemp(place, "sbx-private-")
				w.must(err)
				w.t.Cleanup(func() { os.RemoveAll(there) })
				w.must(os.Chmod(there, 0o755)) // root's compilers are somebody else
				for name, text := range files {
					w.write(name, strings.ReplaceAll(text, "$T", there))
				}
				make(w, there)
			},
			change: func(w *world) { change(w, there) },
			back: func(w *world) {
				w.remove(there)
				w.mkdir(there)
				make(w, there)
			},
		})
	}
	// What is there, and not shown, cannot be in a result.
	shown, executed := []cc.Outcome(nil), []cc.Outcome{cc.Plain}
	header := func(value string) func(*world, string) {
		return func(w *world, there string) { w.write(there+"/i/a.h", "#define A "+value+"\n") }
	}
	without := func(w *world, there string) { w.remove(there) }
	found := map[string]string{"a.c": "#include <a.h>\nint a = A;\n", "late/a.h": "#define A 1\n"}

	with("a file of the private tmp that a source asks for appears", "gcc -c a.c", map[string]string{
		"a.c": "#if __has_include(\"$T/i/a.h\")\nint with;\n#else\nint without;\n#endif\n",
	}, executed, without, header("2"))
	with("a link into the private tmp leads somewhere", "gcc -Ilink -Ilate -c a.c", found, executed, func(w *world, there string) {
		w.remove(there)
		w.link(there+"/i", "link")
	}, header("2"))
	with("a link into the private tmp, where there would be an error", "gcc -c a.c -Ilink", map[string]string{
		"a.c": "#if __has_include(\"go.h\")\n#include <a.h>\nint with = A;\n#endif\n",
	}, executed, func(w *world, there string) {
		w.remove(there)
		w.link(there+"/i", "link")
		w.remove("go.h")
	}, func(w *world, there string) {
		header("2")(w, there)
		w.write("go.h", "")
	})
	with("a program's link into the private tmp leads somewhere", "--any cat link none", map[string]string{"none": ""}, executed, func(w *world, there string) {
		w.env["SBX_CC_NO_STDIN"] = "1"
		w.script("cat", "/bin/cat \"$@\" >out 2>/dev/null; exit 0")
		w.env["PATH"] = w.dir + ":" + os.Getenv("PATH")
		w.remove(there)
		w.link(there+"/a", "link")
	}, func(w *world, there string) { w.write(there+"/a", "2") })
	with("a header in a directory of the private tmp that a variable names", "gcc -idirafter late -c a.c", found, shown, func(w *world, there string) {
		w.env["CPATH"] = there + "/i"
		header("1")(w, there)
	}, header("2"))
	with("a header appears in a directory of the private tmp that a variable names", "gcc -idirafter late -c a.c", found, shown, func(w *world, there string) {
		w.env["CPATH"] = "x:" + there + "/i"
	}, header("2"))
	with("the assembler in a directory of the private tmp on PATH", "gcc -c a.c -Ilate", found, shown, func(w *world, there string) {
		w.env["PATH"] = there + ":" + os.Getenv("PATH")
	}, func(w *world, there string) {
		w.script(filepath.Join(there, "as"), "exec "+real(w, "as")+" --defsym sbx=2 \"$@\"")
	})
	if place != "/tmp" {
		with("a file of the private tmp that a source asks for by another name", "gcc -c a.c", map[string]string{
			"a.c": "#if __has_include(\"/var$T/i/a.h\")\nint with;\n#else\nint without;\n#endif\n",
		}, executed, without, header("2"))
		return list // nothing can be made there
	}
	with("what a program makes in its private tmp is there already, and holds something", "--any ./maker", nil, executed, func(w *world, there string) {
		w.env["SBX_CC_NO_STDIN"] = "1"
		w.script("maker", "mkdir -p "+there+"/d; echo 1 >"+there+"/d/y; cat "+there+"/d/* >out; rm "+there+"/d/y; rmdir "+there+"/d "+there+" 2>/dev/null; exit 0")
		w.remove(there)
	}, func(w *world, there string) { w.write(there+"/d/x", "9") })
	return list
}

// TestSibling compiles what lies in another directory of /tmp than the one to build in,
// which a relative name leads to.
func TestSibling(t *testing.T) {
	w := newWorld(t)
	var dirs []string
	for range 2 {
		dir, err := os.MkdirTemp("/tmp", "sbx-sibling-")
		w.must(err)
		t.Cleanup(func() { os.RemoveAll(dir) })
		w.must(os.Chmod(dir, 0o755))
		dirs = append(dirs, dir)
	}
	w.dir = dirs[0]
	src := "../" + filepath.Base(dirs[1])
	w.write(src+"/a.c", "#include <a.h>\nint a = A;\n")
	w.write(src+"/inc/a.h", "#define A 1\n")
	call := words("gcc -I" + src + "/inc -c " + src + "/a.c -o a.o")
	want := w.bare(call)
	if want.code != 0 {
		t.Fatalf("control: %s", want.stderr)
	}
	w.expect("at first", call, want, cc.Miss)
	w.expect("again", call, want, cc.Hit)
	w.write(src+"/inc/a.h", "#define A 2\n")
	w.expect("changed", call, w.bare(call), cc.Miss)
}
