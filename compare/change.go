// Package compare says how two actions, or two trees, differ: down to the file
// and how many of its lines, the argument, the variable, the entry of the root
// file system.
//
// It reads what the store still has. Where a blob was trimmed it says less, and
// says so; it never fails for that. Nothing that it returns as text can steer a
// terminal: see [Legible].
package compare

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// A Kind is a kind of change.
type Kind uint8

// The kinds.
const (
	Added Kind = iota + 1
	Removed
	Changed
	Moved
	Unknown // it differs, and nobody can say how any more
)

// String is the kind in a word.
func (k Kind) String() string {
	switch k {
	case Added:
		return "added"
	case Removed:
		return "removed"
	case Changed:
		return "changed"
	case Moved:
		return "moved"
	}
	return "unknown"
}

// A Part is what of an action a change is in.
type Part string

// The parts.
const (
	Input     Part = "input"             // Name is a path below the workspace
	Argument  Part = "argument"          // Name is its number, 0 the program
	Variable  Part = "variable"          // Name is its name
	WorkDir   Part = "working directory" // no Name
	Output    Part = "output"            // Name is a declared output
	Rootfs    Part = "rootfs"            // Name is a path in the tree, or empty: another one
	Host      Part = "host"              // Name is a path of the host that the command looked at
	Platform  Part = "platform"          // Name is a property: network, stdin, ISA, …
	Timeout   Part = "timeout"           // no Name
	Function  Part = "digest function"   // no Name
	Salt      Part = "salt"              // no Name
	Tree      Part = "tree"              // Name is a path in a tree that is compared by itself
	Other     Part = "other"             // Name says what
	noDetails      = "its contents are not in the store any more"
)

// A Change is one difference between an old and a new action or tree. Name, Old
// and New are as they are and may hold anything; String is safe to print.
type Change struct {
	Part     Part
	Kind     Kind
	Name     string
	Old, New string // values, where they are short; of a move, New is the new name
	Detail   string // what else there is to say, such as how many lines
}

// String is the change on one line.
func (c Change) String() string {
	var b strings.Builder
	b.WriteString(string(c.Part))
	if c.Name != "" {
		b.WriteByte(' ')
		b.WriteString(Legible(c.Name))
	}
	switch {
	case c.Kind == Moved:
		b.WriteString(" moved to " + Legible(c.New))
	case c.Kind == Unknown:
		b.WriteString(" differs")
	case c.Kind == Changed && (c.Old != "" || c.New != ""):
		b.WriteString(": " + value(c.Old) + " became " + value(c.New))
	case c.Kind == Added && c.New != "":
		b.WriteString(" added: " + value(c.New))
	case c.Kind == Removed && c.Old != "":
		b.WriteString(" removed: " + value(c.Old))
	default:
		b.WriteString(" " + c.Kind.String())
	}
	if c.Detail != "" {
		b.WriteString(": " + c.Detail)
	}
	return b.String()
}

// valueMax is how many bytes of a value are shown.
const valueMax = 200

// value quotes a value, and cuts a long one.
func value(s string) string {
	if len(s) > valueMax {
		return strconv.Quote(strings.ToValidUTF8(s[:valueMax], "")) + fmt.Sprintf("… (%d bytes)", len(s))
	}
	return strconv.Quote(s)
}

// Legible is s as it is, if it is plain, and else quoted: with nothing in it
// that could steer a terminal, break a line, or be taken for something else.
func Legible(s string) string {
	odd := func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar || r == '"' || r == '\\' }
	if s == "" || strings.ContainsFunc(s, odd) || s != strings.TrimSpace(s) {
		return strconv.Quote(s)
	}
	return s
}

// Sentence is s with nothing in it that could steer a terminal or break a line:
// for text that is ours but for the names in it.
func Sentence(s string) string {
	odd := func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }
	if !strings.ContainsFunc(s, odd) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if odd(r) {
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// count is a number of things, in words.
func count(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + one + "s"
}
