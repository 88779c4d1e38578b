package progress

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The sequences that we send, which every terminal knows.
const (
	clearBelow = "\x1b[J" // from the cursor to the end of the screen
	reset      = "\x1b[m"
)

// colors of the ends.
var colors = [...]string{Hit: "\x1b[32m", Ran: "\x1b[36m", Failed: "\x1b[1;31m", Skipped: "\x1b[33m", Stopped: "\x1b[33m"}

func (v *View) paint(e End, s string) string {
	if !v.o.Color {
		return s
	}
	return colors[e] + s + reset
}

// erase takes the foot away. The cursor is at the end of its last line.
func (v *View) erase() {
	if len(v.foot) == 0 {
		return
	}
	columns, _ := v.size()
	rows := 0
	for _, width := range v.foot { // a terminal that became narrower has broken lines
		rows += max(1, (width+columns-1)/columns)
	}
	up := ""
	if rows > 1 {
		up = fmt.Sprintf("\x1b[%dA", rows-1)
	}
	fmt.Fprint(v.o.To, "\r"+up+clearBelow)
	v.foot = v.foot[:0]
}

// draw draws the foot in the place of the last one.
func (v *View) draw() {
	if v.closed || v.o.Size == nil {
		return
	}
	columns, rows := v.size()
	lines := v.lines(columns-1, max(1, min(rows/2, 12)))
	v.erase()
	var out strings.Builder
	for i, line := range lines {
		if i > 0 {
			out.WriteByte('\n')
		}
		out.WriteString(line.text)
		v.foot = append(v.foot, line.width)
	}
	fmt.Fprint(v.o.To, out.String())
}

func (v *View) size() (columns, rows int) {
	columns, rows = v.o.Size()
	if columns < 10 {
		columns = 80
	}
	if rows < 2 {
		rows = 24
	}
	return columns, rows
}

// A footLine is text, perhaps with colours, and how wide it is without them.
type footLine struct {
	text  string
	width int
}

// lines are the foot: a head, and what runs, the longest first.
func (v *View) lines(columns, rows int) []footLine {
	now := v.o.Now()
	lines := []footLine{v.head(now, columns)}
	room := rows - 1
	shown := v.order
	if len(shown) > room {
		shown = shown[:max(room-1, 0)]
	}
	for _, i := range shown {
		s := v.jobs[i]
		text := fmt.Sprintf("  %8s  %s", Duration(now.Sub(s.since)), Clean(v.o.Jobs[i].Name))
		if s.phase != "" {
			text += " (" + Clean(s.phase) + ")"
		}
		text = cut(text, columns)
		lines = append(lines, footLine{text, Width(text)})
	}
	if more := len(v.order) - len(shown); more > 0 && room > 0 {
		text := cut(fmt.Sprintf("  and %d more", more), columns)
		lines = append(lines, footLine{text, Width(text)})
	}
	return lines
}

// head is the line with the numbers.
func (v *View) head(now time.Time, columns int) footLine {
	parts := []string{fmt.Sprintf("[%d/%d]", v.ended(), len(v.jobs))}
	if n := len(v.order); n > 0 {
		parts = append(parts, fmt.Sprintf("%d in work", n))
	}
	ends := map[int]End{}
	for _, e := range []End{Hit, Ran, Failed, Skipped} {
		if n := v.counts[e]; n > 0 {
			ends[len(parts)] = e
			parts = append(parts, fmt.Sprintf("%d %s", n, strings.ToLower(e.String())))
		}
	}
	parts = append(parts, Duration(now.Sub(v.start)))
	if left, known := v.left(now); known {
		parts = append(parts, "about "+strings.Replace(Duration(left.Round(time.Second)), ".0 s", " s", 1)+" left")
	}
	plain := strings.Join(parts, "  ")
	if Width(plain) > columns {
		text := cut(plain, columns)
		return footLine{text, Width(text)}
	}
	for i, e := range ends {
		parts[i] = v.paint(e, parts[i])
	}
	return footLine{strings.Join(parts, "  "), Width(plain)}
}

// left is about how long it will still take: what is left of the jobs, as far as
// jobs like them turned out not to be hits, divided by how many run at a time.
func (v *View) left(now time.Time) (time.Duration, bool) {
	var ahead, past, ran time.Duration
	unknown, running := 0, time.Duration(0)
	for i, s := range v.jobs {
		expect := v.o.Jobs[i].Expect
		switch {
		case s.ended && s.end == Hit:
			past += expect
		case s.ended:
			past, ran = past+expect, ran+expect
		case expect == 0:
			unknown++
		case s.phase == "run":
			running = max(running, expect-now.Sub(s.since))
			ahead += max(expect-now.Sub(s.since), 0)
		default:
			ahead += expect
		}
	}
	if unknown*5 > len(v.jobs)-v.ended() || ahead == 0 {
		return 0, false
	}
	share := 1.0
	if past > 0 {
		share = float64(ran) / float64(past)
	}
	left := time.Duration(float64(ahead) * share / float64(max(v.o.AtOnce, 1)))
	return max(left, running), true
}

// Clean makes text harmless for a terminal and one line: control characters, and
// those that change the direction of text, become a question mark.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError, unicode.IsControl(r), r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0x2028, r == 0x2029:
			return '?'
		}
		return r
	}, s)
}

// Width is how many columns a terminal needs for s.
func Width(s string) (n int) {
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

// runeWidth is 2 for what East Asian terminals draw wide, 0 for marks that
// combine with the letter before.
func runeWidth(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.Is(unicode.Mn, r), unicode.Is(unicode.Me, r), unicode.Is(unicode.Cf, r):
		return 0
	case r >= 0x1100 && (r <= 0x115f || r >= 0x2e80 && r <= 0xa4cf && r != 0x303f || r >= 0xac00 && r <= 0xd7a3 ||
		r >= 0xf900 && r <= 0xfaff || r >= 0xfe30 && r <= 0xfe6f || r >= 0xff00 && r <= 0xff60 || r >= 0xffe0 && r <= 0xffe6 ||
		r >= 0x1f300 && r <= 0x1f64f || r >= 0x1f900 && r <= 0x1f9ff || r >= 0x20000 && r <= 0x3fffd):
		return 2
	}
	return 1
}

// cut shortens s to columns, with an ellipsis in the place of what is missing.
func cut(s string, columns int) string {
	if Width(s) <= columns {
		return s
	}
	n := 0
	for i, r := range s {
		if n += runeWidth(r); n > columns-1 {
			return s[:i] + "…"
		}
	}
	return s
}
