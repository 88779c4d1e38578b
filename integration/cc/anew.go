package cc

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/sbx-action/sbx-action/backends"
)

// A program that opens its output with O_CREAT and O_TRUNC, or gives a new file its name,
// does the same whatever was there: a file or nothing. So that is no input of it, and who
// builds a second time, or after a change, has a hit where the outputs of before are. What
// looks at the output in any other way, before or afterwards (its time, its size, whether
// it is there; O_APPEND, unlink), has another look-up for that, which stays an input.
//
// Of a name that is a link, a directory, or a file that could not be written to, this is not
// so; on a hit, [Session.InPlace] refuses these.

// unread are the look-ups without those of outputs that were only made anew: of these it
// is noted that their directories are there.
func (s *Session) unread(lookups []backends.Lookup) []backends.Lookup {
	known := make(map[string]bool, len(lookups)) // in another way
	for _, l := range lookups {
		if !l.Anew {
			known[path.Clean(l.Path)] = true
		}
	}
	list := make([]backends.Lookup, 0, len(lookups))
	for _, l := range lookups {
		if l.Anew && !known[path.Clean(l.Path)] && s.overwrites(l) {
			l = backends.Lookup{Path: path.Dir(path.Clean(l.Path)), Op: backends.Stat}
		}
		list = append(list, l)
	}
	return list
}

// overwrites says whether the run left a regular file where l looked, could do so for
// certain, and what is written to has the permissions of a new one, which it keeps.
func (s *Session) overwrites(l backends.Lookup) bool {
	p := l.Path
	host, ok := s.view.host(path.Clean(p))
	if !ok || strings.Contains(p, "/../") { // which may lead through links
		return false
	}
	dir, err := realPath(path.Dir(host))
	if err != nil {
		return false
	}
	at := path.Join(dir, path.Base(host))
	if !s.files[at] {
		return false
	}
	info, err := os.Lstat(at)
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	if err != nil || !info.Mode().IsRegular() || info.Mode()&0o200 == 0 {
		return false
	}
	if l.Op == backends.Open && info.Mode()&(fs.ModePerm|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) != 0o666&^fs.FileMode(s.mask()) {
		return false
	}
	st, isUnix := info.Sys().(*syscall.Stat_t)
	owner, known := ownerOf(s.call.Dir) // as whom it runs where we are root
	if !known || os.Geteuid() != 0 {
		owner = os.Geteuid()
	}
	return isUnix && int(st.Uid) == owner && st.Nlink == 1
}
