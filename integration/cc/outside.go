package cc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/backends"
)

// A call may write to its project and to where its outputs are named; all else of the host
// is shown read-only. A program that wants to write elsewhere (a cache in the home
// directory, a module compiled beside its source) may go on without, and say nothing of it:
// then what it gave is not what it gives outside. So such a call is executed.

// errOutside is wrapped by errors that say what a run would have written to.
var errOutside = fmt.Errorf("it would be written to, which a sandbox does not allow: %w", ErrPlain)

// bookkeeping are parts of the names of files that programs count in what they do, and
// do not read for it: the Go commands have a file for each day and program, and Java a
// directory for each user.
var bookkeeping = []string{"/go/telemetry/", javasFiles}

// outside returns an error if the run tried to make or to write to something of the host
// that it could have written to without us, or left something in the sandbox's /tmp.
func (s *Session) outside(status *backends.Status) error {
	if s.told != nil || s.view.limits != nil {
		return nil
	}
	for _, l := range status.Lookups {
		if !l.Made {
			continue
		}
		p := path.Clean(l.Path)
		if slices.ContainsFunc(bookkeeping, func(part string) bool { return strings.Contains(p, part) }) {
			continue
		}
		host, shown := s.view.host(p)
		if l.Stays && !shown && s.view.asks(p) {
			return fmt.Errorf("%s, which stays: %w", p, errOutside)
		}
		if shown && s.isWritable(path.Dir(host)) && isStream(host) { // in the layer nobody is at its other end
			return fmt.Errorf("%s: %w", p, errStream)
		}
		if s.wouldWrite(p, l.Op) {
			return fmt.Errorf("%s: %w", p, errOutside)
		}
	}
	return nil
}

// wouldWrite says whether a call that could make p, or give it or take its name, does
// something on the host that it could not do in the sandbox.
func (s *Session) wouldWrite(p string, op backends.Op) bool {
	host, ok := s.view.host(p)
	if !ok {
		return false // in the sandbox there was something else, that it could write to or not
	}
	dir, err := realPath(path.Dir(host))
	if err != nil || s.isWritable(dir) {
		return false
	}
	at := path.Join(dir, path.Base(host))
	info, err := os.Stat(at) // where a link leads is written to
	switch {
	case errors.Is(err, fs.ErrNotExist):
		at = dir
	case err != nil, info.IsDir(), op == backends.Stat: // mkdir and the like fail where something is
		return false
	case op == backends.Move:
		at = dir
	default:
		if real, err := filepath.EvalSymlinks(at); err != nil || s.isWritable(path.Dir(real)) {
			return false
		}
		if !info.Mode().IsRegular() {
			return false
		}
	}
	return canWrite(at)
}

// isWritable says whether the sandbox had a layer over dir that takes what is written.
func (s *Session) isWritable(dir string) bool {
	for _, b := range s.binds {
		if _, below := under(dir, s.view.covered(b)); b.Over && below {
			return true
		}
	}
	return false
}
