package native

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/internal/helper"
)

// An ahead is the beginning of a root that was made before there was a command: what
// backends.Ahead describes. Nil is none.
//
// The command that comes gets it only if it is what would be made now: if the same is
// wanted, and each path that is shown leads to the directory or file that it led to
// then. That one cannot have gone meanwhile with its inode number given to another,
// because the sandbox holds it. What was mounted or unmounted below it since is not
// seen here: the caller of [Backend.Prepare] has to notice, and call [Backend.Renew].
type ahead struct {
	of   *backends.Ahead
	done chan struct{} // closed when the rest is there

	err   error
	dir   *os.File // the root of the scratch
	shown []inode  // by the binds
}

// An inode is a file while something holds it.
type inode struct {
	dev, ino uint64
	kind     uint32
}

// beginAhead lets the slot at the other end of socket, which is about to offer a
// scratch, begin a root in it.
func beginAhead(socket int, of *backends.Ahead) *ahead {
	a := &ahead{of: of, done: make(chan struct{})}
	go func() {
		defer close(a.done)
		a.err = a.make(socket)
	}()
	return a
}

func (a *ahead) make(socket int) error {
	req := helper.NewRequest(&backends.Spec{Root: backends.Root{Binds: a.of.Binds}, Args: []string{"none"}})
	req.Flags |= helper.Begin
	offer, err := receiveKind(socket, req, helper.Fill)
	if err != nil {
		return err
	}
	a.dir = offer.Root
	if err := a.of.First(a.dir); err != nil {
		return fmt.Errorf("fill the root: %w", err)
	}
	if err := req.Send(socket); err != nil {
		return err
	}
	ready, err := receiveKind(socket, req, helper.Ready)
	if err != nil {
		return err
	}
	ready.Close()
	for _, b := range a.of.Binds {
		// As the sandbox sees it, with what is mounted there.
		i, err := inodeOf(int(a.dir.Fd()), b.Target[1:])
		if err != nil {
			return err
		}
		a.shown = append(a.shown, i)
	}
	return nil
}

func receiveKind(socket int, asked *helper.Request, kind helper.Kind) (*helper.Reply, error) {
	r, err := helper.Receive(socket, asked)
	if err != nil {
		return nil, err
	}
	if r.Kind != kind {
		r.Close()
		return nil, errors.Join(r.Err, fmt.Errorf("the sandbox gave answer %d, not %d", r.Kind, kind))
	}
	return r, nil
}

func inodeOf(dir int, path string) (inode, error) {
	var st unix.Stat_t
	for {
		err := unix.Fstatat(dir, path, &st, 0)
		if err == unix.EINTR {
			continue
		}
		return inode{st.Dev, st.Ino, st.Mode & unix.S_IFMT}, err
	}
}

// wait waits until all is made, and says whether it was.
func (a *ahead) wait() bool {
	if a == nil {
		return true
	}
	<-a.done
	return a.err == nil
}

// serves says whether the root of spec begins with what was made.
func (a *ahead) serves(spec *backends.Spec) bool {
	want := spec.Root.Ahead
	if want == nil || want.Key != a.of.Key || !slices.Equal(want.Binds, a.of.Binds) || spec.Vary != nil || spec.SELinux != nil {
		return false
	}
	for i, b := range want.Binds {
		if now, err := inodeOf(unix.AT_FDCWD, b.Source); err != nil || now != a.shown[i] {
			return false
		}
	}
	return true
}

// drop waits, and gives up what is left of it.
func (a *ahead) drop() {
	if a == nil {
		return
	}
	<-a.done
	if a.dir != nil {
		a.dir.Close()
	}
}
