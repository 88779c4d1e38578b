package staging

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/backends"
)

// # Whose rights
//
// Of a file that everybody may read it makes no difference who looks. Of any other
// one the store may know what is in it, or what came of a command that could not read
// it, from somebody else: the same user with other groups, root and a user, users who
// share a store. So each time that something is said of it,
//
//   - who asks must be allowed to read it, if its content was read: nobody is told
//     more than running the command would tell;
//   - that the command could not read it, or only asked, is a fact together with what
//     we may do with it;
//   - a path that cannot be looked at because a directory is closed to us is another
//     fact than one that is not there;
//   - root may do everything, and what its command may do is another question. There
//     the fact says who the command is.

// What is said of a directory that could not be listed, and of a path that cannot be
// looked at.
const (
	notListed = "not listed"
	closed    = "closed"
)

// private says whether the permissions let some read and not others.
func private(mode uint32) bool { return mode&0o444 != 0o444 }

// rights is what is to be known of a file of this mode besides the mode, where it is
// not the same for everybody.
func (w *HostWitness) rights(host string, mode uint32) string {
	if exec := mode & 0o111; !private(mode) && (exec == 0 || exec == 0o111) {
		return ""
	}
	if os.Geteuid() == 0 {
		return w.as()
	}
	b := []byte("--")
	if may(host, unix.R_OK) {
		b[0] = 'r'
	}
	if may(host, unix.X_OK) {
		b[1] = 'x'
	}
	return string(b)
}

// runs is who the command is, if we are root and the mode has not all of the bits.
func (w *HostWitness) runs(mode, bits uint32) string {
	if mode&bits == bits || os.Geteuid() != 0 {
		return ""
	}
	return w.as()
}

func (w *HostWitness) as() string {
	if w.As == nil {
		return "as root's"
	}
	return "as " + w.As()
}

// barred returns an error if the command is kept from what l asks of n, which is there.
func (c *scout) barred(n *node, l backends.Lookup) error {
	if c.by.Bars == nil {
		return nil
	}
	for at := n; at != nil; at = at.dir {
		bits := uint32(0o111)
		switch {
		case at.state != there:
			continue
		case at != n:
		case l.Op == backends.Exec:
			if at.id.Mode&0o111 == 0 && !at.id.isDir() {
				continue // root may not, either
			}
		case l.Op == backends.Stat && at.id.isDir(), l.Op == backends.Move:
			continue
		default:
			bits = 0o444
		}
		if at.id.Mode&bits != bits && c.by.Bars(at.host, bits, l) {
			return fmt.Errorf("%s of the host: the command may not read or pass it, while root may", at.path)
		}
	}
	return nil
}

func may(path string, what uint32) bool { return mayAt(unix.AT_FDCWD, path, what) }

func mayAt(dir int, name string, what uint32) bool {
	for {
		if err := unix.Faccessat(dir, name, what, unix.AT_EACCESS); err != unix.EINTR {
			return err == nil
		}
	}
}

// readable says whether we may read the file at path, which id describes.
func readable(path string, id *StatID) bool { return !private(id.Mode) || may(path, unix.R_OK) }
