package bubblewrap

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/internal/helper"
)

// A sandbox is one bwrap on its way from start to end. It begins as our helper
// in the mode around, becomes bwrap, and has our helper in the mode init as its
// child. All three have the same socket, one after the other.
type sandbox struct {
	pid    int      // of bwrap
	pidfd  int      // the same, or -1
	socket int      // to the helper
	args   *os.File // bwrap's options; it waits for their end
	errors *os.File // what bwrap has to say

	mu   sync.Mutex
	over bool // guarded by mu: pidfd and socket are closed, or about to be
}

// Descriptors that bwrap inherits, and passes on. The first is the helper's.
const (
	argsFD   = 4 // bwrap closes it
	helperFD = 5 // the program of the init
)

func (b *Backend) run(ctx context.Context, spec *backends.Spec) (*backends.Status, error) {
	s, err := b.start()
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, s.cancel)
	st, err := s.converse(b, spec)
	stopped := stop()
	if err != nil || !stopped {
		s.cancel()
		defer time.AfterFunc(grace, s.kill).Stop()
	}
	said := s.wait()
	if !stopped {
		if st != nil && st.Root != nil {
			st.Root.Close()
		}
		return nil, context.Cause(ctx)
	}
	if errors.Is(err, helper.ErrGone) || errors.Is(err, unix.EPIPE) {
		return nil, fmt.Errorf("bwrap could not make the sandbox: %s", said)
	}
	return st, err
}

// start starts the helper around. It gets its orders by converse.
func (b *Backend) start() (*sandbox, error) {
	program, err := helper.Binary()
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("bwrap-errors", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a file in memory: %w", err)
	}
	s := &sandbox{errors: os.NewFile(uintptr(fd), "bwrap-errors")}
	argsR, argsW, err := os.Pipe()
	if err != nil {
		s.errors.Close()
		return nil, err
	}
	defer argsR.Close()
	s.args = argsW
	sockets, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		s.errors.Close()
		s.args.Close()
		return nil, fmt.Errorf("make a socket: %w", err)
	}
	s.socket = sockets[0]
	argv := []string{"sbx-helper", "around", strconv.Itoa(os.Geteuid()), strconv.Itoa(os.Getegid())}
	if b.unprivileged {
		argv = append(argv, "user")
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	done := make(chan bool)
	start := func() {
		defer close(done)
		s.pid, err = syscall.ForkExec(fmt.Sprintf("/proc/self/fd/%d", program.Fd()), argv, &syscall.ProcAttr{
			Dir:   "/",
			Env:   []string{},
			Files: []uintptr{null.Fd(), s.errors.Fd(), s.errors.Fd(), uintptr(sockets[1]), argsR.Fd(), program.Fd()},
			Sys:   &syscall.SysProcAttr{Setsid: true, PidFD: &s.pidfd}, // Ctrl-C is for us to hear
		})
	}
	select {
	case b.starts <- start:
		<-done
	case <-b.stop:
		err = errors.New("the backend is closed")
	}
	unix.Close(sockets[1])
	if err != nil {
		unix.Close(s.socket)
		s.errors.Close()
		s.args.Close()
		return nil, fmt.Errorf("start the sandbox helper: %w", err)
	}
	return s, nil
}

// cancel may be called by anybody, at any time. The init ends everything when its socket does; a bwrap that has not come so far
// goes on without its options, to an init that has nothing to do.
func (s *sandbox) cancel() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	unix.Shutdown(s.socket, unix.SHUT_RDWR)
	s.args.Close()
}

// grace is how long a bwrap that was cancelled may take. A file system of the
// network that does not answer can hold it for ever.
const grace = 3 * time.Second

// kill ends bwrap, and what it has started dies with it.
func (s *sandbox) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	unix.PidfdSendSignal(s.pidfd, unix.SIGKILL, nil, 0)
}

// wait waits until all processes of the sandbox are gone, and returns what
// bwrap has said. Bwrap ends after its child, the process 1, which ends after
// all others.
func (s *sandbox) wait() string {
	s.args.Close()
	var status syscall.WaitStatus
	for {
		if _, err := syscall.Wait4(s.pid, &status, 0, nil); err != syscall.EINTR {
			break
		}
	}
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	unix.Close(s.socket)
	if s.pidfd >= 0 {
		unix.Close(s.pidfd)
	}
	defer s.errors.Close()
	said, _ := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", s.errors.Fd()))
	text, _, _ := strings.Cut(strings.TrimSpace(string(said)), "\n")
	text = strings.TrimPrefix(text, "bwrap: ")
	switch {
	case text != "":
		return text
	case status.Signaled():
		return "it died of " + status.Signal().String()
	}
	return fmt.Sprintf("it ended with status %d and said nothing", status.ExitStatus())
}

// converse has the root made, then bwrap start, and the command run.
func (s *sandbox) converse(b *Backend, spec *backends.Spec) (*backends.Status, error) {
	target, err := mountPlace(b.program, &spec.Root)
	if err != nil {
		return nil, err
	}
	root, err := s.makeRoot(b, spec, target)
	if err != nil {
		return nil, err
	}
	defer func() {
		if root != nil {
			root.Close()
		}
	}()
	mounts, err := mountPoints(root, spec, b.owner())
	if err != nil {
		return nil, err
	}
	notSent := s.sendArgs(b.options(spec, target, mounts))
	req := helper.NewRequest(spec)
	req.Flags &^= helper.KeepRoot | helper.FillRoot
	req.Seq, req.Memory, req.Procs = 2, spec.Limits.Memory, spec.Limits.Pids
	// Who does not listen any more may have said why.
	notSent = errors.Join(notSent, req.Send(s.socket))
	reply, err := helper.Receive(s.socket, req)
	if err != nil {
		return nil, errors.Join(notSent, err)
	}
	if reply.Kind != helper.Done {
		defer reply.Close()
		return nil, unexpected(reply)
	}
	st, err := reply.BackendStatus(spec)
	if err == nil && spec.KeepRoot {
		st.Root, root = root, nil
	}
	return st, err
}

func unexpected(r *helper.Reply) error {
	if r.Kind == helper.Failed {
		return fmt.Errorf("make the sandbox: %w", r.Err)
	}
	return fmt.Errorf("the sandbox's init answered with %d", r.Kind)
}

// makeRoot has the helper mount the root at target, and fills it. When it
// returns, the helper is becoming bwrap.
func (s *sandbox) makeRoot(b *Backend, spec *backends.Spec, target string) (*os.File, error) {
	req := helper.NewRequest(spec)
	req.Seq, req.Target, req.Dir = 1, target, "/"
	req.Args, req.Env = b.command(), nil
	req.Stdio, req.Binds, req.Wall = [3]*os.File{}, nil, 0
	req.Flags &= helper.FillRoot
	if err := req.Send(s.socket); err != nil {
		return nil, err
	}
	var filled error
	for {
		r, err := helper.Receive(s.socket, req)
		if err != nil {
			return nil, err
		}
		switch r.Kind {
		case helper.Ready:
			return r.Root, nil
		case helper.Fill:
			filled = spec.Root.Fill(r.Root)
			r.Close()
			if filled != nil {
				err = helper.GiveUp(s.socket, req.Seq)
			} else {
				err = helper.Continue(s.socket, req.Seq)
			}
			if err != nil {
				return nil, errors.Join(filled, err)
			}
		default:
			defer r.Close()
			if filled != nil {
				return nil, fmt.Errorf("fill the root: %w", filled)
			}
			return nil, unexpected(r)
		}
	}
}

// sendArgs tells bwrap its options, and lets it start.
func (s *sandbox) sendArgs(options []string) error {
	_, err := s.args.WriteString(strings.Join(options, "\x00") + "\x00")
	return errors.Join(err, s.args.Close())
}

// command is bwrap's command line. A bwrap that does not get its options, or not
// all of them, may well start the init without a sandbox; but no command comes
// then, and an init that is not the first of its processes refuses to work.
func (b *Backend) command() []string {
	return []string{b.program, "--args", strconv.Itoa(argsFD), "--", "/proc/self/fd/" + strconv.Itoa(helperFD), "init"}
}

// options are bwrap's, in the order in which it obeys them.
func (b *Backend) options(spec *backends.Spec, root string, mounts []backends.Bind) []string {
	o := []string{
		"--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try",
		"--hostname", backends.HostName,
		"--die-with-parent", "--new-session", "--as-pid-1", "--clearenv",
		"--cap-drop", "ALL",
	}
	if spec.Network == backends.NetworkNone {
		o = append(o, "--unshare-net")
	}
	if b.unprivileged {
		id := strconv.Itoa(backends.ID)
		o = append(o, "--unshare-user", "--disable-userns", "--uid", id, "--gid", id)
	} else {
		// What our init needs to start the command as another user, to
		// watch it wherever it looks, and to kill it. The command has none.
		for _, c := range []string{"SETUID", "SETGID", "SETPCAP", "KILL", "SYS_PTRACE", "CHOWN", "DAC_READ_SEARCH"} {
			o = append(o, "--cap-add", "CAP_"+c)
		}
	}
	o = append(
		o,
		"--bind", root, "/", "--proc", "/proc", "--dev", "/dev",
		"--perms", "1777", "--tmpfs", "/dev/shm", "--remount-ro", "/dev",
		"--perms", "1777", "--tmpfs", "/tmp",
	)
	for _, m := range mounts {
		o = append(o, "--ro-bind", m.Source, m.Target)
	}
	return append(o, "--chdir", "/")
}
