package baserock

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
)

// The versions of the format that Load knows.
const (
	oldest = 6
	newest = 8
)

// most is how long a file may be, in bytes.
const most = 4 << 20

// Load reads the tree of definitions in dir. An error of type [Problems] lists
// everything that is wrong with it.
func Load(dir string) (*Tree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	l := &loader{
		root:  root,
		fs:    root.FS(),
		tree:  &Tree{Dir: dir, Elements: map[string]*Element{}},
		files: map[string]*value{},
	}
	l.version()
	if len(l.problems) > 0 { // nothing else can be judged
		return nil, l.problems
	}
	l.defaults()
	if err := l.read(); err != nil {
		return nil, err
	}
	l.define()
	for _, f := range l.later {
		f()
	}
	l.finish()
	if len(l.problems) > 0 {
		return nil, l.problems.sorted()
	}
	l.tree.Warnings = l.warnings.sorted()
	return l.tree, nil
}

// A loader serves one call of Load.
type loader struct {
	decoder
	root     *os.Root
	fs       fs.FS
	tree     *Tree
	order    []string          // the files of definitions, in the order in which they are read
	files    map[string]*value // by path, without ".morph"
	later    []func()          // what needs all elements to be there
	warnings Problems
}

func (l *loader) warn(at Place, format string, args ...any) {
	l.warnings = append(l.warnings, Problem{at, fmt.Sprintf(format, args...)})
}

// parse reads a YAML file, and reports what is wrong with it. It returns nil if
// nothing can be made of it.
func (l *loader) parse(name string) *value {
	data, err := l.readFile(name)
	var v *value
	if err == nil {
		if v, err = parseYAML(name, data); err == nil {
			return v
		}
	}
	var p Problem
	var ps Problems
	switch {
	case errors.As(err, &ps):
		l.problems = append(l.problems, ps...)
	case errors.As(err, &p):
		l.problems = append(l.problems, p)
	default:
		l.problem(Place{File: name}, "%v", err)
	}
	return v
}

// Error makes a Problem an error.
func (p Problem) Error() string { return p.String() }

func (l *loader) readFile(name string) ([]byte, error) {
	f, err := l.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO is nothing to wait for
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && len(data) > most {
		err = fmt.Errorf("longer than %d bytes, which no definition is", most)
	}
	return data, err
}

// version reads the file VERSION.
func (l *loader) version() {
	if _, err := fs.Stat(l.fs, "VERSION"); errors.Is(err, fs.ErrNotExist) {
		l.problem(Place{File: "VERSION"}, "not there: is this the top of a tree of definitions, of version %d or newer?", oldest)
		return
	}
	v := l.parse("VERSION")
	if v == nil {
		return
	}
	l.mapping(v, "VERSION", fields{"version": l.number(0, 1<<16, func(n int64) {
		l.tree.Version = int(n)
	})}, "version")
	if n := l.tree.Version; len(l.problems) == 0 && (n < oldest || n > newest) {
		l.problem(v.Place, "definitions of version %d are not supported: only %d to %d", n, oldest, newest)
	}
}

// read reads all definitions, directories and files in the order of their
// names: the order in which YBD does, so that what comes first is the same.
func (l *loader) read() error {
	var dirs []string
	names := map[string][]string{}
	err := fs.WalkDir(l.fs, ".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && p != "." && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case d.IsDir():
			dirs = append(dirs, p)
		case strings.HasSuffix(p, ".morph"):
			names[path.Dir(p)] = append(names[path.Dir(p)], p)
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.Sort(dirs)
	for _, dir := range dirs {
		slices.Sort(names[dir])
		for _, name := range names[dir] {
			p := strings.TrimSuffix(name, ".morph")
			l.order = append(l.order, p)
			l.files[p] = l.parse(name) // nil if it is malformed; then the file is there all the same
		}
	}
	if len(l.order) == 0 {
		l.problem(Place{File: "."}, "no definitions: there is no file whose name ends in .morph")
	}
	return nil
}

func (l *loader) isFile(p string) bool { _, ok := l.files[p]; return ok }

// define makes an element of each file. What a stratum says of its chunks comes
// into the elements of their files.
func (l *loader) define() {
	for _, p := range l.order {
		v := l.files[p]
		if v == nil {
			continue
		}
		var name, kind string
		if v.kind != mapping {
			l.problem(v.Place, "a definition must be a mapping with the fields \"name\" and \"kind\", not %s", describe(v))
			continue
		}
		v.each(func(key, val *value) {
			switch key.text {
			case "name":
				l.name(&name)(val)
			case "kind":
				l.text(&kind)(val)
			}
		})
		e := &Element{Place: v.Place, Path: p, Name: name, Kind: Kind(kind), factors: map[string]any{}, file: v}
		e.Steps = map[string][]string{}
		if name == "" {
			l.problem(v.Place, "the definition has no name")
		}
		switch e.Kind {
		case Chunk:
			l.chunkFile(e, v)
		case Stratum:
			l.stratumFile(e, v)
		case System:
			l.systemFile(e, v)
		case Cluster:
			l.clusterFile(e, v)
		default:
			l.problem(v.Place, "unknown kind %q: there are chunk, stratum, system and cluster", kind)
			continue
		}
		l.place(e)
	}
}

// place puts e into the tree. A chunk that has a file and is in a stratum is one
// element, whichever comes first. If it is in two strata, what the first says
// counts, as for YBD.
func (l *loader) place(e *Element) *Element {
	old := l.tree.Elements[e.Path]
	switch {
	case old == nil:
		l.tree.Elements[e.Path] = e
		return e
	case old.Kind != e.Kind:
		l.problem(e.Place, "%s is a %s, not a %s: see %v", e.Path, old.Kind, e.Kind, old.Place)
		return old
	case old.entry != nil && e.entry != nil:
		if old.Ref != e.Ref || old.Repo != e.Repo {
			l.warn(e.Place, "chunk %s is also in %s with another source: that one counts", e.Path, old.Stratum.Path)
		}
		old.Name = e.Name
		return old
	case e.entry != nil: // the file came first
		old.addEntry(e)
		return old
	}
	old.addFile(e)
	return old
}

// addFile adds what a file says to what a stratum said.
func (e *Element) addFile(f *Element) {
	e.Products, e.Devices, e.Integration, e.MaxJobs, e.Steps = f.Products, f.Devices, f.Integration, f.MaxJobs, f.Steps
	e.BuildSystem, e.file = f.BuildSystem, f.file
	maps.Copy(e.factors, f.factors)
}

// addEntry adds what a stratum says to what a file said.
func (e *Element) addEntry(s *Element) {
	fields := s.ChunkFields
	fields.BuildSystem, fields.Devices, fields.Integration = e.BuildSystem, e.Devices, e.Integration
	fields.MaxJobs, fields.Steps = e.MaxJobs, e.Steps
	e.Name, e.ChunkFields, e.entry, e.used, e.Depends = s.Name, fields, s.entry, true, s.Depends
	maps.Copy(e.factors, s.factors)
}

// pathOf is the path of the element whose file a field "morph" names.
func (l *loader) pathOf(morph string, at Place) string {
	p := strings.TrimSuffix(morph, ".morph")
	if !l.isFile(p) {
		l.problem(at, "%s is not there", morph)
	}
	return p
}

// element returns the element whose file v names, if it is of the kind.
func (l *loader) element(v *value, kind Kind) *Element {
	var morph string
	l.text(&morph)(v)
	if morph == "" {
		return nil
	}
	p := l.pathOf(morph, v.Place)
	e := l.tree.Elements[p]
	if e == nil {
		return nil // it was reported that it is not there, or malformed
	}
	if e.Kind != kind {
		l.problem(v.Place, "%s is a %s, not a %s", morph, e.Kind, kind)
		return nil
	}
	e.used = true
	return e
}

// dependsOnFiles adds the strata that a stratum or a chunk needs.
func (l *loader) dependsOnFiles(e *Element, v *value) {
	l.list(v, "strata", func(x *value) {
		l.mapping(x, "a build-depend", fields{"name": ignored, "morph": func(m *value) {
			if s := l.element(m, Stratum); s != nil {
				e.Depends = append(e.Depends, s)
			}
		}}, "morph")
	})
}

// keys lists the keys of a map for an error.
func keys[V any](m map[string]V) string {
	return strings.Join(slices.Sorted(maps.Keys(m)), ", ")
}
