// Package strictyaml reads YAML and JSON files that people write and programs
// must not misread.
//
// [Parse] gives a tree in which every value knows its line and column, and
// refuses what a file of settings has no use for and what is most often a
// mistake: duplicate keys, tags, merge keys, explicit keys ("? a"), directives,
// more than one document, control characters, text that is not UTF-8. Aliases
// ("*x") are followed, within a limit. [Map] and the functions beside it read
// the tree: they complain of unknown keys, wrong types and missing values, each
// with file, line and column, and go on, so that one run names all mistakes.
//
// Types are those of YAML 1.2's core schema: "yes" and "no" are text, true and
// false are not. A number is kept as it was written, so that text may be
// written as a number: 1.10 stays 1.10.
//
// # Limits
//
// A file has at most [MaxSize] bytes; values are nested at most [MaxDepth] deep,
// and after aliases were followed there are at most [MaxNodes]. Within them time
// is bounded: about a second, for the worst that we found.
//
// The parser is github.com/goccy/go-yaml's, because it is the one that starts in
// 15 µs: go.yaml.in/yaml needs 100 µs, which each hit of the cache would pay.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unicode/utf8"
)

// The limits of a file.
const (
	MaxSize  = 4 << 20
	MaxDepth = 64
	MaxNodes = 200_000
	MaxKeys  = 10_000 // of one mapping: the parser takes the square of their number
)

// A Kind is the type of a value.
type Kind uint8

// The kinds.
const (
	Null Kind = iota
	Bool
	Int
	Float
	Text
	List
	Mapping
)

// String returns the kind with its article, for messages.
func (k Kind) String() string {
	return [...]string{"nothing", "a boolean", "a number", "a number", "text", "a list", "a mapping"}[k]
}

// A Pos is where something is in a file. Lines and columns count from 1,
// columns in characters.
type Pos struct {
	File         string
	Line, Column int
}

func (p Pos) String() string { return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column) }

// Errorf returns an error about what is at p.
func (p Pos) Errorf(format string, args ...any) error {
	return &Error{p, fmt.Sprintf(format, args...)}
}

// An Error is one mistake in a file.
type Error struct {
	Pos     Pos
	Message string
}

func (e *Error) Error() string { return e.Pos.String() + ": " + e.Message }

// A Node is a value.
type Node struct {
	Kind   Kind
	Pos    Pos
	Text   string  // of a scalar: the text, or the number as it was written
	Items  []*Node // of a list
	Fields []Field // of a mapping, in the order of the file
	Plain  bool    // the scalar has no quotes
}

// A Field is a key of a mapping and its value.
type Field struct {
	Key   string
	Pos   Pos
	Value *Node
}

// ReadFile parses a file. Errors name it as name does.
func ReadFile(name string) (*Node, error) {
	// A FIFO that nobody writes to is empty, and nothing to wait for.
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, fmt.Errorf("%s is a directory, not a file", name)
	}
	var data bytes.Buffer
	if _, err := data.ReadFrom(&limited{f, MaxSize + 1}); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return Parse(name, data.Bytes())
}

// limited ends after n bytes, whatever the file is.
type limited struct {
	f *os.File
	n int
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.f.Read(p[:min(len(p), l.n)])
	l.n -= n
	if err == nil && l.n == 0 {
		err = errTooLong
	}
	if errors.Is(err, errTooLong) {
		return n, fmt.Errorf("it is larger than %d bytes", MaxSize)
	}
	return n, err
}

var errTooLong = errors.New("too long")

// Parse parses data: as JSON if the name ends in ".json", else as YAML. An empty
// document is a Null. With an [ErrorList], there is a tree all the same: so that
// what else is wrong can be said, too.
func Parse(name string, data []byte) (*Node, error) { return parse(name, data, false) }

// ParseMerging is Parse for a format whose files have merge keys ("<<"): the
// fields of the mappings that they name are added where there are none of that
// key.
func ParseMerging(name string, data []byte) (*Node, error) { return parse(name, data, true) }

func parse(name string, data []byte, merge bool) (*Node, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, MaxSize)
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if err := checkText(name, data); err != nil {
		return nil, err
	}
	if strings.EqualFold(filepath.Ext(name), ".json") {
		return parseJSON(name, string(data))
	}
	return parseYAML(name, string(data), merge)
}

// checkText refuses what no editor would show.
func checkText(name string, data []byte) error {
	pos := Pos{name, 1, 1}
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			return pos.Errorf("the byte %#02x is not UTF-8 text", data[i])
		case r == '\r' && (i+1 == len(data) || data[i+1] != '\n'):
			return pos.Errorf("a carriage return without a line feed: save the file with Unix line ends")
		case r < ' ' && r != '\n' && r != '\r' && r != '\t', r == 0x7f, r >= 0x80 && r < 0xa0, r == '\u2028', r == '\u2029', r == '\ufeff':
			return pos.Errorf("the character %U does not belong into a text file", r)
		}
		pos.Column++
		if r == '\n' {
			pos.Line, pos.Column = pos.Line+1, 1
		}
		i += n
	}
	return nil
}
