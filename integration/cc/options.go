package cc

import (
	"path/filepath"
	"slices"
	"strings"
)

// options say which options of a program have their value in the next argument.
type options struct {
	separate []string // the value is the next argument, always
	either   []string // the value follows at once, or is the next argument
	output   string   // the one that names the output
}

var driverOptions = options{
	separate: []string{
		"-include", "-imacros", "-isystem", "-iquote", "-idirafter", "-iprefix", "-iwithprefix", "-iwithprefixbefore",
		"-isysroot", "-imultilib", "-MF", "-MT", "-MQ", "-MJ", "-Xpreprocessor", "-Xassembler", "-Xlinker", "-Xclang", "-Xanalyzer", "-aux-info",
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

// isNative says whether an argument, or an option's value, asks for what the processor
// can do that we run on.
func isNative(a string) bool { return strings.Contains(a, "native") }

func isQuery(a string) bool {
	return slices.Contains(queries, a) || strings.HasPrefix(a, "-print-") || strings.HasPrefix(a, "--print-") || strings.HasPrefix(a, "--help=")
}

// reports are options that write down how long something took, or how much of
// it there was: no two runs are alike.
var reports = []string{
	"-ftime-report", "-fmem-report", "-Q", "-time", "--time", "--stats", "-fpre-ipa-mem-report", "-fpost-ipa-mem-report", "-ftime-trace", "--statistics",
	"-ftime-report-json", "-fproc-stat-report", "-time-passes", "--time-passes", "-time-trace", "--time-trace",
	"-gen-cdb-fragment-path", // of clang, in files with names drawn at random
}

// isReport says whether an argument of a compiler, or of what it passes arguments on to, is
// one of the reports. Those of clang's analyzer in HTML have names drawn at random, too.
func isReport(a string) bool {
	name, value, _ := strings.Cut(a, "=")
	return slices.Contains(reports, name) || name == "-analyzer-output" && strings.Contains(value, "html") ||
		len(name) > len("--st") && strings.HasPrefix("--statistics", name) // of as, which takes less of it
}

// passesReport says whether a driver passes one of the reports on.
func passesReport(name, a, value string) bool {
	switch name {
	case "-Xpreprocessor", "-Xassembler", "-Xlinker", "-Xclang", "-Xanalyzer", "-mllvm":
		return isReport(value)
	}
	for _, p := range []string{"-Wp,", "-Wa,", "-Wl,"} {
		if list, ok := strings.CutPrefix(a, p); ok {
			return slices.ContainsFunc(strings.Split(list, ","), isReport)
		}
	}
	return false
}

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
	c.Native = len(c.responses) > 0 && slices.ContainsFunc(args, isNative)
	stop, language := c.Kind, ""
	files := 0
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == "-" || !strings.HasPrefix(a, "-") {
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
		if isQuery(a) && !(a == "-v" && isLinker(filepath.Base(c.Args[0]))) { // a linker only says its version, and links
			c.Plain = ReasonQuery
			return
		}
		if isReport(name) || passesReport(name, a, value) || unlike(a) || name == "-Xlinker" && unlike(value) {
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
	if c.Kind == Link {
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
	if name == "-o" || name == "--output" {
		c.Object = value
	}
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
	case "--config": // a file of more arguments, of clang's
		c.Native = true
	case "-march", "-mtune", "-mcpu", "--march":
		c.Native = c.Native || isNative(value)
	case "-Xclang":
		if value == "-fmodules" {
			c.Plain = ReasonTimes
		}
		c.Timeless = c.Timeless || value == "-fno-pch-timestamp"
		c.Native = c.Native || isNative(value)
	case "-Xpreprocessor", "-Xassembler", "-Xlinker", "-mllvm", "-specs=":
		c.Native = c.Native || isNative(value)
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
		case isNative(a):
			c.Native = true
		}
	}
}

// languages are the ends of the names of files that are compiled.
var languages = []string{
	".c", ".i", ".ii", ".m", ".mi", ".mm", ".mii", ".cc", ".cp", ".cxx", ".cpp", ".CPP", ".c++", ".C", ".M", ".h", ".H", ".hh", ".hp",
	".hxx", ".hpp", ".HPP", ".h++", ".tcc", ".s", ".S", ".sx", ".f", ".F", ".f90", ".F90", ".cppm", ".ixx", ".ccm", ".adb", ".ads",
}

// file notes a file that is named in that language, or "-".
func (c *Call) file(name, language string) {
	if name == "-" {
		c.Stdin = true
		return
	}
	c.Inputs = append(c.Inputs, name)
	if language != "" && language != "none" || slices.Contains(languages, filepath.Ext(name)) {
		c.Sources++
		if !filepath.IsAbs(name) || strings.Contains(name, "/") {
			c.Search = append(c.Search, filepath.Dir(name))
		}
	}
}
