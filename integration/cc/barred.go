package cc

import (
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"

	"github.com/sbx-action/sbx-action/backends"
)

// Where we are root, the call runs as who owns the working directory, and without root's
// capabilities. What it is then kept from, and root alone is not, makes it another call,
// whether it fails, says so or goes on without: it is executed.

// errBarred is wrapped by errors that say what root may use and the call may not.
var errBarred = fmt.Errorf("root may read or write it, which who the call runs as in the sandbox may not: %w", ErrPlain)

// bars is what [staging.HostWitness] asks, or nil where the call has our own rights.
func (s *Session) bars() func(string, uint32, backends.Lookup) bool {
	if s.told != nil || os.Geteuid() != 0 {
		return nil
	}
	return func(host string, bits uint32, l backends.Lookup) bool {
		switch {
		case l.Made:
			return false // see unwritten
		case bits == 0o111 && (isAbove(host, s.call.Dir) || l.Found && l.Op != backends.Exec):
			return false // it got there, or may have, from a working directory below one that is closed to it
		case bits == 0o444 && l.Op == backends.Stat && s.call.Kind != Any:
			return false // compilers that only look do not ask whether they may read
		case s.parts.Backend.Capabilities().Owner != backends.ID, s.granted(host, bits): // the first is asked here, because a hit opens no backend
			return false
		}
		s.barred = fmt.Sprintf("%o %s", bits, host)
		return true
	}
}

// granted says whether the permissions of a file of the host let the call, as who it runs
// as where we are root, do what takes these bits.
func (s *Session) granted(host string, bits uint32) bool {
	info, err := os.Stat(host)
	if err != nil {
		return true
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return true
	}
	id, _ := ownerOf(s.call.Dir)
	switch {
	case int(st.Uid) == id:
		bits &= 0o700
	case int(st.Gid) == id:
		bits &= 0o070
	default:
		bits &= 0o007
	}
	return uint32(st.Mode)&bits == bits
}

// unwritten returns an error if the call, which may be any program, tried to write to
// something, or to make it, in a place that it can write to, and was kept from that as
// root is not.
func (s *Session) unwritten(lookups []backends.Lookup) error {
	if s.call.Kind != Any || s.witness.Bars == nil || s.parts.Backend.Capabilities().Owner != backends.ID {
		return nil
	}
	for _, l := range lookups {
		host, ok := s.view.host(path.Clean(l.Path))
		if !l.Made || l.Op == backends.Stat || !ok {
			continue
		}
		dir, err := realPath(path.Dir(host))
		at := path.Join(dir, path.Base(host))
		if err != nil || !s.isWritable(dir) || s.written[at] {
			continue
		}
		if info, err := os.Stat(at); err != nil || l.Op == backends.Move || !info.Mode().IsRegular() {
			at = dir
		}
		if !s.granted(at, 0o222) {
			s.barred = fmt.Sprintf("%o %s", 0o222, at)
			return fmt.Errorf("%s: %w", at, errBarred)
		}
	}
	return nil
}

// stillBarred says whether the call would be kept from what a note says that it was.
func (s *Session) stillBarred(note string) bool {
	octal, host, _ := strings.Cut(note, " ")
	bits, err := strconv.ParseUint(octal, 8, 9)
	return err == nil && s.witness.Bars != nil && !s.granted(host, uint32(bits))
}

func isAbove(dir, p string) bool {
	_, ok := under(p, dir)
	return ok
}
