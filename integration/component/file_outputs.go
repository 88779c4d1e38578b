package component

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/internal/strictyaml"
)

// outputs reads the globs by which a result is split.
func (f *fileReader) outputs(c *fileComponent, n *strictyaml.Node) {
	type rule struct {
		name  string
		globs []string
	}
	rules := []rule{{"devel", develGlobs}, {"doc", docGlobs}}
	rest := "runtime"
	if n != nil {
		rules, rest = nil, "rest"
		for _, field := range f.fields(n, "outputs") {
			if !goodName(field.Key) {
				f.errs.Addf(field.Pos, "%q cannot be the name of an output", field.Key)
			}
			rules = append(rules, rule{field.Key, f.errs.Strings(field.Value, "output "+field.Key)})
		}
	}
	var matchers []*regexp.Regexp
	for _, r := range rules {
		expr, err := globRegexp(r.globs)
		if err != nil {
			f.errs.Addf(c.pos, "output %s: %v", r.name, err)
			return
		}
		matchers = append(matchers, expr)
		c.Artifacts = append(c.Artifacts, r.name)
	}
	c.Artifacts = append(c.Artifacts, rest)
	c.Split = func(p string) string {
		for i, m := range matchers {
			if m.MatchString(p) || m.MatchString(p+"/") {
				return rules[i].name
			}
		}
		return rest
	}
}

var (
	develGlobs = []string{"{usr/,}include/**", "{usr/,}lib{,32,64}/lib*.{a,la}", "{usr/,}{lib,lib32,lib64,share}/pkgconfig/*.pc"}
	docGlobs   = []string{"{usr/,}share/{doc,man,info}/**"}
)

// globRegexp turns globs into one regular expression for the whole of a path:
// * and ? stand for anything but a slash, ** for anything, {a,b} for either, and
// [a-z] for one of them. One that begins with "re:" is a regular expression.
func globRegexp(globs []string) (*regexp.Regexp, error) {
	var parts []string
	for _, g := range globs {
		if re, ok := strings.CutPrefix(g, "re:"); ok {
			parts = append(parts, re)
			continue
		}
		p, err := globExpression(g)
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	return regexp.Compile("^(?:" + strings.Join(parts, "|") + ")$")
}

func globExpression(g string) (string, error) {
	var b strings.Builder
	depth := 0
	for i := 0; i < len(g); i++ {
		switch c := g[i]; {
		case strings.HasPrefix(g[i:], "**"):
			b.WriteString(".*")
			i++
		case c == '*':
			b.WriteString("[^/]*")
		case c == '?':
			b.WriteString("[^/]")
		case c == '{':
			b.WriteString("(?:")
			depth++
		case c == '}' && depth > 0:
			b.WriteByte(')')
			depth--
		case c == ',' && depth > 0:
			b.WriteByte('|')
		case c == '[':
			end := strings.IndexByte(g[i+1:], ']')
			if end < 1 {
				return "", fmt.Errorf("the glob %q has a [ without its ]", g)
			}
			set := g[i+1 : i+1+end]
			if set[0] == '!' {
				set = "^" + set[1:]
			}
			b.WriteString("[" + strings.ReplaceAll(set, `\`, `\\`) + "]")
			i += end + 1
		default:
			b.WriteString(regexp.QuoteMeta(string(c)))
		}
	}
	if depth > 0 {
		return "", fmt.Errorf("the glob %q has a { without its }", g)
	}
	return b.String(), nil
}

// output is KIND:PATH, or KIND for a file or directory that is called by the
// system, beside the file.
func (f *fileReader) output(system, text string) (Output, error) {
	if slices.Contains(outputKinds, OutputKind(text)) {
		suffix := "." + text
		if text == string(DirOutput) {
			suffix = ""
		}
		text += ":" + system + suffix
	}
	o, err := ParseOutput(text)
	if err == nil {
		o.Path = f.at(o.Path)
	}
	return o, err
}
