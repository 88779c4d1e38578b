package staging

import (
	"context"
	"strconv"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

// viewDirs are the directories of which a view shows some names.
var viewDirs = []string{"/", "/etc", "/var/lib", "/nix", "/gnu"}

// know finds out what the host has, from a note where there is one: to list
// /etc takes as long as all the rest of a view.
//
// The note of a view has a line with the stat data of viewDirs, and one for each
// thing that is shown: a letter and quoted strings.
//
//	b path          a directory
//	f name          a file in /etc
//	l path target   a link
//
// As long as the stat data of these are the same, so are the names in them,
// what kind of thing each is, and where the links lead.
func (s *Stager) know(ctx context.Context, h *hostView) error {
	h.once.Do(func() {
		if s.Notes == nil || h.network { // then it shows more than these three
			h.lookNow()
			return
		}
		key := action.Sum(action.SHA256, []byte("sbx host view 1\n"+h.id()+"\n"+h.root+"\n"))
		began := Now()
		state, ids := h.state()
		if data, err := s.Notes.Note(ctx, key); err == nil && h.decode(string(data), state) {
			return
		}
		if h.lookNow(); h.err != nil {
			return
		}
		hash := NewFileHasher("", action.SHA256)
		for i, id := range ids {
			if id == (StatID{}) && storeOnly(viewDirs[i][1:]) {
				continue // or / would be another
			}
			if id == (StatID{}) || !hash.Stable(h.root+viewDirs[i], id, began) {
				return
			}
		}
		if err := s.Notes.PutNote(ctx, key, h.encode(state)); err != nil {
			// A store that cannot be written is told of by who keeps the result.
			s.debug(ctx, "what the host has is not noted", err)
		}
	})
	return h.err
}

// state is the stat data of viewDirs: all zero for one that is not there.
func (h *hostView) state() (line string, ids []StatID) {
	var b []byte
	for _, dir := range viewDirs {
		id, err := StatPath(h.root+dir, FollowLinks)
		if err != nil {
			id = StatID{}
		}
		for _, n := range []int64{int64(id.Mode), int64(id.Dev), int64(id.Ino), id.MTime, id.CTime} {
			b = append(strconv.AppendInt(b, n, 10), ' ')
		}
		ids = append(ids, id)
	}
	return string(append(b, '\n')), ids
}

func (h *hostView) encode(state string) []byte {
	b := []byte(state)
	add := func(what byte, texts ...string) {
		b = append(b, what)
		for _, t := range texts {
			b = strconv.AppendQuote(append(b, ' '), t)
		}
		b = append(b, '\n')
	}
	for _, bind := range h.binds {
		add('b', bind.Target)
	}
	for _, name := range h.files {
		add('f', name)
	}
	for path, target := range h.links {
		add('l', path, target)
	}
	return b
}

// decode takes over what encode wrote for this state.
func (h *hostView) decode(note, state string) bool {
	rest, ok := strings.CutPrefix(note, state)
	if !ok {
		return false
	}
	var binds []backends.Bind
	var files []string
	links := map[string]string{}
	for line := range strings.Lines(rest) {
		texts, ok := unquoteAll(line[1:])
		switch {
		case ok && line[0] == 'b' && len(texts) == 1:
			binds = append(binds, backends.Bind{Source: h.root + texts[0], Target: texts[0]})
		case ok && line[0] == 'f' && len(texts) == 1:
			files = append(files, texts[0])
		case ok && line[0] == 'l' && len(texts) == 2:
			links[texts[0]] = texts[1]
		default:
			return false
		}
	}
	h.binds, h.files, h.links = binds, files, links
	return true
}

// unquoteAll reads quoted strings, each behind a blank, up to the end of the line.
func unquoteAll(line string) (texts []string, ok bool) {
	for strings.HasPrefix(line, " ") {
		quoted, err := strconv.QuotedPrefix(line[1:])
		if err != nil {
			return nil, false
		}
		text, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, false
		}
		texts, line = append(texts, text), line[1+len(quoted):]
	}
	return texts, line == "\n"
}
