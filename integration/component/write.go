package component

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// WriteYAML writes a project as an sbx.yaml that means the same. Components are
// called by their short names, or by their paths where two have the same.
// Components that are root file systems become the base of those that need them.
func WriteYAML(to io.Writer, p *Project) error {
	w := &yamlWriter{w: bufio.NewWriter(to), names: map[*Component]string{}}
	for _, c := range p.Components {
		if c.HostTools {
			return fmt.Errorf("%s is built with the tools of this machine, which an sbx.yaml cannot say: put a root file system in its place", c.Name)
		}
		w.names[c] = uniqueName(p, c)
	}
	w.line(0, "sbx: 1")
	w.line(0, "components:")
	for _, c := range p.Components {
		if c.Tree == "" {
			w.component(c)
		}
	}
	if len(p.Systems) > 0 {
		w.line(0, "systems:")
	}
	for _, s := range p.Systems {
		w.system(s)
	}
	return cmp.Or(w.err, w.w.Flush())
}

func uniqueName(p *Project, c *Component) string {
	for _, o := range p.Components {
		if o != c && o.Short == c.Short || !goodName(c.Short) {
			return strings.Map(func(r rune) rune {
				if goodName("x" + string(r)) {
					return r
				}
				return '-'
			}, c.Name)
		}
	}
	return c.Short
}

type yamlWriter struct {
	w     *bufio.Writer
	names map[*Component]string
	err   error
}

func (w *yamlWriter) line(indent int, format string, args ...any) {
	fmt.Fprintf(w.w, strings.Repeat("  ", indent)+format+"\n", args...)
}

// yamlText is s in quotes: what JSON quotes, YAML reads.
func yamlText(s string) string {
	data, err := json.Marshal(s)
	if err != nil {
		return `""` // no string is like that
	}
	// JSON's encoder escapes these for HTML.
	return strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(string(data))
}

func (w *yamlWriter) component(c *Component) {
	w.line(1, "%s:", yamlText(w.names[c]))
	base := c.Base
	var needs []string
	for _, n := range c.Needs {
		if n.Tree != "" {
			base = n.Tree
			continue
		}
		needs = append(needs, yamlText(w.names[n]))
	}
	if base != "" {
		w.line(2, "base: %s", yamlText(string(base)))
	}
	if c.Source != nil {
		w.source(c.Source)
	}
	w.line(2, "env:")
	for _, v := range c.Env {
		value := v.Value
		if v.Name == "DESTDIR" {
			value = "/" + w.names[c] + ".inst"
		}
		if v.Name != "PREFIX" {
			w.line(3, "%s: %s", v.Name, yamlText(value))
		}
	}
	for _, v := range c.Env {
		if v.Name == "PREFIX" && v.Value != "/usr" {
			w.line(2, "prefix: %s", yamlText(v.Value))
		}
	}
	for _, s := range c.Steps {
		w.line(2, "%s:", strings.TrimSuffix(s.Name, "-commands"))
		for _, command := range s.Commands {
			w.command(command)
		}
	}
	if len(needs) > 0 {
		// Each comes with what it needs to run; all are listed, in their order.
		w.line(2, "build-needs: [%s]", strings.Join(needs, ", "))
	}
	if c.Owners && !c.HostTools {
		w.line(2, "owners: true")
	}
	if c.MaxJobs > 0 {
		w.line(2, "max-jobs: %d", c.MaxJobs)
	}
	w.rules(c)
	if len(c.Devices) > 0 {
		w.line(2, "devices:")
	}
	for _, d := range c.Devices {
		w.line(2, "- {path: %s, type: %c, mode: \"%04o\", major: %d, minor: %d, uid: %d, gid: %d}", yamlText(d.Path), d.Type, d.Mode, d.Major, d.Minor, d.UID, d.GID)
	}
}

func (w *yamlWriter) source(s *Source) {
	w.line(2, "source:")
	w.line(3, "%s: %s", s.Kind, yamlText(s.At))
	if s.Sum != "" {
		w.line(3, "sha256: %s", yamlText(s.Sum))
	}
	if s.Ref != "" {
		w.line(3, "ref: %s", yamlText(s.Ref))
	}
	if s.Strip != nil {
		w.line(3, "strip: %d", *s.Strip)
	}
	if len(s.Submodules) > 0 {
		w.line(3, "submodules:")
	}
	for _, p := range slices.Sorted(maps.Keys(s.Submodules)) {
		sub := s.Submodules[p]
		if sub == nil {
			w.line(4, "%s: null", yamlText(p))
			continue
		}
		more := ""
		if sub.Sum != "" {
			more += ", sha256: " + yamlText(sub.Sum)
		}
		if sub.Ref != "" { // or else the repository says which commit it is
			more += ", ref: " + yamlText(sub.Ref)
		}
		w.line(4, "%s: {%s: %s%s}", yamlText(p), sub.Kind, yamlText(sub.At), more)
	}
}

// command writes a command of several lines as they are, where YAML gives them
// back like that.
func (w *yamlWriter) command(c string) {
	lines := strings.Split(strings.TrimSuffix(c, "\n"), "\n")
	plain := strings.HasSuffix(c, "\n") && len(lines) > 1 && lines[0] != "" && lines[0][0] != ' ' && lines[len(lines)-1] != ""
	for _, l := range lines {
		if strings.TrimRight(l, " \t\r") != l || strings.ContainsFunc(l, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }) {
			plain = false
		}
	}
	if !plain {
		w.line(2, "- %s", yamlText(c))
		return
	}
	w.line(2, "- |")
	for _, l := range lines {
		if l == "" {
			w.line(0, "")
			continue
		}
		w.line(3, "%s", l)
	}
}

func (w *yamlWriter) rules(c *Component) {
	if len(c.Rules) == 0 {
		return
	}
	w.line(2, "outputs:")
	byName := map[string][]string{}
	for _, r := range c.Rules {
		for _, e := range r.Expressions {
			byName[r.Artifact] = append(byName[r.Artifact], yamlText("re:"+e))
		}
	}
	var done []string
	for _, r := range c.Rules {
		if !slices.Contains(done, r.Artifact) {
			done = append(done, r.Artifact)
			w.line(3, "%s: [%s]", yamlText(r.Artifact), strings.Join(byName[r.Artifact], ", "))
		}
	}
}

func (w *yamlWriter) system(s *System) {
	w.line(1, "%s:", yamlText(strings.ReplaceAll(s.Name, "/", "-")))
	var items []string
	for _, c := range s.Contents {
		switch {
		case c.Tree != "":
			w.line(2, "base: %s", yamlText(string(c.Tree)))
		case c.All:
			items = append(items, yamlText(w.names[c.Component]))
		default:
			for _, a := range c.Artifacts {
				items = append(items, yamlText(w.names[c.Component]+":"+a))
			}
		}
	}
	w.line(2, "contents: [%s]", strings.Join(items, ", "))
	if len(s.Integration) == 0 {
		return
	}
	w.line(2, "integrate:")
	for _, i := range sorted(s.Integration) {
		for _, c := range i.Commands {
			w.command(c)
		}
	}
}

func sorted(list []Integration) []Integration {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b Integration) int { return strings.Compare(a.Label, b.Label) })
	return list
}
