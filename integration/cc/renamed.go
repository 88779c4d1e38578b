package cc

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

// CMake's checks, kbuild's, config.guess and cgo compile in directories that mktemp or a
// process number has named, and CMake's outputs have random names, too. Such a call sees
// the directory under another name, that is always the same, beside its own, so that all
// else around it is as it was. What comes out is good for any name if the other one is not
// in it, and nothing is read that may compute with names. What the compiler says gets the
// real names back.

// standMark is in the names that stand for others, and in asideRoot. It is what outputs
// are searched for: of what is in front of it, an option may have made something else.
const standMark = "5f2c71d"

// A name of at most standing letters gets another one of that length: numbers of several
// lengths are made up. It has at least shortest, so that it is not found in other words.
const (
	standing = 24
	shortest = 7
)

// A Renaming says which names of a call were made for it.
type Renaming struct {
	base  string // the directory, absolute
	stand string // its other name, absolute
	names []renamed
	brief bool // nobody will call with these names again
}

// A renamed is a part of names that was made up, and what stands for it.
type renamed struct{ real, stand string }

// add adds a name. None that stands for one is part of another.
func (r *Renaming) add(name string) {
	end := standMark + strconv.Itoa(len(r.names)+1)
	r.names = append(r.names, renamed{name, strings.Repeat("s", max(standing, len(name))-len(end)) + end})
}

// holds says whether a file is in the directory. There the same call may find other
// contents each time: see [Call.probes].
func (r *Renaming) holds(p string) bool {
	if r == nil {
		return false
	}
	_, in := under(p, r.base)
	return in
}

// real is text with the names as they are.
func (r *Renaming) real(text string) string {
	if r == nil || !strings.Contains(text, standMark) {
		return text
	}
	for _, n := range r.names {
		text = strings.ReplaceAll(text, n.stand, n.real)
	}
	return text
}

// other is text with the names that stand for them.
func (r *Renaming) other(text string) string {
	for _, n := range r.names {
		text = strings.ReplaceAll(text, n.real, n.stand)
	}
	return text
}

// has says whether one of the names is in text.
func (r *Renaming) has(text string) bool {
	return slices.ContainsFunc(r.names, func(n renamed) bool { return strings.Contains(text, n.real) })
}

// isAlnum says whether text has nothing but letters, digits and '_'.
func isAlnum(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_')
	})
}

// drawn says whether letters look as if they were drawn, and not written.
func drawn(letters string) bool {
	digit := false
	for i, r := range letters {
		switch {
		case r >= '0' && r <= '9':
			digit = true
		case i > 0 && (digit || r >= 'A' && r <= 'Z'):
			return true
		}
	}
	return false
}

// How a directory got its name.
type naming int

const (
	written naming = iota // somebody thought of it
	perhaps               // it may have been made up, but not in a way that shows
	madeUp                // by mktemp, or in /tmp, where that is usual
	byCall                // by the number of a process, for the time of one call
)

// namingOf says how the name of a directory looks.
func namingOf(dir string) naming {
	name := path.Base(dir)
	if len(name) < shortest || !isAlnum(strings.NewReplacer(".", "", "-", "").Replace(name)) {
		return written
	}
	last := name[len(name)-6:]
	at := strings.LastIndexAny(name, "._-")
	switch {
	case strings.HasPrefix(name, ".tmp"):
		if drawn(name[5:]) || isNumber(name[5:]) {
			return byCall
		}
	case path.Dir(dir) == "/tmp":
		if isAlnum(last) && (drawn(last) || isNumber(last)) {
			return madeUp
		}
	case at != len(name)-7 || !isAlnum(last):
	case drawn(last):
		return madeUp
	default:
		return perhaps
	}
	return written
}

func isNumber(text string) bool { return strings.Trim(text, "0123456789") == "" }

// Renamed says how the names are called that were made for this call, or returns nil where
// there are none, or its result may depend on them in a way that nobody would find.
func (c *Call) Renamed(env []action.EnvironmentVariable, stdin []byte) *Renaming {
	switch c.Kind {
	case Compile, Preprocess, Link:
	default:
		return nil
	}
	if c.Script || c.Jobserver || c.Sources > 1 || len(c.responses) > 0 || c.assembles() {
		return nil
	}
	r := c.madeFor()
	if r == nil || r.has(string(stdin)) || !c.namesOnly(r) {
		return nil
	}
	if strings.Contains(strings.Join(c.Args, "")+c.Dir, standMark) || r.has(c.Args[0]) {
		return nil
	}
	for _, v := range env {
		if v.Name == "CCC_OVERRIDE_OPTIONS" || v.Name == "QA_OVERRIDE_GCC3_OPTIONS" || r.has(v.Value) && (v.Name != "PWD" || v.Value != c.Dir) {
			return nil
		}
	}
	return r
}

// madeFor looks for the directory among those that the call names.
func (c *Call) madeFor() *Renaming {
	var paths []string
	for _, p := range slices.Concat(c.Outputs, c.Inputs) {
		if p != os.DevNull {
			paths = append(paths, filepath.Dir(c.abs(p)))
		}
	}
	for _, p := range c.Search {
		paths = append(paths, c.abs(p))
	}
	for _, dir := range append(paths, c.Dir) {
		base, how := c.baseOf(dir)
		if how == written || path.Dir(base) != "/tmp" && strings.Count(base, "/") < 3 {
			continue
		}
		_, inside := under(c.Dir, base)
		if info, err := os.Lstat(base); err != nil || !info.IsDir() {
			return nil
		}
		r := &Renaming{base: base, brief: how == byCall}
		if r.add(path.Base(base)); r.has(path.Dir(base)) {
			return nil
		}
		if inside {
			r.inner(c)
		}
		r.stand = path.Join(path.Dir(base), r.names[0].stand)
		if len(r.names) > 1 || how != perhaps && (slices.ContainsFunc(c.Args, r.has) || len(c.Outputs) == 1 && c.Outputs[0] == os.DevNull) {
			return r
		}
		return nil // a place as any other: see [Call.Movable]
	}
	return nil
}

// baseOf returns the directory around dir, or it, that has a made-up name. One of /tmp in
// which the call is far below is that of a project, or of many.
func (c *Call) baseOf(dir string) (string, naming) {
	if rest, ok := under(dir, "/tmp"); ok && rest != "" {
		first, _, _ := strings.Cut(rest[1:], "/")
		base := "/tmp/" + first
		below, inside := under(c.Dir, base)
		if how := namingOf(base); how >= madeUp && !(inside && strings.Count(below, "/") > 1) {
			return base, how
		}
	}
	return dir, namingOf(dir)
}

// inner adds a made-up part of the names of outputs in the directory, as in
// CMakeFiles/cmTC_1a2b3.dir/x.o and cmTC_1a2b3.
func (r *Renaming) inner(c *Call) {
	var found string
	for _, o := range c.Outputs {
		rest, ok := under(c.abs(o), r.base)
		if !ok {
			continue
		}
		for name := range strings.SplitSeq(rest, "/") {
			stem, _, _ := strings.Cut(name, ".")
			at := strings.LastIndexByte(stem, '_')
			if len(stem) < shortest || at < 0 || len(stem)-at < 6 || !isAlnum(stem) || !strings.ContainsAny(stem[at:], "0123456789") && strings.Trim(stem[at+1:], "abcdef") != "" {
				continue
			}
			if found != "" && found != stem {
				return
			}
			found = stem
		}
	}
	if found != "" && !strings.Contains(r.base, found) && !strings.Contains(found, r.names[0].real) {
		r.add(found)
		r.brief = true
	}
}

// rename shows the directory under its other name.
func (v *view) rename(r *Renaming) {
	v.base, v.stand, v.names = r.base, r.stand, r
	if parent := path.Dir(r.base); parent != "/tmp" {
		v.dirs = append(v.dirs, parent)
		v.zones = topmost(append(v.zones, zone(parent)))
	}
}

// renamed describes the call under its other names.
func (s *Session) renamed(w Want) (*Session, bool) {
	s.view.rename(w.Names)
	for _, p := range slices.Concat(s.call.Outputs, s.call.Inputs) {
		s.view.files = append(s.view.files, s.call.abs(p))
	}
	args, env := w.Names.arguments(slices.Concat(w.Front, s.call.Args, w.Args)), slices.Clone(w.Env)
	for i := range env {
		if w.Names.has(env[i].Value) { // PWD: see Renamed
			env[i].Value = s.view.name(env[i].Value)
		}
	}
	s.describe(args, env, w)
	return s, true
}

// inner are the binds for directories in the renamed one that have another name, too, of
// those in which outputs and inputs are.
func (v *view) inner(files []string) (binds []backends.Bind) {
	if v.names == nil || len(v.names.names) < 2 {
		return nil
	}
	for _, p := range files {
		rest, ok := under(p, v.base)
		if !ok {
			continue
		}
		at := v.base
		for name := range strings.SplitSeq(strings.TrimPrefix(rest, "/"), "/") {
			at = path.Join(at, name)
			info, err := os.Lstat(at)
			if err != nil || !info.IsDir() {
				break
			}
			if strings.Contains(name, v.names.names[1].real) {
				b := backends.Bind{Source: at, Target: v.name(at), Over: true}
				if !slices.Contains(binds, b) {
					binds = append(binds, b)
				}
				break
			}
		}
	}
	return binds
}

// covered is the directory of the host that a bind with a fresh layer shows.
func (v *view) covered(b backends.Bind) string {
	if _, in := under(b.Target, v.stand); in && v.elsewhere() {
		return b.Source
	}
	return b.Target
}

// concealsName says whether an output of a renamed call has one of the names in it, or may
// have it where it is not found.
func (s *Session) concealsName(f io.ReaderAt) (bool, error) {
	text := true
	found, err := s.scan(f, len(".gnu.lto_"), func(b []byte) bool {
		text = text && bytes.IndexByte(b, 0) < 0
		return bytes.Contains(b, []byte(standMark)) || bytes.Contains(b, []byte(".gnu.lto_")) || bytes.Contains(b, []byte(".zdebug_"))
	})
	if found || err != nil || text {
		return found, err
	}
	object, err := elf.NewFile(f)
	if err != nil || object.Type == elf.ET_NONE {
		return true, nil // who knows what that is
	}
	return slices.ContainsFunc(object.Sections, func(s *elf.Section) bool { return s.Flags&elf.SHF_COMPRESSED != 0 }), nil
}

// readsInside says whether the run read something in the renamed directory. What it only
// writes there does not know what it is called.
func (s *Session) readsInside(lookups []backends.Lookup) bool {
	return slices.ContainsFunc(lookups, func(l backends.Lookup) bool {
		if l.Op != backends.Open || !l.Found {
			return false
		}
		host, ok := s.view.host(path.Clean(l.Path))
		_, in := under(host, s.view.base)
		in = in || strings.Contains(l.Path, standMark) // "../include/x.h"
		return ok && in && !s.written[host]
	})
}

// vetLinked refuses objects that a linker has to compile, and its scripts, which may say what
// is done with files of what name.
func (s *Session) vetLinked(host string, f io.ReaderAt, text bool) error {
	if s.view.names == nil || s.call.Kind != Link || ofSystem(host) {
		return nil
	}
	if text {
		if strings.HasSuffix(host, ".so") || strings.HasSuffix(host, ".a") {
			return fmt.Errorf("%s %w", host, errPlace)
		}
		return nil
	}
	found, err := s.holds(f, ".gnu.lto_")
	if err == nil && found {
		err = fmt.Errorf("%s %w", host, errPlace)
	}
	return err
}

// Brief says whether nobody will make this call again with these names.
func (r *Renaming) Brief() bool { return r.brief }
