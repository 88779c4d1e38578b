package helper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Process is a running helper.
type Process struct {
	Pid    int
	Socket int // our end; blocking
	life   int // our end, or -1
}

// Binary returns a memory file with the helper, the same one for the whole
// life of this process. It is sealed: nobody can change it.
var Binary = sync.OnceValues(func() (*os.File, error) {
	if program == "" {
		return nil, fmt.Errorf("there is no sandbox helper for %s, only for amd64 and arm64", runtime.GOARCH)
	}
	// The flag says that it is meant to be executed; kernels before 6.3 do
	// not know it.
	fd, err := unix.MemfdCreate("sbx-helper", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate("sbx-helper", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if errors.Is(err, unix.EACCES) {
		return nil, fmt.Errorf("make an executable file in memory: %w: set the sysctl vm.memfd_noexec to 0", err)
	}
	if err != nil {
		return nil, fmt.Errorf("make an executable file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "sbx-helper")
	if _, err := f.WriteString(program); err != nil {
		f.Close()
		return nil, fmt.Errorf("make an executable file in memory: %w", err)
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, fmt.Errorf("seal the helper: %w", err)
	}
	return f, nil
})

// StartSlot starts a helper in the mode slot with the given arguments. It is
// in a session of its own, so that Ctrl-C does not reach it.
func StartSlot(args ...string) (*Process, error) {
	executable, err := Binary()
	if err != nil {
		return nil, err
	}
	sockets, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket: %w", err)
	}
	var life [2]int
	if err := unix.Pipe2(life[:], unix.O_CLOEXEC); err != nil {
		unix.Close(sockets[0])
		unix.Close(sockets[1])
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	const none = ^uintptr(0)
	// Not os.StartProcess: its first use starts another process, just to
	// find out whether the kernel has pidfds.
	pid, err := syscall.ForkExec(fmt.Sprintf("/proc/self/fd/%d", executable.Fd()), append([]string{"sbx-helper", "slot"}, args...), &syscall.ProcAttr{
		Dir:   "/",
		Env:   []string{},
		Files: []uintptr{none, none, none, uintptr(sockets[1]), uintptr(life[0])},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	unix.Close(sockets[1])
	unix.Close(life[0])
	if err != nil {
		unix.Close(sockets[0])
		unix.Close(life[1])
		return nil, fmt.Errorf("start the sandbox helper: %w", err)
	}
	return &Process{Pid: pid, Socket: sockets[0], life: life[1]}, nil
}

// StartFence starts a helper in the mode fence, for one request. It is in a session
// of its own, so that Ctrl-C does not reach it.
func StartFence(args ...string) (*Process, error) {
	executable, err := Binary()
	if err != nil {
		return nil, err
	}
	sockets, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket: %w", err)
	}
	const none = ^uintptr(0)
	argv := append([]string{"sbx-helper", "fence", strconv.Itoa(os.Geteuid()), strconv.Itoa(os.Getegid())}, args...)
	pid, err := syscall.ForkExec(fmt.Sprintf("/proc/self/fd/%d", executable.Fd()), argv, &syscall.ProcAttr{
		Dir:   "/",
		Env:   []string{},
		Files: []uintptr{none, none, none, uintptr(sockets[1])},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	unix.Close(sockets[1])
	if err != nil {
		unix.Close(sockets[0])
		return nil, fmt.Errorf("start the sandbox helper: %w", err)
	}
	return &Process{Pid: pid, Socket: sockets[0], life: -1}, nil
}

// Cancel kills the request seq, now or as soon as the helper sees it.
func (p *Process) Cancel(seq uint64) {
	b := [8]byte{}
	binary.NativeEndian.PutUint64(b[:], seq)
	// Cannot block: a pipe takes 4096 bytes at least, and there is one
	// cancellation for each request.
	unix.Write(p.life, b[:]) //nolint:errcheck // if the helper is dead, so is the request
}

// Prepare makes a slot that is idle begin a sandbox, as one that was started with
// "begin" does, for the next request.
func (p *Process) Prepare() { p.Cancel(^uint64(0)) }

// End begins to end the helper and everything that it has started. Nothing but
// Wait may be called then.
func (p *Process) End() {
	if p.life >= 0 {
		unix.Close(p.life)
	}
	unix.Close(p.Socket)
}

// Wait waits for what End began.
func (p *Process) Wait() syscall.WaitStatus {
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(p.Pid, &status, 0, nil)
		if err != syscall.EINTR {
			return status
		}
	}
}

// Stop ends the helper and everything that it has started, and waits for that.
func (p *Process) Stop() syscall.WaitStatus {
	p.End()
	return p.Wait()
}
