package actionfile

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/internal/strictyaml"
)

// SetInputs returns the text of a file with other inputs of one action, and
// everything else, comments and all, as it was. name is that of the file, for
// messages and to tell JSON from YAML; the inputs are in the language of
// "run -i". The inputs of an action with foreach cannot be set, because they are
// of many actions; those that come from a template or from defaults stay.
//
// What it returns was read again, and differs in nothing else.
func SetInputs(name, text, action string, inputs []string) (string, error) {
	root, err := strictyaml.Parse(name, []byte(text))
	if err != nil {
		return "", err
	}
	var at *strictyaml.Field
	if actions := field(root, "actions"); actions != nil {
		at = field(actions.Value, action)
	}
	if at == nil {
		return "", fmt.Errorf("%s: no action is called %q", name, action)
	}
	if f := field(at.Value, "foreach"); f != nil {
		return "", f.Pos.Errorf("the action %q stands for many, so its inputs cannot be set to those of one", action)
	}
	want := make([]string, len(inputs))
	for i, in := range inputs {
		want[i] = strings.ReplaceAll(in, "%{", "%%{")
	}
	e := &editor{text: text, lines: lineStarts(text), json: strings.HasSuffix(name, ".json")}
	if f := field(at.Value, "inputs"); f != nil {
		text = e.replace(f, want)
	} else {
		text = e.insert(at, want)
	}
	changed, err := strictyaml.Parse(name, []byte(text))
	if err != nil || !sameBut(root, changed, []string{"actions", action, "inputs"}, want) {
		return "", errors.Join(fmt.Errorf("%s: the inputs of %q are written in a way that this program cannot change: put them in by hand", name, action), err)
	}
	return text, nil
}

func field(n *strictyaml.Node, key string) *strictyaml.Field {
	if n == nil || n.Kind != strictyaml.Mapping {
		return nil
	}
	for i := range n.Fields {
		if n.Fields[i].Key == key {
			return &n.Fields[i]
		}
	}
	return nil
}

// sameBut says whether b is a but for what is at the path, which is the list.
func sameBut(a, b *strictyaml.Node, path, list []string) bool {
	if len(path) == 0 {
		return b.Kind == strictyaml.List && slices.EqualFunc(b.Items, list, func(n *strictyaml.Node, s string) bool {
			return n.Kind == strictyaml.Text && n.Text == s
		})
	}
	rest := func(n *strictyaml.Node) map[string]*strictyaml.Node {
		m := map[string]*strictyaml.Node{}
		for _, f := range n.Fields {
			if f.Key != path[0] {
				m[f.Key] = f.Value
			}
		}
		return m
	}
	x, y := rest(a), rest(b)
	for key, n := range x {
		if y[key] == nil || !same(n, y[key]) {
			return false
		}
	}
	to := field(b, path[0])
	if len(x) != len(y) || to == nil {
		return false
	}
	from := &strictyaml.Node{Kind: strictyaml.Mapping}
	if f := field(a, path[0]); f != nil {
		from = f.Value
	}
	return sameBut(from, to.Value, path[1:], list)
}

func same(a, b *strictyaml.Node) bool {
	return a.Kind == b.Kind && a.Text == b.Text && slices.EqualFunc(a.Items, b.Items, same) &&
		slices.EqualFunc(a.Fields, b.Fields, func(x, y strictyaml.Field) bool { return x.Key == y.Key && same(x.Value, y.Value) })
}

// An editor changes a text at places that a parser told.
type editor struct {
	text  string
	lines []int // where each begins
	json  bool
}

func lineStarts(text string) []int {
	starts := []int{0}
	for i := range len(text) {
		if text[i] == '\n' {
			starts = append(starts, i+1)
		}
	}
	return starts
}

// offset is where a place is in the text: columns count characters.
func (e *editor) offset(pos strictyaml.Pos) int {
	if pos.Line < 1 || pos.Line > len(e.lines) {
		return len(e.text)
	}
	at := e.lines[pos.Line-1]
	for range pos.Column - 1 {
		if at >= len(e.text) {
			break
		}
		at++
		for at < len(e.text) && e.text[at]&0xc0 == 0x80 {
			at++
		}
	}
	return at
}

// replace puts a list in the place of the value of f.
func (e *editor) replace(f *strictyaml.Field, list []string) string {
	if at := e.offset(f.Value.Pos); at < len(e.text) && e.text[at] == '[' {
		return e.text[:at] + flow(list) + e.text[e.closing(at):]
	}
	from := e.offset(f.Pos)
	if i := strings.IndexByte(e.text[from:], ':'); i >= 0 {
		from += i + 1
	}
	return e.text[:from] + e.block(list, f.Pos) + e.text[e.end(f.Pos):]
}

// insert puts a list before everything else in an action.
func (e *editor) insert(f *strictyaml.Field, list []string) string {
	at := e.offset(f.Value.Pos)
	if at < len(e.text) && e.text[at] == '{' {
		comma := ""
		if len(f.Value.Fields) > 0 {
			comma = ", "
		}
		return e.text[:at+1] + `"inputs": ` + flow(list) + comma + e.text[at+1:]
	}
	if len(f.Value.Fields) == 0 {
		return e.text
	}
	first := f.Value.Fields[0].Pos
	start := e.lines[first.Line-1]
	indent := e.text[start:e.offset(first)]
	if strings.Trim(indent, " ") != "" {
		return e.text // not at the beginning of its line
	}
	return e.text[:start] + indent + "inputs:" + e.block(list, first) + e.text[start:]
}

// flow is a list on one line, as JSON has it, and YAML too.
func flow(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// block is what follows the colon of a key: a list with a line for each.
func (e *editor) block(list []string, key strictyaml.Pos) string {
	if len(list) == 0 {
		return " []\n"
	}
	var b strings.Builder
	b.WriteByte('\n')
	for _, s := range list {
		b.WriteString(strings.Repeat(" ", key.Column+1) + "- " + scalar(s) + "\n")
	}
	return b.String()
}

// scalar is a text as YAML takes it for one: plain where nothing else is meant.
func scalar(s string) string {
	plain := s != "" && (s[0] >= 'a' && s[0] <= 'z' || s[0] >= 'A' && s[0] <= 'Z')
	for i := range len(s) {
		c := s[i]
		plain = plain && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("._-+/", c) >= 0)
	}
	switch strings.ToLower(s) {
	case "true", "false", "yes", "no", "on", "off", "null", "y", "n":
		plain = false
	}
	if plain {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}

// closing is where the list that begins with "[" at a place has ended.
func (e *editor) closing(at int) int {
	depth, quote := 0, byte(0)
	for i := at; i < len(e.text); i++ {
		switch c := e.text[i]; {
		case quote != 0:
			if c == '\\' && quote == '"' {
				i++
			} else if c == quote {
				quote = 0
			}
		case c == '"', c == '\'':
			quote = c
		case c == '#' && !e.json && i > 0 && strings.IndexByte(" \n\t", e.text[i-1]) >= 0:
			for i+1 < len(e.text) && e.text[i+1] != '\n' {
				i++
			}
		case c == '[':
			depth++
		case c == ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(e.text)
}

// end is where the value of a key of a block mapping has ended: at the beginning
// of the first line that belongs to something else. Blank lines and comments
// before that belong to what follows.
func (e *editor) end(key strictyaml.Pos) int {
	indent := key.Column - 1
	end := key.Line // the line after that of the key
	for i := key.Line; i < len(e.lines); i++ {
		line := e.text[e.lines[i]:]
		if n := strings.IndexByte(line, '\n'); n >= 0 {
			line = line[:n]
		}
		rest := strings.TrimLeft(line, " ")
		if rest == "" || rest[0] == '#' {
			continue
		}
		deeper := len(line) - len(rest)
		if deeper < indent || deeper == indent && rest != "-" && !strings.HasPrefix(rest, "- ") {
			break
		}
		end = i + 1
	}
	if end >= len(e.lines) {
		return len(e.text)
	}
	return e.lines[end]
}
