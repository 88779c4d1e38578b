package vm

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/foreign"
)

// hypervisor is what a host's machines have in common.
type hypervisor struct {
	program string // QEMU
	accel   string
	memory  int64
	find    func() (*kernel, error)
	initrd  func() (*os.File, error) // in memory
}

// Open returns the backend. It does not fail where something is missing:
// Capabilities says so, and Run.
func Open(o Options) (backends.Backend, error) {
	v := &hypervisor{
		program: cmp.Or(o.Program, "qemu-system-x86_64"),
		accel:   cmp.Or(o.Accel, accel()),
		memory:  cmp.Or(o.Memory, 2<<30),
		find:    sync.OnceValues(func() (*kernel, error) { return findKernel(o) }),
	}
	v.initrd = sync.OnceValues(v.makeInitrd)
	return foreign.Open(foreign.Tool{
		Name: Name, Program: virtiofsd(),
		Install:  "run: apt-get install qemu-system-x86 linux-image-cloud-amd64 (or your system's like)",
		KeepCaps: true,
		Machine:  v.machine,
		Command:  command,
		Adjust: func(c *backends.Capabilities) {
			c.NetworkHost = false
			c.Boots = true
			c.Filters = false
			c.PidsLimit = backends.PerProc // nobody else is in the machine
		},
	})
}

// virtiofsd is not in $PATH: it is called by programs.
func virtiofsd() string {
	for _, name := range []string{"/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd", "/usr/lib/virtiofsd"} {
		if _, err := os.Stat(name); err == nil {
			return name
		}
	}
	return "virtiofsd"
}

// accel is how the machine's instructions are executed, if nobody says.
func accel() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil || bytes.Contains(info, []byte(" hypervisor")) {
		return "tcg"
	}
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return "tcg"
	}
	f.Close()
	return "kvm"
}

func (v *hypervisor) makeInitrd() (*os.File, error) {
	k, err := v.find()
	if err != nil {
		return nil, err
	}
	data, err := k.initramfs()
	if err != nil {
		return nil, fmt.Errorf("make the machine's initramfs: %w", err)
	}
	f, err := memoryFile("initramfs")
	if err == nil {
		_, err = f.Write(data)
	}
	return f, err
}

func memoryFile(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a file in memory: %w", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// listenFD is virtiofsd's socket.
const listenFD = foreign.LastFD + 1

// command is virtiofsd's command line. That it watches over submounts lets files of
// different file systems that have the same number be told apart.
func command(j *foreign.Job) (foreign.Line, error) {
	return foreign.Line{Args: []string{
		j.Program, fmt.Sprintf("--fd=%d", listenFD), "--rlimit-nofile=0",
		"-o", "sandbox=chroot,cache=auto,announce_submounts,log_level=warn,source=" + j.Root,
	}}, nil
}

// machine makes what a machine needs before it starts.
func (v *hypervisor) machine() (foreign.Machine, error) {
	if _, err := exec.LookPath(v.program); err != nil {
		return nil, fmt.Errorf("%w: run: apt-get install qemu-system-x86 (or your system's like)", err)
	}
	k, err := v.find()
	if err != nil {
		return nil, err
	}
	initrd, err := v.initrd()
	if err != nil {
		return nil, err
	}
	m := &machine{hypervisor: v, kernel: k, initramfs: initrd}
	listen, connected, err := connection()
	if err != nil {
		return nil, err
	}
	m.listen, m.share = listen, connected
	for i := range m.ports {
		fds, e := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if e != nil {
			m.Close()
			return nil, fmt.Errorf("make a socket: %w", e)
		}
		m.ports[i] = port{os.NewFile(uintptr(fds[0]), "port"), os.NewFile(uintptr(fds[1]), "port")}
	}
	said, err := memoryFile("messages")
	console, err2 := memoryFile("console")
	if err := errors.Join(err, err2); err != nil {
		m.Close()
		return nil, err
	}
	m.said, m.console = said, console
	return m, nil
}

// connection makes a listening socket and one that is connected to it, for two
// programs of which one wants the former and the other the latter.
func connection() (listen, connected *os.File, err error) {
	dir, err := os.MkdirTemp("", "sbx-vm-")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(dir)
	fail := func(err error) (*os.File, *os.File, error) {
		return nil, nil, fmt.Errorf("make the socket of virtiofsd: %w", err)
	}
	l, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	c, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		unix.Close(l)
		return fail(err)
	}
	// By descriptor: a socket's name has no room for a long $TMPDIR.
	at, err := os.Open(dir)
	if err == nil {
		name := &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/s", at.Fd())}
		if err = unix.Bind(l, name); err == nil {
			err = unix.Listen(l, 1)
		}
		if err == nil {
			err = unix.Connect(c, name)
		}
		at.Close()
	}
	if err != nil {
		unix.Close(l)
		unix.Close(c)
		return fail(err)
	}
	return os.NewFile(uintptr(l), "virtiofsd"), os.NewFile(uintptr(c), "virtiofsd"), nil
}
