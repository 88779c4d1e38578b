package foreign

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/internal/helper"
)

// A door is where an init connects that somebody else starts: an abstract socket,
// so that nothing of it can be left behind.
type door struct {
	name string
	fd   int
}

func openDoor() (*door, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket: %w", err)
	}
	var secret [16]byte
	_, err = unix.Getrandom(secret[:], 0)
	d := &door{name: fmt.Sprintf("sbx-%x", secret), fd: fd}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: "@" + d.name})
	}
	if err == nil {
		err = unix.Listen(fd, 8)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make a socket: %w", err)
	}
	return d, nil
}

// close may be called on nil.
func (d *door) close() {
	if d != nil {
		unix.Close(d.fd)
	}
}

// admit waits until the init connects, or the tool, which has the other end of our
// socket, is gone. Only who is root, or we ourselves, is let in.
func (s *sandbox) admit() (int, error) {
	fds := []unix.PollFd{{Fd: int32(s.door.fd), Events: unix.POLLIN}, {Fd: int32(s.socket)}}
	for {
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			return -1, fmt.Errorf("wait for the init: %w", err)
		}
		if fds[0].Revents&unix.POLLIN != 0 {
			fd, _, err := unix.Accept4(s.door.fd, unix.SOCK_CLOEXEC)
			if err == nil && s.welcome(fd) {
				return fd, nil
			}
		} else if fds[1].Revents != 0 {
			return -1, helper.ErrGone
		}
	}
}

// welcome makes fd the socket of the init, if it is.
func (s *sandbox) welcome(fd int) bool {
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || peer.Uid != 0 && int(peer.Uid) != os.Geteuid() {
		unix.Close(fd)
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inner = fd
	return true
}

// Program returns what Init is, for images that have it.
func Program() ([]byte, error) {
	f, err := helper.Binary()
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(f, 0, st.Size()))
}
