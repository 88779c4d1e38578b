package commandline

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Visible is a text for people in which nothing can steer a terminal: names in it may
// come from strangers. What is not to be seen is written as in a string of Go, but for
// the ends of lines and tabs.
func Visible(s string) string {
	var b strings.Builder
	for s != "" {
		r, n := utf8.DecodeRuneInString(s)
		if r == '\n' || r == '\t' || unicode.IsGraphic(r) && (r != utf8.RuneError || n > 1) {
			b.WriteString(s[:n])
		} else {
			q := strconv.Quote(s[:n])
			b.WriteString(q[1 : len(q)-1])
		}
		s = s[n:]
	}
	return b.String()
}
