package share

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// errNobody says that nobody listens at the socket.
var errNobody = errors.New("no agent is running")

// SocketPath is where the user's agent listens: below XDG_RUNTIME_DIR, else in
// a directory of the user's below /tmp, which is made. SBX_REMOTE_SOCKET, where
// it is set, says another place. Whoever could write to that directory could
// give us results: so it must be ours alone.
func SocketPath() (string, error) {
	if p := os.Getenv("SBX_REMOTE_SOCKET"); p != "" {
		return p, checkPath(p)
	}
	uid := os.Geteuid()
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if dir != "" && private(dir, uid) == nil {
		dir = filepath.Join(dir, "sbx-action")
	} else {
		dir = "/tmp/sbx-action-" + strconv.Itoa(uid)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("a place for the agent's socket: %w", err)
	}
	if err := private(dir, uid); err != nil {
		return "", err
	}
	p := filepath.Join(dir, "remote-1.sock")
	return p, checkPath(p)
}

// checkPath wants what fits into a socket's address.
func checkPath(p string) error {
	if len(p) > 107 {
		return fmt.Errorf("the path %s is too long for a socket: set SBX_REMOTE_SOCKET to one of at most 107 bytes", p)
	}
	return private(filepath.Dir(p), os.Geteuid())
}

// private says why dir is not a directory that only this user can use, or nil.
func private(dir string, uid int) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: dir, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != uid || st.Mode&0o077 != 0 {
		return fmt.Errorf("%s must be a directory that belongs to you and that nobody else can enter (mode 0700): remove it, or set SBX_REMOTE_SOCKET to a path in another", dir)
	}
	return nil
}

// connect connects to the agent.
func connect(socket string) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: socket})
	if err == nil {
		err = ours(fd)
	}
	if err == nil {
		err = unix.SetNonblock(fd, true) // so that deadlines work
	}
	if err != nil {
		unix.Close(fd)
		if err == unix.ENOENT || err == unix.ECONNREFUSED {
			return nil, errNobody
		}
		return nil, fmt.Errorf("connect to %s: %w", socket, err)
	}
	return os.NewFile(uintptr(fd), socket), nil
}

// ours says whether the other end belongs to this user.
func ours(fd int) error {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return err
	}
	if int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("user %d listens there, not you", cred.Uid)
	}
	return nil
}

// Listening says whether somebody of ours listens at the socket.
func Listening(socket string) bool {
	conn, err := connect(socket)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}
