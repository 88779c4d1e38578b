package staging

import (
	"path"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

// A Use is what a command did with an input: a set of these.
type Use uint8

// The uses. An input that was used in no way was never named by the command.
const (
	Named    Use = 1 << iota // in whatever system call: looked at, at least
	Read                     // a file that was opened or executed; a directory that was opened, and so perhaps listed
	Renamed                  // given another name, under which it may have been read
	Included                 // in a directory that was renamed
)

// Uses are what a command did with the inputs, by path; what was never named is
// not in it. Lookups are those of a run on the input root that snap describes,
// without gaps. Of a tree that was given by digest, all that was looked up in
// it counts as a use of the tree.
func (snap *Snapshot) Uses(lookups []backends.Lookup) map[string]Use {
	uses := map[string]Use{}
	for _, l := range lookups {
		rel, ok := strings.CutPrefix(path.Clean(l.Path), action.WorkRoot)
		if !ok || rel != "" && rel[0] != '/' {
			continue
		}
		rel = strings.TrimPrefix(rel, "/")
		use := Named
		switch l.Op {
		case backends.Open, backends.Exec:
			use |= Read
		case backends.Move:
			use |= Renamed
		}
		if rel == "" {
			uses["."] |= use
			continue
		}
		if name, ok := snap.inputAt(rel); ok {
			uses[name] |= use
		}
	}
	snap.includeRenamed(uses)
	return uses
}

// inputAt returns the path of the input at rel: rel itself, or the tree given
// by digest that it is in.
func (snap *Snapshot) inputAt(rel string) (string, bool) {
	if _, ok := snap.Find(rel); ok {
		return rel, true
	}
	for dir := path.Dir(rel); dir != "."; dir = path.Dir(dir) {
		if e, ok := snap.Find(dir); ok {
			return dir, e.Kind == KindTree
		}
	}
	return "", false
}

// includeRenamed adds everything below directories that got another name: the
// look-ups tell the other name only.
func (snap *Snapshot) includeRenamed(uses map[string]Use) {
	moved := func(name string) bool {
		for dir := name; dir != "."; dir = path.Dir(dir) {
			if uses[dir]&Renamed != 0 {
				return true
			}
		}
		return uses["."]&Renamed != 0
	}
	any := false
	for _, u := range uses {
		any = any || u&Renamed != 0
	}
	if !any {
		return
	}
	_ = snap.Walk(func(name string, _ Entry) error {
		if moved(name) {
			uses[name] |= Included
		}
		return nil
	})
}
