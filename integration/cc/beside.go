package cc

import (
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// A source that includes "sub/a.h" has the compiler look in the directory sub of each
// directory of its search path, and what it finds there look in the same place for what
// it includes. A parallel build writes to these directories, too: see [Session.list].
const (
	besideMax  = 8        // names of directories that are taken from one source
	besideRead = 64 << 10 // bytes of a source that are looked at
	besideTry  = 128      // directories that are looked for
)

// beside returns directories, in which the sources look for files, below those of the
// search path. Not all of them are there.
func (s *Session) beside() (list []string) {
	for _, f := range s.call.Inputs {
		if !slices.Contains(languages, filepath.Ext(f)) {
			continue
		}
		name := s.call.abs(f)
		subs := included(begin(name))
		if len(subs) == 0 {
			continue
		}
		for _, base := range append([]string{path.Dir(name)}, s.call.Search...) {
			for _, sub := range subs {
				if len(list) < besideTry {
					list = append(list, path.Join(s.call.abs(base), sub))
				}
			}
		}
	}
	return list
}

// included returns the directories in the names that a source includes in quotes.
func included(text string) (list []string) {
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(strings.TrimLeft(line, " \t"), "#")
		rest, is := strings.CutPrefix(strings.TrimLeft(rest, " \t"), "include")
		rest, quoted := strings.CutPrefix(strings.TrimLeft(rest, " \t"), `"`)
		name, _, closed := strings.Cut(rest, `"`)
		if !ok || !is || !quoted || !closed || !strings.Contains(name, "/") || path.IsAbs(name) || strings.ContainsRune(name, 0) {
			continue
		}
		if dir := path.Dir(name); !slices.Contains(list, dir) {
			if list = append(list, dir); len(list) == besideMax {
				break
			}
		}
	}
	return list
}

// begin returns the beginning of a file that is one, or "".
func begin(name string) string {
	if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	f, err := os.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	data, _ := io.ReadAll(io.LimitReader(f, besideRead))
	return string(data)
}
