package cc

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// begins says whether an absolute path can begin behind before: behind a space, a quote or
// punctuation, the letters of an option as in "-I/a", a colour or an escaped character,
// but not within a path.
func begins(before string) bool {
	r, size := utf8.DecodeLastRuneInString(before)
	rest := before[:len(before)-size]
	switch {
	case size == 0:
		return true
	case r == utf8.RuneError, strings.ContainsRune("_.-+~)}]*", r):
		return false
	case r == '/': // "file:///a", "//a"
		return strings.HasSuffix(before, "file://") || begins(rest)
	case r < utf8.RuneSelf && unicode.IsLetter(r):
		if strings.HasSuffix(rest, `\`) && strings.ContainsRune("ntr", r) || (r == 'K' || r == 'm') && isEscape(rest) {
			return true
		}
		option := strings.TrimRightFunc(before, func(r rune) bool { return r < utf8.RuneSelf && unicode.IsLetter(r) })
		start, ok := strings.CutSuffix(option, "-")
		return ok && begins(start)
	case unicode.IsLetter(r), unicode.IsMark(r), unicode.IsDigit(r):
		return false
	}
	return true
}

// isEscape says whether text ends with the beginning of an escape sequence, "\x1b[01;35".
func isEscape(text string) bool {
	return strings.HasSuffix(strings.TrimRight(text, "0123456789;"), "\x1b[")
}

// ends says whether the name of a directory can end before after.
func ends(after string) bool {
	r, size := utf8.DecodeRuneInString(after)
	switch {
	case size == 0:
		return true
	case r == '.': // at the end of a sentence
		next, size := utf8.DecodeRuneInString(after[1:])
		return size == 0 || unicode.IsSpace(next)
	case r == utf8.RuneError, strings.ContainsRune("_-+~@", r), unicode.IsLetter(r), unicode.IsMark(r), unicode.IsDigit(r):
		return false
	}
	return true
}
