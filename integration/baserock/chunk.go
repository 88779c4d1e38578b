package baserock

import (
	"path"
	"strconv"
	"strings"
)

// chunkFile decodes what a file says of a chunk.
func (l *loader) chunkFile(e *Element, v *value) {
	known := fields{
		"name": ignored, "kind": ignored, "description": ignored, // see definition
		"build-system":       l.buildSystem(&e.BuildSystem),
		"build-depends":      func(v *value) { l.later = append(l.later, func() { l.dependsOnFiles(e, v) }) },
		"max-jobs":           l.number(0, 1<<16, func(n int64) { e.MaxJobs = int(n) }),
		"products":           l.rules(&e.Products),
		"devices":            l.devices(&e.Devices),
		"system-integration": l.integration(&e.Integration),
	}
	for _, step := range stepNames() {
		known[step] = func(v *value) { e.Steps[step] = l.commands(v) }
	}
	l.mapping(v, "a chunk", known)
	l.note(e, v, append(stepNames(), "devices", "max-jobs")...)
}

// note keeps what of v is in YBD's keys.
func (l *loader) note(e *Element, v *value, names ...string) {
	if v.kind != mapping {
		return
	}
	v.each(func(key, val *value) {
		for _, n := range names {
			if key.text == n {
				e.factors[n] = val.generic()
			}
		}
	})
}

func (l *loader) buildSystem(to *string) func(*value) {
	return func(v *value) {
		l.text(to)(v)
		if _, ok := l.tree.Defaults.BuildSystems[*to]; !ok && v.kind == scalar {
			l.problem(v.Place, "unknown build-system %q: DEFAULTS has %s", *to, keys(l.tree.Defaults.BuildSystems))
		}
	}
}

func (l *loader) devices(to *[]Device) func(*value) {
	return func(v *value) {
		l.list(v, "devices", func(x *value) {
			var dev Device
			var kind, mode string
			id := func(to *uint32) func(*value) {
				return l.number(0, 1<<31, func(n int64) { *to = uint32(n) })
			}
			l.mapping(x, "a device", fields{
				"type": l.text(&kind), "filename": l.text(&dev.Filename), "permissions": l.text(&mode),
				"major": id(&dev.Major), "minor": id(&dev.Minor), "uid": id(&dev.UID), "gid": id(&dev.GID),
			}, "type", "filename", "permissions", "major", "minor", "uid", "gid")
			if kind != "c" && kind != "b" {
				l.problem(x.Place, "the type of a device is c or b, not %q", kind)
				return
			}
			n, err := strconv.ParseUint(mode, 8, 12)
			if err != nil {
				l.problem(x.Place, "the permissions of a device are an octal number such as \"0600\", not %q", mode)
			}
			if !strings.HasPrefix(dev.Filename, "/") || path.Clean(dev.Filename) != dev.Filename || dev.Filename == "/" {
				l.problem(x.Place, "the filename of a device must be absolute, without \"..\": %q is not", dev.Filename)
			}
			dev.Type, dev.Mode = kind[0], uint32(n)
			*to = append(*to, dev)
		})
	}
}

func (l *loader) integration(to *[]Integration) func(*value) {
	return func(v *value) {
		l.named(v, "artifacts", func(artifact, steps *value) {
			l.named(steps, "labels and commands", func(label, commands *value) {
				*to = append(*to, Integration{Label: label.text, Artifact: artifact.text, Commands: l.commands(commands)})
			})
		})
	}
}

// stratumFile decodes the file of a stratum, and what it says of its chunks.
func (l *loader) stratumFile(e *Element, v *value) {
	var chunks *value
	l.mapping(v, "a stratum", fields{
		"name": ignored, "kind": ignored, "description": ignored,
		"build-depends": func(v *value) { l.later = append(l.later, func() { l.dependsOnFiles(e, v) }) },
		"products":      l.rules(&e.Products),
		"chunks":        func(v *value) { chunks = v },
	}, "chunks")
	if chunks == nil {
		return
	}
	before := map[string]*Element{}
	all := map[string]Place{} // all that come, to tell "later" from "unknown"
	l.list(chunks, "chunks", func(x *value) {
		if name, at := nameOf(x); name != "" {
			if _, ok := all[name]; !ok {
				all[name] = at
			}
		}
	})
	l.list(chunks, "chunks", func(x *value) {
		if c := l.entry(e, x, before, all); c != nil {
			e.Contents = append(e.Contents, Content{Element: c})
			if _, twice := before[c.Name]; twice {
				l.problem(x.Place, "chunk %q is in the stratum twice", c.Name)
			}
			before[c.Name] = c
		}
	})
}

func nameOf(v *value) (name string, at Place) {
	if v.kind == mapping {
		v.each(func(key, val *value) {
			if key.text == "name" && val.kind == scalar {
				name, at = val.text, val.Place
			}
		})
	}
	return name, at
}

// entry decodes a chunk of a stratum: where its source is, and what it needs.
func (l *loader) entry(stratum *Element, v *value, before map[string]*Element, all map[string]Place) *Element {
	c := &Element{Place: v.Place, Kind: Chunk, factors: map[string]any{}, entry: v, used: true}
	c.Stratum, c.Steps = stratum, map[string][]string{}
	var morph, buildSystem, sha string
	var morphAt Place
	var needs []*value
	l.mapping(v, "a chunk of a stratum", fields{
		"name":          l.name(&c.Name),
		"morph":         func(v *value) { l.text(&morph)(v); morphAt = v.Place },
		"build-system":  l.buildSystem(&buildSystem),
		"repo":          l.text(&c.Repo),
		"ref":           l.text(&c.Ref),
		"sha":           l.text(&sha),
		"unpetrify-ref": ignored, // what the ref was before it was made a commit
		"build-depends": func(v *value) { l.list(v, "names of chunks", func(x *value) { needs = append(needs, x) }) },
		"build-mode": func(v *value) {
			l.text(&c.BuildMode)(v)
			if m := c.BuildMode; m != "staging" && m != "bootstrap" && m != "test" {
				l.problem(v.Place, "unknown build-mode %q: there are staging, bootstrap and test", m)
			}
		},
		"prefix": func(v *value) {
			c.PrefixStated = true
			l.text(&c.Prefix)(v)
			if p := c.Prefix; path.Clean(p) != p || !path.IsAbs(p) {
				l.problem(v.Place, "a prefix must be an absolute path, without \"..\": %q is not", p)
			}
		},
		"submodules": func(v *value) { l.submodules(c, v) },
		"artifacts":  func(v *value) { l.artifacts(c, v) },
	}, "name", "repo", "ref")
	if sha != "" {
		if len(sha) != 40 {
			l.problem(v.Place, "a sha has 40 digits, not %d", len(sha))
		}
		c.Ref = sha
	}
	if (morph == "") == (buildSystem == "") {
		l.problem(v.Place, "chunk %q must have one of the fields \"morph\" and \"build-system\"", c.Name)
	}
	l.note(c, v, "submodules")
	c.BuildSystem = buildSystem
	for _, n := range needs {
		l.need(c, n, before, all)
	}
	if morph != "" {
		c.Path = l.pathOf(morph, morphAt)
	} else if c.Path = path.Join(stratum.Path, c.Name); l.isFile(c.Path) {
		l.warn(v.Place, "%s.morph is not used, because the field \"morph\" of this chunk does not name it", c.Path)
		c.Path += ".default"
	}
	return l.place(c)
}

// need adds what a chunk needs of its stratum.
func (l *loader) need(c *Element, v *value, before map[string]*Element, all map[string]Place) {
	var name string
	l.text(&name)(v)
	at, comes := all[name]
	switch dep := before[name]; {
	case name == "":
	case dep != nil:
		c.Depends = append(c.Depends, dep)
	case name == c.Name:
		l.problem(v.Place, "chunk %q needs itself", name)
	case comes:
		l.problem(v.Place, "chunk %q needs %q, which comes later, at line %d", c.Name, name, at.Line)
	default:
		l.problem(v.Place, "chunk %q needs %q, which is no chunk of this stratum", c.Name, name)
	}
}

func (l *loader) submodules(c *Element, v *value) {
	c.Submodules = map[string]string{}
	l.named(v, "submodules", func(key, val *value) {
		var url string
		l.mapping(val, "a submodule", fields{"url": l.text(&url)}, "url")
		if p := key.text; path.Clean(p) != p || path.IsAbs(p) || strings.HasPrefix(p, "..") {
			l.problem(key.Place, "the path of a submodule must be relative, without \"..\": %q is not", p)
		}
		c.Submodules[key.text] = url
	})
}

func (l *loader) artifacts(c *Element, v *value) {
	c.ChunkFields.Artifacts = map[string]string{}
	l.named(v, "artifacts", func(key, val *value) {
		var to string
		l.text(&to)(val)
		c.ChunkFields.Artifacts[key.text] = to
	})
}
