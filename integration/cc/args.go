package cc

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sbx-action/sbx-action/staging"
)

// A Kind is what a program does with its arguments.
type Kind int

// The kinds of calls.
const (
	Unknown    Kind = iota
	Compile         // sources to objects, assembler or a precompiled header
	Preprocess      // cpp, -E, -M
	Link            // objects to a program or library, perhaps compiling on the way
	Assemble        // as
	Archive         // ar, ranlib
	Any             // whatever it is: --any
)

// A Call is a command line, and what can be said of it without running it.
type Call struct {
	Kind      Kind
	Args      []string // the program first, as it was called
	Dir       string   // the working directory, without symbolic links
	Plain     Reason   // why it can only be executed; "" if it can be cached
	Outputs   []string // files that it is known to write, as they were named; others may follow
	Replaced  []string // those of them that it writes from the beginning
	Inputs    []string // files that it is known to read first, as they were named
	Search    []string // directories in which it looks for others, as they were named
	Native    bool     // the processor that we run on may say what comes out
	Stdin     bool     // a source comes on standard input
	Colour    bool     // the arguments say whether diagnostics have colours
	Linked    bool     // the arguments say whether diagnostics have links
	Recorded  bool     // the arguments are in the outputs
	Painted   bool     // the arguments say that they have colours, or links
	Script    bool     // the compiler is a script, or executes what is no part of it, and may read any variable
	Clang     bool     // the compiler is called like one of LLVM's
	Timeless  bool     // its precompiled headers hold no times
	Sources   int      // how many sources are compiled
	Jobserver bool     // it shares the work of make's jobserver

	expanded  []string
	responses []response
}

// A Reason says in a few words why a call was executed as it is. Statistics
// count by it.
type Reason string

// Reasons that do not depend on what is in a file.
const (
	ReasonQuery     Reason = "asks the compiler something"
	ReasonNoInput   Reason = "no input file"
	ReasonLink      Reason = "a link, without --cache-links"
	ReasonReport    Reason = "reports times or memory, or makes something that no two runs have alike"
	ReasonOutput    Reason = "the output is not a regular file"
	ReasonInput     Reason = "an input is a FIFO or a device"
	ReasonProgram   Reason = "not a compiler that we know; --any is for the others"
	ReasonWrapped   Reason = "another wrapper or cache is in between"
	ReasonArguments Reason = "arguments that we do not understand"
	ReasonJobserver Reason = "link-time optimisation with make's jobserver, which cannot be reached"
	ReasonPreload   Reason = "LD_PRELOAD, LD_AUDIT or LD_DEBUG is set, or another variable that tells the loader what to do or say"
	ReasonStdin     Reason = "standard input is neither a file nor empty"
	ReasonUnderRoot Reason = "the working directory is not one to build in"
	ReasonDisabled  Reason = "disabled"
	ReasonTold      Reason = "inputs by the dependency list and the search path, not observed"
	ReasonMistake   Reason = "a mistake in what is compiled"
	ReasonText      Reason = "an argument or variable is not UTF-8"
	ReasonTimes     Reason = "depends on the times of files"
	ReasonConcealed Reason = "asks for something in /tmp, /run or /dev/shm that it does not name"
	ReasonUnsaid    Reason = "its output cannot be written"
	ReasonMixed     Reason = "standard output and error are one file, and both get something"
	ReasonLinked    Reason = "an output has another name, too, or is a link"
	ReasonRights    Reason = "an output has an owner or permissions that are not those of new files"
	ReasonShown     Reason = "what it says may depend on the terminal"
	ReasonOutside   Reason = "writes outside of what it may write to"
	ReasonLimits    Reason = "a limit of resources (ulimit) is too low for this program" // counted by internal/front/src/limits.c
)

// Parse looks at the command line args of the program of that kind. dir is the
// working directory.
func Parse(kind Kind, dir string, args []string) *Call {
	c := &Call{Kind: kind, Args: args, Dir: dir}
	base := filepath.Base(args[0])
	if kind == Unknown {
		c.Kind, c.Clang = kindOf(base)
	}
	if !utf8.ValidString(strings.Join(args, "") + dir) {
		c.Plain = ReasonText
		return c
	}
	if slices.ContainsFunc(args, func(a string) bool { return namesDescriptor(a) && !(c.Kind != Any && isText(a)) }) {
		c.Plain = ReasonArguments
		return c
	}
	switch c.Kind {
	case Unknown:
		c.Plain = ReasonProgram
		if slices.Contains(wrappers, base) {
			c.Plain = ReasonWrapped
		}
		return c
	case Archive:
		c.archive(base)
	case Any:
		c.any()
	case Assemble:
		c.compiler(asOptions)
	default:
		c.compiler(driverOptions)
	}
	if c.Plain == "" && c.oddOutput() {
		c.Plain = ReasonOutput
	}
	inputs := c.Inputs
	if c.Kind == Any {
		inputs = args[1:] // perhaps
	}
	if c.Plain == "" && slices.ContainsFunc(inputs, func(name string) bool { return isStream(c.abs(name)) }) {
		c.Plain = ReasonInput
	}
	return c
}

// isStream says whether something other than files and directories is at p, by way of a
// link perhaps: it can be read once, and a sandbox has another one.
func isStream(p string) bool {
	if p == os.DevNull {
		return false
	}
	info, err := os.Lstat(p)
	if err == nil && info.Mode()&os.ModeSymlink != 0 {
		real, err := filepath.EvalSymlinks(p)
		if err != nil { // as of "pipe:[123]"
			info, err = os.Stat(p)
			return err == nil && !info.Mode().IsDir()
		}
		if real == os.DevNull {
			return false
		}
		if _, own := under(real, "/proc"); own {
			return true
		}
		if info, err = os.Stat(real); err != nil {
			return false
		}
	}
	return err == nil && !info.Mode().IsRegular() && !info.IsDir()
}

// isText says whether an argument of a compiler defines a macro that at most mentions
// /proc, as git's do ("/proc/self/exe"): that says no more than the same text in a source.
func isText(a string) bool {
	return strings.HasPrefix(a, "-D") && !strings.Contains(a, "/dev/") && !strings.Contains(a, "/fd/")
}

// namesDescriptor says whether an argument names one of the caller's descriptors,
// which a sandbox does not have.
func namesDescriptor(a string) bool {
	return strings.Contains(a, "/dev/std") || strings.Contains(a, "/dev/fd/") || strings.Contains(a, "/proc/")
}

var wrappers = []string{"ccache", "sccache", "distcc", "icecc", "colorgcc", "firebuild", "recc", "sbx-action"}

// kindOf tells programs by their names: an optional target in front, an
// optional version behind.
func kindOf(base string) (k Kind, clang bool) {
	name := strings.TrimRight(base, "0123456789.")
	if name != base {
		name = strings.TrimSuffix(name, "-")
	}
	for _, p := range []struct {
		name  string
		kind  Kind
		clang bool
	}{
		{"clang", Link, true},
		{"clang++", Link, true},
		{"clang-cpp", Preprocess, true},
		{"gcc-ar", Archive, false},
		{"gcc-ranlib", Archive, false},
		{"llvm-ar", Archive, false},
		{"llvm-ranlib", Archive, false},
		{"gcc", Link, false},
		{"g++", Link, false},
		{"cc", Link, false},
		{"c++", Link, false},
		{"cpp", Preprocess, false},
		{"as", Assemble, false},
		{"ar", Archive, false},
		{"ranlib", Archive, false},
		{"ld.bfd", Link, false},
		{"ld.gold", Link, false},
		{"ld.lld", Link, false},
		{"ld", Link, false},
		{"c89", Link, false},
		{"c99", Link, false},
		{"gfortran", Link, false},
	} {
		if name == p.name || strings.HasSuffix(name, "-"+p.name) {
			return p.kind, p.clang
		}
	}
	return Unknown, false
}

// Knows says whether a program of that name is one that we know.
func Knows(name string) bool {
	k, _ := kindOf(filepath.Base(name))
	return k != Unknown
}

// oddOutput says whether something other than a regular file is in the place
// of an output, which a compiler would write through and we would replace.
// /dev/null stays what it is in the sandbox, too.
func (c *Call) oddOutput() bool {
	for _, o := range c.Outputs {
		if o == os.DevNull {
			continue
		}
		if info, err := os.Lstat(c.abs(o)); err == nil && !info.Mode().IsRegular() {
			return true
		}
	}
	return false
}

func (c *Call) abs(name string) string {
	if filepath.IsAbs(name) {
		return filepath.Clean(name)
	}
	return filepath.Join(c.Dir, name)
}

// options say which options of a program have their value in the next argument.
type options struct {
	separate []string // the value is the next argument, always
	either   []string // the value follows at once, or is the next argument
	output   string   // the one that names the output
}

var driverOptions = options{
	separate: []string{
		"-include", "-imacros", "-isystem", "-iquote", "-idirafter", "-iprefix", "-iwithprefix", "-iwithprefixbefore",
		"-isysroot", "-imultilib", "-MF", "-MT", "-MQ", "-MJ", "-Xpreprocessor", "-Xassembler", "-Xlinker", "-Xclang", "-aux-info",
		"-arch", "--param", "-wrapper", "-target", "-mllvm", "-dumpbase", "-dumpdir", "-dumpbase-ext", "-include-pch",
		"-ivfsoverlay", "--serialize-diagnostics", "-working-directory", "--sysroot", "-specs", "-framework", "-install_name",
		"-rpath", "-soname", "-dynamic-linker", "--output", "-map", "-Map", "-m", "-plugin", "-plugin-opt", "-version-script",
	},
	either: []string{"-o", "-x", "-I", "-D", "-U", "-L", "-l", "-A", "-B", "-T", "-u", "-z", "-e", "-h", "-G", "-b", "-V"},
	output: "-o",
}

var asOptions = options{
	separate: []string{"-defsym", "--defsym", "--MD", "-aux-info"},
	either:   []string{"-o", "-I"},
	output:   "-o",
}

// queries are options that make a compiler say something about itself, alone
// or at the beginning of an argument.
var queries = []string{
	"-###", "-v", "-V", "--verbose", "--version", "-version", "--help", "-help", "--target-help", "-dumpmachine", "-dumpversion",
	"-dumpfullversion", "-dumpspecs", "-qversion", "--autocomplete",
}

// reports are options that write down how long something took, or how much of
// it there was: no two runs are alike.
var reports = []string{"-ftime-report", "-fmem-report", "-Q", "-time", "--stats", "-fpre-ipa-mem-report", "-fpost-ipa-mem-report", "-ftime-trace", "--statistics"}

// unlike says whether an argument makes the linker report times, or make up an
// identification.
func unlike(a string) bool {
	list, linker := strings.CutPrefix(a, "-Wl,")
	for option := range strings.SplitSeq(list, ",") {
		if option = strings.TrimLeft(option, "-"); option == "build-id=uuid" || option == "stats" && a != "-stats" {
			return true
		}
		if !linker {
			break
		}
	}
	return false
}

// whole are options that begin like one of options.either.
var whole = []string{"-emit-pch", "-emit-llvm", "-undef", "-export-dynamic", "-bundle"}

// compiler reads the arguments of a driver, an assembler or a linker.
func (c *Call) compiler(o options) {
	args, ok := c.expand(c.Args[1:], 0)
	if !ok {
		c.Plain = ReasonArguments
		return
	}
	c.expanded = args
	c.Native = len(c.responses) > 0 && slices.ContainsFunc(args, func(a string) bool { return strings.Contains(a, "native") })
	stop, language := Link, ""
	if c.Kind != Link {
		stop = c.Kind
	}
	raw := strings.HasPrefix(strings.TrimLeft(filepath.Base(c.Args[0]), "-"), "ld") || strings.HasSuffix(filepath.Base(c.Args[0]), "-ld")
	files := 0
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == "-" {
			c.Stdin = true
			files++
			continue
		}
		if !strings.HasPrefix(a, "-") {
			files++
			c.file(a, language)
			continue
		}
		name, value, next := o.split(a)
		if next {
			if i++; i >= len(args) {
				c.Plain = ReasonArguments
				return
			}
			value = args[i]
		}
		if slices.Contains(queries, a) && !(raw && a == "-v") || strings.HasPrefix(a, "-print-") || strings.HasPrefix(a, "--print-") || strings.HasPrefix(a, "--help=") {
			c.Plain = ReasonQuery
			return
		}
		if slices.Contains(reports, name) || unlike(a) || name == "-Xlinker" && unlike(value) {
			c.Plain = ReasonReport
			return
		}
		switch name {
		case "-c", "-S", "-fsyntax-only", "-emit-pch", "-emit-llvm":
			stop = min(stop, Compile)
		case "-E", "-M", "-MM":
			stop = Preprocess
		case "-x":
			language = value
		case "-wrapper":
			c.Plain = ReasonArguments
			return
		case "-flto":
			c.Jobserver = value == "jobserver"
		case "-fno-lto":
			c.Jobserver = false
		}
		c.option(name, value)
	}
	if c.Kind == Link && stop != Link {
		c.Kind = stop
	}
	c.Jobserver = c.Jobserver && c.Kind == Link // objects are made by one process
	if files == 0 {
		c.Plain = ReasonNoInput
	}
}

// split returns the name and the value of an option, or that its value is the next
// argument.
func (o options) split(a string) (name, value string, next bool) {
	if slices.Contains(o.separate, a) {
		return a, "", true
	}
	if len(a) >= 2 && slices.Contains(o.either, a[:2]) && !slices.Contains(whole, a) && !slices.Contains(queries, a) {
		return a[:2], a[2:], len(a) == 2
	}
	name, value, _ = strings.Cut(a, "=")
	return name, value, false
}

// option notes what an option says of outputs, search paths and the machine.
func (c *Call) option(name, value string) {
	switch name {
	case "-o", "--output", "-MF", "-MJ", "--serialize-diagnostics", "-aux-info", "--MD", "-Map", "-map":
		if value != "-" && !strings.HasPrefix(value, "|") {
			c.Outputs = append(c.Outputs, value)
			if name != "-MJ" && name != "-aux-info" {
				c.Replaced = append(c.Replaced, value)
			}
		}
	case "-I", "-isystem", "-iquote", "-idirafter", "-L", "-B":
		c.Search = append(c.Search, value)
	case "-include", "-imacros", "-T", "-specs", "-include-pch":
		c.Inputs = append(c.Inputs, value)
	case "-dumpdir":
		c.Outputs = append(c.Outputs, value+"x")
	case "-fdiagnostics-color", "-fno-diagnostics-color", "-fcolor-diagnostics", "-fno-color-diagnostics":
		c.Colour = value != "auto"
		c.Painted = c.Painted || value != "auto" && value != "never"
	case "-fdiagnostics-urls":
		c.Painted, c.Linked = true, true
	case "-frecord-gcc-switches":
		c.Recorded = true
	case "-march", "-mtune", "-mcpu", "--march":
		c.Native = c.Native || strings.Contains(value, "native")
	case "-Xclang":
		if value == "-fmodules" {
			c.Plain = ReasonTimes
		}
		c.Timeless = c.Timeless || value == "-fno-pch-timestamp"
		c.Native = c.Native || strings.Contains(value, "native")
	case "-Xpreprocessor", "-Xassembler", "-Xlinker", "-mllvm", "-specs=":
		c.Native = c.Native || strings.Contains(value, "native")
	case "-fmodules", "-fcxx-modules":
		if c.Clang { // the modules that it makes by the way hold times, and are checked against them
			c.Plain = ReasonTimes
		}
	}
	for _, p := range []string{"-Wp,", "-Wl,", "-Wa,"} {
		if rest, ok := strings.CutPrefix(name, p); ok || strings.HasPrefix(value, p) {
			c.passedOn(strings.Split(rest, ","))
		}
	}
}

// passedOn reads what the driver passes to another program.
func (c *Call) passedOn(list []string) {
	for i, a := range list {
		switch {
		case (a == "-MD" || a == "-MMD" || a == "-MF" || a == "-Map") && i+1 < len(list):
			c.Outputs = append(c.Outputs, list[i+1])
			c.Replaced = append(c.Replaced, list[i+1])
		case strings.Contains(a, "native"):
			c.Native = true
		}
	}
}

// languages are the ends of the names of files that are compiled.
var languages = []string{
	".c", ".i", ".ii", ".m", ".mi", ".mm", ".mii", ".cc", ".cp", ".cxx", ".cpp", ".CPP", ".c++", ".C", ".M", ".h", ".H", ".hh", ".hp",
	".hxx", ".hpp", ".HPP", ".h++", ".tcc", ".s", ".S", ".sx", ".f", ".F", ".f90", ".F90", ".cppm", ".ixx", ".ccm", ".adb", ".ads",
}

func (c *Call) file(name, language string) {
	c.Inputs = append(c.Inputs, name)
	if language != "" && language != "none" || slices.Contains(languages, filepath.Ext(name)) {
		c.Sources++
		if !filepath.IsAbs(name) || strings.Contains(name, "/") {
			c.Search = append(c.Search, filepath.Dir(name))
		}
	}
}

// archive reads the arguments of ar and ranlib.
func (c *Call) archive(base string) {
	args, ok := c.expand(c.Args[1:], 0)
	if !ok || len(args) == 0 {
		c.Plain = ReasonArguments
		return
	}
	c.expanded = args
	for _, a := range args {
		if slices.Contains([]string{"--version", "--help", "-h", "-V", "-v"}, a) || strings.HasPrefix(a, "--help") {
			c.Plain = ReasonQuery
			return
		}
	}
	if strings.Contains(base, "ranlib") {
		for _, a := range args {
			switch {
			case a == "-t", strings.HasPrefix(a, "-U"), strings.HasPrefix(a, "-") && strings.ContainsAny(a, "tU"):
				c.Plain = ReasonTimes
				return
			case !strings.HasPrefix(a, "-"):
				c.Outputs = append(c.Outputs, a)
			}
		}
	} else {
		c.ar(args)
	}
	if c.Plain == "" && len(c.Outputs) == 0 {
		c.Plain = ReasonNoInput
	}
	c.Inputs = slices.DeleteFunc(slices.Clone(args), func(a string) bool { return strings.HasPrefix(a, "-") })
}

func (c *Call) ar(args []string) {
	for len(args) > 0 && (args[0] == "--plugin" || args[0] == "--target" || strings.HasPrefix(args[0], "--")) {
		if n := 1; args[0] == "--plugin" || args[0] == "--target" {
			n = min(2, len(args))
			args = args[n:]
			continue
		}
		if !strings.HasPrefix(args[0], "--plugin=") && !strings.HasPrefix(args[0], "--target=") && args[0] != "--thin" {
			c.Plain = ReasonArguments
			return
		}
		args = args[1:]
	}
	if len(args) < 2 {
		c.Plain = ReasonArguments
		return
	}
	ops := strings.TrimPrefix(args[0], "-")
	switch {
	case !strings.ContainsAny(ops, "rqdms"), strings.ContainsAny(ops, "txpM"):
		c.Plain = ReasonQuery
	case strings.Contains(ops, "U"), strings.Contains(ops, "o"):
		c.Plain = ReasonTimes
	}
	rest := args[1:]
	if strings.ContainsAny(ops, "abiN") && len(rest) > 1 { // a member's name or number comes first
		rest = rest[1:]
	}
	c.Outputs = append(c.Outputs, rest[0])
}

// any looks at the arguments of a program that we know nothing of.
func (c *Call) any() {
	for _, a := range c.Args[1:] {
		c.Native = c.Native || strings.Contains(a, "native") || strings.HasPrefix(a, "@")
	}
	for i, a := range c.Args {
		if a == "-o" && i+1 < len(c.Args) {
			c.Outputs = append(c.Outputs, c.Args[i+1])
		}
	}
}

// A response is a file of arguments that we have read, or looked for.
type response struct {
	path string
	id   staging.StatID
}

// expand puts the arguments of response files in their place, as GCC's driver
// does. It says false where that is not to be had.
func (c *Call) expand(args []string, depth int) ([]string, bool) {
	if !slices.ContainsFunc(args, func(a string) bool { return len(a) > 1 && a[0] == '@' }) {
		return args, true
	}
	if depth > 20 {
		return nil, false
	}
	var out []string
	for _, a := range args {
		if len(a) < 2 || a[0] != '@' {
			out = append(out, a)
			continue
		}
		r := response{path: c.abs(a[1:])}
		if isStream(r.path) {
			return nil, false
		}
		r.id, _ = staging.StatPath(r.path, staging.KeepLinks) // before it is read
		c.responses = append(c.responses, r)
		data, err := os.ReadFile(r.path)
		if err != nil { // then it is an argument like any other
			out = append(out, a)
			continue
		}
		more, ok := c.expand(splitResponse(string(data)), depth+1)
		if !ok {
			return nil, false
		}
		out = append(out, more...)
	}
	return out, true
}

// splitResponse splits the text of a response file at white space; quotes of
// both kinds keep it, and a backslash keeps any character.
func splitResponse(text string) (list []string) {
	var b strings.Builder
	var quote byte
	begun := false
	for i := 0; i < len(text); i++ {
		ch := text[i]
		switch {
		case ch == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
			begun = true
		case quote != 0 && ch == quote:
			quote = 0
		case quote != 0:
			b.WriteByte(ch)
		case ch == '"' || ch == '\'':
			quote, begun = ch, true
		case ch == ' ' || ch == '\t' || ch == '\n' || ch == '\r' || ch == '\f' || ch == '\v':
			if begun {
				list = append(list, b.String())
			}
			b.Reset()
			begun = false
		default:
			b.WriteByte(ch)
			begun = true
		}
	}
	if begun {
		list = append(list, b.String())
	}
	return list
}
