package strictyaml

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sbx-action/sbx-action/internal/spelling"
)

// Errors collects the mistakes in a file. The zero value has none.
type Errors struct{ list []*Error }

// Addf notes a mistake at a position.
func (e *Errors) Addf(pos Pos, format string, args ...any) {
	e.list = append(e.list, &Error{pos, fmt.Sprintf(format, args...)})
}

// Add notes an error: as it is if it has a position, else as being at pos.
func (e *Errors) Add(pos Pos, err error) {
	if all, ok := errors.AsType[ErrorList](err); ok {
		e.list = append(e.list, all...)
		return
	}
	if at, ok := errors.AsType[*Error](err); ok {
		e.list = append(e.list, at)
		return
	}
	e.Addf(pos, "%v", err)
}

// Len is how many mistakes there are.
func (e *Errors) Len() int { return len(e.list) }

// maxShown bounds what an ErrorList says.
const maxShown = 1000

// An ErrorList is all mistakes in a file, in its order.
type ErrorList []*Error

// Error names them, one on a line; beyond a thousand, how many more there are.
func (l ErrorList) Error() string {
	var lines []string
	for _, one := range l[:min(len(l), maxShown)] {
		lines = append(lines, one.Error())
	}
	if more := len(l) - maxShown; more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(lines, "\n")
}

// Err returns nil if there are no mistakes, else an [ErrorList].
func (e *Errors) Err() error {
	if len(e.list) == 0 {
		return nil
	}
	slices.SortStableFunc(e.list, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Pos.File, b.Pos.File), cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Column, b.Pos.Column))
	})
	// Of several at one place the first is meant, and the others follow from it.
	e.list = slices.CompactFunc(e.list, func(a, b *Error) bool { return a.Pos == b.Pos })
	return ErrorList(e.list)
}

// A Map reads the fields of a mapping. Whatever is wrong is added to the Errors,
// and the zero value is returned. Each field is to be read once; Done complains
// of the ones that were not.
type Map struct {
	Node *Node
	What string // what the mapping is, for messages: "an action"

	errs  *Errors
	known []string
	taken []bool
}

// Map begins to read n. If it is not a mapping that is a mistake, and the Map
// has no fields.
func (e *Errors) Map(n *Node, what string) *Map {
	m := &Map{Node: n, What: what, errs: e}
	if n.Kind != Mapping {
		e.Addf(n.Pos, "%s must be a mapping (KEY: VALUE), not %s", what, describe(n))
		m.Node = &Node{Kind: Mapping, Pos: n.Pos}
	}
	m.taken = make([]bool, len(m.Node.Fields))
	return m
}

// Take returns the value of a key, or nil. A value of Null is there, and is
// returned.
func (m *Map) Take(key string) *Node {
	m.known = append(m.known, key)
	for i, f := range m.Node.Fields {
		if f.Key == key {
			m.taken[i] = true
			return f.Value
		}
	}
	return nil
}

// KeyPos is where the key is, or where the mapping is if it is not there.
func (m *Map) KeyPos(key string) Pos {
	for _, f := range m.Node.Fields {
		if f.Key == key {
			return f.Pos
		}
	}
	return m.Node.Pos
}

// Need is Take, and it is a mistake if the key is not there.
func (m *Map) Need(key string) *Node {
	n := m.Take(key)
	if n == nil {
		m.errs.Addf(m.Node.Pos, "%s has no %q", m.What, key)
	}
	return n
}

// String reads text; "" if there is none.
func (m *Map) String(key string) string {
	if n := m.Take(key); n != nil {
		return m.errs.String(n, strconv.Quote(key))
	}
	return ""
}

// Strings reads a list of text, or one text, which is a list of one.
func (m *Map) Strings(key string) []string {
	if n := m.Take(key); n != nil {
		return m.errs.Strings(n, strconv.Quote(key))
	}
	return nil
}

// Bool reads true or false; false if it is not there.
func (m *Map) Bool(key string) bool {
	n := m.Take(key)
	if n == nil {
		return false
	}
	if n.Kind != Bool {
		m.errs.Addf(n.Pos, "%q must be true or false, not %s", key, describe(n))
		return false
	}
	return n.Text == "true" || n.Text == "True" || n.Text == "TRUE"
}

// Int reads a whole number between low and high; 0 if it is not there.
func (m *Map) Int(key string, low, high int64) int64 {
	n := m.Take(key)
	if n == nil {
		return 0
	}
	v, err := strconv.ParseInt(n.Text, 10, 64)
	if n.Kind != Int || err != nil || v < low || v > high {
		m.errs.Addf(n.Pos, "%q must be a whole number from %d to %d, not %s", key, low, high, describe(n))
		return 0
	}
	return v
}

// Done complains of the fields that were not read.
func (m *Map) Done() {
	for i, f := range m.Node.Fields {
		if m.taken[i] {
			continue
		}
		hint := ""
		if near := spelling.Nearest(f.Key, m.known); near != "" {
			hint = fmt.Sprintf(": did you mean %q?", near)
		} else if len(m.known) > 0 {
			known := slices.Clone(m.known)
			slices.Sort(known)
			hint = "; its keys are " + strings.Join(slices.Compact(known), ", ")
		}
		m.errs.Addf(f.Pos, "%s has no key %q%s", m.What, f.Key, hint)
	}
}

// String reads text. A number is text as it was written; a boolean or nothing is
// a mistake, because it is more often one than not.
func (e *Errors) String(n *Node, what string) string {
	switch n.Kind {
	case Text, Int, Float:
		return n.Text
	case Bool:
		e.Addf(n.Pos, "%s must be text, and %s is a boolean: write %q, with quotes", what, n.Text, n.Text)
	default:
		e.Addf(n.Pos, "%s must be text, not %s", what, describe(n))
	}
	return ""
}

// Strings reads a list of text, or one text.
func (e *Errors) Strings(n *Node, what string) []string {
	if n.Kind != List {
		if n.Kind == Mapping || n.Kind == Null {
			e.Addf(n.Pos, "%s must be a list of text, not %s", what, describe(n))
			return nil
		}
		return []string{e.String(n, what)}
	}
	list := make([]string, 0, len(n.Items))
	for _, item := range n.Items {
		list = append(list, e.String(item, "each of "+what))
	}
	return list
}

// describe says what a node is, with the text of a short scalar.
func describe(n *Node) string {
	if n.Kind == Text && len(n.Text) <= 40 {
		return fmt.Sprintf("the text %q", n.Text)
	}
	if n.Kind == Bool || n.Kind == Int || n.Kind == Float {
		return n.Text
	}
	return n.Kind.String()
}
