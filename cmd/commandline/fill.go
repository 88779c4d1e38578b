package commandline

import (
	"strings"
	"unicode/utf8"
)

// helpWidth is how wide a help is: a terminal of 80 columns shows it as it is.
const helpWidth = 80

// fit returns text, of which no line is wider than helpWidth, as far as its words
// allow. A paragraph with a line that is too wide is filled anew. So is the text of a
// list, whose lines are indented or have a gap of two spaces: it goes on below itself,
// in the column behind the gap.
func fit(text string) string {
	var out, paragraph []string // of paragraph, the lines without head
	head, wide := "", false
	end := func() {
		if column := utf8.RuneCountInString(head); wide {
			paragraph = wrap(strings.Join(paragraph, " "), helpWidth-column)
		}
		for i, line := range paragraph {
			if i > 0 {
				head = strings.Repeat(" ", utf8.RuneCountInString(head))
			}
			out = append(out, head+line)
		}
		head, paragraph, wide = "", nil, false
	}
	for line := range strings.SplitSeq(text, "\n") {
		gap := strings.LastIndex(line, "  ")
		if line == "" {
			end()
			out = append(out, line)
			continue
		}
		if gap >= 0 {
			gap += 2
		}
		before, rest := line[:max(gap, 0)], line[max(gap, 0):]
		goesOn := len(paragraph) > 0 && utf8.RuneCountInString(before) == utf8.RuneCountInString(head) &&
			strings.TrimSpace(before) == "" && (head == "" || strings.TrimSpace(head) != "")
		if !goesOn {
			end()
			head = before
		}
		paragraph = append(paragraph, rest)
		wide = wide || utf8.RuneCountInString(line) > helpWidth
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
