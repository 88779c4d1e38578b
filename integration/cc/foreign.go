package cc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

// Compilers read the variables of compilerEnv, and get no others. A program that is no
// part of a compiler (a script that stands for the assembler, a program in front of the
// driver, a plugin) may read any. A call that executes one has its whole environment in
// its key, as if the compiler were a script: see [Call.Script]. Mostly the arguments
// show it ([Call.Extended]). Else a run does, whose result is then nobody's; a note says
// so to the next call.

// ErrForeign is wrapped by errors that say that a run executed something that is no part
// of a compiler, so that the call is one of a [Call.Script].
var ErrForeign = fmt.Errorf("it is no part of the compiler, and may read any variable: %w", ErrPlain)

// Extended says whether the arguments, or variables, name programs, plugins or specs that
// are not the system's.
func (c *Call) Extended(env func(string) string) bool {
	foreign := func(p string) bool {
		in := func(dir string) bool { _, ok := under(c.abs(p), dir); return ok }
		return p != "" && (!ofSystem(c.abs(p)) || slices.ContainsFunc(administrators, in))
	}
	for _, name := range []string{"COMPILER_PATH", "GCC_EXEC_PREFIX"} {
		if v := env(name); v != "" && slices.ContainsFunc(filepath.SplitList(v), foreign) {
			return true
		}
	}
	if v := env("CCC_OVERRIDE_OPTIONS"); strings.Contains(v, "plugin") || strings.Contains(v, "-load") {
		return true
	}
	for _, list := range [][]string{c.Args[1:], c.expanded} {
		for i, a := range list {
			next := ""
			if i+1 < len(list) {
				next = list[i+1]
			}
			if c.extendedBy(a, next, foreign) {
				return true
			}
		}
	}
	return false
}

// extendedBy looks at one argument, and at the next one where that is its value.
func (c *Call) extendedBy(a, next string, foreign func(string) bool) bool {
	if !strings.HasPrefix(a, "-") {
		return false
	}
	for _, p := range []string{"-fplugin", "-fpass-plugin", "-load", "-plugin", "--plugin", "-Wl,-plugin", "-Wl,--plugin", "-wrapper", "-fmodule-mapper=|"} {
		if strings.HasPrefix(a, p) {
			return true
		}
	}
	for _, p := range []string{"-B", "--prefix", "-specs", "--specs"} {
		v, ok := strings.CutPrefix(a, p)
		if !ok {
			continue
		}
		if v == "" {
			v = next
		}
		v = strings.TrimPrefix(v, "=")
		switch {
		case p == "-B" || p == "--prefix":
			if !isLinker(filepath.Base(c.Args[0])) && foreign(v) { // of which it is -Bstatic
				return true
			}
		case foreign(v):
			// By a name alone it is mostly in a directory of the compiler.
			if _, err := os.Lstat(c.abs(v)); err == nil || strings.Contains(v, "/") {
				return true
			}
		}
	}
	return false
}

// administrators are directories of the system in which there may be anybody's projects.
var administrators = []string{"/usr/local", "/usr/src", "/opt", "/etc"}

// isLinker says whether a program of that name is a linker, and no driver of one.
func isLinker(base string) bool {
	return strings.HasPrefix(strings.TrimPrefix(base, target(base)), "ld")
}

// ofSystem says whether p, a clean path, is in a directory that is the system's.
func ofSystem(p string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(p, "/"), "/")
	return (&view{}).system(first)
}

// stranger returns something that the run executed and that is no part of the compiler,
// or "". Of calls that have their whole environment in the key, nobody needs to know.
func (s *Session) stranger(lookups []backends.Lookup) string {
	if s.call.Kind == Any || s.call.Script {
		return ""
	}
	if !s.judged {
		s.judged, s.foreign = true, s.unknown(lookups, s.front)
	}
	return s.foreign
}

// estranged returns an error if the run executed something that is no part of the
// compiler.
func (s *Session) estranged(ctx context.Context, status *backends.Status, readOnly bool) error {
	p := s.stranger(status.Lookups)
	if p == "" {
		return nil
	}
	if !readOnly {
		at := p
		if _, err := os.Lstat(p); err != nil || strings.ContainsRune(p, 0) {
			at = "/" // it is nowhere outside, and that will not change
		}
		_ = s.parts.Notes.PutNote(ctx, s.foreignKey(), []byte(at))
	}
	return fmt.Errorf("%s: %w", p, ErrForeign)
}

func (s *Session) foreignKey() action.Digest {
	return action.Sum(s.parts.Function, []byte("cc foreign\x00"+s.Key().String()))
}

// wasEstranged returns an error if an earlier run executed something that is no part of
// the compiler, and that is still there.
func (s *Session) wasEstranged(ctx context.Context) error {
	if s.call.Kind == Any || s.call.Script {
		return nil
	}
	data, err := s.parts.Notes.Note(ctx, s.foreignKey())
	if err != nil || len(data) == 0 || strings.ContainsRune(string(data), 0) {
		return nil
	}
	if _, err := os.Lstat(string(data)); err != nil {
		return nil
	}
	return fmt.Errorf("%s: %w", data, ErrForeign)
}

// unknown returns something that was executed and is no part of the one compiler, or
// "". Parts have names that we know, are no scripts, lie in the system's directories or
// where the compiler itself is installed, and there is one of each: what stands in front
// of another one of its name may take more arguments from any variable. front is a
// program of ours, or "".
func (s *Session) unknown(lookups []backends.Lookup, front string) string {
	once, filled := map[string]string{}, map[string]bool{} // by role; by real path
	prefix := sync.OnceValue(s.installation)
	for _, l := range lookups {
		if l.Op != backends.Exec || front != "" && l.Path == front {
			continue
		}
		host, ok := s.view.host(filepath.Clean(l.Path))
		if !ok {
			return l.Path
		}
		p, err := s.program(host)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue // mostly one of several directories of PATH
		}
		if err != nil {
			return l.Path
		}
		real := p.real
		if filled[real] || p.other {
			continue // nor could this be executed
		}
		role := roleOf(filepath.Base(real))
		if role == "" || once[role] != "" || !p.elf && !isELF(real) {
			return real
		}
		if !ofSystem(real) {
			if _, installed := under(real, prefix()); prefix() == "" || !installed {
				return real
			}
		}
		once[role], filled[real] = real, true
	}
	return ""
}

// A program is what is at a path that was executed.
type program struct {
	real  string // without links
	other bool   // it cannot be executed
	elf   bool   // it is known to be no script
}

// program returns what is at the path, by what Seal looks at as well, where that tells.
func (s *Session) program(host string) (program, error) {
	if s.told == nil && (s.view.base == "" || s.view.stand == baseRoot) {
		if r, ok := s.witness.Real(s.view.name(host)); ok {
			if !r.There {
				return program{}, fs.ErrNotExist
			}
			other := r.ID.Mode&unix.S_IFMT != unix.S_IFREG || r.ID.Mode&0o111 == 0
			return program{r.Host, other, s.parts.Hash.Marked(&r.ID, r.At)&elfSeen != 0}, nil
		}
	}
	real, err := realPath(host)
	if err != nil {
		return program{}, err
	}
	info, err := os.Stat(real)
	return program{real: real, other: err == nil && (!info.Mode().IsRegular() || info.Mode()&0o111 == 0)}, nil
}

// installation is the directory in whose bin the compiler is, if it is not one of the
// system; or "".
func (s *Session) installation() string {
	search := ""
	for _, v := range s.command.Environment {
		if v.Name == "PATH" {
			search = v.Value
		}
	}
	p, err := s.parts.Find(s.call.Args[0], search)
	if err != nil {
		return ""
	}
	real, err := realPath(s.call.abs(p))
	if err != nil || ofSystem(real) {
		return ""
	}
	if dir := filepath.Dir(filepath.Dir(real)); dir != "/" {
		return dir
	}
	return filepath.Dir(real)
}

// elfMagic is what programs begin with that none other interprets.
const elfMagic = "\x7fELF"

// isELF says whether a program is none that another one interprets.
func isELF(name string) bool {
	head, err := headOf(name)
	return errors.Is(err, fs.ErrPermission) || strings.HasPrefix(head, elfMagic) // to be executed only: no interpreter could read it
}

// isScript says whether a program is text, for an interpreter or, without #!, for a shell.
func isScript(name string) bool {
	head, _ := headOf(name)
	return head != "" && !strings.Contains(head, "\x00")
}

// headOf is what a file begins with: at most 16 bytes.
func headOf(name string) (string, error) {
	fd, err := openRead(name)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var head [16]byte
	n, err := descriptor(fd).ReadAt(head[:], 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return string(head[:n]), err
}

// parts are the programs that a driver executes, besides as and ld; tools those that are
// not GCC's own.
var (
	parts = []string{
		"cc1", "cc1plus", "cc1obj", "cc1objplus", "f951", "collect2", "lto1", "lto-wrapper", "gnat1", "go1", "d21", "cc1gm2", "lld",
		"dash", "bash", "touch", "mv", "rm", // of make, for link-time optimisation: scripts are found by themselves
	}
	tools = []string{"objcopy", "strip", "nm", "dwp", "make"}
)

// roleOf is what a program of that name is for a compiler: no two files have the same
// role in one run. It is "" for what is no part of one.
func roleOf(base string) string {
	k, _ := kindOf(base)
	switch {
	case slices.Contains(parts, base): // cc1 looks like a version of cc
		return base
	case k == Link && !isLinker(base), k == Preprocess:
		return "driver"
	case k == Link:
		return "ld"
	case k == Assemble:
		return "as"
	case k == Archive, strings.HasPrefix(base, "ld-"):
		return base
	}
	for _, t := range tools {
		if base == t || strings.HasSuffix(base, "-"+t) {
			return t
		}
	}
	return ""
}

// target is the part in front of a program's name, such as x86_64-linux-gnu-, or "".
func target(base string) string {
	for _, name := range []string{"ld", "ld.bfd", "ld.gold", "ld.lld"} {
		if t, ok := strings.CutSuffix(base, "-"+name); ok {
			return t + "-"
		}
	}
	return ""
}
