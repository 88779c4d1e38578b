package cc

import (
	"os"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/staging"
)

// A response is a file of arguments that we have read, or looked for.
type response struct {
	path string
	id   staging.StatID
}

// expand puts the arguments of response files in their place, as GCC's driver
// does. It says false where that is not to be had.
func (c *Call) expand(args []string, depth int) ([]string, bool) {
	if !slices.ContainsFunc(args, func(a string) bool { return len(a) > 1 && a[0] == '@' }) {
		return args, true
	}
	if depth > 20 {
		return nil, false
	}
	var out []string
	for _, a := range args {
		if len(a) < 2 || a[0] != '@' {
			out = append(out, a)
			continue
		}
		r := response{path: c.abs(a[1:])}
		if isStream(r.path) {
			return nil, false
		}
		r.id, _ = staging.StatPath(r.path, staging.KeepLinks) // before it is read
		c.responses = append(c.responses, r)
		data, err := os.ReadFile(r.path)
		if err != nil { // then it is an argument like any other
			out = append(out, a)
			continue
		}
		more, ok := c.expand(splitResponse(string(data)), depth+1)
		if !ok {
			return nil, false
		}
		out = append(out, more...)
	}
	return out, true
}

// splitResponse splits the text of a response file at white space; quotes of
// both kinds keep it, and a backslash keeps any character.
func splitResponse(text string) (list []string) {
	var b strings.Builder
	var quote byte
	begun := false
	for i := 0; i < len(text); i++ {
		ch := text[i]
		switch {
		case ch == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
			begun = true
		case quote != 0 && ch == quote:
			quote = 0
		case quote != 0:
			b.WriteByte(ch)
		case ch == '"' || ch == '\'':
			quote, begun = ch, true
		case ch == ' ' || ch == '\t' || ch == '\n' || ch == '\r' || ch == '\f' || ch == '\v':
			if begun {
				list = append(list, b.String())
			}
			b.Reset()
			begun = false
		default:
			b.WriteByte(ch)
			begun = true
		}
	}
	if begun {
		list = append(list, b.String())
	}
	return list
}
