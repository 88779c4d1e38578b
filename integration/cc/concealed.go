package cc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

// A call sees of /tmp, /run and /dev/shm only what it names, its variables name, and its
// project. It may ask for more, by a link or in a source. Where it asks in vain on the
// host, too, that is a fact like any other. Where there is something on the host, what
// the call gave in the sandbox is not what the compiler alone would have given: then it
// is executed, and a note says so, for the next time.

// errConcealed is wrapped by errors that say what a call was not shown.
var errConcealed = fmt.Errorf("it is not shown to a call that does not name it: %w", ErrPlain)

// private are the directories of which not all is shown.
var private = []string{"/tmp", "/run", "/dev/shm"}

// asks says whether p, which the view does not show, is a place of the host that a
// call could name: what leads to a place that is shown is shown as an empty directory.
func (v *view) asks(p string) bool {
	if v.limits != nil {
		return false
	}
	for _, dir := range private {
		rest, ok := under(p, dir)
		if !ok || rest == "" {
			continue
		}
		for _, list := range [][]string{v.zones, v.shown} {
			for _, d := range list {
				if _, leads := under(d, p); leads {
					return false
				}
			}
		}
		return true
	}
	return false
}

// isStdin says whether p is a name of the standard input of who asks. A compiler that is
// not told to read it has none in the sandbox, but may be asked to by a source.
func isStdin(p string) bool {
	if p == "/dev/stdin" || p == "/dev/fd/0" {
		return true
	}
	rest, ok := strings.CutPrefix(p, "/proc/")
	return ok && strings.HasSuffix(rest, "/fd/0")
}

// isDescriptor says whether p is a name of a descriptor of who asks, or of another
// process.
func isDescriptor(p string) bool {
	dir, n := path.Split(p)
	if n == "" || strings.Trim(n, "0123456789") != "" {
		return false
	}
	return dir == "/dev/fd/" || strings.HasPrefix(dir, "/proc/") && strings.HasSuffix(dir, "/fd/")
}

// A concealment is what a run asked for and was not shown.
type concealment struct {
	made   map[string]bool // what the run made itself, in places that are not shown
	found  string          // the first thing of the others that the host has, or ""
	looked bool            // all look-ups were followed
	active bool            // they are being followed
}

// host is where on the host is what the call sees at p, or what it would see there. It is
// asked for each step of every look-up, also where links lead.
func (s *Session) host(p string) (string, bool) {
	host, ok := s.view.host(p)
	if ok || s.view.told || !s.view.asks(p) {
		if c := &s.concealed; c.active && c.found == "" && !ok && s.call.Kind != Any && isStdin(p) {
			c.found = p
		}
		return host, ok
	}
	if c := &s.concealed; c.active {
		if s.makesItsOwn(p) && c.below(p) {
			return "", false
		}
		if c.found == "" {
			if _, err := os.Lstat(p); !errors.Is(err, fs.ErrNotExist) {
				c.found = p
			}
		}
	}
	return p, true
}

// makesItsOwn says whether what the run made at p, or above it, is a thing of its own
// whatever the host has there: a compiler's temporary files, which have names that are drawn,
// and those of Java's machine. Any other program may make a directory that is there
// already, and look at what is in it.
func (s *Session) makesItsOwn(p string) bool {
	return s.call.Kind != Any && !s.call.Script || strings.HasPrefix(p, javasFiles)
}

// below says whether the run made p, or something that p is below.
func (c *concealment) below(p string) bool {
	for up := p; up != "/"; up = path.Dir(up) {
		if c.made[up] {
			return true
		}
	}
	return false
}

// follow begins to note what the look-ups of a run ask for.
func (s *Session) follow(lookups []backends.Lookup) {
	s.concealed = concealment{made: map[string]bool{}, active: true}
	for _, l := range lookups {
		if l.Made {
			if p := path.Clean(l.Path); s.view.asks(p) {
				s.concealed.made[p] = true
			}
		}
		// In the sandbox there are none of the caller's beyond the standard ones: what is
		// there, the compiler has opened.
		if l.Op == backends.Open && s.concealed.found == "" && s.call.Kind != Any && s.shared == "" && isDescriptor(l.Path) {
			s.concealed.found = l.Path
		}
	}
}

// withheld returns an error if the run that ended asked for something that it was not
// shown.
func (s *Session) withheld(ctx context.Context, status *backends.Status, readOnly bool) error {
	if s.told != nil || s.view.limits != nil {
		return nil
	}
	if !status.Complete { // what is known of it may tell nevertheless
		all := *status
		all.Complete = true
		status = &all
	}
	if c := &s.concealed; !c.looked && c.found == "" && s.barred == "" { // it was not sealed, or not to the end
		w := *s.witness
		w.Notes, w.Vet, w.Hold = forgetful{}, nil, false
		s.follow(status.Lookups)
		_, _ = w.Seal(ctx, s.action, status, s.witness.Clock())
		s.concealed.active = false
	}
	if err := s.unwritten(status.Lookups); err != nil || s.barred != "" {
		if !readOnly {
			_ = s.parts.Notes.PutNote(ctx, s.concealedKey(), []byte(s.barred))
		}
		_, at, _ := strings.Cut(s.barred, " ")
		return fmt.Errorf("%s: %w", at, errBarred)
	}
	found := s.concealed.found
	if found == "" {
		return nil
	}
	if !readOnly {
		_ = s.parts.Notes.PutNote(ctx, s.concealedKey(), []byte(found))
	}
	return fmt.Errorf("%s: %w", found, errConcealed)
}

func (s *Session) concealedKey() action.Digest {
	return action.Sum(s.parts.Function, []byte("cc concealed\x00"+s.Key().String()))
}

// known returns an error if an earlier run asked for something that it was not shown,
// and that is still there.
func (s *Session) known(ctx context.Context) error {
	data, err := s.parts.Notes.Note(ctx, s.concealedKey())
	if err != nil || len(data) == 0 || strings.ContainsRune(string(data), 0) {
		return nil
	}
	if data[0] != '/' {
		if !s.stillBarred(string(data)) {
			return nil
		}
		return fmt.Errorf("%s: %w", data, errBarred)
	}
	if _, err := os.Lstat(string(data)); err != nil {
		return nil
	}
	return fmt.Errorf("%s: %w", data, errConcealed)
}

// forgetful are notes that nobody takes.
type forgetful struct{}

// Note implements [action.Notes].
func (forgetful) Note(context.Context, action.Digest) ([]byte, error) { return nil, action.ErrMiss }

// PutNote implements [action.Notes].
func (forgetful) PutNote(context.Context, action.Digest, []byte) error { return nil }
