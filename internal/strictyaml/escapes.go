package strictyaml

import (
	"strconv"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// checkEscapes checks the characters that a text in double quotes at pos names by
// hexadecimal digits: the lexer takes anything for a digit.
func (c *converter) checkEscapes(pos Pos) error {
	at := c.offset(pos) + 1
	for line := pos.Line; line <= len(c.lines); line, at = line+1, 0 {
		for s := c.lines[line-1]; at < len(s); at++ {
			if s[at] == '"' {
				return nil
			}
			if s[at] != '\\' {
				continue
			}
			length := escapeLength(s[at:])
			if length == 0 {
				return Pos{c.file, line, utf8.RuneCountInString(s[:at]) + 1}.Errorf(`\x takes two hexadecimal digits, \u four and \U eight, of a character that there is`)
			}
			at += length - 1
		}
	}
	return nil
}

// escapeLength is how many bytes the escape at the beginning of s has, 0 if its
// digits name no character.
func escapeLength(s string) int {
	char, length := named(s)
	if length == 0 || !utf16.IsSurrogate(char) {
		return length
	}
	low, more := named(s[length:]) // a pair of them is one character
	if more == 0 || utf16.DecodeRune(char, low) == unicode.ReplacementChar {
		return 0
	}
	return length + more
}

// named is the character that the escape at the beginning of s names by its
// digits, or 0 where there are none, and the bytes of the escape.
func named(s string) (char rune, length int) {
	digits := 0
	if len(s) > 1 && s[0] == '\\' {
		digits = map[byte]int{'x': 2, 'u': 4, 'U': 8}[s[1]]
	}
	if digits == 0 {
		return 0, min(2, len(s))
	}
	if len(s) < 2+digits {
		return 0, 0
	}
	n, err := strconv.ParseUint(s[2:2+digits], 16, 32)
	if err != nil || n > unicode.MaxRune {
		return 0, 0
	}
	return rune(n), 2 + digits
}

// offset is where pos is in its line, in bytes. Places that come in order are found
// without beginning anew.
func (c *converter) offset(pos Pos) int {
	if c.reached.Line != pos.Line || c.reached.Column > pos.Column {
		c.reached, c.bytes = Pos{c.file, pos.Line, 1}, 0
	}
	line := c.lines[pos.Line-1]
	for ; c.reached.Column < pos.Column && c.bytes < len(line); c.reached.Column++ {
		_, n := utf8.DecodeRuneInString(line[c.bytes:])
		c.bytes += n
	}
	return c.bytes
}
