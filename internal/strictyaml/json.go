package strictyaml

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// parseJSON reads RFC 8259, without duplicate keys. The YAML parser would take
// nearly all of it, but not a tab as indentation.
func parseJSON(name, text string) (*Node, error) {
	p := &jsonParser{text: text, pos: Pos{name, 1, 1}}
	p.space()
	n, err := p.value(1)
	if err != nil {
		return nil, err
	}
	p.space()
	if p.i < len(text) {
		return nil, p.pos.Errorf("something follows the value: one file holds one")
	}
	return n, nil
}

type jsonParser struct {
	text string
	i    int
	pos  Pos // of text[i]
}

// take moves n bytes on.
func (p *jsonParser) take(n int) string {
	s := p.text[p.i : p.i+n]
	for _, r := range s {
		p.pos.Column++
		if r == '\n' {
			p.pos.Line, p.pos.Column = p.pos.Line+1, 1
		}
	}
	p.i += n
	return s
}

func (p *jsonParser) rest() string { return p.text[p.i:] }

func (p *jsonParser) space() {
	rest := p.rest()
	p.take(len(rest) - len(strings.TrimLeft(rest, " \t\r\n")))
}

// next is the next byte, 0 at the end.
func (p *jsonParser) next() byte {
	if p.i == len(p.text) {
		return 0
	}
	return p.text[p.i]
}

func (p *jsonParser) want(what string) error {
	rest := p.rest()
	if rest == "" {
		return p.pos.Errorf("the file ends where there should be %s", what)
	}
	if strings.HasPrefix(rest, "//") || strings.HasPrefix(rest, "/*") || rest[0] == '#' {
		return p.pos.Errorf("a comment: JSON has none; name the file .yaml to use YAML")
	}
	r, _ := utf8.DecodeRuneInString(rest)
	return p.pos.Errorf("%q where there should be %s", r, what)
}

func (p *jsonParser) value(depth int) (*Node, error) {
	if depth > MaxDepth {
		return nil, p.pos.Errorf("nested more than %d deep", MaxDepth)
	}
	n := &Node{Pos: p.pos}
	switch c := p.next(); {
	case c == '{':
		n.Kind = Mapping
		return n, p.mapping(n, depth)
	case c == '[':
		n.Kind = List
		return n, p.list(n, depth)
	case c == '"':
		n.Kind = Text
		var err error
		n.Text, err = p.quoted()
		return n, err
	case c == '-' || c >= '0' && c <= '9':
		return n, p.number(n)
	}
	for word, kind := range map[string]Kind{"null": Null, "true": Bool, "false": Bool} {
		if strings.HasPrefix(p.rest(), word) {
			n.Kind, n.Text, n.Plain = kind, p.take(len(word)), true
			if kind == Null {
				n.Text = ""
			}
			return n, nil
		}
	}
	return nil, p.want("a value")
}

// items reads what is between two brackets, separated by commas.
func (p *jsonParser) items(end byte, what string, item func() error) error {
	p.take(1)
	for first := true; ; first = false {
		p.space()
		if p.next() == end && first {
			p.take(1)
			return nil
		}
		if err := item(); err != nil {
			return err
		}
		p.space()
		switch p.next() {
		case end:
			p.take(1)
			return nil
		case ',':
			p.take(1)
		default:
			return p.want("a comma or the end of the " + what)
		}
	}
}

func (p *jsonParser) list(n *Node, depth int) error {
	return p.items(']', "list", func() error {
		item, err := p.value(depth + 1)
		n.Items = append(n.Items, item)
		return err
	})
}

func (p *jsonParser) mapping(n *Node, depth int) error {
	err := p.items('}', "object", func() error {
		f := Field{Pos: p.pos}
		if p.next() != '"' {
			return p.want("a key in quotes")
		}
		var err error
		if f.Key, err = p.quoted(); err != nil {
			return err
		}
		p.space()
		if p.next() != ':' {
			return p.want("a colon")
		}
		p.take(1)
		p.space()
		f.Value, err = p.value(depth + 1)
		n.Fields = append(n.Fields, f)
		return err
	})
	if err != nil {
		return err
	}
	if twice := repeated(n.Fields); len(twice) > 0 {
		return ErrorList(twice)
	}
	return nil
}

func (p *jsonParser) number(n *Node) error {
	rest := p.rest()
	digits := func(i int) int {
		for i < len(rest) && rest[i] >= '0' && rest[i] <= '9' {
			i++
		}
		return i
	}
	n.Kind, n.Plain = Int, true
	i := 0
	if rest[0] == '-' {
		i++
	}
	start := i
	i = digits(i)
	bad := i == start || rest[start] == '0' && i > start+1
	if i < len(rest) && rest[i] == '.' {
		n.Kind = Float
		start, i = i+1, digits(i+1)
		bad = bad || i == start
	}
	if i < len(rest) && (rest[i] == 'e' || rest[i] == 'E') {
		n.Kind = Float
		if i++; i < len(rest) && (rest[i] == '+' || rest[i] == '-') {
			i++
		}
		start, i = i, digits(i)
		bad = bad || i == start
	}
	if bad {
		return p.pos.Errorf("not a number of JSON")
	}
	n.Text = p.take(i)
	return nil
}

// quoted reads a string.
func (p *jsonParser) quoted() (string, error) {
	p.take(1)
	var b strings.Builder
	for {
		rest := p.rest()
		end := strings.IndexAny(rest, "\"\\\n\t\r")
		if end < 0 {
			p.take(len(rest))
			return "", p.want("the end of the text")
		}
		b.WriteString(p.take(end))
		switch p.next() {
		case '"':
			p.take(1)
			return b.String(), nil
		case '\\':
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			b.WriteRune(r)
		default:
			return "", p.pos.Errorf(`%q inside text: write it as an escape`, p.next())
		}
	}
}

// escape reads what follows a backslash; two of them for a surrogate pair.
func (p *jsonParser) escape() (rune, error) {
	pos, rest := p.pos, p.rest()
	if len(rest) < 2 {
		return 0, p.want("the end of the text")
	}
	if i := strings.IndexByte(`"\/bfnrt`, rest[1]); i >= 0 {
		p.take(2)
		return rune("\"\\/\b\f\n\r\t"[i]), nil
	}
	r, ok := hex4(rest)
	if !ok {
		return 0, pos.Errorf(`a backslash may be followed by one of "\/bfnrt, or by u and four hex digits`)
	}
	p.take(6)
	if !utf16.IsSurrogate(r) {
		return r, nil
	}
	low, ok := hex4(p.rest())
	if r = utf16.DecodeRune(r, low); !ok || r == utf8.RuneError {
		return 0, pos.Errorf("half of a surrogate pair")
	}
	p.take(6)
	return r, nil
}

// hex4 reads \uXXXX.
func hex4(s string) (r rune, ok bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	for _, c := range []byte(s[2:6]) {
		d := strings.IndexByte("0123456789abcdef", c|0x20)
		if d < 0 || c < '0' {
			return 0, false
		}
		r = r<<4 | rune(d)
	}
	return r, true
}
