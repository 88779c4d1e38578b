package cc

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

// With --path fixed a call sees its project at fixedRoot, so what it makes names that
// place. Text that people and build systems read names the project's own directory again
// when it is delivered, byte for byte what the compiler says there: what is written to
// the standard streams, lists of dependencies, preprocessed sources, dumps, reports. What
// is compiled already (objects, assembler, programs) holds lengths of names, and keeps
// fixedRoot.
//
// What would be wrong that way is bound to its place: it is made as with --path same, and
// the place is in its key. The call shows it ([Call.Bound]), or its run does
// ([Session.binding]): then that is noted, and the call is made once more.

// ErrBound is wrapped by errors that say that a call cannot see its project at another
// place: it has to be made [Here].
var ErrBound = fmt.Errorf("it depends on where the project is: %w", ErrPlain)

// fixedVersion changes with what below is decided on a miss.
const fixedVersion = "2"

// textProperty marks an output that names the project's directory when it is delivered.
var textProperty = action.Property{Name: "sbx-names-project", Value: "text"}

// textMax is the largest output in which names are replaced.
const textMax = 64 << 20

// bound are beginnings of options with which programs are made that write beside the
// project's objects when they run, or with which a compiler reads what such ones wrote; or
// objects that name files which a debugger has to find.
var bound = []string{"--coverage", "-ftest-coverage", "-fprofile", "-fcoverage", "-fcs-profile", "-fbranch-probabilities", "-fauto-profile", "-gsplit-dwarf"}

// Bound says why the call cannot see its project, which is in root, at fixedRoot, or "".
func (c *Call) Bound(root string, env []action.EnvironmentVariable) string {
	if root == fixedRoot {
		return ""
	}
	if strings.ContainsFunc(root, isOdd) {
		return "the project's name is written in another way in some places"
	}
	for _, list := range [][]string{c.Args[1:], c.expanded} {
		for i, a := range list {
			before := ""
			if i > 0 {
				before = list[i-1]
			}
			if c.boundBy(i, a, before, root) {
				return a
			}
		}
	}
	if len(c.responses) > 0 && slices.ContainsFunc(c.expanded, func(a string) bool { return strings.Contains(a, root) }) {
		return "a response file names the project's directory"
	}
	for _, v := range env {
		inside := strings.Contains(v.Value, root)
		switch {
		case v.Name == "PWD":
		case namesFixed(v.Value, root), inside && (c.Kind == Any || v.Name == "LD_RUN_PATH"):
			return v.Name
		}
	}
	for _, o := range c.Outputs { // named by way of a link, where the sandbox shows it read-only
		if _, direct := under(c.abs(o), root); direct || !path.IsAbs(o) {
			continue
		}
		if dir, err := filepath.EvalSymlinks(path.Dir(o)); err == nil {
			if _, inside := under(dir, root); inside {
				return o
			}
		}
	}
	return ""
}

// isOdd says whether make, JSON, a shell or a list separates names at r, or writes it
// otherwise.
func isOdd(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+@", r))
}

// namesFixed says whether text names fixedRoot itself, and not only the project below it.
func namesFixed(text, root string) bool {
	return strings.Contains(text, fixedRoot) && hasName([]byte(moved(text, root, ".")), fixedRoot)
}

// boundBy says so of one argument, the i-th, with the one before it.
func (c *Call) boundBy(i int, a, before, root string) bool {
	if slices.ContainsFunc(bound, func(o string) bool { return strings.HasPrefix(a, o) }) {
		return true
	}
	text := a
	if name, maps, ok := strings.Cut(a, "-prefix-map="); ok && strings.HasPrefix(name, "-f") {
		text, _, _ = strings.Cut(maps, "=") // to what it is mapped, nobody looks up
	}
	if namesFixed(text, root) || c.Kind == Archive && i == 0 && strings.Contains(a, "P") {
		return true
	}
	if !strings.Contains(a, root) {
		return false
	}
	if c.Kind == Any { // who knows what that makes of names
		return true
	}
	// What a program says or looks for when it runs.
	switch {
	case strings.HasPrefix(a, "-D"), before == "-D", strings.HasPrefix(a, "-frecord"):
		return true
	case strings.HasPrefix(a, "-Wl,"):
		return !slices.ContainsFunc(linkerFiles, func(o string) bool {
			return strings.HasPrefix(a, "-Wl,"+o+",") || strings.HasPrefix(a, "-Wl,"+o+"=")
		})
	case before == "-Xlinker", slices.Contains(c.Args, "binary"), slices.Contains(c.expanded, "--format=binary"):
		return true
	case isLinker(filepath.Base(c.Args[0])):
		return slices.Contains(kept, before) || slices.ContainsFunc(kept, func(o string) bool { return strings.HasPrefix(a, o+"=") })
	}
	return strings.HasPrefix(a, "-rpath") || before == "-rpath" || before == "-install_name" || before == "-soname" || before == "-dynamic-linker"
}

var (
	// linkerFiles are options whose value only the linker looks at.
	linkerFiles = []string{"-Map", "--Map", "-T", "--version-script", "--dependency-file", "-rpath-link", "--rpath-link", "--dynamic-list"}
	// kept are options of linkers whose value is in the program.
	kept = []string{"-rpath", "--rpath", "-R", "-soname", "--soname", "-h", "-dynamic-linker", "--dynamic-linker", "-I", "-b", "--format", "-f", "-F"}
)

// binding is why the run that ended is bound to its place, or "".
func (s *Session) binding(lookups []backends.Lookup) string {
	if !s.view.fixed() || s.view.base == fixedRoot || s.boundKnown {
		return s.placed
	}
	s.boundKnown = true
	if s.placed == "" {
		s.placed = s.astray(lookups)
	}
	said := s.heard != nil && hasName(s.heard(), fixedRoot)
	if s.placed == "" && said && s.call.Kind == Any {
		s.placed = "what it says"
	}
	if s.placed == "" {
		s.placed = s.native(lookups, said || s.texts)
	}
	return s.placed
}

// bind returns an error if the run is bound to its place, and notes it.
func (s *Session) bind(ctx context.Context, status *backends.Status, readOnly bool) error {
	why := s.binding(status.Lookups)
	if !s.view.fixed() || why == "" {
		return nil
	}
	if !readOnly {
		_ = s.parts.Notes.PutNote(ctx, s.boundKey(), []byte(why))
	}
	return fmt.Errorf("%s: %w", why, ErrBound)
}

func (s *Session) boundKey() action.Digest {
	return action.Sum(s.parts.Function, []byte("cc bound\x00"+s.Key().String()))
}

// wasBound returns an error if an earlier run was bound to its place. Whether it still is
// would be, nobody asks: it costs that it is not shared.
func (s *Session) wasBound(ctx context.Context) error {
	if !s.view.fixed() {
		return nil
	}
	if why, err := s.parts.Notes.Note(ctx, s.boundKey()); err == nil && len(why) > 0 {
		return fmt.Errorf("%s: %w", why, ErrBound)
	}
	return nil
}

// astray returns what the run looked for in the directories around the project, which it
// did not see: by "..", a link, or a name that it looked for in each directory upwards; or
// what it may have looked for in a directory of the host that is called fixedRoot.
func (s *Session) astray(lookups []backends.Lookup) string {
	top := map[string]bool{} // names that were looked for in the project's directory
	for _, l := range lookups {
		if rest, ok := under(l.Path, fixedRoot); ok && strings.LastIndexByte(rest, '/') == 0 {
			top[rest] = true
		}
	}
	_, err := os.Lstat(fixedRoot)
	occupied := err == nil
	out := leaver{base: s.view.base, known: map[string]string{}}
	passed := map[string]bool{} // directories elsewhere
	for _, l := range lookups {
		p := l.Path
		if strings.LastIndexByte(p, '/') == 0 && top[p] && !s.view.system(p[1:]) && !slices.ContainsFunc(s.binds, func(b backends.Bind) bool { _, ok := under(b.Target, p); return ok }) {
			return p
		}
		rest, ok := under(p, fixedRoot)
		if !ok && (strings.Contains(p, "/.") || strings.Contains(p, "//")) {
			rest, ok = under(filepath.Clean(p), fixedRoot)
		}
		if ok && rest != "" && s.strays(&out, rest, occupied) {
			return p
		}
		if dir := path.Dir(p); !ok && occupied && !passed[dir] {
			passed[dir] = true
			real, err := filepath.EvalSymlinks(p)
			if _, there := under(real, fixedRoot); there && err == nil {
				return p
			}
		}
	}
	return ""
}

// strays says so of one path, rest, in the project.
func (s *Session) strays(out *leaver, rest string, occupied bool) bool {
	if occupied {
		if info, err := os.Lstat(fixedRoot + rest); err == nil && !info.IsDir() {
			return true
		}
	}
	dir, name := path.Split(s.view.base + rest)
	at := out.dir(dir)
	if at == "" || at == s.view.base && name == ".." {
		return true
	}
	switch target, err := os.Readlink(s.view.base + rest); {
	case err != nil:
	case filepath.IsAbs(target):
		out.away = append(out.away, target)
	case at != "/" && out.walk(at, target, new(int)) == "":
		return true
	}
	// Another directory of that name is meant.
	return slices.ContainsFunc(out.away, func(target string) bool { _, ok := under(path.Clean(target), fixedRoot); return ok })
}

// native returns a source that names fixedRoot itself: it means another directory, and
// what it says would be taken for the project's. deep looks at the system's, too, for
// those that only say so.
func (s *Session) native(lookups []backends.Lookup, deep bool) string {
	if hasName(s.input, fixedRoot) {
		return "standard input"
	}
	looked := map[string]bool{}
	for _, l := range lookups {
		if l.Op != backends.Open || !l.Found || looked[l.Path] {
			continue
		}
		looked[l.Path] = true
		p := filepath.Clean(l.Path)
		host, ok := s.view.host(p)
		if !ok || s.written[host] || !deep && ofSystem(p) || slices.Contains(assembler, path.Ext(p)) {
			continue
		}
		if names, text, err := s.lookInto(host); err == nil && names && text {
			return p
		}
	}
	return ""
}

// assembler are the ends of the names of what is compiled, as text.
var assembler = []string{".s", ".ll"}

// lookInto says whether a regular file of the host names fixedRoot, and whether it is
// text.
func (s *Session) lookInto(host string) (names, text bool, err error) {
	fd, err := openRead(host)
	if err != nil {
		return false, false, err
	}
	f := os.NewFile(uintptr(fd), host)
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return false, false, err
	}
	return s.namesIn(f)
}

// namesIn reads f until it is known to name fixedRoot and to be no text, or to the end.
func (s *Session) namesIn(f io.ReaderAt) (names, text bool, err error) {
	text = true
	_, err = s.scan(f, 64, func(b []byte) bool {
		names = names || hasName(b, fixedRoot)
		text = text && bytes.IndexByte(b, 0) < 0
		return !text && names
	})
	return names, text, err
}

// mark says what is to be done with an output of a call at fixedRoot, on the host at that
// path: whether it is text that names the project's directory when it is delivered. What
// is bound to its place is in s.placed.
func (s *Session) mark(f io.ReaderAt, at string, size int64) (text bool, err error) {
	if !s.view.fixed() || s.view.base == fixedRoot || s.placed != "" {
		return false, nil
	}
	names, text, err := s.namesIn(f)
	if err != nil {
		return false, err
	}
	head := make([]byte, 20)
	n, _ := f.ReadAt(head, 0)
	kind := contentOf(head[:n])
	switch {
	case kind == packed, kind == thin && names: // nobody knows what is in it, or it holds lengths of names
	case !names, kind == compiled && s.call.Kind != Any, text && s.isAssembler(at):
		return false, nil
	case text && s.call.Kind != Any && size <= textMax:
		s.texts = s.texts || path.Ext(at) != ".d"
		return true, nil
	}
	s.placed = at
	return false, nil
}

// What an output is, by what it begins with.
type content int

const (
	unknown  content = iota
	compiled         // it holds the project's name as objects do
	packed           // it may hold it where it cannot be found
	thin             // an archive that names its members
)

// contentOf tells objects, programs, archives and bitcode from what is packed. ELF files
// of type 0 are GCC's modules.
func contentOf(head []byte) content {
	switch {
	case bytes.HasPrefix(head, []byte("\x7fELF")) && len(head) >= 18 && head[16]+head[17] > 0 && head[16]+head[17] <= 4,
		bytes.HasPrefix(head, []byte("!<arch>\n")), bytes.HasPrefix(head, []byte("BC\xc0\xde")), bytes.HasPrefix(head, []byte("\xde\xc0\x17\x0b")):
		return compiled
	case bytes.HasPrefix(head, []byte("\x1f\x8b")), bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")), bytes.HasPrefix(head, []byte("PK\x03\x04")),
		bytes.HasPrefix(head, []byte("\xfd7zXZ")), bytes.HasPrefix(head, []byte("BZh")):
		return packed
	}
	return unknown
}

// isAssembler says whether text that was written to that path of the host is assembler,
// or LLVM's: it holds the lengths of what is in it.
func (s *Session) isAssembler(at string) bool {
	if s.call.Kind != Compile && s.call.Kind != Link {
		return false
	}
	return slices.Contains(assembler, path.Ext(at)) || s.call.assembles() && s.call.Object != "" && path.Base(s.call.Object) == path.Base(at)
}

// assembles says whether the call makes assembler.
func (c *Call) assembles() bool {
	return slices.Contains(c.expanded, "-S") || slices.Contains(c.expanded, "--assemble")
}

// back names the project's directory in what was written about fixedRoot.
func back(data []byte, base string) []byte {
	if !hasName(data, fixedRoot) {
		return data
	}
	return []byte(moved(string(data), fixedRoot, base))
}

// moved replaces the directory from by to, where it is a name of its own or the beginning
// of a path.
func moved(text, from, to string) string {
	if !strings.Contains(text, from) {
		return text
	}
	var b strings.Builder
	done := 0
	for i := 0; ; {
		n := strings.Index(text[i:], from)
		if n < 0 {
			b.WriteString(text[done:])
			return b.String()
		}
		i += n
		end := i + len(from)
		if begins(text[:i]) && ends(text[end:]) {
			b.WriteString(text[done:i])
			b.WriteString(to)
			done = end
		}
		i = end
	}
}

// hasName says whether text has a name in it that moved replaces.
func hasName(text []byte, name string) bool {
	for i := 0; ; {
		n := bytes.Index(text[i:], []byte(name))
		if n < 0 {
			return false
		}
		i += n
		end := i + len(name)
		if begins(string(text[max(0, i-32):i])) && ends(string(text[end:min(len(text), end+8)])) {
			return true
		}
		i = end
	}
}
