package cc

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/staging"
)

// A compiler that is to read a file once (#pragma once, #import) takes another one of
// equal content for the same: GCC where their times are equal, too, clang where they are
// one file with two names, of which it then also tells debuggers one only. Neither the
// times nor the other names of files are facts, so what was made of such files is not kept.

var errTwins = fmt.Errorf("have the same content, and are taken for one file or for two: %s", ReasonTimes)

// A reading is what a run has read.
type reading struct{ files []readFile }

type readFile struct {
	content uint64 // the first bytes of its hash: they are not equal by chance
	n       int    // in the order of reading
	host    string
}

// add notes a file.
func (r *reading) add(host string, d staging.FileDigest) {
	if d.Digest.Size() == 0 {
		return
	}
	if r.files == nil {
		r.files = make([]readFile, 0, 128)
	}
	sum := d.Digest.Bytes()
	r.files = append(r.files, readFile{binary.LittleEndian.Uint64(sum[:]), len(r.files), host})
}

// twins are pairs of files that are equal: the first one of them that was read, and
// another.
func (r *reading) twins() (pairs [][2]string) {
	list := r.files
	slices.SortFunc(list, func(a, b readFile) int { return cmp.Or(cmp.Compare(a.content, b.content), a.n-b.n) })
	for i := range list {
		first := i
		for first > 0 && list[first-1].content == list[i].content {
			first--
		}
		if list[first].host != list[i].host {
			pairs = append(pairs, [2]string{list[first].host, list[i].host})
		}
	}
	return pairs
}

// twins returns an error if it matters whether two equal files that the run has read are
// one. There are hardly ever two.
func (s *Session) twins() error {
	imports := false
	for i, t := range s.equals.twins() {
		if i == 0 {
			for _, f := range s.equals.files {
				imports = imports || s.mentions(f.host, "#import", "# import")
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
	fd, err := openRead(host)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	f := descriptor(fd)
	var head [8]byte
	n, _ := f.ReadAt(head[:], 0)
	if isBinary(head[:n]) {
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
