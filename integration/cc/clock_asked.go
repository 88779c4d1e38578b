package cc

import (
	"fmt"
	"path"
	"slices"
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
	if p := s.askedTime(lookups); p != "" && !(s.dated() && (s.named || modules)) {
		return fmt.Errorf("the compiler has looked for %s, so that it %w: %w", p, errClock, action.ErrUnsealed)
	}
	return nil
}
