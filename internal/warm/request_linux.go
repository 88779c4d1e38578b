package warm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// A Call is what a caller wants to have done.
type Call struct {
	Why  uint32 // why the front has not answered it
	Args []string
	Env  []string

	pid   int
	mask  int
	slack uint32 // of its timers, in ns
	fds   [4]int // the standard streams, and the working directory
	conn  int
	proof proof
	facts func() string // finds out why the caller is not as we are, or ""; once
}

const (
	magic   = 0x32787773 // as in warm.c
	headLen = 4*6 + 8 + len(proof{})
	maxSize = 1 << 20
)

// Receive takes a call from a connection. It fails if whoever called is not of our
// user or says what cannot be; then the connection is closed.
func Receive(fd int) (*Call, error) {
	c, err := receive(fd)
	if err != nil {
		c.closeFiles()
		unix.Close(fd)
		return nil, err
	}
	return c, nil
}

func receive(fd int) (*Call, error) {
	c := &Call{fds: [4]int{-1, -1, -1, -1}}
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return c, err
	}
	if int(peer.Uid) != os.Geteuid() {
		return c, fmt.Errorf("user %d called", peer.Uid)
	}
	c.pid = int(peer.Pid)
	buf, control := make([]byte, 16<<10), make([]byte, unix.CmsgSpace(4*4))
	n, controls, flags, _, err := unix.Recvmsg(fd, buf, control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return c, err
	}
	c.takeFiles(control[:controls])
	if c.fds[0] < 0 || flags&unix.MSG_CTRUNC != 0 || n < headLen {
		return c, errors.New("the call is cut off")
	}
	le := binary.LittleEndian
	size := le.Uint64(buf[24:])
	if le.Uint32(buf) != magic {
		c.conn = fd
		c.Decline(nil) // so that another sbx-action goes on and says nothing
	}
	if le.Uint32(buf) != magic || size > maxSize || uint64(n) > uint64(headLen)+size {
		return c, errors.New("the call has another form")
	}
	copy(c.proof[:], buf[headLen-len(c.proof):])
	c.Why, c.mask, c.slack = le.Uint32(buf[4:]), int(le.Uint32(buf[16:])&0o777), le.Uint32(buf[20:])
	data := make([]byte, size)
	for at := copy(data, buf[headLen:n]); at < len(data); {
		n, err := unix.Read(fd, data[at:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return c, errors.New("the call is cut off")
		}
		at += n
	}
	if bytes.Count(data, []byte{0}) != int(le.Uint32(buf[8:]))+int(le.Uint32(buf[12:])) || len(data) == 0 || data[len(data)-1] != 0 {
		return c, errors.New("the call has another form")
	}
	var texts []string
	for text := range bytes.SplitSeq(data[:len(data)-1], []byte{0}) {
		texts = append(texts, string(text))
	}
	args := int(le.Uint32(buf[8:]))
	if args == 0 {
		return c, errors.New("the call has no arguments")
	}
	c.Args, c.Env = texts[:args], texts[args:]
	c.conn = fd
	return c, nil
}

// takeFiles takes the caller's descriptors out of what came beside its message, and
// closes what else there is.
func (c *Call) takeFiles(control []byte) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return
	}
	for i := range messages {
		if fds, err := unix.ParseUnixRights(&messages[i]); err == nil && len(fds) == len(c.fds) {
			copy(c.fds[:], fds)
		} else {
			for _, d := range fds {
				unix.Close(d)
			}
		}
	}
}

// Become makes this process, but for what is in own, what the caller is. Why says
// that it cannot be. Whether the caller is as own says is to be asked of Same before
// anything is done that others could notice; [Worker.Watch] begins to look.
func (c *Call) Become(own *Facts, startup []string) (why string) {
	c.facts = sync.OnceValue(func() string {
		theirs, err := FactsOf(c.pid)
		if err != nil {
			return err.Error()
		}
		return own.Differs(theirs)
	})
	for fd := range 3 {
		flags, err := unix.FcntlInt(uintptr(c.fds[fd]), unix.F_GETFL, 0)
		if err != nil || flags&(unix.O_NONBLOCK|unix.O_PATH) != 0 {
			return "its standard streams do not wait"
		}
	}
	if slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0); err != nil || uint32(slack) != c.slack {
		return "its timers are more or less exact" // the kernel tells only those with rights of it
	}
	os.Clearenv()
	for _, v := range c.Env {
		i := bytes.IndexByte([]byte(v), '=')
		if i <= 0 {
			return "its environment is odd"
		}
		if _, twice := os.LookupEnv(v[:i]); twice || os.Setenv(v[:i], v[i+1:]) != nil {
			return "its environment is odd"
		}
	}
	if !slices.Equal(Startup(), startup) {
		return "its environment has something else for Go"
	}
	if err := unix.Fchdir(c.fds[3]); err != nil {
		return "its working directory cannot be entered"
	}
	for fd := range 3 {
		if err := unix.Dup3(c.fds[fd], fd, 0); err != nil {
			return err.Error()
		}
	}
	unix.Umask(c.mask)
	c.closeFiles() // nothing of the caller's stays open after the answer
	return ""
}

// Same says why the caller is not as we are, or "". It waits until that is known, or
// finds it out itself.
func (c *Call) Same() (why string) { return c.facts() }

// Done tells the caller how it ended: with an exit code or, if signal is not 0, by
// that.
func (c *Call) Done(code int, signal unix.Signal) {
	if signal != 0 {
		c.answer('s', byte(signal), nil)
		return
	}
	c.answer('x', byte(code), nil)
}

// Reads tells the caller that its standard input is read, so that it does not go on
// with the rest of it if we die.
func (c *Call) Reads() { c.answer('r', 0, nil) }

// Decline tells the caller to do it itself. stdin is what it has as standard input
// then; nil: what it had.
func (c *Call) Decline(stdin *os.File) {
	var rights []byte
	if stdin != nil {
		rights = unix.UnixRights(int(stdin.Fd()))
	}
	c.answer('d', 0, rights)
}

func (c *Call) answer(kind, value byte, rights []byte) {
	// Who has gone need not be told.
	unix.Sendmsg(c.conn, []byte{kind, value, 0, 0, 0, 0, 0, 0}, rights, nil, unix.MSG_NOSIGNAL) //nolint:errcheck // see above
}

// Close ends the call; a caller that has no answer goes on without us.
func (c *Call) Close() {
	c.closeFiles()
	unix.Close(c.conn)
}

func (c *Call) closeFiles() {
	for i, d := range c.fds {
		if d >= 0 {
			unix.Close(d)
		}
		c.fds[i] = -1
	}
}
