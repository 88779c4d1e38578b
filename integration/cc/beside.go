package cc

import (
	"bytes"
	"path"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/staging"
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
		subs := included(s.begin(name))
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
func included(text []byte) (list []string) {
	word := []byte("include")
	for at := 0; ; {
		i := bytes.Index(text[at:], word)
		if i < 0 {
			return list
		}
		before, rest := text[:at+i], text[at+i+len(word):]
		at += i + len(word)
		name, ok := quoted(rest)
		if !ok || bytes.IndexByte(name, '/') <= 0 || bytes.IndexByte(name, 0) >= 0 || !directs(before) {
			continue
		}
		if dir := path.Dir(string(name)); !slices.Contains(list, dir) {
			if list = append(list, dir); len(list) == besideMax {
				return list
			}
		}
	}
}

// quoted returns the name in quotes with which a line goes on.
func quoted(rest []byte) ([]byte, bool) {
	rest = bytes.TrimLeft(rest, " \t")
	if len(rest) == 0 || rest[0] != '"' {
		return nil, false
	}
	end := bytes.IndexAny(rest[1:], "\"\n")
	if end < 0 || rest[1+end] != '"' {
		return nil, false
	}
	return rest[1 : 1+end], true
}

// directs says whether text ends with a line that is a # and space around it.
func directs(text []byte) bool {
	text, is := bytes.CutSuffix(bytes.TrimRight(text, " \t"), []byte("#"))
	text = bytes.TrimRight(text, " \t")
	return is && (len(text) == 0 || text[len(text)-1] == '\n')
}

// begin returns the beginning of a regular file, or nothing; until the next piece is
// read.
func (s *Session) begin(name string) []byte {
	fd, err := openRead(name)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	id, err := staging.StatFD(fd)
	if err != nil || id.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	n, _ := descriptor(fd).ReadAt(s.piece()[:min(besideRead, len(s.piece()))], 0)
	return s.piece()[:n]
}
