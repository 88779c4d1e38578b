package probe

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socket makes a socket whose operations give up after some seconds.
func socket(domain, typ int) (int, error) {
	s, err := unix.Socket(domain, typ|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	limit := unix.Timeval{Sec: 30}
	unix.SetsockoptTimeval(s, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit)
	unix.SetsockoptTimeval(s, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit)
	return s, nil
}

var loopback = [4]byte{127, 0, 0, 1}

// attemptTCP PORT…: does a server on the loopback interface answer?
func attemptTCP(args []string) int {
	return answer(tcp(number(args[0])))
}

func tcp(port int) error {
	s, err := socket(unix.AF_INET, unix.SOCK_STREAM)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	return unix.Connect(s, &unix.SockaddrInet4{Port: port, Addr: loopback})
}

// attemptUDP PORT: does a server on the loopback interface echo?
func attemptUDP(args []string) int {
	s, err := socket(unix.AF_INET, unix.SOCK_DGRAM)
	if err == nil {
		defer unix.Close(s)
		err = unix.Connect(s, &unix.SockaddrInet4{Port: number(args[0]), Addr: loopback})
	}
	if err == nil {
		_, err = unix.Write(s, []byte("hello"))
	}
	if err == nil {
		var buf [8]byte
		_, err = unix.Read(s, buf[:])
	}
	return answer(err)
}

// attemptUnix ADDRESS: is there a listener? "@" begins an abstract address.
func attemptUnix(args []string) int {
	s, err := socket(unix.AF_UNIX, unix.SOCK_STREAM)
	if err == nil {
		defer unix.Close(s)
		err = unix.Connect(s, &unix.SockaddrUnix{Name: args[0]})
	}
	return answer(err)
}

// attemptSocket KIND: can this kind of socket be made?
func attemptSocket(args []string) int {
	kinds := map[string][3]int{
		"packet": {unix.AF_PACKET, unix.SOCK_RAW, 0},
		"raw":    {unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP},
		"vsock":  {unix.AF_VSOCK, unix.SOCK_STREAM, 0},
	}
	k, ok := kinds[args[0]]
	if !ok {
		return 99
	}
	_, err := unix.Socket(k[0], k[1]|unix.SOCK_CLOEXEC, k[2])
	return answer(err)
}

// serve ADDRESS SECONDS listens on an abstract unix socket and on a port of
// the loopback interface, prints the port when it does, and accepts for a while
// or until its standard input ends.
func serve(args []string) int {
	u := must(socket(unix.AF_UNIX, unix.SOCK_STREAM))
	must(0, unix.Bind(u, &unix.SockaddrUnix{Name: args[0]}))
	must(0, unix.Listen(u, 8))
	t := must(socket(unix.AF_INET, unix.SOCK_STREAM))
	must(0, unix.Bind(t, &unix.SockaddrInet4{Addr: loopback}))
	must(0, unix.Listen(t, 8))
	addr := must(unix.Getsockname(t))
	port := addr.(*unix.SockaddrInet4).Port
	if err := tcp(port); err != nil { // the control: here it answers
		panic(err)
	}
	fmt.Println(port)
	return waitForInput(args[1])
}

// linger SECONDS says that it is here, and goes on until its input ends, or for so
// long.
func linger(args []string) int {
	fmt.Println("here")
	return waitForInput(args[0])
}

func waitForInput(seconds string) int {
	ended := make(chan bool)
	go func() {
		var b [1]byte
		os.Stdin.Read(b[:])
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(time.Duration(number(seconds)) * time.Second):
	}
	return 0
}

// attemptShm KEY: is there a System V shared memory segment?
func attemptShm(args []string) int {
	_, err := call(unix.SYS_SHMGET, uintptr(number(args[0])), 0, 0)
	return answer(err)
}

// attemptSemaphore KEY: is there a System V semaphore set?
func attemptSemaphore(args []string) int {
	_, err := call(unix.SYS_SEMGET, uintptr(number(args[0])), 0, 0)
	return answer(err)
}

// attemptMqueue NAME: is there a POSIX message queue?
func attemptMqueue(args []string) int {
	_, err := call(unix.SYS_MQ_OPEN, cstring(args[0]), unix.O_RDONLY, 0, 0)
	return answer(err)
}

var keyrings = []int{unix.KEY_SPEC_USER_KEYRING, unix.KEY_SPEC_SESSION_KEYRING, unix.KEY_SPEC_USER_SESSION_KEYRING}

// attemptKey NAME: can a key be found in a keyring that others have as well?
func attemptKey(args []string) int {
	var err error
	for _, ring := range keyrings {
		if _, err = unix.KeyctlSearch(ring, "user", args[0], 0); err == nil {
			break
		}
	}
	return answer(err)
}

// addKey NAME puts a key into the user's keyring, where it lives for a minute.
func addKey(args []string) int {
	runtime.LockOSThread()
	id, err := unix.AddKey("user", args[0], []byte("secret"), unix.KEY_SPEC_USER_KEYRING)
	if err == nil {
		_, err = unix.KeyctlInt(unix.KEYCTL_SET_TIMEOUT, id, 60, 0, 0)
	}
	return answer(err)
}

// attemptSyscalls: is there, of the system calls that are for administrators
// and debuggers of kernels, one that does more than refuse? They are called
// with arguments that are wrong, so what is allowed fails for another reason.
func attemptSyscalls([]string) int {
	const bad = ^uintptr(0)
	// A sandbox may look at paths before the kernel does.
	absent := []byte("/absent\x00")
	path := uintptr(unsafe.Pointer(&absent[0]))
	defer runtime.KeepAlive(absent)
	for _, c := range []struct {
		name string
		nr   uintptr
		args []uintptr
	}{
		{"bpf", unix.SYS_BPF, []uintptr{bad, 0, 0}},
		{"perf_event_open", unix.SYS_PERF_EVENT_OPEN, []uintptr{0, 0, bad, bad, bad}},
		{"userfaultfd", unix.SYS_USERFAULTFD, []uintptr{bad}},
		{"io_uring_setup", unix.SYS_IO_URING_SETUP, []uintptr{1, 0}},
		{"add_key", unix.SYS_ADD_KEY, []uintptr{0, 0, 0, 0, 0}},
		{"request_key", unix.SYS_REQUEST_KEY, []uintptr{0, 0, 0, 0}},
		{"keyctl", unix.SYS_KEYCTL, []uintptr{bad}},
		{"init_module", unix.SYS_INIT_MODULE, []uintptr{0, 0, 0}},
		{"finit_module", unix.SYS_FINIT_MODULE, []uintptr{bad, 0, bad}},
		{"delete_module", unix.SYS_DELETE_MODULE, []uintptr{0, bad}},
		{"kexec_load", unix.SYS_KEXEC_LOAD, []uintptr{0, bad, 0, bad}},
		{"reboot", unix.SYS_REBOOT, []uintptr{1, 1, 1, 0}}, // the magic numbers are wrong
		{"swapon", unix.SYS_SWAPON, []uintptr{0, 0}},
		{"swapoff", unix.SYS_SWAPOFF, []uintptr{0}},
		{"acct", unix.SYS_ACCT, []uintptr{path}},
		{"quotactl", unix.SYS_QUOTACTL, []uintptr{bad, 0, 0, 0}},
		{"settimeofday", unix.SYS_SETTIMEOFDAY, []uintptr{1, 1}},
		{"pivot_root", unix.SYS_PIVOT_ROOT, []uintptr{path, path}},
		{"setns", unix.SYS_SETNS, []uintptr{bad, 0}},
		{"fsopen", unix.SYS_FSOPEN, []uintptr{0, 0}},
		{"open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT, []uintptr{bad, 0, 0}},
	} {
		_, err := call(c.nr, c.args...)
		if err != unix.EPERM && err != unix.ENOSYS && err != unix.EACCES {
			fmt.Printf("yes: %s: %v\n", c.name, err)
			return 0
		}
	}
	return answer(fmt.Errorf("all refused"))
}

// attemptInt80: does a system call of the 32 bit interface get past the filter?
// It is keyctl with a wrong operation, which says EOPNOTSUPP when it is let in.
func attemptInt80([]string) int {
	err := syscall.Errno(-int80(288, 0x7fffffff))
	if err == unix.EOPNOTSUPP {
		return answer(nil)
	}
	return answer(err)
}
