package component

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/staging"
)

// Show writes what is known of a component or a system: of a component its source,
// what is staged for it, its environment, and each command that runs, after those
// of its build-system.
func (p *Project) Show(w io.Writer, name string) error {
	var b strings.Builder
	for _, c := range p.Components {
		if c.Name == name {
			c.show(&b)
		}
	}
	for _, s := range p.Systems {
		if s.Name == name {
			s.show(&b)
		}
	}
	if b.Len() == 0 {
		return p.unknown(name)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (p *Project) unknown(name string) error {
	return fmt.Errorf("there is no component and no system %q: there are %s", name, strings.Join(p.Names(), ", "))
}

func (c *Component) show(b *strings.Builder) {
	fmt.Fprintf(b, "component %s\ndefined in %s\n", c.Name, c.Where)
	if c.Base != "" {
		fmt.Fprintf(b, "base %s\n", c.Base)
	}
	if s := c.Source; s != nil {
		fmt.Fprintf(b, "source %v\n", s)
		for _, p := range s.Patches {
			fmt.Fprintf(b, "patch %s\n", p)
		}
		for _, p := range slices.Sorted(maps.Keys(s.Submodules)) {
			fmt.Fprintf(b, "submodule %s %v\n", p, s.Submodules[p])
		}
	}
	for _, n := range c.Needs {
		fmt.Fprintf(b, "staged %s\n", n.Name)
	}
	epoch := false
	for _, v := range c.Env {
		epoch = epoch || v.Name == "SOURCE_DATE_EPOCH"
		fmt.Fprintf(b, "env %s=%s\n", v.Name, v.Value)
	}
	jobs := "as many as there are processors"
	if c.MaxJobs > 0 {
		jobs = fmt.Sprint(c.MaxJobs)
	}
	fmt.Fprintf(b, "env MAKEFLAGS=-jN in build steps, N: %s\n", jobs)
	if !epoch {
		fmt.Fprintf(b, "env SOURCE_DATE_EPOCH=N, N: the time of the commit, or %d\n", staging.MTime)
	}
	for _, step := range c.Steps {
		for i, command := range step.Commands {
			fmt.Fprintf(b, "%s %d:\n", step.Name, i+1)
			for line := range strings.Lines(command) {
				fmt.Fprintf(b, "    %s\n", strings.TrimSuffix(line, "\n"))
			}
		}
	}
	for _, d := range c.Devices {
		fmt.Fprintf(b, "device /%s %c %d:%d mode %04o owner %d:%d\n", d.Path, d.Type, d.Major, d.Minor, d.Mode, d.UID, d.GID)
	}
	if len(c.Artifacts) > 0 {
		fmt.Fprintf(b, "outputs %s\n", strings.Join(c.Artifacts, ", "))
	}
	for _, t := range c.Tests {
		fmt.Fprintf(b, "test %s\n", t.Name)
	}
}

func (s *System) show(b *strings.Builder) {
	fmt.Fprintf(b, "system %s\ndefined in %s\n", s.Name, s.Where)
	if s.Base != "" {
		fmt.Fprintf(b, "base %s\n", s.Base)
	}
	for _, c := range s.Contents {
		fmt.Fprintf(b, "contains %s", c.Name)
		if !c.All {
			fmt.Fprintf(b, " (%s)", strings.Join(c.Artifacts, ", "))
		}
		b.WriteByte('\n')
	}
	for _, i := range sorted(s.Integration) {
		for _, c := range i.Commands {
			fmt.Fprintf(b, "integration %s: %s\n", i.Label, c)
		}
	}
	for _, o := range s.Outputs {
		fmt.Fprintf(b, "output %s:%s\n", o.Kind, o.Path)
	}
}

// A graphNode is a component, a test or a system for programs.
type graphNode struct {
	Name     string   `json:"name"`
	Kind     string   `json:"kind"`
	Source   string   `json:"source,omitempty"`
	Needs    []string `json:"needs"`
	Contains []string `json:"contains"`
}

// nodes are name and all that it needs or contains, each after what it needs; all
// of the project without a name.
func (p *Project) nodes(name string) ([]graphNode, error) {
	var roots []*Component
	var systems []*System
	found := name == ""
	for _, c := range p.Components {
		if name == "" || c.Name == name {
			roots, found = append(roots, c), true
		}
	}
	for _, s := range p.Systems {
		if name != "" && s.Name != name {
			continue
		}
		systems, found = append(systems, s), true
		for _, c := range s.Contents {
			roots = append(roots, c.Component)
		}
	}
	if !found {
		return nil, p.unknown(name)
	}
	list := []graphNode{}
	for _, c := range needed(roots) {
		n := graphNode{Name: c.Name, Kind: "component", Needs: []string{}, Contains: []string{}}
		if c.Test {
			n.Kind = "test"
		} else if c.Source != nil {
			n.Source = c.Source.String()
		}
		for _, x := range c.Needs {
			n.Needs = append(n.Needs, x.Name)
		}
		list = append(list, n)
	}
	for _, s := range systems {
		n := graphNode{Name: s.Name, Kind: "system", Needs: []string{}, Contains: []string{}}
		for _, c := range s.Contents {
			n.Contains = append(n.Contains, c.Name)
		}
		list = append(list, n)
	}
	return list, nil
}

// Graph writes the graph of name, or of all, as "text", "dot" or "json": the same
// forms as those of definitions.
func (p *Project) Graph(w io.Writer, name, format string) error {
	list, err := p.nodes(name)
	if err != nil {
		return err
	}
	var b strings.Builder
	switch format {
	case "json":
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(map[string]any{"target": name, "elements": list})
	case "dot":
		fmt.Fprintf(&b, "digraph %q {\n  rankdir=LR;\n", name)
		for _, n := range list {
			shape := map[string]string{"component": "box", "test": "ellipse", "system": "component"}[n.Kind]
			fmt.Fprintf(&b, "  %q [shape=%s];\n", n.Name, shape)
			for _, x := range n.Needs {
				fmt.Fprintf(&b, "  %q -> %q;\n", n.Name, x)
			}
			for _, x := range n.Contains {
				fmt.Fprintf(&b, "  %q -> %q [style=dashed];\n", n.Name, x)
			}
		}
		b.WriteString("}\n")
	default:
		for _, n := range list {
			b.WriteString(n.Kind + " " + n.Name)
			if len(n.Needs) > 0 {
				b.WriteString(" needs " + strings.Join(n.Needs, " "))
			}
			if len(n.Contains) > 0 {
				b.WriteString(" contains " + strings.Join(n.Contains, " "))
			}
			b.WriteByte('\n')
		}
	}
	_, err = io.WriteString(w, b.String())
	return err
}
