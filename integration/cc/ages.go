package cc

import (
	"bytes"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/backends"
)

// A program that says when one of its inputs was written says something else when somebody
// has touched that, which is no fact: asciidoctor writes so at the end of each page.

// ages are the times of what a run of a program of whatever kind looked at, as programs
// write them.
type ages struct {
	s       *Session
	days    map[string][]string // of each year that there is
	seconds map[string]bool     // since 1970
	minutes map[string]bool     // as ls has them
	known   map[string]bool     // whether an input says so
}

// ages are made of what was looked at, but for what is the system's.
func (s *Session) ages() *ages {
	if s.aged != nil {
		return s.aged
	}
	a := &ages{s: s, days: map[string][]string{}, seconds: map[string]bool{}, minutes: map[string]bool{}, known: map[string]bool{}}
	s.aged = a
	seen := map[string]bool{}
	for _, l := range s.opened {
		p := path.Clean(l.Path)
		if seen[p] || ofSystem(p) {
			continue
		}
		seen[p] = true
		host, ok := s.view.host(p)
		if !ok {
			continue
		}
		for _, look := range []func(string) (os.FileInfo, error){os.Stat, os.Lstat} {
			if info, err := look(host); err == nil {
				a.add(info.ModTime())
			}
		}
	}
	return a
}

func (a *ages) add(t time.Time) {
	second := strconv.FormatInt(t.Unix(), 10)
	if a.seconds[second] {
		return
	}
	a.seconds[second] = true
	for _, t := range []time.Time{t, t.UTC()} {
		a.minutes[t.Format("Jan _2 15:04")] = true
		year := t.Format("2006")
		for _, f := range append(dayFormats, "Jan _2  2006") {
			if d := t.Format(f); hasDay(f) && !slices.Contains(a.days[year], d) {
				a.days[year] = append(a.days[year], d)
			}
		}
	}
}

// hasDay says whether a format has the year and the day.
func hasDay(format string) bool {
	return strings.Contains(format, "2006") && strings.Contains(strings.ReplaceAll(format, "2006", ""), "2")
}

// in says whether one of the times is in text, and in nothing that was read.
func (a *ages) in(text []byte) bool {
	for year, days := range a.days {
		const before, after = 14, 10 // "02 September " and "2006-01-02"
		done := map[string]bool{}
		for i := 0; ; i += len(year) {
			n := bytes.Index(text[i:], []byte(year))
			if n < 0 {
				break
			}
			i += n
			around := string(text[max(0, i-before):min(len(text), i+after)])
			if !done[around] && slices.ContainsFunc(days, func(d string) bool { return strings.Contains(around, d) && !a.said(d) }) {
				return true
			}
			done[around] = true
		}
	}
	return a.inNumbers(text) || a.inMinutes(text)
}

// inNumbers looks at each number in text.
func (a *ages) inNumbers(text []byte) bool {
	for i := 0; i < len(text); i++ {
		start := i
		for i < len(text) && text[i] >= '0' && text[i] <= '9' {
			i++
		}
		if i-start >= 9 && a.seconds[string(text[start:i])] && !a.said(string(text[start:i])) {
			return true
		}
	}
	return false
}

// inMinutes looks at what stands around each colon in text.
func (a *ages) inMinutes(text []byte) bool {
	const before, after = len("Jan _2 15"), len(":04")
	for i := 0; ; i++ {
		n := bytes.IndexByte(text[i:], ':')
		if n < 0 {
			return false
		}
		i += n
		if i >= before && i+after <= len(text) && a.minutes[string(text[i-before:i+after])] && !a.said(string(text[i-before:i+after])) {
			return true
		}
	}
}

// said says whether the call, or a file that it read, has that text: it may be from there.
func (a *ages) said(text string) bool {
	known, ok := a.known[text]
	if ok {
		return known
	}
	known = a.s.callHas(text) || slices.ContainsFunc(a.s.opened, func(l backends.Lookup) bool {
		p := path.Clean(l.Path)
		host, ok := a.s.view.host(p)
		return ok && l.Op == backends.Open && l.Found && !ofSystem(p) && !a.s.written[host] && fileHas(host, text)
	})
	a.known[text] = known
	return known
}
