package foreign

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/backends"
)

// TestOverdue has the process 1 of a sandbox stand still, as gVisor's may on a busy
// machine: the command is over its time then, and the sandbox ended from outside.
func TestOverdue(t *testing.T) {
	defer func(was time.Duration) { ending = was }(ending)
	ending = 500 * time.Millisecond
	b, err := Open(Tool{Name: "bubblewrap", Program: "bwrap", Command: func(j *Job) (Line, error) {
		args := []string{j.Program, "--unshare-pid", "--as-pid-1", "--die-with-parent"}
		if j.User {
			args = append(args, "--unshare-user", "--uid", strconv.Itoa(backends.ID), "--gid", strconv.Itoa(backends.ID))
		} else {
			for _, c := range Capabilities() {
				args = append(args, "--cap-add", c)
			}
		}
		args = append(args, "--bind", j.Root, "/", "--proc", "/proc", "--dev", "/dev", "--")
		return Line{Args: append(args, j.Init...)}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	mark := "1234." + strconv.Itoa(os.Getpid())
	spec := &backends.Spec{
		Args: []string{"/usr/bin/sleep", mark}, Dir: "/",
		Limits: backends.Limits{Wall: 2 * time.Second},
	}
	spec.Root.Binds = []backends.Bind{{Source: "/usr", Target: "/usr"}}
	spec.Root.Fill = func(root *os.File) error {
		return errors.Join(unix.Symlinkat("usr/lib", int(root.Fd()), "lib"), unix.Symlinkat("usr/lib64", int(root.Fd()), "lib64"))
	}
	type outcome struct {
		st  *backends.Status
		err error
	}
	ended := make(chan outcome, 1)
	go func() {
		st, err := b.Run(t.Context(), spec)
		ended <- outcome{st, err}
	}()
	command := 0
	for range 200 {
		if command = find(t, mark); command != 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if command == 0 {
		o := <-ended
		t.Fatalf("no command: %+v, %v", o.st, o.err)
	}
	if err := unix.Kill(parent(t, command), unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	o := <-ended
	if o.err != nil || !o.st.TimedOut || o.st.Code != 137 || o.st.Usage.Wall < spec.Limits.Wall {
		t.Errorf("%+v, %v", o.st, o.err)
	}
	if left := find(t, mark); left != 0 {
		t.Errorf("process %d is left", left)
	}
}

// find returns a process with the argument, or 0.
func find(t *testing.T, arg string) int {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		data, _ := os.ReadFile(name)
		if bytes.HasSuffix(data, []byte("sleep\x00"+arg+"\x00")) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			return pid
		}
	}
	return 0
}

func parent(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "\nPPid:\t")
	line, _, _ := strings.Cut(rest, "\n")
	ppid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	return ppid
}
