package cc

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/staging"
)

// Looks is what is looked at of the host for a call that turns out to be a hit,
// besides what the compiler saw.
type Looks struct {
	Ordinary []string // paths that are not there, or regular files
	Away     string   // not the working directory, or ""
}

// Looks says what was looked at. It says no where that cannot be said, or where
// something else was looked at, such as standard input.
func (c *Call) Looks(args []string, env func(string) string) (l Looks, ok bool) {
	if c.Native || c.Stdin || c.Plain != "" {
		return l, false
	}
	if c.Kind == Any && slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "@") }) {
		return l, false // a file's arguments, perhaps
	}
	for _, o := range c.Outputs {
		if o == os.DevNull {
			continue
		}
		p := c.abs(o)
		dir, err := realPath(filepath.Dir(p))
		if err != nil || dir != filepath.Dir(p) {
			return l, false
		}
		l.Ordinary = append(l.Ordinary, p)
	}
	if dir := env("PWD"); dir != c.Dir && filepath.IsAbs(dir) {
		there, err1 := os.Stat(dir)
		here, err2 := os.Stat(".")
		if err2 != nil || err1 == nil && os.SameFile(here, there) { // a link leads here
			return l, false
		}
		l.Away = dir
	}
	return l, true
}

// Answers says whether the files of arguments that this program has read, to know what
// the call does, are as the compiler read them when it saw these facts. Otherwise one
// of them has changed since, or leads to another file.
func (c *Call) Answers(facts []staging.Fact) bool {
	for _, r := range c.responses {
		if !slices.ContainsFunc(facts, func(f staging.Fact) bool {
			return f.Kind == staging.Unchanged && f.Path == r.path && f.ID == r.id
		}) {
			return false
		}
	}
	return true
}

// Held is what the compiler saw of the host, when the call was just found to be a
// hit, or became one: see staging.HostWitness. note is the key of the note that says so.
func (s *Session) Held(d *Done) (facts []staging.Fact, note action.Digest, ok bool) {
	if d.story != nil { // the session under whose key the result is
		s = d.story
	}
	facts, ok = s.witness.Held()
	return facts, s.Key(), ok
}
