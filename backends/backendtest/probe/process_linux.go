package probe

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func number(s string) int { return must(strconv.Atoi(s)) }

func exit(args []string) int { return number(args[0]) }

// die SIGNAL ends this process with that signal, past the handlers that the Go
// runtime has installed.
func die(args []string) int {
	sig := number(args[0])
	runtime.LockOSThread()
	defaultAction(sig)
	// Of two signals that are pending, the kernel may take another first;
	// so this one alone is let in.
	var set unix.Sigset_t
	set.Val[(sig-1)/64] = 1 << ((sig - 1) % 64)
	must(0, unix.PthreadSigmask(unix.SIG_UNBLOCK, &set, nil))
	must(0, unix.Tgkill(unix.Getpid(), unix.Gettid(), syscall.Signal(sig)))
	time.Sleep(30 * time.Second) // the signal may still be on its way
	fmt.Fprintf(os.Stderr, "signal %d did not end me\n", sig)
	return 99
}

// defaultAction undoes the Go runtime's handler. A zeroed struct sigaction is
// SIG_DFL on every architecture; SIGKILL refuses, and needs nothing.
func defaultAction(sig int) {
	var zero [64]byte
	kept = append(kept, zero[:])
	call(unix.SYS_RT_SIGACTION, uintptr(sig), addressOf(kept[len(kept)-1]), 0, 8)
}

// sleep SECONDS [MARK] sleeps; MARK is for whoever looks for this process.
func sleep(args []string) int {
	time.Sleep(time.Duration(number(args[0])) * time.Second)
	return 0
}

// start starts this program again with other arguments, and inherits all of
// descriptors 0 to 2.
func start(session bool, args ...string) (*os.Process, error) {
	return os.StartProcess("/proc/self/exe", append(os.Args[:1:1], args...), &os.ProcAttr{
		Env:   []string{},
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys:   &syscall.SysProcAttr{Setsid: session},
	})
}

// daemon MARK SECONDS THEN… leaves a process behind that is not our child, has
// a session of its own and keeps our output open; then it does THEN, a probe.
func daemon(args []string) int {
	if args[0] == "-" { // the process in between, which ends at once
		must(start(true, "sleep", args[2], args[1]))
		return 0
	}
	p := must(start(true, "daemon", "-", args[0], args[1]))
	must(p.Wait())
	return Main(args[2:])
}

// bomb MARK SECONDS N starts n processes, each of which starts another; all
// have sessions of their own. Then it waits.
func bomb(args []string) int {
	for range number(args[2]) {
		if p, err := start(true, "daemon", "-", args[0], args[1]); err == nil {
			p.Release()
		}
	}
	fmt.Println("started")
	return sleep(args[1:2])
}

// burn MILLISECONDS uses that much CPU time, all of it in a grandchild.
func burn(args []string) int {
	if len(args) == 1 {
		return wait(must(start(false, "burn", args[0], "child")))
	}
	if args[1] == "child" {
		return wait(must(start(false, "burn", args[0], "grandchild")))
	}
	want := time.Duration(number(args[0])) * time.Millisecond
	for used := time.Duration(0); used < want; {
		for range 1 << 16 {
			used++ // nothing but work
		}
		var r unix.Rusage
		must(0, unix.Getrusage(unix.RUSAGE_SELF, &r))
		used = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	return 0
}

func wait(p *os.Process) int {
	state := must(p.Wait())
	return state.ExitCode()
}

// touch MIB uses that much memory, and succeeds.
func touch(args []string) int {
	b, err := mapped(number(args[0]))
	must(b, err)
	for i := 0; i < len(b); i += os.Getpagesize() {
		b[i] = 1
	}
	return 0
}

func mapped(mib int) ([]byte, error) {
	return unix.Mmap(-1, 0, mib<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
}

// allocate MIB CHILDREN uses memory in this process, or in children that all
// use it at the same time. It says yes when nothing stopped it.
func allocate(args []string) int {
	if args[1] == "0" {
		if code := touch(args[:1]); code != 0 {
			return code
		}
		return answer(nil)
	}
	release, hold, err := os.Pipe()
	must(release, err)
	has, say, err := os.Pipe()
	must(has, err)
	n := number(args[1])
	ends := make(chan int, n)
	for range n {
		p := must(os.StartProcess("/proc/self/exe", append(os.Args[:1:1], "allocate-and-wait", args[0]),
			&os.ProcAttr{Env: []string{}, Files: []*os.File{release, say, os.Stderr}}))
		go func() {
			code := wait(p)
			if code != 0 {
				hold.Close() // nobody need wait for the others
			}
			ends <- code
		}()
	}
	release.Close()
	say.Close()
	io.ReadFull(has, make([]byte, n)) // all have it, or are dead
	hold.Close()
	for range n {
		if code := <-ends; code != 0 {
			return answer(fmt.Errorf("a child ended with %d", code))
		}
	}
	return answer(nil)
}

// reserve MIB asks for memory and does not touch it.
func reserve(args []string) int {
	_, err := mapped(number(args[0]))
	return answer(err)
}

// spawn N starts n processes that live at the same time. It says no when it
// could not start them all.
func spawn(args []string) int {
	var all []*os.Process
	var failed error
	for range number(args[0]) {
		p, err := start(false, "sleep", "30")
		if err != nil {
			failed = err
			break
		}
		all = append(all, p)
	}
	for _, p := range all {
		p.Kill()
		p.Wait()
	}
	return answer(failed)
}

// attemptSignal PID…: can signals be sent to a process?
func attemptSignal(args []string) int {
	var errs []string
	for _, a := range args {
		err := unix.Kill(number(a), 0)
		if err == nil {
			return answer(nil)
		}
		errs = append(errs, err.Error())
	}
	return answer(fmt.Errorf("%s", strings.Join(errs, ", ")))
}

// attemptKillInit: does process 1 die of a signal that cannot be caught? Only
// inside a sandbox (whose process 1 is our grandparent at most) is it tried.
func attemptKillInit([]string) int {
	if unix.Getpid() > 100 {
		fmt.Println("yes, it seems: this is no process namespace of its own")
		return 0
	}
	for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGSEGV, unix.SIGSTOP, unix.SIGKILL} {
		unix.Kill(1, sig)
	}
	time.Sleep(10 * time.Millisecond) // if it works, it is at once
	return answer(fmt.Errorf("process 1 is still there"))
}

// attemptPtrace PID: can a process be traced?
func attemptPtrace(args []string) int {
	runtime.LockOSThread()
	_, err := call(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(number(args[0])), 0, 0)
	return answer(err)
}

// attemptMemory PID: can the memory of a process be read, or its open files
// and its environment be seen?
func attemptMemory(args []string) int {
	pid := args[0]
	_, err := os.ReadDir("/proc/" + pid + "/fd")
	if err != nil {
		_, err = os.ReadFile("/proc/" + pid + "/environ")
	}
	if err != nil {
		f, e := os.Open("/proc/" + pid + "/mem")
		if e == nil {
			f.Close()
		}
		err = e
	}
	return answer(err)
}

// attemptSetns PID: can we enter namespaces of another process?
func attemptSetns(args []string) int {
	runtime.LockOSThread()
	var err error
	for _, ns := range []string{"user", "mnt", "net", "uts", "ipc"} {
		var fd int
		if fd, err = unix.Open("/proc/"+args[0]+"/ns/"+ns, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			continue
		}
		if err = unix.Setns(fd, 0); err == nil {
			break
		}
	}
	return answer(err)
}

// attemptSetuid PROGRAM…: does a setuid program run as somebody else? Each
// program must wait for its input.
func attemptSetuid(args []string) int {
	r, w, err := os.Pipe()
	must(r, err)
	defer w.Close()
	null := must(os.OpenFile("/dev/null", os.O_RDWR, 0))
	p := must(os.StartProcess(args[0], args, &os.ProcAttr{Env: []string{}, Files: []*os.File{r, null, null}}))
	defer p.Wait()
	defer p.Kill()
	// Until the child has executed its program it is still us, so wait for
	// its name to change.
	for range 200 {
		exe, _ := os.ReadFile("/proc/" + strconv.Itoa(p.Pid) + "/cmdline")
		if strings.HasPrefix(string(exe), args[0]+"\x00") {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	text := must(os.ReadFile("/proc/" + strconv.Itoa(p.Pid) + "/status"))
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); f[0] == "Uid:" {
			if f[2] != f[1] {
				return answer(nil)
			}
			return answer(fmt.Errorf("real %s, effective %s", f[1], f[2]))
		}
	}
	return 99
}

// attemptTIOCSTI: can a character be pushed into the terminal that is our
// standard input, for its owner to read?
func attemptTIOCSTI([]string) int {
	c := []byte("x")
	kept = append(kept, c)
	_, err := call(unix.SYS_IOCTL, 0, unix.TIOCSTI, addressOf(c))
	return answer(err)
}

// attemptTTY: is there a controlling terminal?
func attemptTTY([]string) int {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err == nil {
		f.Close()
	}
	return answer(err)
}

// attemptSethostname NAME sets the host name to what it is already.
func attemptSethostname([]string) int {
	var u unix.Utsname
	must(0, unix.Uname(&u))
	return answer(unix.Sethostname([]byte(unix.ByteSliceToString(u.Nodename[:]))))
}

// startInUserNamespace starts a probe as root of a new user namespace.
func startInUserNamespace(args ...string) (*os.Process, error) {
	return os.StartProcess("/proc/self/exe", append(os.Args[:1:1], args...), &os.ProcAttr{
		Env:   []string{},
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys: &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		},
	})
}

// allocateAndWait MIB holds memory, and says so, until its input ends.
func allocateAndWait(args []string) int {
	code := touch(args)
	fmt.Println()
	os.Stdin.Read(make([]byte, 1))
	return code
}
