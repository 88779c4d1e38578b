package baserock

import (
	"slices"
	"strings"
)

// arches are the architectures that a system can be of.
func arches() []string {
	return []string{
		"armv5l", "armv7b", "armv7l", "armv7lhf", "armv8b64", "armv8l64", "mips32b", "mips32l", "mips64b", "mips64l",
		"ppc64", "testarch", "x86_32", "x86_64",
	}
}

// systemFile decodes the file of a system.
func (l *loader) systemFile(e *Element, v *value) {
	l.mapping(v, "a system", fields{
		"name": ignored, "kind": ignored, "description": ignored,
		"configuration-extensions": ignored, // of deployment
		"arch": func(v *value) {
			l.text(&e.Arch)(v)
			if !slices.Contains(arches(), e.Arch) {
				l.problem(v.Place, "unknown arch %q: there are %s", e.Arch, strings.Join(arches(), ", "))
			}
		},
		"strata": func(v *value) { l.later = append(l.later, func() { l.strataOf(e, v) }) },
	}, "arch", "strata")
}

func (l *loader) strataOf(e *Element, v *value) {
	l.list(v, "strata", func(x *value) {
		var name string
		c := Content{}
		var artifacts *value
		l.mapping(x, "a stratum of a system", fields{
			"name":  l.text(&name),
			"morph": func(v *value) { c.Element = l.element(v, Stratum) },
			"artifacts": func(v *value) {
				artifacts = v
				l.texts(&c.Artifacts)(v)
			},
		}, "morph")
		if c.Element == nil {
			return
		}
		for i, a := range c.Artifacts {
			known := l.tree.artifacts(c.Element)
			if !slices.Contains(known, a) {
				e.doubt(artifacts.items[i].Place, "stratum %s has no artifact %q: it has %s", c.Path, a, strings.Join(known, ", "))
			}
		}
		e.Contents = append(e.Contents, c)
	})
}

// clusterFile decodes the file of a cluster: which systems are in it.
func (l *loader) clusterFile(e *Element, v *value) {
	l.mapping(v, "a cluster", fields{
		"name": ignored, "kind": ignored, "description": ignored,
		"systems": func(v *value) { l.later = append(l.later, func() { l.systemsOf(e, v) }) },
	}, "systems")
}

func (l *loader) systemsOf(e *Element, v *value) {
	l.list(v, "systems", func(x *value) {
		l.mapping(x, "a system of a cluster", fields{
			"name": ignored, "deploy": ignored, "deploy-defaults": ignored, // of deployment
			"morph": func(v *value) {
				if s := l.element(v, System); s != nil {
					e.Contents = append(e.Contents, Content{Element: s})
				}
			},
			"subsystems": func(v *value) { l.systemsOf(e, v) },
		}, "morph")
	})
}

// artifacts are the artifacts that a stratum can have.
func (t *Tree) artifacts(e *Element) []string {
	var names []string
	for _, r := range t.Rules(e) {
		if !slices.Contains(names, r.Artifact) {
			names = append(names, r.Artifact)
		}
	}
	for _, c := range e.Contents {
		for _, to := range c.ChunkFields.Artifacts {
			if !slices.Contains(names, to) {
				names = append(names, to)
			}
		}
	}
	slices.Sort(names)
	return names
}

// Rules are how e is split: its own rules, and then the defaults. The first
// that matches counts.
func (t *Tree) Rules(e *Element) []Rule {
	var all []Rule
	for _, r := range append(slices.Clone(e.Products), t.Defaults.Rules[e.Kind]...) {
		if strings.HasPrefix(r.Artifact, "-") {
			r.Artifact = e.Name + r.Artifact
		}
		all = append(all, r)
	}
	return all
}
