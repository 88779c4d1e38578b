package cc

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/staging"
)

// A compiler that is to read a file once (#pragma once, #import) takes another one of
// equal content for the same: GCC where their times are equal, too, clang where they are
// one file with two names, of which it then also tells debuggers one only. Neither the
// times nor the other names of files are facts, so what was made of such files is not kept.

var errTwins = fmt.Errorf("have the same content, and are taken for one file or for two: %s", ReasonTimes)

// A reading is what a run has read, and two files of it that are equal.
type reading struct {
	by   map[action.Digest]string // by their content
	twin [][2]string
}

// add notes a file.
func (r *reading) add(host string, d staging.FileDigest) {
	if d.Digest.Size() == 0 {
		return
	}
	if r.by == nil {
		r.by = map[action.Digest]string{}
	}
	switch other, known := r.by[d.Digest]; {
	case !known:
		r.by[d.Digest] = host
	case other != host:
		r.twin = append(r.twin, [2]string{other, host})
	}
}

// twins returns an error if it matters whether two equal files that the run has read are
// one. There are hardly ever two.
func (s *Session) twins() error {
	imports := false
	for i, t := range s.equals.twin {
		if i == 0 {
			for _, host := range s.equals.by {
				imports = imports || s.mentions(host, "#import", "# import")
			}
		}
		debugged := s.call.Clang && s.debugs() && s.mentions(t[0], "")
		if imports || debugged || s.mentions(t[0], "once") {
			return fmt.Errorf("%s and %s %w: %w", s.view.name(t[0]), s.view.name(t[1]), errTwins, action.ErrUnsealed)
		}
	}
	return nil
}

// mentions says whether a file has one of the words in it and is no program, library or
// object, or cannot be read.
func (s *Session) mentions(host string, words ...string) bool {
	f, err := os.Open(host)
	if err != nil {
		return true
	}
	defer f.Close()
	var head [8]byte
	n, _ := f.ReadAt(head[:], 0)
	if bytes.HasPrefix(head[:n], []byte("\x7fELF")) || bytes.HasPrefix(head[:n], []byte("!<arch>")) {
		return false
	}
	found, err := s.scan(f, 16, func(text []byte) bool {
		return slices.ContainsFunc(words, func(w string) bool { return bytes.Contains(text, []byte(w)) })
	})
	return found || err != nil
}

// debugs says whether the call is to write what debuggers read.
func (s *Session) debugs() bool {
	return slices.ContainsFunc(slices.Concat(s.call.Args, s.call.expanded), func(a string) bool { return strings.HasPrefix(a, "-g") && a != "-g0" })
}
