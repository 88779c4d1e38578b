package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A user is somebody at a terminal.
type user struct {
	t   *testing.T
	far *os.File
	tty *os.File
	cmd *exec.Cmd

	mu     sync.Mutex
	screen bytes.Buffer // guarded by mu
	seen   int          // guarded by mu: what expect has passed
	before unix.Termios // the settings of the terminal at first
}

// atTerminal starts the program at a terminal of its own.
func atTerminal(t *testing.T, dir string, args ...string) *user {
	t.Helper()
	far, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(far.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(far.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	u := &user{t: t, far: far, tty: tty}
	u.size(24, 80)
	u.before = u.settings() // before anybody changes them
	self, err := exec.LookPath("sbx-action")
	if err != nil {
		t.Fatal(err)
	}
	u.cmd = exec.Command(self, args...)
	u.cmd.Dir = dir
	u.cmd.Env = append(os.Environ(), "TERM=vt100", "SBX_CACHE="+filepath.Join(t.TempDir(), "cache"))
	u.cmd.Stdin, u.cmd.Stdout, u.cmd.Stderr = tty, tty, tty
	u.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := u.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := far.Read(b)
			u.mu.Lock()
			u.screen.Write(b[:n])
			u.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		u.cmd.Process.Kill()
		u.cmd.Wait()
		tty.Close()
		far.Close()
	})
	return u
}

func (u *user) size(rows, columns uint16) {
	u.t.Helper()
	if err := unix.IoctlSetWinsize(int(u.far.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}); err != nil {
		u.t.Fatal(err)
	}
}

func (u *user) types(keys string) {
	u.t.Helper()
	if _, err := u.far.WriteString(keys); err != nil {
		u.t.Fatal(err)
	}
}

// shows waits until the text is on the screen, behind what was seen before.
func (u *user) shows(text string, patience time.Duration) bool {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		u.mu.Lock()
		at := strings.Index(u.screen.String()[u.seen:], text)
		if at >= 0 {
			u.seen += at + len(text)
		}
		u.mu.Unlock()
		if at >= 0 {
			return true
		}
	}
	return false
}

func (u *user) sees(text string) {
	u.t.Helper()
	if u.shows(text, 2*time.Minute) {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.t.Fatalf("%q does not appear on the screen:\n%s", text, u.screen.String())
}

// until types keys until the text appears.
func (u *user) until(text, keys string) {
	u.t.Helper()
	for range 200 {
		if u.shows(text, 100*time.Millisecond) {
			return
		}
		u.types(keys)
	}
	u.sees(text)
}

func (u *user) settings() unix.Termios {
	u.t.Helper()
	s, err := unix.IoctlGetTermios(int(u.tty.Fd()), unix.TCGETS)
	if err != nil {
		u.t.Fatal(err)
	}
	return *s
}

// ends waits for the end of the program, and returns its exit code.
func (u *user) ends() int {
	u.t.Helper()
	u.cmd.Wait()
	return u.cmd.ProcessState.ExitCode()
}

// TestShell is somebody who uses a shell in a sandbox as one uses a shell. What is
// typed is echoed, so what is waited for must not stand in it.
func TestShell(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "in"), []byte("x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	u := atTerminal(t, dir, "run", "--shell", "-i", "in", "-o", "sub/out", "--env", "MINE=7", "--", "make", "it so")
	before := u.before
	u.sees("make 'it so'")
	u.sees("$ ")

	u.types("echo $((1+1)) $(pwd) $MINE $(hostname) $(id -u) $(ls | xargs) $TERM $(tty)\r")
	u.sees("2 /build 7 sbx 65000 in sub vt100 /dev/pts/0")

	// The size, and when it changes.
	u.types("echo size: $(stty size)\r")
	u.sees("size: 24 80")
	u.types("trap 'echo resized to $(stty size)' WINCH\r")
	u.types("echo rea''dy\r")
	u.sees("ready")
	u.size(50, 132)
	u.until("resized to 50 132", "\r") // readline runs a trap at the next key

	// Job control: stop, go on in the background, come back, interrupt.
	sleep := fmt.Sprintf("sleep 1000.%d", os.Getpid()) // nobody else's
	u.types(sleep + "\r")
	u.running(sleep)
	u.types("\x1a")
	u.sees("Stopped")
	u.types("bg; jobs\r")
	u.sees("Running")
	u.sees("$ ")
	u.types("trap - WINCH; fg\r")
	u.sees(sleep)
	u.types("\x03")       // which takes what was typed away
	u.until("$ ", "\x03") // it may not have been in the foreground yet
	u.types("echo interr''upted\r")
	u.sees("interrupted\r\n")

	// Ctrl-C at the prompt ends nothing.
	u.sees("$ ")
	u.types("\x03")
	u.sees("^C")
	u.types(" \r\r")
	u.sees("$ ")
	u.types("echo still al''ive\r")
	u.sees("still alive")

	u.types("exit 42\r")
	if code := u.ends(); code != 42 {
		t.Errorf("exit code %d, want 42", code)
	}
	if after := u.settings(); after != before {
		t.Errorf("the terminal was left as %+v, not as it was: %+v", after, before)
	}
}

// running waits until the foreground of the shell inside is another process.
func (u *user) running(what string) {
	u.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		out, _ := exec.Command("pgrep", "-f", "-x", what).Output()
		if len(out) > 0 {
			return
		}
	}
	u.t.Fatalf("%s does not run", what)
}

// TestShellKilled: whatever ends us, the terminal is as it was, and nothing lives on.
func TestShellKilled(t *testing.T) {
	u := atTerminal(t, t.TempDir(), "run", "--shell")
	before := u.before
	u.types("echo rea''dy\r")
	u.sees("ready")
	sleep := fmt.Sprintf("sleep 1234.%d", os.Getpid()) // nobody else's
	u.types(sleep + "\r")
	u.running(sleep)
	if err := u.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := u.ends(); code != 128+int(syscall.SIGTERM) {
		t.Errorf("exit code %d, want %d", code, 128+int(syscall.SIGTERM))
	}
	if after := u.settings(); after != before {
		t.Errorf("the terminal was left as %+v, not as it was: %+v", after, before)
	}
	if out, _ := exec.Command("pgrep", "-f", "-x", sleep).Output(); len(out) > 0 {
		t.Errorf("sleep still runs: %s", out)
	}
}
