package cc

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/backends"
)

// Doubt says why a call that failed in the sandbox may do something else outside, so
// that it has to be executed there, too; or "". It is "" for one of the programs that
// we know through and through, which read none of the variables that they were not
// given, if what it complained of is in what it compiled or linked, and nothing that
// it looked for can have been hidden from it.
func (s *Session) Doubt(d *Done) string {
	switch s.call.Kind {
	case Compile, Preprocess, Assemble, Link:
	default:
		return "not a compiler"
	}
	switch {
	case d.Cached:
		return "it ran at another time"
	case d.Status == nil || !d.Status.Complete:
		return "not all that it looked at was observed"
	case d.Result.ExitCode != 1:
		return "an unusual exit code"
	case d.Unkept != nil && !errors.Is(d.Unkept, errUndone):
		return d.Unkept.Error()
	case slices.ContainsFunc(slices.Concat(s.call.Args, s.call.expanded), extends):
		return "it is told to run something that is not part of it"
	case s.parts.Backend.Capabilities().Owner == backends.ID && (s.call.Clang || s.call.Kind == Link):
		// Root's compilers run as another user, who may not enter every directory; GCC
		// says so, while clang and linkers take it for an empty one.
		return "it ran as another user"
	case !complains(d.Stderr):
		return "it complains of something that is not in a source"
	}
	if p := s.unknown(d.Status.Lookups, ""); p != "" {
		return "it executed " + p
	}
	if p := s.hides(d.Status.Lookups); p != "" {
		return "it looked for " + p + ", which is not shown"
	}
	return ""
}

// extends says whether an argument makes a compiler run something that is not part
// of it, and that may read anything.
func extends(arg string) bool {
	return slices.ContainsFunc([]string{"-fplugin", "-specs", "--specs", "-Xclang", "-load", "-wrapper", "-plugin", "-Wl,-plugin"}, func(p string) bool {
		return strings.HasPrefix(arg, p)
	})
}

// hides returns something that was looked for, is on the host, and was not shown; or
// "".
func (s *Session) hides(lookups []backends.Lookup) string {
	for _, l := range lookups {
		p := filepath.Clean(l.Path)
		if _, shown := s.view.host(p); shown || filepath.Dir(p) == "/" {
			continue
		}
		if first, _, _ := strings.Cut(p[1:], "/"); first == "proc" || first == "dev" && !strings.HasPrefix(p, "/dev/shm/") {
			continue // the sandbox has its own, with all that a compiler wants of it
		}
		// What leads to what is shown is shown, too.
		if slices.ContainsFunc(slices.Concat(s.view.zones, s.view.shown), func(d string) bool { _, ok := under(d, p); return ok }) {
			continue
		}
		if _, err := os.Lstat(p); !errors.Is(err, fs.ErrNotExist) {
			return p
		}
	}
	return ""
}

// doubts are words of complaints that have to do with where and how a compiler ran.
var doubts = []string{
	"internal compiler error", "Permission denied", "not permitted", "Read-only", "Value too large", "opening dependency file", "No space", "Killed", "signal terminated", "terminated with", "memory", "Too many open",
	"Cannot allocate", "put/output error", "temporarily", "xec", "plugin", "nternal error", "PLEASE submit",
}

// Complaint says why a call that failed may do something else outside, if that can be told
// from what it said; or "". It is asked where failures are taken from the cache, too.
func (d *Done) Complaint() string {
	if word := doubtful(string(d.Stderr)); word != "" {
		return fmt.Sprintf("it said %q", word)
	}
	return ""
}

// doubtful returns one of doubts that text has, or "".
func doubtful(text string) string {
	if i := slices.IndexFunc(doubts, func(d string) bool { return strings.Contains(text, d) }); i >= 0 {
		return doubts[i]
	}
	return ""
}

// complains says whether a compiler found a mistake in a line of a source, or a
// linker something missing, and nothing else is told.
func complains(stderr []byte) bool {
	found := false
	for line := range bytes.Lines(stderr) {
		text := withoutColours(string(line))
		if doubtful(text) != "" {
			return false
		}
		found = found || inLine(text) || strings.Contains(text, "undefined reference to") || strings.Contains(text, "cannot find -l")
	}
	return found
}

// inLine says whether text is "FILE:LINE:…error: …".
func inLine(text string) bool {
	at := strings.Index(text, ": error: ")
	if at < 0 {
		at = strings.Index(text, ": fatal error: ")
	}
	if at < 0 {
		at = strings.Index(text, ": Error: ")
	}
	if at < 0 {
		return false
	}
	parts := strings.Split(text[:at], ":")
	for _, p := range parts[1:] {
		if p != "" && strings.Trim(p, "0123456789") == "" {
			return true
		}
	}
	return false
}

// withoutColours is text without the sequences that terminals take for colours.
func withoutColours(text string) string {
	var b strings.Builder
	for {
		i := strings.Index(text, "\x1b[")
		if i < 0 {
			b.WriteString(text)
			return b.String()
		}
		b.WriteString(text[:i])
		text = text[i+2:]
		text = text[min(len(text), 1+strings.IndexFunc(text+"m", func(r rune) bool { return r >= '@' && r <= '~' })):]
	}
}

// finish removes what a call that failed removed: a compiler does not leave the
// object of an earlier source.
func (s *Session) finish() error {
	for _, p := range s.removed {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove what the compiler removed: %w", err)
		}
	}
	return nil
}
