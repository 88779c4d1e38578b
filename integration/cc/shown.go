package cc

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"
)

// errShown says that only the program itself knows what it says at this terminal.
var errShown = fmt.Errorf("what it says may depend on the terminal: %w", ErrPlain)

// snippetRoom is how much room to the right of a mark GCC wants at most before it leaves
// out the beginning of a line, and what stands in front of its lines.
const snippetRoom = 16

// Shown returns an error if what the call said would be shown at a terminal, and the
// program may say it otherwise there. Of programs of all kinds nothing is known. Compilers
// cut lines, or break them, that are too wide for it, and there are those that look at
// NO_COLOR and those that do not.
func (c *Call) Shown(stdout, stderr []byte, env func(string) string) error {
	out, err := len(stdout) > 0 && IsTerminal(1), len(stderr) > 0 && IsTerminal(2)
	switch {
	case c.Kind == Any, c.Kind == Link && isLinker(filepath.Base(c.Args[0])):
		if out || err {
			return errShown
		}
	case err && c.Kind != Archive && c.Kind != Assemble:
		if env("NO_COLOR") != "" && !c.Colour || c.tooWide(stderr, terminalWidth(env)) {
			return errShown
		}
	}
	return nil
}

// terminalWidth is the width, in columns, for which a compiler may write its diagnostics,
// or 0 for any.
func terminalWidth(env func(string) string) (width int) {
	said, _ := strconv.Atoi(strings.TrimSpace(env("COLUMNS")))
	for _, n := range []int{said, columns(0), columns(2)} {
		if n > 0 && (width == 0 || n < width) {
			width = n
		}
	}
	return width
}

// tooWide says whether something in diagnostics may be another one at a terminal of that
// width. Clang breaks each line; GCC writes whole lines, but shows only a part of a source's
// line if that is too wide and what it marks there is far to the right: what counts are
// lines with marks, below a line that does not fit.
func (c *Call) tooWide(stderr []byte, width int) bool {
	if width == 0 {
		return false
	}
	fits := false // the source's line above; one without its number is not told from marks
	for line := range bytes.Lines(stderr) {
		text := strings.ReplaceAll(strings.TrimRight(withoutColours(withoutLinks(string(line))), "\r\n"), "\t", "        ")
		n := utf8.RuneCountInString(text)
		if c.Clang && n >= width {
			return true
		}
		inner := strings.TrimLeft(text, " ")
		switch numbered := strings.HasPrefix(strings.TrimLeft(inner, "0123456789"), " |") && !strings.HasPrefix(inner, "|"); {
		case c.Clang:
		case !strings.HasPrefix(text, " "):
			fits = false
		case numbered:
			fits = len(text) < width // bytes: a character may be two columns wide
		case !fits && n+snippetRoom > width:
			return true
		}
	}
	return false
}

// withoutLinks is text without the sequences that terminals take for links.
func withoutLinks(text string) string {
	for {
		before, rest, ok := strings.Cut(text, "\x1b]8;")
		if !ok {
			return text
		}
		end := strings.IndexAny(rest, "\a\\") // BEL, or ESC and a backslash
		if end < 0 {
			return before
		}
		text = before + rest[end+1:]
	}
}
