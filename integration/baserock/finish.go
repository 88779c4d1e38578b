package baserock

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/internal/spelling"
)

// finish does what needs everything to be there: what chunks need of other
// strata, defaults, and the search for cycles.
func (l *loader) finish() {
	for _, e := range l.tree.Elements {
		if e.Kind != Chunk {
			continue
		}
		if e.Stratum != nil {
			// What a file says comes last.
			e.Depends = append(slices.Clone(e.Stratum.Depends), e.Depends...)
		}
		if e.BuildSystem == "" {
			e.BuildSystem = "manual"
		}
		if e.BuildMode == "" {
			e.BuildMode = "staging"
		}
		if e.Prefix == "" {
			e.Prefix = "/usr"
		}
		for i, a := range e.Integration {
			if !slices.Contains(l.chunkArtifacts(e), a.Artifact) {
				l.warn(e.Place, "system-integration of artifact %q, which chunk %s does not have: it has %s",
					e.Integration[i].Artifact, e.Name, strings.Join(l.chunkArtifacts(e), ", "))
			}
		}
	}
	if len(l.problems) == 0 {
		l.cycles()
	}
}

func (l *loader) chunkArtifacts(e *Element) []string {
	var names []string
	for _, r := range l.tree.Rules(e) {
		names = append(names, r.Artifact)
	}
	return names
}

// cycles reports elements that need themselves, by whatever detour.
func (l *loader) cycles() {
	const (
		visiting = 1
		done     = 2
	)
	state := map[*Element]int{}
	var path []*Element
	var visit func(e *Element)
	visit = func(e *Element) {
		switch state[e] {
		case done:
			return
		case visiting:
			from := slices.Index(path, e)
			names := make([]string, 0, len(path)-from+1)
			for _, x := range append(slices.Clone(path[from:]), e) {
				names = append(names, x.Path)
			}
			l.problem(e.Place, "%s needs itself: %s", e.Path, strings.Join(names, " -> "))
			return
		}
		state[e] = visiting
		path = append(path, e)
		for _, d := range e.Depends {
			visit(d)
		}
		for _, c := range e.Contents {
			visit(c.Element)
		}
		path = path[:len(path)-1]
		state[e] = done
	}
	for _, p := range sortedPaths(l.tree) {
		visit(l.tree.Elements[p])
	}
}

func sortedPaths(t *Tree) []string {
	paths := make([]string, 0, len(t.Elements))
	for p := range t.Elements {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	return paths
}

// Find returns the element that a user means by a path, with or without
// ".morph", or by a name that only one has.
func (t *Tree) Find(name string) (*Element, error) {
	if e := t.Elements[strings.TrimSuffix(name, ".morph")]; e != nil {
		return e, nil
	}
	var found []string
	var near []string
	const most = 2 // letters that are wrong
	for _, p := range sortedPaths(t) {
		e := t.Elements[p]
		if e.Name == name {
			found = append(found, p)
		}
		if spelling.Distance(name, e.Name, most) <= most || spelling.Distance(name, p, most) <= most {
			near = append(near, p)
		}
	}
	switch {
	case len(found) == 1:
		return t.Elements[found[0]], nil
	case len(found) > 1:
		return nil, fmt.Errorf("%q can be %s: give the path", name, strings.Join(found, " or "))
	case len(near) > 0:
		return nil, fmt.Errorf("no definition is called %q: is %s meant?", name, strings.Join(near[:min(3, len(near))], " or "))
	}
	return nil, fmt.Errorf("no definition is called %q: give the path of its file below %s, or its name", name, t.Dir)
}
