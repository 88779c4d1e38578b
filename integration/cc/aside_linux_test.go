package cc_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// TestAside makes calls as Meson makes them for its checks, in directories with random
// names. The second directory has to get what the bare compiler gives there: from the cache,
// where the result does not depend on the name of the directory or on what is around it.
func TestAside(t *testing.T) {
	if testing.Short() {
		return // it is tested elsewhere
	}
	const first, second = "one/tmpab_d0fgh", "another/tmpzyxwvu98"
	for _, c := range []struct {
		name, args, source string
		second             cc.Outcome
	}{
		{"an object", "gcc $D/testfile.c -o $D/output.obj -c -O0", "int f(void) { return 0; }\n", cc.Hit},
		{"a warning", "gcc $D/testfile.c -o $D/output.obj -c -Wall", "int f(void) { int unused; return 0; }\n", cc.Hit},
		{"a program", "gcc $D/testfile.c -o $D/output.exe -Wl,--fatal-warnings -Wl,-z,now -lm", "int main(void) { return 0; }\n", cc.Hit},
		{"preprocessed", "gcc $D/testfile.c -E -P", "#include <limits.h>\nINT_MAX\n", cc.Hit},
		{"preprocessed with lines", "gcc $D/testfile.c -E", "#include <limits.h>\nINT_MAX\n", cc.Hit},
		{"a header of the project", "gcc -I$P/include $D/testfile.c -o $D/output.obj -c", "#include \"h.h\"\nint v = H;\n", cc.Hit},
		{"C++", "g++ $D/testfile.cpp -o $D/output.obj -c -std=c++17", "#include <vector>\nnamespace { struct S { S() { n = 1; } int n; } s; }\nint f() { return std::vector<int>(3).size() + s.n; }\n", cc.Hit},
		{"clang", "clang $D/testfile.c -o $D/output.exe -Wall", "int main(void) { int unused; return 0; }\n", cc.Hit},
		{"assert", "gcc $D/testfile.c -o $D/output.obj -c -DNDEBUG", "#include <assert.h>\nvoid f(int n) { assert(n); }\n", cc.Hit},

		{"assert with the name of the file", "gcc $D/testfile.c -o $D/output.obj -c", "#include <assert.h>\nvoid f(int n) { assert(n); }\n", cc.Miss},
		{"the name of the file", "gcc $D/testfile.c -o $D/output.obj -c", "const char *f = __FILE__;\n", cc.Miss},
		{"its length", "gcc $D/testfile.c -o $D/output.obj -c", "int n = sizeof(__FILE__);\n", cc.Miss},
		{"its length in an argument", "gcc $D/testfile.c -o $D/output.obj -c -DF=__FILE__", "int n = sizeof(F);\n", cc.Miss},
		{"its length in a header", "gcc -I$P/include $D/testfile.c -o $D/output.obj -c", "#include \"name.h\"\nint v = NAME;\n", cc.Miss},
		{"its length in a header behind a link", "gcc -I$P/linked $D/testfile.c -o $D/output.obj -c", "#include \"name.h\"\nint v = NAME;\n", cc.Miss},
		{"a symbol named after the file", "g++ $D/testfile.cpp -o $D/output.obj -c", "int g();\nstatic int n = g();\n", cc.Hit},
		{"debug information", "gcc -g $D/testfile.c -o $D/output.obj -c", "int f(void) { return 0; }\n", cc.Miss},
		{"a prefix map", "gcc -fmacro-prefix-map=$P=x $D/testfile.c -o $D/output.obj -c", "int f(void) { return 0; }\n", cc.Miss},
		{"something beside the directory", "gcc $D/testfile.c -o $D/output.obj -c", "#if __has_include(\"../beside.h\")\nint there;\n#endif\n", cc.Miss},
		{"something of the same name", "gcc $D/testfile.c -o $D/output.obj -c", "#include \"../both.h\"\nint v = BOTH;\n", cc.Miss},
		{"a relative search path", "gcc -I.. $D/testfile.c -o $D/output.obj -c", "#include <both.h>\nint v = BOTH;\n", cc.Miss},
		{"a link that leads out", "gcc $D/testfile.c -o $D/output.obj -c", "#if __has_include(\"link.h\")\n#include \"link.h\"\nint v = BOTH;\n#endif\n", cc.Miss},
		{"a directory that is named", "gcc $D/testfile.c -o $D/output.obj -c -DHERE=\"$D\"", "#define S(x) #x\n#define T(x) S(x)\nint n = sizeof(T(HERE));\n", cc.Miss},
		{"an option's value", "gcc $D/testfile.c -o $D/output.obj -c -MD -MF $D/x.d", "int f(void) { return 0; }\n", cc.Miss},
		{"a width", "gcc $D/testfile.c -o $D/output.obj -c -Wall -fmessage-length=60", "int f(void) { int unused; return 0; }\n", cc.Miss},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if strings.ContainsAny(w.dir, ",'") {
				t.Fatal(w.dir, ": such a directory is never shown aside")
			}
			args := func(in string) []string {
				w.in = filepath.Join("p", in)
				return strings.Fields(strings.NewReplacer("$D", w.path(in), "$P", w.dir).Replace(c.args))
			}
			source := "testfile" + filepath.Ext(strings.Fields(c.args[strings.Index(c.args, "$D/testfile")+len("$D/"):])[0])
			for _, in := range []string{first, second} {
				w.write(in+"/"+source, c.source)
				w.write(filepath.Dir(in)+"/both.h", "#define BOTH "+map[string]string{first: "1", second: "2"}[in]+"\n")
				w.link("../both.h", in+"/link.h")
			}
			w.write("one/beside.h", "")
			w.write("include/h.h", "#define H 1\n")
			w.write("include/name.h", "#define NAME sizeof(__FILE__)\n")
			w.link("include", "linked")
			w.expect("at first", args(first), w.bare(args(first)), cc.Miss)
			want := w.bare(args(second))
			if c.second != cc.Hit {
				w.expect("elsewhere", args(second), want, c.second)
				return
			}
			w.expect("elsewhere", args(second), want, cc.Hit)
			w.expect("where it was", args(first), w.bare(args(first)), cc.Hit)
			if strings.Contains(c.source, "h.h") {
				w.write("include/h.h", "#define H 2\n")
				w.expect("with another header", args(first), w.bare(args(first)), cc.Miss)
				w.expect("with another header, elsewhere", args(second), w.bare(args(second)), cc.Hit)
			}
			w.write(second+"/"+source, c.source+"int more;\n")
			w.expect("with another source", args(second), w.bare(args(second)), cc.Miss)
		})
	}
}
