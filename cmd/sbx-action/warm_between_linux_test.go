package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/internal/warm"
)

// TestWarmBetweenCalls changes what a call depends on between two calls that the
// same worker answers.
func TestWarmBetweenCalls(t *testing.T) {
	w := newWarmed(t, 1)
	served := func(c *call, store, want string) {
		t.Helper()
		before := w.counts()
		if got := w.said(c, store, true); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", c.name, got, want)
		}
		if w.counts().Served != before.Served+1 {
			t.Errorf("%s: no worker answered", c.name)
		}
	}
	entries := func(store string) (n int) {
		filepath.WalkDir(filepath.Join(w.top, store), func(string, os.DirEntry, error) error { n++; return nil })
		return n
	}

	// Another store: nothing of the one goes into the other.
	c := call{name: "first store", args: []string{"run", "-o", "out", "--", "sh", "-c", "echo made >out; echo said"}}
	served(&c, "one", "said")
	before := entries("one")
	c.name = "second store"
	served(&c, "two", "said")
	if got := entries("one"); got != before {
		t.Errorf("a call with another store made %d entries in the first one", got-before)
	}
	if got := entries("two"); got < 5 {
		t.Errorf("the second store has %d entries", got)
	}
	c = call{name: "one more", args: []string{"run", "--", "sh", "-c", "echo in the first store"}}
	before = entries("two")
	served(&c, "one", "in the first store")
	if got := entries("two"); got != before {
		t.Errorf("a call with the first store made %d entries in the second one", got-before)
	}

	// A compiler that is another one. It is a script, so that it can be.
	bin := filepath.Join(w.top, "bin")
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"1", "22", "1"} {
		script := fmt.Sprintf("#!/bin/sh\nexec %s -DVERSION=version%s \"$@\"\n", gcc, version)
		if err := os.WriteFile(filepath.Join(bin, "gcc"), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		w.write("v.c", "#define S(x) #x\n#define T(x) S(x)\nconst char *v = T(VERSION);\n")
		c := call{args: []string{"cc", "gcc", "-c", "v.c", "-o", "out.o"}, env: []string{"PATH=" + bin + ":" + os.Getenv("PATH")}}
		if got := w.said(&c, "store", true); !strings.Contains(got, "version"+version+"\x00") {
			t.Errorf("the compiler of version %s gave\n%q", version, got)
		}
	}

	// Another program of that name, by another PATH or in the same place.
	for _, text := range []string{"first", "second one"} {
		os.WriteFile(filepath.Join(bin, "tool"), []byte("#!/bin/sh\necho "+text+"\n"), 0o755)
		c := call{name: text, args: []string{"run", "-i", "tool", "--", "./tool"}, dir: "../bin"}
		served(&c, "store", text)
	}

	// A jobserver's descriptors are not sent to a worker.
	w.write("Makefile", "all:\n\t+$(SBX) cc gcc -flto=jobserver -O2 m.c -o out.bin\n")
	w.write("m.c", "int main(void) { return 0; }\n")
	make := exec.Command("make", "-j2")
	make.Dir, make.Env = w.dir, append(w.env, "SBX="+w.command, "SBX_WARM="+w.session)
	counts := w.counts()
	if out, err := make.CombinedOutput(); err != nil || strings.Contains(string(out), "jobserver") && strings.Contains(string(out), "warning") {
		t.Errorf("make with a jobserver: %v\n%s", err, out)
	}
	if got := w.counts(); got.Served != counts.Served {
		t.Error("a worker linked with a jobserver that it does not have")
	}

	// The program is another one: its calls are not for this session.
	data, err := os.ReadFile(w.command)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(bin, "sbx-action")
	if err := os.WriteFile(other, data, 0o755); err != nil {
		t.Fatal(err)
	}
	counts = w.counts()
	c = call{name: "another program", args: []string{"run", "--", "echo", "another program"}}
	cmd := w.begin(&c, "store", true)
	cmd.Path = other
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "another program\n" {
		t.Errorf("another program: %v, %s", err, out)
	}
	if got := w.counts(); got.Served != counts.Served || got.Declined != counts.Declined+1 {
		t.Errorf("the call of another program: %+v, then %+v", counts, got)
	}
}

// TestWarmStrangeSessions has in SBX_WARM what is no session: each call is answered
// without one, and none waits.
func TestWarmStrangeSessions(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		return // there is no front, which is what asks workers
	}
	f := newFronted(t)
	f.write("in", "text\n")
	top, err := os.MkdirTemp("", "warm") // short enough for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(top)
	dir := func(name string, mode os.FileMode) string {
		name = filepath.Join(top, name)
		if err := os.Mkdir(name, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
		return name
	}
	lock := func(dir string) string {
		if err := os.WriteFile(filepath.Join(dir, "0.lock"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	listen := func(dir string, backlog int) string {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.Bind(fd, &unix.SockaddrUnix{Name: filepath.Join(dir, "0")})
		}
		if err == nil && backlog >= 0 {
			err = unix.Listen(fd, backlog)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return dir
	}
	fifo := dir("fifo", 0o700)
	if err := unix.Mkfifo(filepath.Join(fifo, "0.lock"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(top, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	loop := dir("loop", 0o700)
	if err := os.Symlink("0.lock", filepath.Join(loop, "0.lock")); err != nil {
		t.Fatal(err)
	}
	// One who never accepts would hold us up for ever; it is not asked where others
	// may write.
	open := listen(lock(dir("open", 0o777)), 8)
	hang := lock(dir("hang", 0o700))
	hung, err := net.Listen("unix", filepath.Join(hang, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer hung.Close()
	go func() { // it takes calls, and hangs up
		for {
			c, err := hung.Accept()
			if err != nil {
				return
			}
			c.Read(make([]byte, 1))
			c.Close()
		}
	}()
	garbage := lock(dir("garbage", 0o700))
	talks, err := net.Listen("unix", filepath.Join(garbage, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer talks.Close()
	go func() {
		for {
			c, err := talks.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("garbage!and more of it"))
			c.Read(make([]byte, 64))
			c.Close()
		}
	}()
	cases := []string{
		"", "relative", "/nonexistent", "/dev/null", "/", file, dir("empty", 0o700), fifo, loop, open, hang, garbage,
		lock(dir("absent", 0o700)), listen(lock(dir("bound", 0o700)), -1), filepath.Join(top, strings.Repeat("x", 200)), "/" + strings.Repeat("x", 5000),
	}
	if os.Geteuid() == 0 {
		others := listen(lock(dir("others", 0o700)), 8)
		if err := os.Chown(others, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		cases = append(cases, others)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	for i, session := range cases {
		cmd := exec.CommandContext(ctx, f.command, "run", "-i", "in", "--", "sh", "-c", fmt.Sprintf("cat in; : %d", i))
		cmd.Dir, cmd.Env = f.dir, append(f.env, "SBX_WARM="+session)
		if out, err := cmd.Output(); err != nil || string(out) != "text\n" {
			t.Errorf("SBX_WARM=%.100s: %v, %q", session, err, out)
		}
	}
}

// TestWarmSweeps kills all processes of a session at once; the next one that starts
// removes what is left, and nothing that lives or is somebody else's.
func TestWarmSweeps(t *testing.T) {
	tmp, err := os.MkdirTemp("", "w")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(tmp) })
	keep := filepath.Join(tmp, "sbx-warm-x1") // not of MkdirTemp
	if err := os.Mkdir(keep, 0o700); err != nil {
		t.Fatal(err)
	}
	full := filepath.Join(tmp, "sbx-warm-17") // not all of it is a session's
	if err := os.MkdirAll(filepath.Join(full, "mine"), 0o700); err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(tmp, "elsewhere")
	if err := os.Mkdir(elsewhere, 0o700); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(tmp, "sbx-warm-18")
	if err := os.Symlink("elsewhere", link); err != nil {
		t.Fatal(err)
	}
	lives, dies := newWarmedWith(t, 1, "TMPDIR="+tmp), newWarmedWith(t, 2, "TMPDIR="+tmp)
	all := append(append(dies.parts("keep"), dies.parts("work")...), dies.cmd.Process.Pid)
	for _, pid := range all { // stopped first, so that none can do anything about it
		syscall.Kill(pid, syscall.SIGSTOP)
	}
	for _, pid := range all {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	dies.cmd.Wait()
	// Not when they have no name any more: the kernel closes their files after that.
	dies.until("all have ended", func() bool {
		fd, err := unix.Open(dies.session, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil
	})
	if _, err := os.Stat(filepath.Join(dies.session, "0.lock")); err != nil {
		t.Fatalf("nothing was left that could be swept: %v", err)
	}
	next := newWarmedWith(t, 1, "TMPDIR="+tmp)
	if _, err := os.Lstat(dies.session); !os.IsNotExist(err) {
		t.Errorf("what the killed session has left is still there: %v", err)
	}
	for _, name := range []string{lives.session, next.session, keep, full, elsewhere, link} {
		if _, err := os.Lstat(name); err != nil {
			t.Error(err)
		}
	}
	if _, err := warm.ReadCounts(lives.session); err != nil {
		t.Error(err)
	}
}

// TestWarmStandardInput kills a worker that has read a part of a program from its
// caller's standard input: the caller must not compile the rest.
func TestWarmStandardInput(t *testing.T) {
	w := newWarmed(t, 1)
	c := call{args: []string{"cc", "gcc", "-xc", "-c", "-", "-o", "out.o"}}
	cmd := w.begin(&c, "store", true)
	r, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var stderr strings.Builder
	cmd.Stdin, cmd.Stderr = r, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := in.WriteString("int first;\n"); err != nil {
		t.Fatal(err)
	}
	w.until("the worker has read what is there", func() bool {
		n, err := unix.IoctlGetInt(int(r.Fd()), unix.TIOCINQ)
		return err == nil && n == 0
	})
	old := w.parts("work")
	for _, pid := range old {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	in.WriteString("int second;\n")
	in.Close()
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 125 || !strings.Contains(stderr.String(), "standard input is lost") {
		t.Errorf("the call ended with %v, and said %q", cmd.ProcessState, stderr.String())
	}
	if _, err := os.Stat(filepath.Join(w.dir, "out.o")); err == nil {
		t.Error("it has compiled the rest")
	}
	if old == nil {
		t.Error("there was no worker")
	}
}
