package cc

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sbx-action/sbx-action/action"
)

// compilerEnv are the variables that compilers, assemblers and linkers read.
// These, and those of the families below, are passed on and in the key. No other
// reaches a compiler.
var compilerEnv = []string{
	"ADA_INCLUDE_PATH", "ADA_OBJECTS_PATH", "ASAN_OPTIONS", "AS_SECURE_LOG_FILE", "BINUTILS_ROOT", "CCC_OVERRIDE_OPTIONS", "CLANG_CONFIG_FILE_SYSTEM_DIR", "CLANG_CONFIG_FILE_USER_DIR", "COLLECT_AS_OPTIONS", "COLLECT_GCC",
	"COLLECT_GCC_OPTIONS", "COLLECT_LTO_WRAPPER", "COLLECT_NO_DEMANGLE", "COMPILER_PATH", "CPATH", "CPLUS_INCLUDE_PATH", "C_INCLUDE_PATH",
	"CLANG_MODULE_CACHE_PATH", "CLANG_NO_DEFAULT_CONFIG", "CXX_MODULE_MAPPER", "LLD_REPRODUCE", "LLD_VERSION", "LOCPATH", "OUTPUT_CHARSET", "QA_OVERRIDE_GCC3_OPTIONS",
	"DEPENDENCIES_OUTPUT", "GCC_COMPARE_DEBUG", "GCC_EXEC_PREFIX", "GCC_EXTRA_DIAGNOSTIC_OUTPUT", "GCC_ROOT", "GCC_SPECS", "GCONV_PATH", "GLIBC_TUNABLES", "GNUTARGET", "G++_ROOT", "HIP_DEVICE_LIB_PATH", "HIP_PATH", "INCLUDE", "IPHONEOS_DEPLOYMENT_TARGET", "LANG", "LANGUAGE",
	"LDEMULATION", "LD_LIBRARY_PATH", "LD_RUN_PATH", "LIBCLANG_DISABLE_PCH_VALIDATION", "LIBPATH", "LIBRARY_PATH", "MACOSX_DEPLOYMENT_TARGET", "MALLOC_ARENA_MAX", "NCC_CPLUS_INCLUDE_PATH", "NCC_C_INCLUDE_PATH", "OBJCPLUS_INCLUDE_PATH",
	"OBJC_INCLUDE_PATH", "OFFLOAD_TARGET_DEFAULT", "OFFLOAD_TARGET_NAMES", "PATH", "POSIXLY_CORRECT", "PWD", "RC_DEBUG_OPTIONS", "ROCM_PATH", "SDKROOT", "SOURCE_DATE_EPOCH", "SUNPRO_DEPENDENCIES", "SYSROOT",
	"TVOS_DEPLOYMENT_TARGET", "TZ", "UNIXVERSION", "WATCHOS_DEPLOYMENT_TARGET", "ZERO_AR_DATE",
}

var compilerEnvStarts = []string{"LC_", "GCOV_", "ASAN_", "UBSAN_", "LSAN_", "MSAN_", "TSAN_", "CCC_"}

// noise are variables that programs of all kinds are given by whoever starts
// them, and that say nothing of what is to be done: of [Any] programs all others
// are passed on.
var noise = []string{
	"_", "COLORTERM", "DISPLAY", "HISTFILE", "HISTSIZE", "INVOCATION_ID", "JOURNAL_STREAM", "MAIL",
	"MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MAKE_TERMERR", "MAKE_TERMOUT", "MFLAGS", "OLDPWD", "PS1", "PS2", "SHLVL", "STY",
	"TMP", "TEMP", "TMPDIR", "TMUX", "TMUX_PANE", "WAYLAND_DISPLAY", "WINDOWID", "XAUTHORITY",
}

var noiseStarts = []string{
	"DBUS_", "GPG_", "NINJA_", "SBX_", "SSH_", "SUDO_", "TERM_PROGRAM", "VTE_",
	"XDG_CURRENT_DESKTOP", "XDG_MENU_PREFIX", "XDG_RUNTIME_DIR", "XDG_SEAT", "XDG_SESSION_", "XDG_VTNR", "CARGO_MAKEFLAGS",
}

// colourEnv is passed on where a terminal shows the diagnostics.
var colourEnv = []string{"GCC_COLORS", "GCC_URLS", "TERM", "TERM_URLS", "NO_COLOR", "CLICOLOR_FORCE"}

// paintEnv is passed on where the arguments ask for colours.
var paintEnv = []string{"GCC_COLORS", "GCC_URLS", "TERM_URLS"}

// Environment returns what of env, the caller's environment, the call gets: for
// each name the first value, as getenv finds it. more are names to pass on
// besides. skip says whether a directory of PATH holds links to us: it is left
// out, because a compiler looks for its parts there.
func (c *Call) Environment(env, more []string, skip func(dir string) bool) []action.EnvironmentVariable {
	list := make([]action.EnvironmentVariable, 0, 16)
	for _, v := range env {
		name, value, ok := strings.Cut(v, "=")
		if strings.HasPrefix(name, "CC_PRINT_") || strings.HasPrefix(name, "CC_LOG_") || name == "FORCE_CLANG_DIAGNOSTICS_CRASH" { // of clang
			c.Plain = ReasonReport
		}
		if !ok || name == "" || !c.passes(name) && !slices.Contains(more, name) {
			continue
		}
		if slices.ContainsFunc(list, func(v action.EnvironmentVariable) bool { return v.Name == name }) {
			continue
		}
		if name == "CCC_OVERRIDE_OPTIONS" || name == "QA_OVERRIDE_GCC3_OPTIONS" { // more arguments
			c.Native = c.Native || strings.Contains(value, "native")
			if strings.Contains(value, "-report") || strings.Contains(value, "-time-") || strings.Contains(value, "-ftime-") {
				c.Plain = ReasonReport
			}
		}
		if name == "PATH" {
			value = withoutDirs(value, skip)
		}
		if name == "PWD" && !sameDir(value, c.Dir) { // nobody believes it
			continue
		}
		if !utf8.ValidString(v) {
			c.Plain = ReasonText
		}
		list = append(list, action.EnvironmentVariable{Name: name, Value: value})
	}
	slices.SortFunc(list, func(a, b action.EnvironmentVariable) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// loader are the variables by which whoever starts a program has the dynamic linker load
// something into it, or write something, or do something else than start it.
var loader = []string{"LD_PRELOAD", "LD_AUDIT", "LD_DEBUG", "LD_PROFILE", "LD_SHOW_AUXV", "LD_TRACE_LOADED_OBJECTS", "LD_VERBOSE", "LD_ASSUME_KERNEL", "LD_HWCAP_MASK"}

// Loaded says whether there is such a variable: the compiler then has to be executed with
// it, to do what it says.
func Loaded(env func(string) (string, bool)) bool {
	return slices.ContainsFunc(loader, func(name string) bool {
		value, given := env(name)
		return value != "" || given && (name == "LD_SHOW_AUXV" || name == "LD_TRACE_LOADED_OBJECTS")
	})
}

func (c *Call) passes(name string) bool {
	starts := func(list []string) bool {
		return slices.ContainsFunc(list, func(s string) bool { return strings.HasPrefix(name, s) })
	}
	if c.Kind == Any || c.Script {
		return !slices.Contains(noise, name) && !starts(noiseStarts) || c.Kind == Any && c.mentions(name)
	}
	return slices.Contains(compilerEnv, name) || starts(compilerEnvStarts) || c.Painted && slices.Contains(paintEnv, name)
}

// mentions says whether an argument holds the name of a variable, as what a shell is to run
// may: then it says something of what is to be done.
func (c *Call) mentions(name string) bool {
	return name != "_" && !strings.HasPrefix(name, "SBX_") && slices.ContainsFunc(c.Args[1:], func(a string) bool { return strings.Contains(a, name) })
}

// probeMax is the largest file that is taken for one of a configure script.
const probeMax = 1 << 20

// probeNames are what the names of files begin with that are written to see what the
// compiler makes of them: by autoconf and mkmf, nginx's configure, meson, and perl's Configure.
var probeNames = []string{"conftest", "autotest", "testfile", "try."}

// probes are the digests of the files that a configure script writes anew, by the same
// name, for each of hundreds of equal calls. For others the names are enough: of each
// call, several sets of facts are kept, but not hundreds.
func (c *Call) probes(f action.Function, names *Renaming) (list []action.Digest) {
	for _, name := range c.Inputs {
		base := filepath.Base(name)
		if !names.holds(c.abs(name)) && !slices.ContainsFunc(probeNames, func(start string) bool { return strings.HasPrefix(base, start) }) {
			continue
		}
		if info, err := os.Stat(c.abs(name)); err != nil || !info.Mode().IsRegular() || info.Size() > probeMax {
			continue
		}
		if data, err := os.ReadFile(c.abs(name)); err == nil {
			list = append(list, action.Sum(f, data))
		}
	}
	return list
}

func withoutDirs(path string, skip func(string) bool) string {
	if skip == nil {
		return path
	}
	dirs := filepath.SplitList(path)
	kept := slices.DeleteFunc(slices.Clone(dirs), skip)
	if len(kept) == len(dirs) {
		return path
	}
	return strings.Join(kept, ":")
}

// sameDir says whether p is an absolute name of the directory dir.
func sameDir(p, dir string) bool {
	if p == dir {
		return true
	}
	if !filepath.IsAbs(p) {
		return false
	}
	real, err := realPath(p)
	return err == nil && real == dir
}

// Colours says whether the compiler would write colours of its own accord, with
// standard error at a terminal or not.
func (c *Call) Colours(terminal bool, env func(string) string) bool {
	driver := c.Kind == Compile || c.Kind == Link || c.Kind == Preprocess
	if isLinker(filepath.Base(c.Args[0])) {
		return false // to which -f… is something else
	}
	return terminal && driver && !c.Colour && !c.Recorded && env("TERM") != "" && env("TERM") != "dumb" && env("NO_COLOR") == ""
}

// Links says whether the compiler, the file at path, would make links of its own accord
// where it writes colours. It has to be called like a GCC that is new enough, with its
// version in its name, as distributions do it: others would not know the option.
func (c *Call) Links(path string, env func(string) (string, bool)) bool {
	real, err := filepath.EvalSymlinks(path)
	if err != nil || c.Linked {
		return false
	}
	name, version, _ := cutLast(filepath.Base(real), "-")
	major, _, _ := strings.Cut(version, ".")
	if n, err := strconv.Atoi(major); err != nil || n < 10 {
		return false
	}
	if _, last, _ := cutLast("-"+name, "-"); !slices.Contains([]string{"gcc", "g++", "cpp", "gfortran"}, last) {
		return false
	}
	// As GCC does it, in diagnostic-color.c.
	colour, given := env("COLORTERM")
	term, _ := env("TERM")
	_, set1 := env("GCC_URLS")
	_, set2 := env("TERM_URLS")
	switch {
	case colour == "gnome-terminal", colour == "xfce4-terminal":
		return false
	case set1 || set2:
		return true
	}
	return given || term != "xterm" && term != "linux"
}

// cutLast cuts s at the last sep.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// Coloured is w for a compiler that writes colours as if it wrote to the terminal, and
// links if so.
func (w Want) Coloured(env func(string) (string, bool), links bool) Want {
	w.Args = append(slices.Clone(w.Args), "-fdiagnostics-color=always")
	if links {
		w.Args = append(w.Args, "-fdiagnostics-urls=always")
	}
	w.Env = slices.Clone(w.Env)
	for _, name := range colourEnv {
		value, ok := env(name)
		if ok && utf8.ValidString(value) && !slices.ContainsFunc(w.Env, func(v action.EnvironmentVariable) bool { return v.Name == name }) {
			w.setEnv(name, value)
		}
	}
	return w
}

// Wider is w for a call that gets these variables besides its own.
func (w Want) Wider(env []action.EnvironmentVariable) Want {
	for _, v := range env {
		if !slices.ContainsFunc(w.Env, func(o action.EnvironmentVariable) bool { return o.Name == v.Name }) {
			w.setEnv(v.Name, v.Value)
		}
	}
	return w
}

// setEnv gives the call a variable.
func (w *Want) setEnv(name, value string) {
	w.Env = slices.DeleteFunc(slices.Clone(w.Env), func(v action.EnvironmentVariable) bool { return v.Name == name })
	w.Env = append(w.Env, action.EnvironmentVariable{Name: name, Value: value})
	slices.SortFunc(w.Env, func(a, b action.EnvironmentVariable) int { return strings.Compare(a.Name, b.Name) })
}
