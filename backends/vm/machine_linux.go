package vm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/internal/helper"
)

// The ports of a machine, which internal/helper/src/guest.c knows, too: control, and
// the three streams of the command.
//
// On the control port we send: uint32 size, joined; and the request of that size, as
// [helper.Request.Encode] makes it. Joined is 1 if standard error goes where
// standard output does. The machine sends the eight bytes of hello when it has booted,
// and then: uint64 written[2], how much it has written to the ports of standard output
// and error; uint32 logSize, 0; the reply and the log, for [helper.Decode].
//
// To the port of standard input go pieces of up to 64 KiB, each with its size as a
// uint32 before it, and at the end a size of 0.
const (
	control = iota
	stdin
	stdout
	stderr
	nports
)

const (
	hello    = "sbx boot"
	wordSize = 24

	// bootTime is how long a machine may take until it says hello, on a host that
	// has much else to do.
	bootTime = 3 * time.Minute
)

type port struct{ ours, theirs *os.File }

// A machine is one QEMU: it runs one command.
type machine struct {
	*hypervisor
	kernel        *kernel
	initramfs     *os.File
	listen, share *os.File // of virtiofsd, and the end of QEMU
	ports         [nports]port
	said, console *os.File // what QEMU, and the kernel in it, have to say

	mu     sync.Mutex
	cmd    *exec.Cmd   // guarded by mu; nil before the start
	killed bool        // guarded by mu
	wake   [2]*os.File // a pipe, whose end ends the pump of standard input
}

// Files implements [foreign.Machine].
func (m *machine) Files() []*os.File { return []*os.File{m.listen} }

// Kill implements [foreign.Machine].
func (m *machine) Kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.killed = true
	if m.cmd != nil {
		m.cmd.Process.Kill()
	}
}

// Close implements [foreign.Machine].
func (m *machine) Close() {
	m.Kill()
	if m.cmd != nil {
		m.cmd.Wait() //nolint:errcheck // it was killed
	}
	files := []*os.File{m.listen, m.share, m.said, m.console, m.wake[0], m.wake[1]}
	for _, p := range m.ports {
		files = append(files, p.ours, p.theirs)
	}
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}

// Exchange implements [foreign.Machine].
func (m *machine) Exchange(begin func(func()) error, req *helper.Request, spec *backends.Spec) (*helper.Reply, error) {
	if err := m.start(begin); err != nil {
		return nil, err
	}
	reply, err := m.talk(req, spec)
	if err != nil {
		m.Kill()
		return nil, fmt.Errorf("%w: %s", err, m.why())
	}
	return reply, nil
}

// start starts QEMU on the thread that lives as long as the backend, as it dies with
// its parent.
func (m *machine) start(begin func(func()) error) error {
	program, err := exec.LookPath(m.program)
	if err != nil {
		return err
	}
	cmd := &exec.Cmd{
		Path: program, Env: []string{"PATH=/usr/bin:/bin", "HOME=/"}, Dir: "/",
		Stdout: m.said, Stderr: m.said,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
	}
	if os.Geteuid() == 0 && m.accel == "tcg" { // which needs no device of the host
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: backends.ID, Gid: backends.ID}
	}
	fd := func(f *os.File) int {
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		return 2 + len(cmd.ExtraFiles)
	}
	memory := strconv.FormatInt(m.memory>>20, 10) + "M"
	cmd.Args = []string{
		program, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-cpu", "max",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-object", "memory-backend-memfd,id=memory,share=on,size=" + memory, "-m", memory,
		"-machine", "pc,memory-backend=memory,accel=" + m.accel,
		"-kernel", m.kernel.image, "-initrd", fmt.Sprintf("/proc/self/fd/%d", fd(m.initramfs)),
		"-append", "console=ttyS0 quiet panic=-1 no_timer_check tsc=reliable mitigations=off random.trust_cpu=on -- vm",
		"-chardev", fmt.Sprintf("file,id=console,path=/proc/self/fd/%d", fd(m.console)), "-serial", "chardev:console",
		"-device", "virtio-serial-pci,max_ports=8", // the first, which is in the names of its ports
		"-chardev", fmt.Sprintf("socket,id=root,fd=%d", fd(m.share)), "-device", "vhost-user-fs-pci,chardev=root,tag=root",
	}
	for i, p := range m.ports {
		cmd.Args = append(cmd.Args, "-chardev", fmt.Sprintf("socket,id=port%d,fd=%d", i, fd(p.theirs)),
			"-device", fmt.Sprintf("virtserialport,chardev=port%d,name=sbx.%d,nr=%d", i, i, i+1))
	}
	var started error
	err = begin(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.killed {
			started = errors.New("it was killed before it started")
			return
		}
		if started = cmd.Start(); started == nil {
			m.cmd = cmd
		}
	})
	if err := errors.Join(err, started); err != nil {
		return fmt.Errorf("start the machine: %w", err)
	}
	// Now its end of each is the only one, so that we see its end.
	m.share.Close()
	for _, p := range m.ports {
		p.theirs.Close()
	}
	return nil
}

// talk has the machine run the request.
func (m *machine) talk(req *helper.Request, spec *backends.Spec) (*helper.Reply, error) {
	data, err := req.Encode()
	if err != nil {
		return nil, err
	}
	e := binary.NativeEndian
	head := e.AppendUint32(nil, uint32(len(data)))
	joined := spec.Stdout != nil && spec.Stderr != nil && same(spec.Stdout, spec.Stderr)
	if joined {
		head = e.AppendUint32(head, 1)
	} else {
		head = e.AppendUint32(head, 0)
	}
	c := m.ports[control].ours
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(append(head, data...))
		sent <- err
	}()
	late := time.AfterFunc(bootTime, m.Kill)
	greeting := make([]byte, len(hello))
	_, err = io.ReadFull(c, greeting)
	if !late.Stop() {
		return nil, fmt.Errorf("the machine has not booted within %v", bootTime)
	}
	if err != nil || string(greeting) != hello {
		return nil, fmt.Errorf("the machine has not booted: %q, %w", greeting, err)
	}
	if err := <-sent; err != nil {
		return nil, fmt.Errorf("the machine does not listen: %w", err)
	}
	if err := m.pumpInput(spec.Stdin); err != nil {
		return nil, err
	}
	outs := [2]*output{newOutput(m.ports[stdout].ours, spec.Stdout), newOutput(m.ports[stderr].ours, spec.Stderr)}
	var word [wordSize]byte
	if _, err := io.ReadFull(c, word[:]); err != nil {
		return nil, fmt.Errorf("the machine has ended: %w", err)
	}
	answer := make([]byte, helper.ReplySize+int(e.Uint32(word[16:])))
	if _, err := io.ReadFull(c, answer); err != nil {
		return nil, fmt.Errorf("the machine has ended: %w", err)
	}
	for i, o := range outs {
		o.wait(e.Uint64(word[8*i:]))
	}
	m.Kill()
	for _, o := range outs {
		if err := o.end(); err != nil {
			return nil, fmt.Errorf("pass the command's output on: %w", err)
		}
	}
	return helper.Decode(answer, req)
}

// same says whether two descriptors are of one file.
func same(a, b *os.File) bool {
	if a == b {
		return true
	}
	x, err1 := a.Stat()
	y, err2 := b.Stat()
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// pumpInput begins to send the machine what f has, as it comes.
func (m *machine) pumpInput(f *os.File) error {
	if f == nil {
		return nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	m.wake = [2]*os.File{r, w}
	to := m.ports[stdin].ours
	in, wake := int32(f.Fd()), int32(r.Fd())
	go func() {
		buf := make([]byte, 4+32<<10)
		for {
			// Not just read: it may wait for somebody who types, when the command
			// has long ended, and take what is not for us.
			fds := []unix.PollFd{{Fd: in, Events: unix.POLLIN}, {Fd: wake, Events: unix.POLLIN}}
			if _, err := unix.Poll(fds, -1); err == unix.EINTR {
				continue
			}
			if fds[1].Revents != 0 {
				return
			}
			n, err := unix.Read(int(in), buf[4:])
			if err == unix.EINTR || err == unix.EAGAIN {
				continue
			}
			n = max(n, 0)
			binary.NativeEndian.PutUint32(buf, uint32(n))
			if _, err := to.Write(buf[:4+n]); err != nil || n == 0 {
				return
			}
		}
	}()
	return nil
}

// An output carries what comes out of a port to a file.
type output struct {
	to   *os.File
	from *os.File
	mu   sync.Mutex
	cond *sync.Cond
	n    uint64 // guarded by mu: bytes that have come
	err  error  // guarded by mu: of writing
	over bool   // guarded by mu
}

func newOutput(from, to *os.File) *output {
	o := &output{from: from, to: to}
	o.cond = sync.NewCond(&o.mu)
	if to == nil {
		o.over = true
		return o
	}
	go o.carry()
	return o
}

func (o *output) carry() {
	buf := make([]byte, 64<<10)
	for {
		n, err := o.from.Read(buf)
		var failed error
		if n > 0 {
			_, failed = o.to.Write(buf[:n])
		}
		o.mu.Lock()
		o.n += uint64(n)
		if o.err == nil {
			o.err = failed
		}
		o.over = err != nil
		o.cond.Broadcast()
		o.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// wait waits until n bytes have come, or no more will.
func (o *output) wait(n uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.n < n && !o.over {
		o.cond.Wait()
	}
}

// end waits until nobody writes to the file any more.
func (o *output) end() error {
	o.wait(^uint64(0))
	o.mu.Lock()
	defer o.mu.Unlock()
	if errors.Is(o.err, unix.EPIPE) {
		return nil // whoever reads it has had enough, as with any command
	}
	return o.err
}

// why is the last that QEMU or the kernel said.
func (m *machine) why() string {
	var lines []string
	for _, f := range []*os.File{m.said, m.console} {
		text, _ := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
		for line := range bytes.Lines(text) {
			l := strings.TrimSpace(string(line))
			if strings.Contains(l, "sbx: ") || strings.Contains(l, "panic") || f == m.said && l != "" {
				lines = append(lines, l)
			}
		}
	}
	if lines == nil {
		return "and says nothing of why"
	}
	return strings.Join(lines[:min(3, len(lines))], "; ")
}
