package cc

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
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
	return mark
}

// A macro can be put together of pieces, which no look at a source finds. But then
// the time of day is mostly found in what comes out.

// times are the beginnings of how __TIME__ and __TIMESTAMP__, and most programs, say
// when the run was, to the minute; and how __DATE__ says it.
func (s *Session) times() (minutes, dates []string) {
	if s.dated() {
		return nil, nil
	}
	for at, now := s.began.Truncate(time.Minute), time.Now(); !at.After(now) && len(minutes) < 600; at = at.Add(time.Minute) {
		minutes = append(minutes, at.Format("15:04:"))
		if d := at.Format("Jan _2 2006"); s.call.Kind != Any && !slices.Contains(dates, d) {
			dates = append(dates, d)
		}
	}
	// __TIMESTAMP__ of what is compiled.
	for _, f := range s.call.Inputs {
		if info, err := os.Stat(s.call.abs(f)); err == nil && s.call.Kind != Any {
			dates = append(dates, info.ModTime().Format(time.ANSIC))
		}
	}
	return minutes, dates
}

// tellsTime says whether a time of the run is in text.
func tellsTime(text []byte, minutes, dates []string) bool {
	for _, d := range dates {
		if bytes.Contains(text, []byte(d)) {
			return true
		}
	}
	for _, m := range minutes {
		for rest := text; ; {
			i := bytes.Index(rest, []byte(m))
			if i < 0 {
				break
			}
			rest = rest[i+len(m):]
			if len(rest) >= 2 && strings.Trim(string(rest[:2]), "0123456789") == "" {
				return true
			}
		}
	}
	return false
}

// saysTime says whether the command has said the time of the run.
func (s *Session) saysTime() bool {
	if s.heard == nil {
		return false
	}
	minutes, dates := s.times()
	return tellsTime(s.heard(), minutes, dates)
}

// checkTime refuses the result if an output, at that path, holds the time of the run.
func (s *Session) checkTime(f *os.File, at string) error {
	if s.call.Kind == Archive || s.call.Kind == Link && s.call.Sources == 0 {
		return nil // they put together what others have made
	}
	minutes, dates := s.times()
	if len(minutes) == 0 {
		return nil
	}
	found, err := s.scan(f, longestTime, func(text []byte) bool { return tellsTime(text, minutes, dates) })
	if found {
		s.refused = fmt.Errorf("%s %w", at, errClock)
	}
	return err
}

const longestTime = len(time.ANSIC)
