package cc

import (
	"path/filepath"
	"slices"
	"strings"
)

// Where nothing can be observed (no seccomp notification, no namespaces: in most
// containers), what a call depends on is what the compiler says: its list of
// dependencies and its search path. That is less than the truth, so only calls are
// taken for which we know what is not said:
//
//   - a header that would have been found earlier: every file that was included is
//     looked for in all directories before the one in which it was;
//   - __has_include: its operands are looked for in all directories, and what has
//     operands that are no plain names is not cached;
//   - the driver, what it executes, their libraries, and the places where another
//     one of the same name would have been found first;
//   - specs files, precompiled headers, #embed, and assembler, which may read files,
//     but for that in the system's headers: what has them is not cached, or is a
//     fact if it is absent.
//
// Results have a key of their own, so that they are never taken where there is more
// to go by.

// toldOptions are beginnings of options of which the compiler's list tells all that
// they do. Of those in the second list it does not.
var (
	toldOptions = []string{
		"-O", "-g", "-std=", "-ansi", "-pedantic", "-w", "-W", "-f", "-m", "-pipe", "-pthread", "-nostdinc", "-no-pie", "-static", "-P", "-C",
		"-undef", "-trigraphs", "-l", "-L", "-rdynamic", "-shared",
	}
	untoldOptions = []string{
		"-gsplit-dwarf", "-Wa,", "-Wl,", "-Wp,", "-fplugin", "-fdump", "-fprofile", "-ftest-coverage", "-fstack-usage", "-fcallgraph-info",
		"-fmodule", "-fcxx-modules", "-fsave-optimization-record", "-fopt-info", "-fdiagnostics-format", "-fdiagnostics-generate", "-ftime",
		"-fbranch", "-fauto-profile", "-fcs-", "-fembed", "-fsyntax-only", "-fpch", "-fcompare-debug", "-flto=", "-fsanitize-", "-mllvm",
		"-fcrash", "-fproc-stat", "-foffload", "-fapinotes", "-fbuild-session", "-fprebuilt", "-fimplicit", "-fno-integrated-as", "-MG",
	}
	toldValues = []string{"-I", "-D", "-U", "-isystem", "-iquote", "-idirafter", "-include", "-imacros", "-isysroot", "--sysroot", "-x"}
	toldLost   = []string{"-o", "-MF", "-MT", "-MQ"} // that have a value, which is not for the question
)

// A question is what a compiler is asked of a call, and what the call makes.
type question struct {
	args    []string // without what says what is to be made
	source  string
	outputs []string
}

// ask turns the call into a question. It says false of a call that is not simple
// enough.
func (c *Call) ask() (*question, bool) {
	if c.Kind != Compile || c.Stdin || c.Sources != 1 || slices.ContainsFunc(c.Args, untold) {
		return nil, false
	}
	q := &question{args: []string{c.Args[0]}}
	var out, dep string
	assembler, deps := false, false
	for i := 1; i < len(c.Args); i++ {
		a := c.Args[i]
		value := func(name string) (string, bool) {
			if v, ok := strings.CutPrefix(a, name); ok && v != "" {
				return strings.TrimPrefix(v, "="), true
			}
			if i++; i >= len(c.Args) {
				return "", false
			}
			return c.Args[i], true
		}
		switch name := optionOf(a); {
		case !strings.HasPrefix(a, "-"):
			q.source = a
			q.args = append(q.args, a)
		case a == "-c":
		case a == "-S":
			assembler = true
		case a == "-MD", a == "-MMD":
			deps = true
		case a == "-MP":
		case strings.HasPrefix(a, "-Wp,-MD,"), strings.HasPrefix(a, "-Wp,-MMD,"):
			_, dep, _ = strings.Cut(a[len("-Wp,"):], ",")
			if strings.Contains(dep, ",") {
				return nil, false
			}
			deps = true
		case slices.Contains(toldLost, name):
			v, ok := value(name)
			if !ok {
				return nil, false
			}
			switch name {
			case "-o":
				out = v
			case "-MF":
				dep = v
			}
		case slices.Contains(toldValues, name):
			at := i
			v, ok := value(name)
			if !ok || name == "-x" && v != "c" && v != "c++" {
				return nil, false
			}
			q.args = append(q.args, c.Args[at:i+1]...)
		case has(untoldOptions, a), !has(toldOptions, a):
			return nil, false
		default:
			q.args = append(q.args, a)
		}
	}
	return q.made(out, dep, assembler, deps)
}

// untoldEnv are variables that make a compiler read or write something else.
var untoldEnv = []string{
	"CCC_OVERRIDE_OPTIONS", "CLANG_CONFIG_FILE_SYSTEM_DIR", "CLANG_CONFIG_FILE_USER_DIR", "DEPENDENCIES_OUTPUT", "GCC_COMPARE_DEBUG", "GCC_SPECS",
	"SUNPRO_DEPENDENCIES", "CLANG_MODULE_CACHE_PATH", "CXX_MODULE_MAPPER", "LLD_REPRODUCE", "QA_OVERRIDE_GCC3_OPTIONS",
}

// untold says whether an argument is for observation only, whatever it belongs to.
func untold(a string) bool {
	return strings.HasPrefix(a, "@") || strings.HasPrefix(a, "-include-pch") || precompiled(a) || strings.Contains(a, "has_include") || strings.Contains(a, "incbin") || strings.Contains(a, "embed")
}

// made adds what the call makes.
func (q *question) made(out, dep string, assembler, deps bool) (*question, bool) {
	ext := filepath.Ext(q.source)
	if !slices.Contains([]string{".c", ".cc", ".cpp", ".cxx", ".c++", ".C", ".i", ".ii", ".m", ".mm"}, ext) {
		return nil, false
	}
	stem := strings.TrimSuffix(filepath.Base(q.source), ext)
	if out == "" {
		out = stem + ".o"
		if assembler {
			out = stem + ".s"
		}
	} else {
		stem = strings.TrimSuffix(out, filepath.Ext(out))
	}
	if deps && dep == "" {
		dep = stem + ".d"
	}
	for _, o := range []string{out, dep} {
		if o == "-" || strings.HasPrefix(o, "/dev/") && o != "/dev/null" {
			return nil, false
		}
		if o != "" && o != "/dev/null" {
			q.outputs = append(q.outputs, o)
		}
	}
	return q, true
}

// optionOf is the option of toldLost or toldValues that an argument is or begins
// with, the longest.
func optionOf(a string) string {
	best := ""
	for _, list := range [][]string{toldLost, toldValues} {
		for _, o := range list {
			if strings.HasPrefix(a, o) && len(o) > len(best) && (a == o || len(o) == 2 || strings.HasPrefix(a[len(o):], "=") || strings.HasPrefix(o, "-i")) {
				best = o
			}
		}
	}
	return best
}

func has(list []string, a string) bool {
	return slices.ContainsFunc(list, func(p string) bool { return strings.HasPrefix(a, p) })
}

// An answer is what a compiler says of a call.
type answer struct {
	quote, angle []string // where it looks for files in quotes first, and for all
	absent       []string // directories of the search path that are not there
	programs     []string // that it executes, as it names them
	parts        []string // directories in which it looks for its parts
	listed       []string // directories that decide where it looks
	files        []string // that it read, the source first
	precompiled  bool     // it found a precompiled header, of use or not
}

// readAnswer reads what a compiler says with -v and -H.
func readAnswer(text string) *answer {
	a := &answer{}
	var into *[]string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case line == `#include "..." search starts here:`:
			into = &a.quote
		case line == "#include <...> search starts here:":
			into = &a.angle
		case line == "End of search list.":
			into = nil
		case into != nil && strings.HasPrefix(line, " "):
			*into = append(*into, strings.TrimSpace(line))
		case strings.HasPrefix(line, "ignoring nonexistent directory \""), strings.HasPrefix(line, "ignoring duplicate directory \""):
			_, d, _ := strings.Cut(line, `"`)
			a.absent = append(a.absent, strings.TrimSuffix(d, `"`))
		case strings.HasPrefix(line, "COMPILER_PATH="), strings.HasPrefix(line, "LIBRARY_PATH="):
			_, list, _ := strings.Cut(line, "=")
			a.parts = append(a.parts, filepath.SplitList(list)...)
		case strings.HasPrefix(line, "Reading specs from "):
			a.files = append(a.files, strings.TrimPrefix(line, "Reading specs from "))
		case strings.HasPrefix(line, "Found candidate GCC installation: "):
			a.listed = append(a.listed, filepath.Dir(strings.TrimPrefix(line, "Found candidate GCC installation: ")))
		case strings.HasPrefix(line, " \""), strings.HasPrefix(line, " /"):
			if f := splitResponse(line); len(f) > 0 {
				a.programs = append(a.programs, f[0])
			}
		case strings.HasPrefix(line, "! "), strings.HasPrefix(line, "x "):
			a.precompiled = true
		}
	}
	return a
}

// readDependencies reads the names behind the first colon of a rule for make.
func readDependencies(rule string) (list []string) {
	_, rest, ok := strings.Cut(rule, ": ")
	if !ok {
		return nil
	}
	var b strings.Builder
	end := func() {
		if b.Len() > 0 {
			list = append(list, b.String())
			b.Reset()
		}
	}
	for i := 0; i < len(rest); i++ {
		switch c := rest[i]; {
		case c == '\\' && i+1 < len(rest) && rest[i+1] == '\n':
			i++
			end()
		case c == '\\' && i+1 < len(rest) && (rest[i+1] == ' ' || rest[i+1] == '#'):
			i++
			b.WriteByte(rest[i])
		case c == '$' && i+1 < len(rest) && rest[i+1] == '$':
			i++
			b.WriteByte('$')
		case c == ' ' || c == '\t':
			end()
		case c == '\n':
			end()
			return list // what follows are the rules of -MP
		default:
			b.WriteByte(c)
		}
	}
	end()
	return list
}

// tested returns the names that a source asks for with __has_include, and false if it
// asks in a way that we do not understand, or reads files by other means than
// #include.
func tested(text string) (names []string, ok bool) {
	if strings.Contains(text, "incbin") || strings.Contains(text, "__has_embed") || strings.Contains(text, ".include") {
		return nil, false
	}
	if rest := text; strings.Contains(rest, "embed") {
		for line := range strings.Lines(rest) {
			word := strings.TrimLeft(strings.TrimPrefix(strings.TrimLeft(line, " \t"), "#"), " \t")
			if strings.HasPrefix(strings.TrimLeft(line, " \t"), "#") && strings.HasPrefix(word, "embed") {
				return nil, false
			}
		}
	}
	for rest := text; ; {
		i := strings.Index(rest, "has_include")
		if i < 0 {
			return names, true
		}
		start := strings.LastIndexByte(rest[:i], '\n') + 1
		line, _, _ := strings.Cut(rest[start:], "\n")
		operand := strings.TrimLeft(strings.TrimPrefix(rest[i+len("has_include"):], "_next"), " \t")
		operand, called := strings.CutPrefix(operand, "(")
		operand = strings.TrimLeft(operand, " \t")
		rest = rest[i+len("has_include"):]
		if !called || forwards(line) {
			continue // asks whether there is such a thing, or gives it a name
		}
		end := ">"
		if strings.HasPrefix(operand, `"`) {
			end = `"`
		} else if !strings.HasPrefix(operand, "<") {
			if inComment(line) {
				continue
			}
			return nil, false
		}
		name, _, found := strings.Cut(operand[1:], end)
		if !found || strings.Contains(name, "\n") {
			return nil, false
		}
		names = append(names, name)
	}
}

// forwards says whether a line is "#define …has_include(x) …has_include (x)".
func forwards(line string) bool {
	rest, ok := strings.CutPrefix(strings.TrimLeft(line, " \t"), "#")
	rest, defines := strings.CutPrefix(strings.TrimLeft(rest, " \t"), "define")
	name, _, _ := strings.Cut(strings.TrimLeft(rest, " \t"), "(")
	return ok && defines && (strings.HasSuffix(name, "has_include") || strings.HasSuffix(name, "has_include_next"))
}

// inComment says whether a line is in a comment of the usual form.
func inComment(line string) bool {
	line = strings.TrimLeft(line, " \t")
	return strings.HasPrefix(line, "//") || strings.HasPrefix(line, "/*") || strings.HasPrefix(line, "* ")
}
