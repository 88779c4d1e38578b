package cc

import (
	"os"
	"path"
	"slices"
	"strings"
)

// renamedVersion changes with what is decided on a miss.
const renamedVersion = "2"

// mapping are options that name a part of names, and what is said in its place.
var mapping = []string{"-ffile-prefix-map=", "-fdebug-prefix-map=", "-fmacro-prefix-map="}

// ruled are beginnings of options with which names may come into outputs where they are not
// found, or with which an output has another form.
var ruled = []string{
	"-M", "-Wp,", "-X", "-T", "-B", "-emit-", "-fembed-", "-fmodule", "-fcoverage", "-fdebug", "-funique", "-ffile-", "-fmacro-", "-fsave", "-fcs-profile",
	"-fmemory-profile", "-index", "-include-pch", "--", "-wrapper", "-dump", "-finstrument", "-fsanitize", "-fexec-charset", "-fwide-exec-charset", "-finput-charset", "-H", "-fxray", "-mllvm", "-fmessage-length", "-fcompare-debug",
	"-flto", "-fprofile", "-ftest-coverage", "-fplugin", "-specs", "-save-temps", "-fdump", "-frecord", "-fcallgraph", "-fstack-usage", "-fdiagnostics", "-fopt-info", "-aux-info", "-working-directory",
}

// plain are the beginnings of the options "-f…" that are taken where there is a source:
// of others nobody knows what they make of a name.
var plain = []string{
	"-fno-", "-fPI", "-fpi", "-fvisibility", "-fstack-", "-fcf-protection", "-fcommon", "-fomit-frame-pointer", "-fwrapv", "-fstrict-", "-fsigned-", "-funsigned-",
	"-fshort-", "-fexceptions", "-fnon-call-exceptions", "-frtti", "-ffreestanding", "-fhosted", "-fgnu89-inline", "-fms-extensions", "-fpermissive", "-ftemplate-depth",
	"-fasynchronous-unwind-tables", "-funwind-tables", "-fdata-sections", "-ffunction-sections", "-fmessage-length=0", "-fconserve-stack", "-fchar8_t", "-fdelete-null",
	"-ftree-", "-fipa-", "-falign-", "-finline", "-fmerge-", "-fzero-call-used-regs", "-ftrivial-auto-var-init", "-fsplit-stack", "-ffast-math", "-ffp-contract", "-fmax-errors",
	"-fuse-ld", "-fcolor-diagnostics", "-fdiagnostics-color", "-fcoroutines", "-fconcepts", "-flax-vector", "-fplt", "-fpcc", "-freg-struct", "-ftls-model", "-ffixed-", "-fuse-linker-plugin",
}

// assembling are the beginnings of the options of assemblers that do no such thing, and
// linking of those of linkers that may.
var (
	assembling = []string{"-m", "-W", "--fatal-warnings", "--noexecstack"}
	linking    = []string{"-T", "--script", "-script", "-dT", "--default-script", "-default-script", "-c", "@", "-M", "--print-map", "-print-map", "--Map", "-plugin", "--plugin", "--section-ordering", "--just-symbols", "-R", "--dependency-file"}
)

// debugging are the options for debug information in which names are found.
var debugging = []string{"-g", "-g0", "-g1", "-g2", "-g3", "-ggdb", "-ggdb1", "-ggdb2", "-ggdb3", "-gdwarf", "-gdwarf-4", "-gdwarf-5", "-gno-record-gcc-switches"}

// languagesOf are the values of -x that are sources.
var languagesOf = []string{"c", "c++", "assembler", "assembler-with-cpp", "objective-c", "objective-c++", "none"}

// namesOnly says whether the names are in arguments only where files are named, and no
// other argument stands against it.
func (c *Call) namesOnly(r *Renaming) bool {
	_, here := under(c.Dir, r.base)
	debug, mapped := false, false
	for i, a := range c.Args[1:] {
		before := c.Args[i] // the program, or the argument in front
		from, isMap := mapFrom(a)
		switch {
		case slices.ContainsFunc(selfNames, func(n []byte) bool { return strings.Contains(a, string(n)) }):
			return false
		case isMap:
			from, to, _ := strings.Cut(from, "=")
			if !r.maps(from) || r.has(to) {
				return false
			}
			mapped = mapped || r.has(from)
		case strings.HasPrefix(a, seeded):
			if c.Clang { // it has no such option, or another one
				return false
			}
		case r.has(a) && !r.inFile(c, a, before):
			return false
		case before == "-x", strings.HasPrefix(a, "-x") && a != "-x":
			if !slices.Contains(languagesOf, strings.TrimPrefix(a, "-x")) {
				return false
			}
		case strings.HasPrefix(a, "-g"):
			if !slices.Contains(debugging, a) {
				return false
			}
			debug = a != "-g0" && (debug || a != "-gno-record-gcc-switches")
		case c.isRuled(a):
			return false
		}
	}
	// Debug information says in which directory the compiler ran, and what the source is.
	inside := here || slices.ContainsFunc(c.Inputs, func(p string) bool { _, in := under(c.abs(p), r.base); return in })
	return !(debug && inside && !mapped && c.Sources+btoi(c.Stdin) > 0 && c.Object != os.DevNull)
}

// mapFrom returns what a map of names is told, and whether the argument is one.
func mapFrom(a string) (string, bool) {
	for _, m := range mapping {
		if rest, ok := strings.CutPrefix(a, m); ok {
			return rest, true
		}
	}
	return "", false
}

// isRuled says whether an argument is one of ruled, or passes something on that may be, or
// is a script for the linker.
func (c *Call) isRuled(a string) bool {
	starts := func(list []string, a string) bool {
		return slices.ContainsFunc(list, func(o string) bool { return strings.HasPrefix(a, o) })
	}
	if list, ok := strings.CutPrefix(a, "-Wa,"); ok {
		return slices.ContainsFunc(strings.Split(list, ","), func(o string) bool { return !starts(assembling, o) })
	}
	if list, ok := strings.CutPrefix(a, "-Wl,"); ok {
		return slices.ContainsFunc(strings.Split(list, ","), func(o string) bool { return starts(linking, o) })
	}
	if c.Kind == Link && slices.Contains(c.Inputs, a) && a != os.DevNull {
		return !slices.Contains(slices.Concat(languages, []string{".o", ".obj", ".a", ".so"}), path.Ext(a))
	}
	if strings.HasPrefix(a, "-f") && c.Sources > 0 && !slices.Contains(c.Inputs, os.DevNull) && !starts(plain, a) {
		return true
	}
	return starts(ruled, a) && a != "-fmessage-length=0"
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// inFile says whether an argument, behind another one, is the name of a file or directory
// that is there under its other name.
func (r *Renaming) inFile(c *Call, a, before string) bool {
	output := slices.Contains(c.Outputs, a)
	name := a
	if !output && !slices.Contains(c.Inputs, a) {
		i := slices.IndexFunc([]string{"-I", "-L", "-isystem", "-iquote", "-idirafter"}, func(o string) bool {
			if rest, joined := strings.CutPrefix(a, o); joined && len(o) == 2 {
				name = rest
				return true
			}
			return before == o
		})
		if i < 0 || len(r.names) > 1 && strings.Contains(name, r.names[1].real) { // see [view.inner]
			return false
		}
	}
	rest, in := under(c.abs(name), r.base)
	if !in || path.IsAbs(name) && !strings.HasPrefix(name, r.base) || strings.Count(name, r.names[0].real) > 1 || strings.Contains(rest, r.names[0].real) {
		return false
	}
	if len(r.names) == 1 || !strings.Contains(name, r.names[1].real) {
		return true
	}
	// A directory with the other name is shown, and a file can be made.
	dir := path.Dir(rest)
	if strings.Count(rest, r.names[1].real) != 1 || !strings.Contains(dir, r.names[1].real) && !output {
		return false
	}
	info, err := os.Stat(r.base + dir)
	return err == nil && info.IsDir()
}

// maps says whether a map from that beginning of names does to the directory what it does
// to the one that stands for it.
func (r *Renaming) maps(from string) bool {
	if _, in := under(from, r.base); in {
		return true
	}
	if r.has(from) {
		return false
	}
	own, other := r.names[0].real, path.Base(r.stand)
	parent := r.base[:len(r.base)-len(own)]
	if !path.IsAbs(from) { // as names that begin in the working directory do
		last := path.Base(from)
		return from == "" || from == "./" || !strings.Contains(from, "..") && !strings.HasPrefix(own, last) && !strings.HasPrefix(other, last)
	}
	return len(from) <= len(parent) || !strings.HasPrefix(r.base, from) && !strings.HasPrefix(r.stand, from)
}

// seeded is the beginning of an option whose value Go makes from the name of the directory.
const seeded = "-frandom-seed="

// seed stands for such a value. A number is taken as it is, and written as "%lx" where a
// name has to be made of it: it has the mark. Other values would be hashed.
const seed = seeded + "0x" + standMark + "95f2c71d9"

// arguments are those of the call, with the other names.
func (r *Renaming) arguments(args []string) []string {
	args = slices.Clone(args)
	for i, a := range args {
		if args[i] = r.other(a); strings.HasPrefix(a, seeded) {
			args[i] = seed
		}
	}
	return args
}
