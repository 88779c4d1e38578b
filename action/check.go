package action

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// The Check methods hold what a message must mean, whatever encoded it. What
// Check accepts, Marshal writes in the one way that the parsers accept: the
// parsers are a strict reading of the bytes followed by Check.

// Check says why m is not a directory in canonical form, or nil.
func (m *Directory) Check() error {
	for i := range m.Files {
		n := &m.Files[i]
		if i > 0 && n.Name <= m.Files[i-1].Name {
			return unsorted("files", n.Name, m.Files[i-1].Name)
		}
		if err := errors.Join(CheckName(n.Name), n.Properties.check()); err != nil {
			return fmt.Errorf("file %q: %w", n.Name, err)
		}
		if n.Digest.IsZero() {
			return fmt.Errorf("file %q: no digest", n.Name)
		}
	}
	for i := range m.Directories {
		n := &m.Directories[i]
		if i > 0 && n.Name <= m.Directories[i-1].Name {
			return unsorted("directories", n.Name, m.Directories[i-1].Name)
		}
		if err := CheckName(n.Name); err != nil {
			return fmt.Errorf("directory %q: %w", n.Name, err)
		}
		if n.Digest.IsZero() {
			return fmt.Errorf("directory %q: no digest", n.Name)
		}
	}
	for i := range m.Symlinks {
		n := &m.Symlinks[i]
		if i > 0 && n.Name <= m.Symlinks[i-1].Name {
			return unsorted("symlinks", n.Name, m.Symlinks[i-1].Name)
		}
		if err := errors.Join(CheckName(n.Name), checkTarget(n.Target), n.Properties.check()); err != nil {
			return fmt.Errorf("symlink %q: %w", n.Name, err)
		}
	}
	if name := m.twice(); name != "" {
		return fmt.Errorf("%q is there twice", name)
	}
	return m.Properties.check()
}

// twice returns a name that is in two of m's lists, which are sorted, or "".
func (m *Directory) twice() string {
	f, l := 0, 0
	for i := range m.Directories {
		name := m.Directories[i].Name
		for f < len(m.Files) && m.Files[f].Name < name {
			f++
		}
		for l < len(m.Symlinks) && m.Symlinks[l].Name < name {
			l++
		}
		if f < len(m.Files) && m.Files[f].Name == name || l < len(m.Symlinks) && m.Symlinks[l].Name == name {
			return name
		}
	}
	f = 0
	for l := range m.Symlinks {
		name := m.Symlinks[l].Name
		for f < len(m.Files) && m.Files[f].Name < name {
			f++
		}
		if f < len(m.Files) && m.Files[f].Name == name {
			return name
		}
	}
	return ""
}

// Check says why m is not a tree of directories in canonical form, or nil.
func (m *Tree) Check() error {
	if err := m.Root.Check(); err != nil {
		return fmt.Errorf("root: %w", err)
	}
	for i := range m.Children {
		if err := m.Children[i].Check(); err != nil {
			return fmt.Errorf("children[%d]: %w", i, err)
		}
	}
	return nil
}

// Check says why m is not a command in canonical form, or nil.
func (m *Command) Check() error {
	if len(m.Arguments) == 0 || m.Arguments[0] == "" {
		return errors.New("arguments: no command")
	}
	for i, s := range m.Arguments {
		if err := checkText(s); err != nil {
			return fmt.Errorf("arguments[%d]: %w", i, err)
		}
	}
	for i, v := range m.Environment {
		if err := CheckEnvironmentVariable(v.Name, v.Value); err != nil {
			return err
		}
		if i > 0 && v.Name <= m.Environment[i-1].Name {
			return unsorted("environment_variables", v.Name, m.Environment[i-1].Name)
		}
	}
	if err := checkWorkingDirectory(m.WorkingDirectory); err != nil {
		return fmt.Errorf("working_directory %q: %w", m.WorkingDirectory, err)
	}
	if err := errors.Join(
		m.checkOutputs("output_files", m.OutputFiles),
		m.checkOutputs("output_directories", m.OutputDirectories),
		checkProperties("platform", m.Platform),
		m.checkOutputs("output_paths", m.OutputPaths),
	); err != nil {
		return err
	}
	for i, s := range m.OutputNodeProperties {
		if err := checkText(s); err != nil {
			return fmt.Errorf("output_node_properties: %w", err)
		}
		if i > 0 && s <= m.OutputNodeProperties[i-1] {
			return unsorted("output_node_properties", s, m.OutputNodeProperties[i-1])
		}
	}
	return nil
}

func (m *Command) checkOutputs(field string, list []string) error {
	for i, p := range list {
		if err := CheckOutputPath(m.WorkingDirectory, p); err != nil {
			return fmt.Errorf("%s: %w", field, err)
		}
		if i > 0 && p <= list[i-1] {
			return unsorted(field, p, list[i-1])
		}
	}
	return nil
}

// Check says why m is not an action in canonical form, or nil.
func (m *Action) Check() error {
	switch {
	case m.Command.IsZero():
		return errors.New("command_digest: no digest")
	case m.InputRoot.IsZero():
		return errors.New("input_root_digest: no digest")
	case m.Command.Function() != m.InputRoot.Function():
		return errors.New("command_digest and input_root_digest are of two functions")
	case m.Timeout < 0:
		return fmt.Errorf("timeout: negative: %v", m.Timeout)
	}
	return checkProperties("platform", m.Platform)
}

// Check says why m is not a result in canonical form, or nil.
func (m *Result) Check() error {
	seen := make(map[string]bool, len(m.Files)+len(m.Directories)+len(m.Symlinks))
	for i := range m.Files {
		f := &m.Files[i]
		if err := errors.Join(f.check(), once(seen, f.Path)); err != nil {
			return fmt.Errorf("output file %q: %w", f.Path, err)
		}
	}
	for i := range m.Directories {
		d := &m.Directories[i]
		if err := errors.Join(checkResultPath(d.Path), once(seen, d.Path)); err != nil {
			return fmt.Errorf("output directory %q: %w", d.Path, err)
		}
		if d.Tree.IsZero() && d.Root.IsZero() {
			return fmt.Errorf("output directory %q: no digest", d.Path)
		}
	}
	for _, list := range [][]OutputSymlink{m.FileSymlinks, m.DirSymlinks} {
		for i := range list { // the old lists repeat what the new one says
			if err := list[i].check(); err != nil {
				return err
			}
		}
	}
	for i := range m.Symlinks {
		l := &m.Symlinks[i]
		if err := errors.Join(l.check(), once(seen, l.Path)); err != nil {
			return err
		}
	}
	if m.Metadata == nil {
		return nil
	}
	return m.Metadata.check()
}

func (m *OutputFile) check() error {
	if m.Path == "" {
		return errors.New("no path")
	}
	if m.Digest.IsZero() {
		return errors.New("no digest")
	}
	if n := len(m.Contents); n > 0 && int64(n) != m.Digest.Size() {
		return fmt.Errorf("contents of %d bytes, but a digest of %d", n, m.Digest.Size())
	}
	return errors.Join(checkResultPath(m.Path), m.Properties.check())
}

func (m *OutputSymlink) check() error {
	err := errors.Join(checkResultPath(m.Path), checkTarget(m.Target), m.Properties.check())
	if err == nil && m.Path == "" {
		err = errors.New("no path")
	}
	if err != nil {
		return fmt.Errorf("output symlink %q: %w", m.Path, err)
	}
	return nil
}

func once(seen map[string]bool, path string) error {
	if seen[path] {
		return errors.New("there twice")
	}
	seen[path] = true
	return nil
}

func (m *Metadata) check() error {
	if err := checkText(m.Worker); err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	for i, t := range m.times() {
		if err := (*t).check(); err != nil {
			return fmt.Errorf("execution_metadata: %s: %w", timeFields[i], err)
		}
	}
	for _, a := range m.Auxiliary {
		if err := checkText(a.TypeURL); err != nil {
			return fmt.Errorf("auxiliary_metadata: %w", err)
		}
	}
	return nil
}

func (p *NodeProperties) check() error {
	if p == nil {
		return nil
	}
	if err := checkProperties("node_properties", p.Properties); err != nil {
		return err
	}
	return p.MTime.check()
}

// check says whether t is from year 1 to year 9999, as protobuf's must be.
func (t *Timestamp) check() error {
	first, last := time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
	if t == nil || t.Seconds >= first.Unix() && t.Seconds < last.Unix() && t.Nanos >= 0 && t.Nanos < 1e9 {
		return nil
	}
	return fmt.Errorf("%d s and %d ns are not a time", t.Seconds, t.Nanos)
}

// checkProperties wants list sorted by name, then by value.
func checkProperties(field string, list []Property) error {
	for i, p := range list {
		if p.Name == "" {
			return fmt.Errorf("%s: a property without a name", field)
		}
		if err := errors.Join(checkText(p.Name), checkText(p.Value)); err != nil {
			return fmt.Errorf("%s: property %q: %w", field, p.Name, err)
		}
		if i == 0 {
			continue
		}
		before := list[i-1]
		if p.Name < before.Name || p.Name == before.Name && p.Value <= before.Value {
			return unsorted(field, p.Name+"="+p.Value, before.Name+"="+before.Value)
		}
	}
	return nil
}

func unsorted(field, second, first string) error {
	if first == second {
		return fmt.Errorf("%s: %q is there twice", field, first)
	}
	return fmt.Errorf("%s: %q after %q: must be sorted by bytes", field, second, first)
}

// CheckName says why name cannot be that of a file in a [Directory], or nil.
func CheckName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return fmt.Errorf("%q is not a name", name)
	case strings.IndexByte(name, '/') >= 0:
		return errors.New("a slash in a name")
	}
	return checkText(name)
}

// CheckEnvironmentVariable says why name cannot have that value, or nil.
func CheckEnvironmentVariable(name, value string) error {
	if name == "" {
		return errors.New("an environment variable without a name")
	}
	if strings.IndexByte(name, '=') >= 0 {
		return fmt.Errorf("environment variable %q: '=' in a name", name)
	}
	if err := errors.Join(checkText(name), checkText(value)); err != nil {
		return fmt.Errorf("environment variable %q: %w", name, err)
	}
	return nil
}

// checkTarget wants what a symbolic link can hold. Everything else about a
// target is the command's business.
func checkTarget(target string) error {
	if target == "" {
		return errors.New("no target")
	}
	return checkText(target)
}

// checkText wants what can be an argument of a command or part of a path, and
// what protobuf can carry.
func checkText(s string) error {
	if strings.IndexByte(s, 0) >= 0 {
		return errors.New("a NUL byte")
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%q is not UTF-8", s)
	}
	return nil
}

// CheckOutputPath says why p cannot be an output path of a command that runs
// in the directory work of its input root, or nil. It may begin with "..", as
// long as it stays in the input root. The empty path is work itself.
func CheckOutputPath(work, p string) error {
	depth := 0
	if work != "" {
		depth = strings.Count(work, "/") + 1
	}
	if err := checkPath(p, depth); err != nil {
		return fmt.Errorf("output path %q: %w", p, err)
	}
	return nil
}

// checkResultPath wants a relative path; how far up it goes cannot be judged.
func checkResultPath(p string) error { return checkPath(p, len(p)) }

func checkWorkingDirectory(p string) error { return checkPath(p, 0) }

// checkPath wants a relative path in its shortest form, that goes up by at
// most up directories.
func checkPath(p string, up int) error {
	if p == "" {
		return nil
	}
	if p[0] == '/' {
		return errors.New("absolute; want a relative one")
	}
	down := false
	for part := range strings.SplitSeq(p, "/") {
		switch {
		case part == "":
			return errors.New("an empty component")
		case part == ".":
			return errors.New(`a component "."`)
		case part == ".." && down:
			return errors.New(`".." after a name`)
		case part == "..":
			if up--; up < 0 {
				return errors.New("leaves the input root")
			}
		default:
			down = true
		}
	}
	return checkText(p)
}
