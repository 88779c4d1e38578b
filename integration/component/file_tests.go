package component

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/internal/strictyaml"
)

// tests reads the tests of a component: NAME: COMMANDS, or NAME: {commands,
// needs, limits}. Each is a component of its own, called COMPONENT/NAME, which
// needs the one that it tests and installs nothing. So a test that changes does
// not make anything else be built again.
func (f *fileReader) tests(c *fileComponent, n *strictyaml.Node) {
	for _, field := range f.fields(n, "tests") {
		name := c.Name + "/" + field.Key
		if !goodName(field.Key) {
			f.errs.Addf(field.Pos, "%q cannot be the name of a test: use letters, digits and ._+-@", field.Key)
		}
		t := &fileComponent{pos: field.Pos, Component: &Component{
			Name: name, Short: c.Short + "." + field.Key, Where: field.Pos.String(), Base: c.Base, Source: c.Source,
			MaxJobs: c.MaxJobs, Limits: c.Limits, Test: true, Split: func(string) string { return "rest" }, Artifacts: []string{"rest"},
		}}
		for _, v := range c.Env {
			if v.Name == "DESTDIR" {
				v.Value = "/" + t.Short + ".inst"
			}
			t.Env = append(t.Env, v)
		}
		t.patch()
		commands := field.Value
		if commands.Kind == strictyaml.Mapping {
			m := f.errs.Map(commands, "test "+name)
			commands = m.Need("commands")
			t.needs = f.references(m.Take("needs"), "needs")
			f.limits(t, m.Take("limits"))
			m.Done()
		}
		if commands != nil {
			t.Steps = append(t.Steps, Step{Name: "test", Commands: f.errs.Strings(commands, "test "+name), Parallel: true})
		}
		c.tests = append(c.tests, t)
		c.Tests = append(c.Tests, t.Component)
	}
}

// linkTests finds what the tests of c need: c, and what they name themselves.
func (f *fileReader) linkTests(c *fileComponent) {
	for _, t := range c.tests {
		t.Needs = f.closure(c)
		for _, r := range t.needs {
			n := f.find(r, "test "+t.Name+" needs")
			if n == nil {
				continue
			}
			for _, x := range f.closure(n) {
				if !slices.Contains(t.Needs, x) {
					t.Needs = append(t.Needs, x)
				}
			}
		}
		f.project.Components = append(f.project.Components, t.Component)
	}
}

// caches reads where the commands of a component find its caches: NAME: PATH.
func (f *fileReader) caches(c *fileComponent, n *strictyaml.Node) (list []Cache) {
	for _, field := range f.fields(n, "caches") {
		p := f.errs.String(field.Value, "cache "+field.Key)
		switch top, _, below := strings.Cut(strings.TrimPrefix(p, "/"), "/"); {
		case !goodName(field.Key):
			f.errs.Addf(field.Pos, "%q cannot be the name of a cache: use letters, digits and ._+-@", field.Key)
		case !path.IsAbs(p) || path.Clean(p) != p || !below:
			f.errs.Addf(field.Value.Pos, "the cache %s must be an absolute path below a directory, without \"..\", such as /var/cache/%s: %q is not", field.Key, field.Key, p)
		case slices.Contains([]string{"dev", "proc", "sys", "tmp", strings.Trim(workRoot, "/"), c.Short + ".build", c.Short + ".inst", c.Short + ".patches"}, top):
			f.errs.Addf(field.Value.Pos, "the cache %s cannot be in /%s, which every build has for itself: use a path such as /var/cache/%s", field.Key, top, field.Key)
		case slices.ContainsFunc(list, func(o Cache) bool { return o.Path == p[1:] || within(o.Path, p[1:]) || within(p[1:], o.Path) }):
			f.errs.Addf(field.Value.Pos, "the cache %s is at %s, where another is, too", field.Key, p)
		default:
			list = append(list, Cache{field.Key, p[1:]})
		}
	}
	return list
}

func within(p, dir string) bool { return strings.HasPrefix(p, dir+"/") }

// A Cache is a directory that a component's commands may keep things in from one
// build to the next: see [Builder.Caches].
type Cache struct {
	Name string
	Path string // in the sandbox, without a slash in front
}

func (c Cache) String() string { return fmt.Sprintf("%s at /%s", c.Name, c.Path) }
