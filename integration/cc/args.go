package cc

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
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
	Object    string   // what -o names
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
	ReasonStdin     Reason = "standard input is neither a whole file nor empty"
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
	ReasonBarred    Reason = "root may use a file that it may not as who it runs as"
	ReasonMachine   Reason = "asks the machine or a service for something, or holds a lock"
	ReasonTimed     Reason = "gives an output a time of its own"
	ReasonItself    Reason = "looks at the file that its output goes to"
	ReasonMuch      Reason = "says more than 64 MiB"
	ReasonLeft      Reason = "leaves something running"
	ReasonKind      Reason = "leaves what a result does not hold: unusual permissions, several names, an empty directory, attributes"
	ReasonEnded     Reason = "a signal ends it, or it cannot be started"
	ReasonUndone    Reason = "removes or replaces files"
	ReasonClosed    Reason = "a standard descriptor is closed"
	ReasonUmask     Reason = "the umask takes rights from the owner of new files"
	ReasonDomain    Reason = "Landlock may keep the caller from files"
	ReasonStore     Reason = "the cache cannot be used"
	ReasonStream    Reason = "writes to a FIFO, a socket or a device"
	ReasonRemote    Reason = "not seen before, and the remote does not answer"
	ReasonRecache   Reason = "asked for with --recache"
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
		inputs = mentioned(args[1:]) // perhaps
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

// mentioned are the arguments of a program of whatever kind, and the words in them that
// could be names of files: of=NAME, or what a shell is told to do.
func mentioned(args []string) []string {
	list := slices.Clone(args)
	for _, a := range args {
		words := strings.FieldsFunc(a, func(r rune) bool { return strings.ContainsRune(" \t\n=:,;&|<>(){}'\"`", r) })
		if len(words) != 1 || words[0] != a {
			list = append(list, words[:min(len(words), wordsMax)]...)
		}
	}
	return list
}

// wordsMax is how many words of an argument are looked at: each costs a microsecond.
const wordsMax = 256

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
		if name == p.name || base == p.name || strings.HasSuffix(name, "-"+p.name) {
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
	if slices.Contains(builders, filepath.Base(c.Args[0])) {
		c.Plain = ReasonTimes
		return
	}
	for _, a := range c.Args[1:] {
		c.Native = c.Native || isNative(a) || strings.HasPrefix(a, "@")
	}
	for i, a := range c.Args {
		if a == "-o" && i+1 < len(c.Args) {
			c.Outputs = append(c.Outputs, c.Args[i+1])
		}
	}
}
