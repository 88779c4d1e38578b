// Package screen is a terminal for tests: it shows what a user would see after
// what was written. It knows the sequences that package progress sends, and
// fails on any other.
package screen

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// A Screen has Columns columns, and as many rows as are needed, of which the
// last Rows can be written to. The zero value of the rest is an empty screen.
type Screen struct {
	Columns, Rows int

	lines    [][]rune
	row, col int
	rest     string // the beginning of a sequence
	err      error
}

// Write implements io.Writer.
func (s *Screen) Write(p []byte) (int, error) {
	text := s.rest + string(p)
	s.rest = ""
	for text != "" {
		r, n := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && !utf8.FullRuneInString(text):
			s.rest = text
			return len(p), nil
		case r == '\x1b':
			if n = s.escape(text); n == 0 {
				s.rest = text
				return len(p), nil
			}
		case r == '\r':
			s.col = 0
		case r == '\n': // the kernel's terminal puts a carriage return before it
			s.row, s.col = s.row+1, 0
			s.need()
		case r < ' ' || r == 0x7f || r == utf8.RuneError:
			s.fail("control character %q", r)
		default:
			s.put(r)
		}
		text = text[n:]
	}
	return len(p), nil
}

func (s *Screen) fail(format string, args ...any) {
	if s.err == nil {
		s.err = fmt.Errorf(format, args...)
	}
}

func (s *Screen) need() {
	for len(s.lines) <= s.row {
		s.lines = append(s.lines, nil)
	}
}

// put shows a character; at the end of a line the next one goes to the next.
func (s *Screen) put(r rune) {
	if s.col == s.Columns {
		s.row, s.col = s.row+1, 0
	}
	s.need()
	for len(s.lines[s.row]) <= s.col {
		s.lines[s.row] = append(s.lines[s.row], ' ')
	}
	s.lines[s.row][s.col] = r
	s.col++
}

// escape obeys the sequence that text begins with, and returns how long it is; 0
// if it is not there whole.
func (s *Screen) escape(text string) int {
	end := strings.IndexFunc(text[1:], func(r rune) bool { return r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' })
	if end < 0 {
		return 0
	}
	seq := text[1 : end+2]
	up := 0
	switch {
	case seq == "[J":
		s.need()
		s.lines = s.lines[:s.row+1]
		s.lines[s.row] = s.lines[s.row][:min(s.col, len(s.lines[s.row]))]
	case strings.HasSuffix(seq, "m") && seq[0] == '[': // a colour
	default:
		if _, err := fmt.Sscanf(seq, "[%dA", &up); err != nil {
			s.fail("sequence %q", seq)
		}
		s.row = max(s.row-up, 0, len(s.lines)-s.Rows) // what has scrolled away is out of reach
	}
	return len(seq) + 1
}

// Text is what can be seen, with what has scrolled away above it, or what was
// wrong with what was written.
func (s *Screen) Text() (string, error) {
	var b strings.Builder
	for _, line := range s.lines {
		b.WriteString(strings.TrimRight(string(line), " ") + "\n")
	}
	return strings.TrimRight(b.String(), "\n") + "\n", s.err
}
