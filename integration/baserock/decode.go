package baserock

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sbx-action/sbx-action/internal/spelling"
)

// A decoder turns values into what they mean, and collects what is wrong.
type decoder struct{ problems Problems }

func (d *decoder) problem(at Place, format string, args ...any) {
	d.problems = append(d.problems, Problem{at, fmt.Sprintf(format, args...)})
}

// fields are what a mapping may have, and what becomes of each.
type fields map[string]func(v *value)

// ignored is the field of what we do not look at.
func ignored(*value) {}

// mapping decodes v, which is what, and of which the fields must be there.
func (d *decoder) mapping(v *value, what string, known fields, must ...string) {
	if v.kind != mapping {
		d.problem(v.Place, "%s must be a mapping of fields, not %v", what, v.kind)
		return
	}
	seen := map[string]bool{}
	v.each(func(key, val *value) {
		name := key.text
		f, ok := known[name]
		switch {
		case key.kind != scalar:
			d.problem(key.Place, "the name of a field of %s must be text, not %v", what, key.kind)
		case !ok:
			d.problem(key.Place, "unknown field %q of %s: %s", name, what, meant(name, known))
		default:
			seen[name] = true
			f(val)
		}
	})
	for _, name := range must {
		if !seen[name] {
			d.problem(v.Place, "%s has no field %q", what, name)
		}
	}
}

// meant is the end of a sentence that says which fields there are.
func meant(name string, known fields) string {
	names := slices.Sorted(maps.Keys(known))
	if best := spelling.Nearest(name, names); best != "" {
		return fmt.Sprintf("is %q meant?", best)
	}
	return "it may have " + strings.Join(names, ", ")
}

// text decodes text into to.
func (d *decoder) text(to *string) func(*value) {
	return func(v *value) {
		if v.kind != scalar || v.isNull() {
			d.problem(v.Place, "want text, not %s", describe(v))
			return
		}
		*to = v.text
	}
}

func describe(v *value) string {
	if v.isNull() {
		return "nothing"
	}
	return v.kind.String()
}

// name is text that can be a file name.
func (d *decoder) name(to *string) func(*value) {
	return func(v *value) {
		d.text(to)(v)
		if v.kind == scalar && !goodName(v.text) {
			d.problem(v.Place, "%q cannot be a name: it becomes the name of a directory", v.text)
		}
	}
}

func goodName(s string) bool {
	return s != "" && s != "." && s != ".." && len(s) < 200 && !strings.ContainsAny(s, "/\x00\n\t")
}

// texts decodes a list of texts.
func (d *decoder) texts(to *[]string) func(*value) {
	return func(v *value) {
		*to = []string{}
		d.list(v, "text", func(x *value) {
			var s string
			d.text(&s)(x)
			*to = append(*to, s)
		})
	}
}

// list calls f for each thing of a list. An empty value is an empty list.
func (d *decoder) list(v *value, of string, f func(*value)) {
	if v.isNull() {
		return
	}
	if v.kind != list {
		d.problem(v.Place, "want a list of %s, not %v", of, v.kind)
		return
	}
	for _, x := range v.items {
		f(x)
	}
}

// named calls f for each key and value of a mapping.
func (d *decoder) named(v *value, of string, f func(key, val *value)) {
	if v.isNull() {
		return
	}
	if v.kind != mapping {
		d.problem(v.Place, "want a mapping of %s, not %s", of, describe(v))
		return
	}
	v.each(f)
}

// number decodes an integer from least to most.
func (d *decoder) number(least, most int64, to func(int64)) func(*value) {
	return func(v *value) {
		n, ok := v.scalarOf().(int64)
		if v.kind != scalar || !ok || n < least || n > most {
			d.problem(v.Place, "want a number from %d to %d, not %s", least, most, cmp.Or(strconv.Quote(v.text), describe(v)))
			return
		}
		to(n)
	}
}

// commands decodes a list of commands. YAML takes the commands true and false
// for something else, and so they are given back what they are.
func (d *decoder) commands(v *value) []string {
	list := []string{}
	d.list(v, "commands", func(x *value) {
		if x.kind != scalar {
			d.problem(x.Place, "a command must be text, not %v: one with a colon and a space in it needs quotes, or a | before it", x.kind)
			return
		}
		switch c := x.scalarOf().(type) {
		case bool:
			list = append(list, strconv.FormatBool(c))
		case nil:
			d.problem(x.Place, "an empty command")
		default:
			if strings.ContainsRune(x.text, 0) {
				d.problem(x.Place, "a command contains a NUL byte")
			}
			list = append(list, x.text)
		}
	})
	return list
}

// rules decodes the rules of a split.
func (d *decoder) rules(to *[]Rule) func(*value) {
	return func(v *value) {
		d.list(v, "rules", func(x *value) {
			var r Rule
			d.mapping(x, "a rule", fields{
				"artifact": d.name(&r.Artifact),
				"include":  func(v *value) { r.Include = d.patterns(v) },
			}, "artifact", "include")
			if err := r.compile(); err == nil { // else patterns has said so
				*to = append(*to, r)
			}
		})
	}
}

// patterns decodes a list of regular expressions.
func (d *decoder) patterns(v *value) []string {
	var list []string
	d.list(v, "regular expressions", func(x *value) {
		var s string
		d.text(&s)(x)
		if _, err := regexp.Compile("(?:" + s + ")"); err != nil {
			d.problem(x.Place, "%v%s", err, lacks(s))
			return
		}
		list = append(list, s)
	})
	return list
}

// lacks says what of Python's regular expressions s has that ours do not.
func lacks(s string) string {
	for _, l := range []struct{ text, what string }{
		{"(?=", "look-ahead"},
		{"(?!", "look-ahead"},
		{"(?<=", "look-behind"},
		{"(?<!", "look-behind"},
		{`\1`, "back-references"},
		{"(?P=", "back-references"},
		{`\Z`, `\Z (write $)`},
		{"(?(", "conditions"},
	} {
		if strings.Contains(s, l.text) {
			return ": the regular expressions of RE2 have no " + l.what
		}
	}
	return ""
}

// compile makes the rule ready for Match: the whole of a path must match one of
// the expressions.
func (r *Rule) compile() (err error) {
	r.match, err = regexp.Compile("^(?:" + strings.Join(r.Include, "|") + ")$")
	return err
}
