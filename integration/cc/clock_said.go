package cc

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

// clockInCall says whether the macros of [clockUsers] are in what is compiled besides
// files: the arguments, the variables, and standard input.
func (s *Session) clockInCall(stdin []byte) bool {
	var mark byte
	look := func(text []byte) { mark |= clockNames(text) }
	for _, a := range slices.Concat(s.call.Args, s.call.expanded) {
		look([]byte(a))
	}
	for _, v := range s.command.Environment {
		look([]byte(v.Value))
	}
	look(stdin)
	s.named = mark&usesDate != 0
	return mark&usesTimestamp != 0 || mark&usesDate != 0 && !s.dated()
}

// clockNames says which of the macros are in text.
func clockNames(text []byte) (mark byte) {
	for _, u := range clockUsers {
		if names(text, u) {
			if mark |= usesDate; string(u) == "__TIMESTAMP__" {
				mark |= usesTimestamp
			}
		}
	}
	if comparesTimes(text) {
		mark |= usesTimestamp
	}
	return mark
}

// comparesTimes says whether text has the pragma that warns of a file that is newer
// than the one it stands in.
func comparesTimes(text []byte) bool {
	word := []byte("dependency")
	for rest := text; ; {
		i := bytes.Index(rest, word)
		if i < 0 {
			return false
		}
		before := bytes.TrimRight(rest[:i], " \t\r\n\\")
		if len(before) < i && (bytes.HasSuffix(before, []byte("GCC")) || bytes.HasSuffix(before, []byte("clang"))) {
			return true
		}
		rest = rest[i+len(word):]
	}
}

// A macro can be put together of pieces, which no look at a source finds. But then
// the time of day is mostly found in what comes out. (That a compiler was asked for it is
// seen, too, where it is observed: clock_asked.go.)

// A hand is what a time of the run looks like.
type hand struct {
	s        *Session
	from, to time.Time       // to the second: when the run was
	days     []string        // as __DATE__ says them, and as __TIMESTAMP__ says the times of sources
	known    map[string]bool // whether a source says so, too
	seconds  bool            // times may also be seconds since 1970
}

// hand returns nil where no time of the run can be in the results.
func (s *Session) hand() *hand {
	heeded := s.dated() && s.call.Kind != Any && !s.call.Script // of others, who knows
	if heeded || s.began.IsZero() || s.call.Kind == Archive || s.call.Kind == Link && s.call.Sources == 0 {
		return nil // or they put together what others have made
	}
	h := &hand{s: s, from: s.began.Truncate(time.Second), to: time.Now(), known: map[string]bool{}}
	if s.call.Kind == Any {
		h.days = daysSaid(h.from, h.to)
		h.seconds = true
		return h
	}
	h.days = []string{h.from.Format("Jan _2 2006")}
	if d := h.to.Format("Jan _2 2006"); d != h.days[0] {
		h.days = append(h.days, d)
	}
	for _, f := range s.call.Inputs {
		if info, err := os.Stat(s.call.abs(f)); err == nil {
			h.days = append(h.days, info.ModTime().Format(time.ANSIC))
		}
	}
	return h
}

// longestTime is the length of the longest text that a hand looks for.
const longestTime = len(time.ANSIC)

// in says whether a time of the run is in text, and in no source.
func (h *hand) in(text []byte) bool {
	for _, d := range h.days {
		if bytes.Contains(text, []byte(d)) && !h.said(d) {
			return true
		}
	}
	if h.seconds && h.inSeconds(text) {
		return true
	}
	// __TIME__ is "15:04:05", and most programs write it like that.
	for minute, n := h.from.Truncate(time.Minute), 0; !minute.After(h.to) && n < 600; minute, n = minute.Add(time.Minute), n+1 {
		start := minute.Format("15:04:")
		for rest := text; ; {
			i := bytes.Index(rest, []byte(start))
			if i < 0 {
				break
			}
			rest = rest[i:]
			if len(rest) >= len("15:04:05") {
				sec, err := strconv.Atoi(string(rest[len(start):len("15:04:05")]))
				at := minute.Add(time.Duration(sec) * time.Second)
				if err == nil && !at.Before(h.from) && !at.After(h.to) && !h.said(string(rest[:len("15:04:05")])) {
					return true
				}
			}
			rest = rest[1:]
		}
	}
	return false
}

// dayFormats are how programs write the day. Some write the month only.
var dayFormats = []string{
	time.DateOnly, "2006/01/02", "2006-1-2", "20060102", "02.01.2006", "2.1.2006", "01/02/2006", "02/01/2006", "01/02/06",
	"Jan _2 2006", "Jan 2 2006", "Jan 2, 2006", "Jan 02, 2006", "02 Jan 2006", "2 Jan 2006", "02-Jan-2006", "Mon Jan _2", "Mon Jan 2",
	"January 2, 2006", "2 January 2006", "02 January 2006", "January 2006", "Jan 2006",
}

// daysSaid are the days from one time to another, here and in Greenwich, as programs
// write them.
func daysSaid(from, to time.Time) (days []string) {
	for _, t := range []time.Time{from, to, from.UTC(), to.UTC()} {
		for _, f := range dayFormats {
			if d := t.Format(f); !slices.Contains(days, d) {
				days = append(days, d)
			}
		}
	}
	return days
}

// inSeconds says whether a time of the run is in text as seconds since 1970: ten digits,
// with which a number begins.
func (h *hand) inSeconds(text []byte) bool {
	start := strconv.FormatInt(h.from.Unix(), 10)[:6] // more than a run takes
	for i := 0; ; i++ {
		at := bytes.Index(text[i:], []byte(start))
		if at < 0 {
			return false
		}
		i += at
		if i+10 > len(text) || i > 0 && text[i-1] >= '0' && text[i-1] <= '9' {
			continue
		}
		n, err := strconv.ParseInt(string(text[i:i+10]), 10, 64)
		if err == nil && n >= h.from.Unix() && n <= h.to.Unix() && !h.said(string(text[i:i+10])) {
			return true
		}
	}
}

// said says whether what looks like a time of the run is in what is compiled, or in the
// call itself: then it is in the key or the facts.
func (h *hand) said(text string) bool {
	known, ok := h.known[text]
	if !ok {
		known = h.s.callHas(text) || slices.ContainsFunc(h.s.sources(), func(name string) bool { return fileHas(name, text) })
		h.known[text] = known
	}
	return known
}

// callHas says whether text is in the arguments, the variables, or on standard input.
func (s *Session) callHas(text string) bool {
	return slices.ContainsFunc(slices.Concat(s.call.Args, s.call.expanded), func(a string) bool { return strings.Contains(a, text) }) ||
		slices.ContainsFunc(s.command.Environment, func(v action.EnvironmentVariable) bool { return strings.Contains(v.Value, text) }) ||
		bytes.Contains(s.input, []byte(text))
}

// sources are the files that a compiler takes text from, but for the system's. Of other
// programs they are those that the arguments may name: what else such a one reads, it need
// not have copied.
func (s *Session) sources() (list []string) {
	if s.call.Kind == Any {
		for _, a := range s.call.Args[1:] {
			list = append(list, s.call.abs(a))
		}
		return list
	}
	for _, name := range s.call.Inputs {
		list = append(list, s.call.abs(name))
	}
	for _, l := range s.opened {
		p := path.Clean(l.Path)
		host, ok := s.view.host(p)
		if l.Op == backends.Open && l.Found && ok && !ofSystem(p) && !s.written[host] && !slices.Contains(list, host) {
			list = append(list, host)
		}
	}
	return list
}

// fileHas says whether text is in the regular file of that name.
func fileHas(name, text string) bool {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	has, err := (&Session{}).holds(f, text) // a session may be reading into its own piece
	return has && err == nil
}

// times says whether a time of the run, or of a file that a program of whatever kind
// looked at, is in a text. It is nil where none can be.
func (s *Session) times() func(text []byte) bool {
	h, others := s.hand(), s.call.Kind == Any && s.told == nil
	switch {
	case h == nil && !others:
		return nil
	case h == nil:
		return s.ages().in
	case !others:
		return h.in
	}
	return func(text []byte) bool { return h.in(text) || s.ages().in(text) }
}

// saysTime says whether the command has said such a time.
func (s *Session) saysTime() bool {
	if s.heard == nil {
		return false
	}
	in := s.times()
	return in != nil && in(s.heard())
}

// checkTime refuses the result if an output, at that path, holds such a time.
func (s *Session) checkTime(f io.ReaderAt, at string) error {
	in := s.times()
	if in == nil {
		return nil
	}
	found, err := s.scan(f, longestTime, in)
	if found {
		s.refused = fmt.Errorf("%s %w", at, errClock)
	}
	return err
}
