package baserock

import (
	"slices"
	"strings"
)

// Staged are the chunks whose files are there when e is built, in the order in
// which they are installed: where two have the same file, the later one wins.
//
// They are the chunks of the strata that e needs, and the chunks of its own
// stratum that it names, with what these need. A bootstrap chunk is there only
// for those that name it themselves, and for other bootstrap chunks.
//
// Where an element is replaced by something that is there as a whole, it comes
// in the place of what it needs and contains.
func (e *Element) Staged(replaced func(*Element) bool) []*Element {
	s := stagingArea{of: e, visited: map[*Element]bool{}, replaced: replaced}
	s.install(e.Depends)
	return s.list
}

type stagingArea struct {
	of      *Element
	visited map[*Element]bool
	list    []*Element

	replaced func(*Element) bool
}

func (s *stagingArea) install(deps []*Element) {
	for _, d := range deps {
		if s.visited[d] {
			continue
		}
		s.visited[d] = true
		if s.replaced != nil && s.replaced(d) {
			s.list = append(s.list, d)
			continue
		}
		s.install(d.Depends)
		if !slices.Contains(s.of.Depends, d) && d.Bootstrap() != s.of.Bootstrap() {
			// Another bootstrap chunk can name it later; what it needs is there.
			continue
		}
		for _, c := range d.Contents {
			s.install([]*Element{c.Element})
		}
		if d.Kind == Chunk {
			s.list = append(s.list, d)
		}
	}
}

// A Variable of the environment.
type Variable struct{ Name, Value string }

// Environment is exactly what the commands of a chunk see, sorted by name. For
// bootstrap chunks, sandbox is the directory in which what they need is; it is
// empty for others.
//
// MAKEFLAGS is not in it: only commands of the build steps have it.
// SOURCE_DATE_EPOCH is of the source. YBD also sets DEFINITIONS_REF and
// PROGRAM_REF, which would make everything else for each commit: we do not.
func (e *Element) Environment(arch, sandbox string) []Variable {
	var path []string
	for _, p := range e.prefixes(map[*Element]bool{}) {
		if bin := sandbox + p + "/bin"; !slices.Contains(path, bin) {
			path = append(path, bin)
		}
	}
	path = append(path, "/usr/bin", "/bin", "/usr/sbin", "/sbin")
	cpu, abi := cpuOf(arch)
	env := []Variable{
		{"DESTDIR", sandbox + "/" + e.Name + ".inst"},
		{"HOME", "/tmp"},
		{"LC_ALL", "C"},
		{"LOGNAME", "tomjon"},
		{"MORPH_ARCH", arch},
		{"PATH", strings.Join(path, ":")},
		{"PREFIX", e.Prefix},
		{"SHELL", "/bin/sh"},
		{"TARGET", cpu + "-baserock-linux-gnu" + abi},
		{"TARGET_STAGE1", cpu + "-bootstrap-linux-gnu" + abi},
		{"TERM", "dumb"},
		{"TZ", "UTC"},
		{"USER", "tomjon"},
		{"USERNAME", "tomjon"},
	}
	return env
}

// prefixes are those that e and what it needs state, each in the order in which
// it comes first.
func (e *Element) prefixes(seen map[*Element]bool) []string {
	if seen[e] {
		return nil
	}
	seen[e] = true
	list := e.statedPrefix()
	for _, d := range e.Depends {
		list = append(list, d.prefixes(seen)...)
		for _, c := range d.Contents {
			list = append(list, c.statedPrefix()...)
		}
	}
	return list
}

func (e *Element) statedPrefix() []string {
	if e.PrefixStated {
		return []string{e.Prefix}
	}
	return nil
}

// cpuOf is what the names of toolchains have of an architecture.
func cpuOf(arch string) (cpu, abi string) {
	cpu = arch
	switch arch {
	case "x86_32":
		cpu = "i686"
	case "armv8l64":
		cpu = "aarch64"
	case "armv8b64":
		cpu = "aarch64_be"
	case "mips64b":
		cpu = "mips64"
	case "mips64l":
		cpu = "mips64el"
	case "mips32b":
		cpu = "mips"
	case "mips32l":
		cpu = "mipsel"
	}
	switch {
	case strings.HasPrefix(arch, "armv7"), strings.HasPrefix(arch, "armv5"):
		abi = "eabi"
	case strings.HasPrefix(arch, "mips64"):
		abi = "abi64"
	}
	return cpu, abi
}
