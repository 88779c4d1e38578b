package commandline

import (
	"strings"
	"unicode/utf8"
)

// helpWidth is how wide a help is: a terminal of 80 columns shows it as it is.
const helpWidth = 80

// fit returns text, of which no line is wider than helpWidth, as far as its words
// allow. A paragraph with a line that is too wide is filled anew. Of lists, which
// are lines that are indented or have a gap of two spaces, only such lines are
// broken, and go on below the text behind the gap.
func fit(text string) string {
	var out, paragraph []string
	wide := false
	end := func() {
		if wide {
			paragraph = wrap(strings.Join(paragraph, " "), helpWidth)
		}
		out, paragraph, wide = append(out, paragraph...), nil, false
	}
	for line := range strings.SplitSeq(text, "\n") {
		gap := strings.LastIndex(line, "  ")
		switch {
		case line == "":
			end()
			out = append(out, line)
		case gap < 0:
			paragraph = append(paragraph, line)
			wide = wide || utf8.RuneCountInString(line) > helpWidth
		default:
			end()
			head, rest := line[:gap+2], line[gap+2:]
			column := utf8.RuneCountInString(head)
			out = append(out, head+hang(rest, column))
		}
	}
	end()
	return strings.Join(out, "\n")
}

// hang fills text that begins in a column, and goes on in it.
func hang(text string, column int) string {
	return strings.Join(wrap(text, helpWidth-column), "\n"+strings.Repeat(" ", column))
}

// wrap breaks text between its words into lines that are no wider than width.
func wrap(text string, width int) (lines []string) {
	line, room := "", 0
	for word := range strings.FieldsSeq(text) {
		n := utf8.RuneCountInString(word)
		if line != "" && n+1 <= room {
			line, room = line+" "+word, room-n-1
			continue
		}
		if line != "" {
			lines = append(lines, line)
		}
		line, room = word, width-n
	}
	return append(lines, line)
}
