package cc

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/staging"
)

// inputs are the look-ups without those that only found out whether something
// was in the way of what was then written.
func (s *Session) inputs(lookups []backends.Lookup) []backends.Lookup {
	if s.shared != "" {
		lookups = slices.DeleteFunc(slices.Clone(lookups), func(l backends.Lookup) bool { return l.Path == s.shared })
	}
	if s.call.Kind == Any {
		return s.withContent(s.unread(lookups))
	}
	bases := make([]string, 0, len(s.written))
	for p := range s.written {
		bases = append(bases, path.Base(p))
	}
	isWritten := func(base string) bool { return slices.Contains(bases, base) }
	if len(bases) > 16 {
		set := make(map[string]bool, len(bases))
		for _, b := range bases {
			set[b] = true
		}
		isWritten = func(base string) bool { return set[base] }
	}
	list := make([]backends.Lookup, 0, len(lookups))
	real := map[string]string{} // by directory
	for _, l := range lookups {
		base := l.Path[strings.LastIndexByte(l.Path, '/')+1:]
		if base == "" {
			base = path.Base(l.Path)
		}
		written := isWritten(base)
		if !written && s.call.Kind != Archive {
			list = append(list, l)
			continue
		}
		host, ok := s.view.host(l.Path)
		if ok && (written || s.temporary(host)) {
			dir, known := real[path.Dir(host)]
			if !known {
				dir, _ = realPath(path.Dir(host)) // "" where there is none
				real[path.Dir(host)] = dir
			}
			if dir != "" && (s.temporary(host) || s.written[path.Join(dir, base)]) && !s.updates(l, host) {
				list = append(list, backends.Lookup{Path: path.Dir(l.Path), Op: backends.Stat})
				continue
			}
		}
		list = append(list, l)
	}
	return list
}

// intermediate are the ends of the names of files that a compiler makes and then reads
// itself, or has another program read.
var intermediate = []string{".o", ".s", ".i", ".ii", ".bc", ".dwo"}

// updates says whether what was in the place of an output is an input: of an
// archive that members are put into, or a source that the result replaces. What was
// opened for reading may be what the command has written just before.
func (s *Session) updates(l backends.Lookup, host string) bool {
	if s.call.Kind == Archive {
		return !s.temporary(host)
	}
	if !s.replaces(host) {
		return true
	}
	if l.Op != backends.Open {
		return false
	}
	if slices.ContainsFunc(s.call.Inputs, func(in string) bool { return s.call.abs(in) == filepath.Clean(host) }) {
		return true
	}
	if !l.Found || slices.Contains(intermediate, path.Ext(host)) {
		return false
	}
	if s.call.Kind != Compile || path.Base(s.call.Object) != path.Base(host) {
		return true
	}
	_, err := os.Lstat(host)
	return !errors.Is(err, fs.ErrNotExist) // else the run has made it: an object by another name
}

// replaced are the ends of the names of files that compilers write from the beginning,
// whatever was there. To others they may append.
var replaced = []string{
	".o", ".obj", ".s", ".i", ".ii", ".bc", ".ll", ".d", ".dwo", ".gcno", ".su", ".ci", ".gch", ".pch", ".pcm", ".gcm", ".ast", ".out",
}

// isDump says whether a file has the name of one of GCC's -fdump-…, which ends with the
// number of a pass, a letter, and what the pass is called: "a.c.006t.original".
func isDump(name string) bool {
	parts := strings.Split(path.Base(name), ".")
	if len(parts) < 3 {
		return false
	}
	pass := parts[len(parts)-2]
	return len(pass) == 4 && strings.Trim(pass[:3], "0123456789") == "" && strings.Contains("tri", pass[3:])
}

// replaces says whether a file that was written, at that path of the host, has nothing
// of what was there before.
func (s *Session) replaces(host string) bool {
	for _, v := range s.command.Environment {
		if v.Name == "DEPENDENCIES_OUTPUT" || v.Name == "SUNPRO_DEPENDENCIES" { // "FILE" or "FILE TARGET"
			name, _, _ := strings.Cut(v.Value, " ")
			if s.call.abs(name) == host {
				return false
			}
		}
	}
	return slices.Contains(replaced, path.Ext(host)) || isDump(host) ||
		slices.ContainsFunc(s.call.Replaced, func(name string) bool {
			at := s.call.abs(name)
			if dir, err := realPath(path.Dir(at)); err == nil {
				at = path.Join(dir, path.Base(at))
			}
			return at == host
		})
}

// temporary says whether p is a file that ar writes beside the archive, under a
// name of its own making, and moves in its place.
func (s *Session) temporary(p string) bool {
	if s.call.Kind != Archive {
		return false
	}
	base := path.Base(p)
	if len(base) != 8 || !strings.HasPrefix(base, "st") {
		return false
	}
	_, err := os.Lstat(p)
	return errors.Is(err, fs.ErrNotExist)
}

// wasAbsent says whether the path was not there when the run began. It knows of
// the directories that a parallel build writes to.
func (s *Session) wasAbsent(p string) bool {
	p, ok := s.view.host(p)
	if !ok {
		return false
	}
	names, ok := s.listed[path.Dir(p)]
	return ok && !names.has(path.Base(p))
}

// A listing is the names in a directory. Mostly nobody asks for one.
type listing struct {
	names []string
	set   map[string]bool // the same, once somebody has asked
}

func (l *listing) has(name string) bool {
	if l.set == nil {
		l.set = make(map[string]bool, len(l.names))
		for _, n := range l.names {
			l.set[n] = true
		}
	}
	return l.set[name]
}

// list notes the names in the directories in which the call looks for files.
func (s *Session) list() {
	s.listed = map[string]*listing{}
	dirs := []string{s.call.Dir, path.Dir(s.call.Dir)}
	for _, v := range s.command.Environment {
		if v.Name == "HOME" && path.IsAbs(v.Value) {
			dirs = append(dirs, path.Clean(v.Value))
		}
	}
	for _, d := range s.call.Search {
		dirs = append(dirs, s.call.abs(d))
	}
	for _, f := range slices.Concat(s.call.Outputs, s.call.Inputs) {
		dirs = append(dirs, path.Dir(s.call.abs(f)))
	}
	for _, d := range append(dirs, s.beside()...) {
		if len(s.listed) >= 64 {
			return
		}
		first, _, _ := strings.Cut(d[1:], "/")
		if _, ok := s.listed[d]; ok || s.view.system(first) {
			continue
		}
		fd, err := openRead(d)
		if err != nil {
			continue
		}
		names, err := namesIn(fd, 20000)
		unix.Close(fd)
		if err != nil || len(names) >= 20000 {
			continue
		}
		s.listed[d] = &listing{names: names}
	}
}

// settle waits until the clock that files are stamped with has moved on from the
// inputs that we know of: what changes from now on then has another time. It is a
// few milliseconds, and only for what was written in the last few. Of a program that may
// read anything, we know none: often they were made by the call before.
func (s *Session) settle() {
	if s.call.Kind == Any {
		began := staging.Now()
		for n := 0; n < 20 && staging.Now() == began; n++ {
			time.Sleep(time.Millisecond)
		}
		return
	}
	for _, f := range s.call.Inputs {
		id, err := staging.StatPath(s.call.abs(f), staging.FollowLinks)
		for n := 0; err == nil && n < 20 && id.CTime >= int64(staging.Now()) && id.CTime < int64(staging.Now())+int64(20*time.Millisecond); n++ {
			time.Sleep(time.Millisecond)
		}
	}
}
