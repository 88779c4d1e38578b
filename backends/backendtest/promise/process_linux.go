package promise

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func processPromises() []Promise {
	return []Promise{
		{Name: "process/host-signal", Says: "processes of the host cannot be signalled", needs: hasPidNamespace, check: checkHostSignal},
		{Name: "process/host-proc", Says: "processes of the host are not in /proc", needs: hasPidNamespace, check: checkHostProc},
		own(Promise{Name: "process/host-root", Says: "no process in /proc leads to the host's files", check: checkHostRoot}),
		{Name: "process/init-trace", Says: "process 1, which tells how the command ended, cannot be traced", needs: hasPidNamespace, check: checkInitTrace},
		{Name: "process/init-memory", Says: "the memory, descriptors and environment of process 1 cannot be read", needs: underHost(hasPidNamespace), check: checkInitMemory},
		{Name: "process/init-namespaces", Says: "the namespaces of process 1 cannot be entered", needs: hasPidNamespace, check: checkInitNamespaces},
		{Name: "process/init-kill", Says: "process 1 cannot be killed from inside", needs: hasUnexposedInit, check: checkInitKill},
		{Name: "process/other-action", Says: "processes of another command that runs at the same time are invisible", needs: hasPidNamespace, check: checkOtherProcesses},
		{Name: "process/shared-memory", Says: "System V shared memory of the host is not there", needs: hasIPCNamespace, check: checkShm},
		{Name: "process/semaphores", Says: "System V semaphores of the host are not there", needs: hasIPCNamespace, check: checkSemaphores},
		{Name: "process/message-queues", Says: "POSIX message queues of the host are not there", needs: hasIPCNamespace, check: checkMqueue},
		own(Promise{Name: "process/dev-shm", Says: "POSIX shared memory of the host is not there", check: checkDevShm}),
		{Name: "process/keyrings", Says: "keys of the caller and of other commands are not found", check: checkKeys},
	}
}

// sleeper starts a process of the host that has no descendants.
func (t *trial) sleeper() (string, error) {
	cmd := exec.CommandContext(t.ctx, t.Probe, "sleep", "60")
	cmd.Args[0] = ProbeName
	if err := cmd.Start(); err != nil {
		return "", err
	}
	t.later(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return strconv.Itoa(cmd.Process.Pid), nil
}

func checkHostSignal(t *trial) error {
	pid, err := t.sleeper()
	if err != nil {
		return err
	}
	return t.defeats(attempt{args: []string{"signal", pid}})
}

func checkHostProc(t *trial) error {
	got, err := t.inside("processes")
	if err != nil {
		return err
	}
	// Whatever a backend needs: one init, one helper, and the probe.
	if n := strings.Count(got, "\n"); n > 3 || !strings.Contains(got, "processes") {
		return fmt.Errorf("%d processes are visible: %.300s", n, got)
	}
	outside, err := t.outside("processes")
	if err != nil {
		return err
	}
	if !strings.Contains(outside, strconv.Itoa(os.Getpid())+" ") {
		return fmt.Errorf("%w: outside, we are not in /proc", errUnproven)
	}
	return nil
}

// canary makes a file of the host that no sandbox may see, and returns its path.
func (t *trial) canary() (string, error) {
	f, err := os.CreateTemp("/var/tmp", "promise-canary-")
	if err != nil {
		return "", err
	}
	t.later(func() { os.Remove(f.Name()) })
	if err := f.Chmod(0o666); err != nil { // permissions are not what hides it
		return "", err
	}
	_, err = f.WriteString("tweet")
	f.Close()
	return f.Name(), err
}

func checkHostRoot(t *trial) error {
	path, err := t.canary()
	if err != nil {
		return err
	}
	return t.defeats(attempt{args: []string{"exists", path}})
}

// againstInit checks that a probe which takes a process id cannot do to process
// 1 what it can do, outside, to a process of the same user.
func (t *trial) againstInit(name string) error {
	pid, err := t.sleeper()
	if err != nil {
		return err
	}
	return t.defeats(attempt{args: []string{name, "1"}, control: []string{name, pid}, root: name == "setns"})
}

func checkInitTrace(t *trial) error  { return t.againstInit("ptrace") }
func checkInitMemory(t *trial) error { return t.againstInit("memory") }

func checkInitNamespaces(t *trial) error {
	if os.Geteuid() == 0 {
		return t.againstInit("setns")
	}
	// A user can enter what belongs to a user namespace of their own only, and
	// there is none outside. So the control is that the namespace is there.
	answer, err := t.inside("setns", "1")
	if err != nil {
		return err
	}
	if yes, err := said(answer); err != nil || yes {
		return fmt.Errorf("namespaces of process 1 were entered: %s(error %v)", answer, err)
	}
	return fmt.Errorf("%w: only root can enter namespaces outside", errUnproven)
}

func checkInitKill(t *trial) error {
	answer, err := t.inside("kill-init")
	if err != nil {
		return err
	}
	if yes, err := said(answer); err != nil || yes {
		return fmt.Errorf("process 1: %s(error %v)", answer, err)
	}
	return nil
}

func checkOtherProcesses(t *trial) error {
	mark := t.mark()
	stdin, release, err := pipe(t)
	if err != nil {
		return err
	}
	first := t.spec("daemon", mark, t.lifetime(), "cat")
	first.Stdin = stdin
	ended := make(chan error, 1)
	go func() {
		_, err := t.succeed(first)
		ended <- err
	}()
	err = t.visible(mark)
	if err == nil {
		var got string
		if got, err = t.inside("processes"); err == nil && strings.Contains(got, mark) {
			err = fmt.Errorf("a process of another command is visible: %s", got)
		}
	}
	release.Close()
	if e := <-ended; e != nil {
		return e
	}
	return err
}

func checkShm(t *trial) error {
	// The key is nobody's: made of our process id.
	key := 0x5b<<24 | os.Getpid()
	id, err := unix.SysvShmGet(key, 4096, unix.IPC_CREAT|unix.IPC_EXCL|0o666)
	if err != nil {
		return fmt.Errorf("%w: a shared memory segment: %w", errUnproven, err)
	}
	t.later(func() { unix.SysvShmCtl(id, unix.IPC_RMID, nil) })
	return t.defeats(attempt{args: []string{"shm", strconv.Itoa(key)}})
}

func checkSemaphores(t *trial) error {
	key := 0x5c<<24 | os.Getpid()
	id, _, errno := unix.Syscall(unix.SYS_SEMGET, uintptr(key), 1, unix.IPC_CREAT|unix.IPC_EXCL|0o666)
	if errno != 0 {
		return fmt.Errorf("%w: a semaphore set: %w", errUnproven, errno)
	}
	t.later(func() { unix.Syscall6(unix.SYS_SEMCTL, id, 0, unix.IPC_RMID, 0, 0, 0) })
	return t.defeats(attempt{args: []string{"semaphore", strconv.Itoa(key)}})
}

func checkMqueue(t *trial) error {
	name := t.mark() // mq_open(3) takes a slash away before the kernel sees it
	b, err := unix.BytePtrFromString(name)
	if err != nil {
		return err
	}
	fd, err := mqOpen(b)
	if err != nil {
		return fmt.Errorf("%w: a message queue: %w", errUnproven, err)
	}
	t.later(func() {
		unix.Close(fd)
		mqUnlink(b)
	})
	return t.defeats(attempt{args: []string{"mqueue", name}})
}

func checkDevShm(t *trial) error {
	f, err := os.CreateTemp("/dev/shm", "promise-")
	if err != nil {
		return fmt.Errorf("%w: %w", errUnproven, err)
	}
	f.Close()
	t.later(func() { os.Remove(f.Name()) })
	return t.defeats(attempt{args: []string{"exists", f.Name()}})
}

// checkKeys puts a key into the keyring of our user, which all processes of the
// same user share on the host, and lets one command put one for another.
func checkKeys(t *trial) error {
	host := t.mark()
	answer, err := t.outside("key-add", host)
	if err != nil {
		return err
	}
	if yes, err := said(answer); err != nil || !yes {
		return fmt.Errorf("%w: a key: %s(error %v)", errUnproven, answer, err)
	}
	other := t.mark()
	if answer, err = t.inside("key-add", other); err != nil {
		return err
	}
	if _, err := said(answer); err != nil {
		return err
	}
	if err := t.unreachable("key", other); err != nil {
		return fmt.Errorf("the key of another command: %w", err)
	}
	return t.defeats(attempt{args: []string{"key", host}})
}
