package staging

import (
	"bytes"
	"slices"
	"strconv"

	"github.com/sbx-action/sbx-action/action"
)

// seenKind says what a command learned of a path of the host.
type seenKind byte

const (
	seenFile   seenKind = 'f' // read: its contents and permissions
	seenLarge  seenKind = 'g' // read, but not by us: a name that stands for its contents, and permissions
	seenMeta   seenKind = 'm' // looked at: kind, permissions and size
	seenDir    seenKind = 'd' // there or passed through, and a directory: its permissions
	seenList   seenKind = 'l' // listed: the names and kinds in it, and its permissions
	seenLink   seenKind = 's' // followed: its target
	seenAbsent seenKind = 'a' // not there
	seenMade   seenKind = 'r' // made by staging, and listed: the names and kinds in it
)

// A seen is one thing that a command learned of the host. Two runs that
// learned the same things of the host had, as far as the host goes, the same
// input.
//
// Times, owners and inode numbers are not in it: a package that is installed
// again with the same contents is the same input. (The name of a large file, which is
// made of such, stands for its contents.)
type seen struct {
	path   string // absolute, in the root
	kind   seenKind
	perm   uint32        // seenFile, seenLarge, seenDir, seenList: the permissions, and set-id and sticky bits
	digest action.Digest // seenFile, seenList, seenMade; of seenLarge the name, see statcache_large.go
	text   string        // seenLink: the target; seenMeta: kind, permissions, size; of others see rights.go

	// id is the state of the path when it was examined, or for seenAbsent of
	// the directory that would hold it. An equal one proves, if stable, that
	// the fact still holds. Not part of the key.
	id     StatID
	stable bool
}

// word is the kind in the canonical list.
func (k seenKind) word() string {
	switch k {
	case seenFile:
		return "file"
	case seenLarge:
		return "large"
	case seenMeta:
		return "meta"
	case seenDir:
		return "dir"
	case seenList:
		return "list"
	case seenMade:
		return "made"
	case seenLink:
		return "link"
	}
	return "absent"
}

// line is the entry's line in the canonical list that is hashed into the key.
func (s seen) line() string { return string(s.appendLine(nil)) }

func (s *seen) appendLine(b []byte) []byte {
	b = appendQuoted(append(append(b, s.kind.word()...), ' '), s.path)
	switch s.kind {
	case seenFile, seenLarge, seenDir, seenList:
		var room [12]byte
		digits := strconv.AppendUint(room[:0], uint64(s.perm), 8)
		b = append(append(append(b, ' '), "0000"[min(len(digits), 4):]...), digits...)
	}
	switch s.kind {
	case seenFile, seenLarge, seenList, seenMade:
		b = s.digest.Append(append(b, ' '))
	case seenLink:
		return append(appendQuoted(append(b, ' '), s.text), '\n')
	}
	if s.text != "" {
		b = append(append(b, ' '), s.text...)
	}
	return append(b, '\n')
}

// appendQuoted is strconv.AppendQuote, faster for what paths are made of.
func appendQuoted(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return strconv.AppendQuote(b, s)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// words are the kinds in the order of their words.
var words = [...]seenKind{seenAbsent, seenDir, seenFile, seenLarge, seenLink, seenList, seenMade, seenMeta}

// canonical is the list as it is hashed: one line each, sorted. It is appended to
// text, which is empty and may have room.
func canonical(text []byte, list []seen) []byte {
	var has [1 << 8]int
	for i := range list {
		has[list[i].kind]++
	}
	known := 0
	for _, k := range words {
		known += has[k]
	}
	size := 0
	for i := range list {
		size += len("absent ") + len(list[i].path) + len(list[i].text) + 16
		if !list[i].digest.IsZero() {
			size += 96
		}
	}
	text = slices.Grow(text, size)
	if known < len(list) {
		return canonicalLines(text, list) // of somebody who knows kinds that we do not
	}
	last := 0
	for _, k := range words {
		for i := 0; has[k] > 0; i++ {
			if list[i].kind != k {
				continue
			}
			at := len(text)
			text = list[i].appendLine(text)
			if bytes.Compare(text[last:at], text[at:]) > 0 { // a name with a space is like that, and a list that is not sorted
				return canonicalLines(text[:0], list)
			}
			last = at
			has[k]--
		}
	}
	return text
}

// canonicalLines is canonical for any list.
func canonicalLines(text []byte, list []seen) []byte {
	lines := make([]string, 0, len(list))
	for i := range list {
		lines = append(lines, list[i].line())
	}
	slices.Sort(lines)
	for _, line := range lines {
		text = append(text, line...)
	}
	return text
}
