package cc

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

// For __DATE__, __TIME__ and __TIMESTAMP__, however they were put together, a compiler asks
// the C library what time it is here, which looks for the rules of the time zone: for
// nothing else does it do that. So where a run has done it, the time is in what it made,
// even if only the last digit is, or what is compressed.

// zones are where the C library looks for rules: in the second one for those that TZ
// names, right or not.
const (
	localZone  = "/etc/localtime"
	namedZones = "/zoneinfo/"
)

// askedTime returns the file of a time zone that the run looked for, or "".
func (s *Session) askedTime(lookups []backends.Lookup) string {
	if s.told != nil || !s.compiles() || s.call.Script { // whose interpreter may do it at its start
		return ""
	}
	zone := ""
	for _, v := range s.command.Environment {
		if v.Name == "TZ" {
			zone = strings.TrimPrefix(v.Value, ":")
		}
	}
	for _, l := range lookups {
		if l.Path == localZone || strings.Contains(l.Path, namedZones) || path.IsAbs(zone) && l.Path == zone {
			return l.Path
		}
	}
	return ""
}

// asked returns an error if the run asked for the time. Where SOURCE_DATE_EPOCH says the
// day and the time, it may have been for them: if a source names them, and in modules,
// which GCC dates.
func (s *Session) asked(lookups []backends.Lookup) error {
	modules := slices.ContainsFunc(slices.Concat(s.call.Args, s.call.expanded), func(a string) bool { return strings.HasPrefix(a, "-fmodule") })
	p := s.askedTime(lookups)
	if p != "" && !(s.dated() && (s.named || modules)) {
		return fmt.Errorf("the compiler has looked for %s, so that it %w: %w", p, errClock, action.ErrUnsealed)
	}
	unseen := s.compiles() && s.named && (s.told != nil || s.call.Script)
	if s.dated() && (p != "" || unseen) && !s.heeds(lookups) {
		return fmt.Errorf("SOURCE_DATE_EPOCH is nothing to the compiler, which %w: %w", errClock, action.ErrUnsealed)
	}
	return nil
}

// heeding are the parts of GCC that take the time from SOURCE_DATE_EPOCH, from GCC 7 on, and
// heedless those that do not, though they know the macros.
var (
	heeding  = []string{"cc1", "cc1plus", "cc1obj", "cc1objplus"}
	heedless = []string{"f951", "d21", "gnat1", "cc1gm2"}
)

// heeds says whether what compiled takes the time from SOURCE_DATE_EPOCH: GCC's part for C
// does, and clang since version 16, which is seen by the directory of its headers.
func (s *Session) heeds(lookups []backends.Lookup) bool {
	if s.told != nil { // the names are all that there is
		name, fortran := path.Base(s.call.Args[0]), strings.HasPrefix(strings.ToLower(path.Ext(s.told.source)), ".f")
		return (strings.Contains(name, "gcc") || strings.Contains(name, "g++")) && !fortran
	}
	heeds := false
	for _, l := range lookups {
		base := path.Base(l.Path)
		switch {
		case l.Op == backends.Exec && slices.Contains(heedless, base):
			return false
		case l.Op == backends.Exec && slices.Contains(heeding, base):
			heeds = heeds || newerThan(path.Base(path.Dir(l.Path)), 6)
		case strings.Contains(l.Path, "/lib/clang/"):
			_, version, _ := strings.Cut(l.Path, "/lib/clang/")
			heeds = heeds || newerThan(version, 15)
		}
	}
	return heeds
}

// newerThan says whether a version begins with a number above n.
func newerThan(version string, n int) bool {
	major, _ := strconv.Atoi(version[:len(version)-len(strings.TrimLeft(version, "0123456789"))])
	return major > n
}
