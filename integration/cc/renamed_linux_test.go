package cc_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// TestRenamed makes calls as CMake, kbuild and cgo make them, in directories and with names
// that are made up each time. The second call has to get what the bare compiler gives there:
// from the cache, where the result does not depend on these names.
func TestRenamed(t *testing.T) {
	if testing.Short() {
		return // it is tested elsewhere
	}
	const object = "gcc -o CMakeFiles/$T.dir/c.c.o -c $D/c.c"
	for _, c := range []struct {
		name, args, source string
		second             cc.Outcome
		stdin              string
	}{
		{name: "an object", args: object, source: "int f(void) { return 0; }\n", second: cc.Hit},
		{name: "a warning", args: object + " -Wall", source: "int f(void) { int unused; return 0; }\n", second: cc.Hit},
		{name: "a mistake", args: object, source: "int f(void) { return }\n", second: cc.Failed},
		{name: "assembled", args: "gcc -o CMakeFiles/$T.dir/c.S.o -c $D/c.S", source: "f: ret\n", second: cc.Hit},
		{name: "a program", args: "gcc -rdynamic CMakeFiles/$T.dir/main.o -o $T", source: "int f(void) { return 0; }\n", second: cc.Hit},
		{name: "a program at once", args: "gcc c.c -o $T -lm", source: "int main(void) { return 0; }\n", second: cc.Hit},
		{name: "preprocessed", args: "gcc -E $D/c.c", source: "#include <limits.h>\nint i = INT_MAX;\n", second: cc.Hit},
		{name: "a header around it", args: object, source: "#include \"../both.h\"\nint v = BOTH;\n", second: cc.Hit},
		{name: "C++", args: "g++ -o CMakeFiles/$T.dir/c.o -c $D/c.cpp -frandom-seed=$T", source: "#include <vector>\nnamespace { struct S { S() { n = 1; } int n; } s; }\nstatic int g(int n) { return std::vector<int>(n).size() + s.n; }\nstatic int h = g(3);\n", second: cc.Hit},
		{name: "clang", args: "clang -o CMakeFiles/$T.dir/c.o -c $D/c.c -Wall", source: "int f(void) { int unused; return 0; }\n", second: cc.Hit},
		{name: "debug information with a map", args: object + " -g -gno-record-gcc-switches -ffile-prefix-map=$D=/x -frandom-seed=$T", source: "int f(void) { return 0; }\n", second: cc.Hit},
		{name: "an option, of no source", args: "gcc -Werror -Wa,--fatal-warnings -x c /dev/null -c -o $D/tmp.o", second: cc.Hit},
		{name: "an instruction", args: "gcc -c -x assembler-with-cpp -o $D/tmp.o -", stdin: "nop\n", second: cc.Hit},

		{name: "debug information", args: object + " -g", source: "int f(void) { return 0; }\n", second: cc.Miss},
		{name: "debug information with another map", args: object + " -g -ffile-prefix-map=/usr=/x", source: "int f(void) { return 0; }\n", second: cc.Miss},
		{name: "a map of a part of the name", args: object + " -g -ffile-prefix-map=$D=/x -ffile-prefix-map=$P/TryCompile-=/y", source: "int f(void) { return 0; }\n", second: cc.Miss},
		{name: "a map to the name", args: object + " -g -ffile-prefix-map=$P=$D", source: "int f(void) { return 0; }\n", second: cc.Miss},
		{name: "compressed", args: object + " -g -gz", source: "int f(void) { return 0; }\n", second: cc.Miss},
		{name: "the name of the file", args: object, source: "const char *f = __FILE__;\n", second: cc.Miss},
		{name: "its length", args: object, source: "int n = sizeof(__FILE__);\n", second: cc.Miss},
		{name: "its letters", args: object, source: "int n = __builtin_strlen(__BASE_FILE__) + __FILE__[__builtin_strlen(__FILE__) - 6];\n", second: cc.Miss},
		{name: "a macro that does", args: object + " -I$P/include", source: "#include \"name.h\"\nint n = NAME;\n", second: cc.Miss},
		{name: "a macro's value", args: object + " -D$T_EXPORTS=1 -DAT=$T", source: "#define S(x) #x\n#define V(x) S(x)\nint n = sizeof(V(AT));\n", second: cc.Miss},
		{name: "a lambda's name", args: "clang++ -std=c++17 -o CMakeFiles/$T.dir/c.o -c $D/c.cpp", source: "template <class F> constexpr int length(F) { return sizeof(__PRETTY_FUNCTION__); }\nint n = length([] { return 1; });\n", second: cc.Miss},
		{name: "a part of the name", args: object + " -finstrument-functions -finstrument-functions-exclude-file-list=oSoHGc", source: "int f(void) { return 0; }\n", second: cc.Miss},
		{name: "dependencies", args: object + " -MD -MF CMakeFiles/$T.dir/c.d", source: "int f(void) { return 0; }\n", second: cc.Miss},
		{name: "assembler", args: "gcc -S -o $D/c.s $D/c.c", source: "int f(void) { return 0; }\n", second: cc.Miss},
		{name: "link-time optimisation", args: object + " -flto -frandom-seed=1", source: "int f(void) { return 0; }\n", second: cc.Miss},
		{name: "a program of such objects", args: "gcc CMakeFiles/$T.dir/lto.o -o $T", source: "int f(void) { return 0; }\n", second: cc.Miss},
		{name: "the name of a library", args: "gcc -shared -Wl,-soname,lib$T.so CMakeFiles/$T.dir/main.o -o lib$T.so", source: "int f(void) { return 0; }\n", second: cc.Miss},
		{name: "a path in a program", args: "gcc CMakeFiles/$T.dir/main.o -Wl,-rpath,$D -o $T", source: "int f(void) { return 0; }\n", second: cc.Miss},
		{name: "what standard input names", args: "gcc -c -x assembler-with-cpp -o $D/tmp.o -", stdin: ".ascii \"$D\"\n", second: cc.Miss},
		{name: "a tag made of the name", args: "clang -target aarch64-linux-gnu -fsanitize=hwaddress -o CMakeFiles/$T.dir/c.o -c $D/c.c", source: "int a = 1;\n", second: cc.Miss},
		{name: "an option nobody knows", args: object + " -fexec-charset=IBM1047", source: "int f(void) { return 0; }\n", second: cc.Miss},
		{name: "its length, pasted", args: object, source: "#define P(a, b) a ## b\n#define Q(a, b) P(a, b)\nint n = sizeof(Q(__FI, LE__));\n", second: cc.Miss},
		{name: "its length, on two lines", args: object, source: "int n = sizeof(__FI\\\nLE__);\n", second: cc.Miss},
		{name: "what a source names", args: object, source: "#include \"$D/h.h\"\nint v = H;\n", second: cc.Miss},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.flags = []string{"--cache-links"}
			calls := [][2]string{{"TryCompile-oSoHGc", "cmTC_722a7"}, {"TryCompile-b1CdEf", "cmTC_0ab19"}}
			in := func(call [2]string) *strings.Replacer {
				return strings.NewReplacer("$D", w.path(call[0]), "$P", w.dir, "$T", call[1])
			}
			args := func(call [2]string) []string {
				w.in, w.stdin = filepath.Join("p", call[0]), in(call).Replace(c.stdin)
				return strings.Fields(in(call).Replace(c.args))
			}
			w.write("main.c", "int main(void) { return 0; }\n")
			w.write("both.h", "#define BOTH 1\n")
			w.write("include/name.h", "#define NAME sizeof(__FILE__)\n")
			for i, call := range calls {
				for _, ext := range []string{"c", "cpp", "S"} {
					w.write(call[0]+"/c."+ext, in(call).Replace(c.source))
				}
				w.write(call[0]+"/h.h", "#define H "+[]string{"1", "2"}[i]+"\n")
				w.mkdir(call[0] + "/CMakeFiles/" + call[1] + ".dir")
				w.host("gcc", "-c", "main.c", "-o", call[0]+"/CMakeFiles/"+call[1]+".dir/main.o")
				w.host("gcc", "-flto", "-c", "main.c", "-o", call[0]+"/CMakeFiles/"+call[1]+".dir/lto.o")
			}
			first := cc.Miss
			if c.second == cc.Failed {
				first = cc.Failed
			}
			w.expect("at first", args(calls[0]), w.bare(args(calls[0])), first)
			w.expect("with other names", args(calls[1]), w.bare(args(calls[1])), c.second)
			if c.second != cc.Hit {
				return
			}
			w.expect("with the first ones", args(calls[0]), w.bare(args(calls[0])), cc.Hit)
			if strings.Contains(c.source, "both.h") {
				w.write("both.h", "#define BOTH 2\n")
				w.expect("with another header", args(calls[0]), w.bare(args(calls[0])), cc.Miss)
			}
			if strings.Contains(c.args, "$D/c.c") {
				for _, ext := range []string{"c", "cpp"} {
					w.write(calls[1][0]+"/c."+ext, c.source+"int more;\n")
				}
				w.expect("with another source", args(calls[1]), w.bare(args(calls[1])), cc.Miss)
			}
		})
	}
}

// TestRenamedInTmp makes a call as cgo does, in a project, with headers and the output in a
// directory of /tmp whose name is longer or shorter each time.
func TestRenamedInTmp(t *testing.T) {
	w := newWorld(t)
	w.write("c.c", "#include \"h.h\"\nint f(void) { return H; }\n")
	for i, c := range []struct {
		header  string
		outcome cc.Outcome
	}{{"#define H 1\n", cc.Miss}, {"#define H 1\n", cc.Hit}, {"#define H 2\n", cc.Miss}, {"#define H sizeof(__FILE__)\n", cc.Miss}, {"#define H sizeof(__FILE__)\n", cc.Miss}} {
		dir, err := os.MkdirTemp("/tmp", "go-build"+strings.Repeat("x1", i))
		w.must(err)
		defer os.RemoveAll(dir)
		w.write(dir+"/b001/h.h", c.header)
		args := strings.Fields(strings.ReplaceAll("gcc -I $D/b001/ -ffile-prefix-map=$D/b001=/tmp/go-build -gno-record-gcc-switches -g -c -o $D/b001/c.o c.c", "$D", dir))
		made := func() string {
			data, err := os.ReadFile(dir + "/b001/c.o")
			w.must(err)
			w.must(os.Remove(dir + "/b001/c.o"))
			return string(data)
		}
		effect := w.bare(args)
		want := made()
		w.expect(c.header, args, effect, c.outcome)
		if made() != want {
			t.Errorf("call %d, %q: another object than the bare compiler's", i, c.header)
		}
	}
}
