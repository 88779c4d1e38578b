package foreign

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/internal/helper"
)

// A sandbox is one run of a tool on its way from start to end. It begins as our
// helper in the mode around, becomes the tool, and has our helper in the mode
// init below it. All three have the same socket, one after the other.
type sandbox struct {
	pid    int      // of the tool
	pidfd  int      // the same, or -1
	socket int      // to the helper
	errors *os.File // what the tool has to say

	door *door // where a remote init connects, or nil

	machine Machine // of a tool that has one, else nil

	mu    sync.Mutex
	over  bool // guarded by mu: pidfd, socket and inner are closed, or about to be
	inner int  // guarded by mu: the socket of a remote init, or -1
}

func (b *Backend) run(ctx context.Context, spec *backends.Spec) (*backends.Status, error) {
	if err := b.prepare(); err != nil {
		return nil, err
	}
	var machine Machine
	if b.tool.Machine != nil {
		var err error
		if machine, err = b.tool.Machine(); err != nil {
			return nil, err
		}
		defer machine.Close()
	}
	s, err := b.start(machine)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, s.cancel)
	st, err := s.converse(b, spec)
	stopped := stop()
	patience := ending
	if err != nil || !stopped {
		s.cancel()
		patience = grace
	}
	defer time.AfterFunc(patience, s.kill).Stop()
	said := s.wait()
	if !stopped {
		if st != nil && st.Root != nil {
			st.Root.Close()
		}
		return nil, context.Cause(ctx)
	}
	if errors.Is(err, helper.ErrGone) || errors.Is(err, unix.EPIPE) {
		return nil, fmt.Errorf("%s could not make the sandbox: %s", filepath.Base(b.tool.Program), said)
	}
	return st, err
}

// start starts the helper around. It gets its orders by converse.
func (b *Backend) start(machine Machine) (*sandbox, error) {
	program, err := helper.Binary()
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("sandbox-errors", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a file in memory: %w", err)
	}
	s := &sandbox{errors: os.NewFile(uintptr(fd), "sandbox-errors"), inner: -1, machine: machine}
	if b.tool.Remote {
		if s.door, err = openDoor(); err != nil {
			s.errors.Close()
			return nil, err
		}
	}
	sockets, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		s.errors.Close()
		s.door.close()
		return nil, fmt.Errorf("make a socket: %w", err)
	}
	s.socket = sockets[0]
	argv := []string{"sbx-helper", "around", strconv.Itoa(os.Geteuid()), strconv.Itoa(os.Getegid())}
	if b.unprivileged {
		argv = append(argv, "user")
		if b.tool.UserRoot {
			argv = append(argv, "root")
		}
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	files := []uintptr{null.Fd(), s.errors.Fd(), s.errors.Fd(), uintptr(sockets[1]), program.Fd()}
	if machine != nil {
		for _, f := range machine.Files() {
			files = append(files, f.Fd())
		}
	}
	started := b.begin(func() {
		// The number that it has when the others are in their places.
		s.pid, err = syscall.ForkExec(fmt.Sprintf("/proc/self/fd/%d", LastFD), argv, &syscall.ProcAttr{
			Dir:   "/",
			Env:   []string{},
			Files: files,
			Sys:   &syscall.SysProcAttr{Setsid: true, PidFD: &s.pidfd}, // Ctrl-C is for us to hear
		})
	})
	err = errors.Join(started, err)
	unix.Close(sockets[1])
	if err != nil {
		unix.Close(s.socket)
		s.errors.Close()
		s.door.close()
		return nil, fmt.Errorf("start the sandbox helper: %w", err)
	}
	return s, nil
}

// begin runs f on the thread that lives as long as the backend.
func (b *Backend) begin(f func()) error {
	done := make(chan bool)
	start := func() {
		defer close(done)
		f()
	}
	select {
	case b.starts <- start:
		<-done
		return nil
	case <-b.stop:
		return errors.New("the backend is closed")
	}
}

// cancel may be called by anybody, at any time. The init ends everything when
// its socket does; a tool that has not come so far goes on to an init that has
// nothing to do.
func (s *sandbox) cancel() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	unix.Shutdown(s.socket, unix.SHUT_RDWR)
	if s.inner >= 0 {
		unix.Shutdown(s.inner, unix.SHUT_RDWR)
	}
	if s.machine != nil {
		s.machine.Kill()
	}
}

// endAfter ends a sandbox in which our init has not ended the command long after its time
// was over, or has not said so: gVisor, on a busy machine, may not let it run for as long as
// the command goes on forking. The function that is returned says whether that was done.
func (s *sandbox) endAfter(wall time.Duration) func() bool {
	if wall == 0 || s.machine != nil { // one boots first
		return func() bool { return false }
	}
	timer := time.AfterFunc(wall+ending, func() {
		s.cancel()
		s.kill()
	})
	return func() bool { return !timer.Stop() }
}

// grace is how long a tool that was cancelled may take. A file system of the
// network that does not answer can hold it for ever.
const grace = 3 * time.Second

// ending is how long a tool may take to end after our init, which is process 1 of the
// sandbox, has. On a busy machine gVisor (runsc of 2022) kept processes of a command
// that forks without end for as long as these wanted to live.
var ending = 20 * time.Second

// kill ends the tool, and what it has started dies with it.
func (s *sandbox) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	unix.PidfdSendSignal(s.pidfd, unix.SIGKILL, nil, 0)
}

// wait waits until all processes of the sandbox are gone, and returns what
// the tool has said. It ends after its child, the process 1, which ends after
// all others.
func (s *sandbox) wait() string {
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
	if s.inner >= 0 {
		unix.Close(s.inner)
	}
	s.door.close()
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

// converse has the root made, then the tool start, and the command run.
func (s *sandbox) converse(b *Backend, spec *backends.Spec) (*backends.Status, error) {
	ready, err := s.makeRoot(b, spec)
	if err != nil {
		return nil, err
	}
	defer ready.Close()
	if err := helper.Continue(s.socket, ready.Seq); err != nil {
		return nil, err
	}
	req := helper.NewRequest(spec)
	req.Flags &^= helper.KeepRoot | helper.FillRoot
	req.Label, req.Context = "", "" // the tool has seen to them
	switch {
	case b.tree():
		req.Flags |= helper.HasTree
		req.Tree = ready.Tree
	case b.tool.Shell != nil && !b.tool.HostShell:
		req.Target = "/sbx"
	}
	if b.tool.SetName {
		req.Flags |= helper.SetName
	}
	if b.tool.LoUp && spec.Network == backends.NetworkNone {
		req.Flags |= helper.LoUp
	}
	req.Seq, req.Memory, req.Procs = 2, spec.Limits.Memory, spec.Limits.Pids
	begun := time.Now()
	killed := s.endAfter(spec.Limits.Wall)
	reply, err := s.exchange(b, req, spec)
	var st *backends.Status
	switch late := killed(); {
	case err != nil && late:
		st, err = &backends.Status{TimedOut: true, Signal: int(unix.SIGKILL), Code: 128 + int(unix.SIGKILL), Usage: backends.Usage{Wall: time.Since(begun)}}, nil
	case err != nil:
		return nil, err
	case reply.Kind != helper.Done:
		defer reply.Close()
		return nil, unexpected(reply)
	default:
		st, err = reply.BackendStatus(spec)
	}
	if err == nil && spec.KeepRoot {
		st.Root, ready.Root = ready.Root, nil
	}
	return st, err
}

// exchange hands the request to our init, and waits for the answer.
func (s *sandbox) exchange(b *Backend, req *helper.Request, spec *backends.Spec) (*helper.Reply, error) {
	if s.machine != nil {
		req.Target = "/root"
		req.Flags |= helper.SetName | helper.LoUp
		defer s.machine.Kill() // and with it the tool
		ended, err := s.watch()
		if err != nil {
			return nil, err
		}
		reply, err := s.machine.Exchange(b.begin, req, spec)
		if ended() && err != nil { // it waits for a tool that says why
			err = fmt.Errorf("%w: %w", helper.ErrGone, err)
		}
		return reply, err
	}
	socket := s.socket
	if b.tool.Remote {
		if spec.Network == backends.NetworkNone {
			req.Flags |= helper.OwnNet
		}
		var err error
		if socket, err = s.admit(); err != nil {
			return nil, err
		}
	}
	// Who does not listen any more may have said why.
	notSent := req.Send(socket)
	for {
		reply, err := helper.Receive(socket, req)
		if err != nil {
			return nil, errors.Join(notSent, err)
		}
		if reply.Kind != helper.HasTerminal || spec.Terminal == nil || reply.Root == nil {
			return reply, nil
		}
		spec.Terminal(reply.Root)
	}
}

// watch ends the machine when the tool ends, until the function that it returns is
// called, which says whether that happened.
func (s *sandbox) watch() (func() bool, error) {
	var wake [2]int
	if err := unix.Pipe2(wake[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	first := make(chan bool, 1)
	go func() {
		fds := []unix.PollFd{{Fd: int32(s.pidfd), Events: unix.POLLIN}, {Fd: int32(wake[0]), Events: unix.POLLIN}}
		for {
			if _, err := unix.Poll(fds, -1); err != unix.EINTR {
				break
			}
		}
		ended := fds[0].Revents != 0 && fds[1].Revents == 0
		if ended {
			s.machine.Kill()
		}
		first <- ended
	}()
	return func() bool {
		unix.Close(wake[1])
		ended := <-first
		unix.Close(wake[0])
		return ended
	}, nil
}

// init is the command line of our init. The program cannot be named: it is a
// file in memory.
func (b *Backend) init(d *door) []string {
	fd := LastFD
	if b.tool.Stdio {
		fd = 1
	}
	args := []string{"/proc/self/fd/" + strconv.Itoa(fd), "init"}
	if b.tool.Stdio {
		args = append(args, "stdio")
	}
	if d != nil {
		args = append(args, "connect", d.name)
	}
	if b.tool.HostShell || b.tool.InitFile {
		args = append(args, "gone")
		args[0] = helper.InitPath
	}
	if b.tool.OldCalls {
		args = append(args, "old")
	}
	switch {
	case b.tool.AsUser:
		args = append(args, "user", "nest", "name")
	case b.tool.UserRoot && b.unprivileged:
		args = append(args, "user", "nest")
	}
	return args
}

func unexpected(r *helper.Reply) error {
	if r.Kind == helper.Failed {
		return fmt.Errorf("make the sandbox: %w", r.Err)
	}
	return fmt.Errorf("the sandbox's init answered with %d", r.Kind)
}
