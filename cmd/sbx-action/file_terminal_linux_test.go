package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/progress/screen"
)

// pseudoTerminal returns the two ends of a terminal with 80 columns and 24 rows.
func pseudoTerminal(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	if err := unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(int(theirs.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

// onTerminal runs the program on a terminal, calls seen with what it shows each
// time that changes, and returns what it shows in the end.
func onTerminal(t *testing.T, file string, env []string, seen func(text string, p *os.Process)) (string, error) {
	t.Helper()
	self, err := exec.LookPath("sbx-action")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "build.yaml"), []byte(file), 0o666); err != nil {
		t.Fatal(err)
	}
	ours, theirs := pseudoTerminal(t)
	// A signal that we were started to ignore would be ignored by the program.
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	defer signal.Stop(interrupts)
	cmd := exec.Command(self, "run", "-f", "build.yaml", "-j", "2")
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = dir, theirs, theirs, theirs
	cmd.Env = append(os.Environ(), "SBX_CACHE="+filepath.Join(t.TempDir(), "cache"), "TERM=xterm", "NO_COLOR=", "MAKEFLAGS=")
	cmd.Env = append(cmd.Env, env...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	s := &screen.Screen{Columns: 80, Rows: 24}
	var raw strings.Builder
	for buf := make([]byte, 4096); ; {
		n, err := ours.Read(buf) // an error, EIO, when nobody has the other end any more
		s.Write(buf[:n])
		raw.WriteString(string(buf[:n]))
		text, bad := s.Text()
		if bad != nil {
			t.Errorf("%v in %q", bad, raw.String())
		}
		seen(text, cmd.Process)
		if err != nil {
			break
		}
	}
	err = cmd.Wait()
	text, _ := s.Text()
	if strings.Contains(strings.Join(env, " "), "NO_COLOR=1") == strings.Contains(raw.String(), "\x1b[3") {
		t.Errorf("colours in %q", raw.String())
	}
	return text, err
}

// times in what is shown.
var durations = regexp.MustCompile(`\d+(\.\d)? m?s\b`)

func TestFileOnTerminal(t *testing.T) {
	const file = `
version: 1
actions:
  first: {outputs: [a], shell: 'echo hello; touch a'}
  bad: {inputs: [a], shell: 'echo no >&2; exit 3'}
  last: {after: [bad], command: ['true']}
`
	for _, env := range []string{"NO_COLOR=1", "X=1"} {
		text, err := onTerminal(t, file, []string{env}, func(string, *os.Process) {})
		want := "--- first\nhello\n--- bad\nno\n[2/3] FAILED bad T: exit code 3\n3 actions: 1 run, 1 failed, 1 skipped in T (hit rate 0%)\nslowest: "
		if got := durations.ReplaceAllString(text, "T"); !strings.HasPrefix(got, want) || err == nil || err.Error() != "exit status 1" {
			t.Errorf("%v, and the terminal shows\n%s\nwant\n%s", err, got, want)
		}
	}
}

// TestFileInterrupted presses Ctrl-C when the foot shows what runs.
func TestFileInterrupted(t *testing.T) {
	const file = `
version: 1
actions:
  one: {command: [sleep, 1000]}
  two: {command: [sleep, 1000]}
  three: {command: [sleep, 1000]}
`
	pressed, shown := false, ""
	text, err := onTerminal(t, file, nil, func(text string, p *os.Process) {
		if !pressed && strings.Count(text, "(run)") == 2 && strings.Count(text, "(wait)") == 1 {
			pressed, shown = true, text
			p.Signal(os.Interrupt)
		}
	})
	if !strings.HasPrefix(shown, "[0/3]  3 in work  ") {
		t.Errorf("the terminal showed\n%s", shown)
	}
	want := "3 actions: 3 not done in T\nsbx-action: run: interrupted (interrupt)\n"
	if got := durations.ReplaceAllString(text, "T"); got != want || err == nil || err.Error() != "exit status 130" {
		t.Errorf("%v, and the terminal shows\n%s\nwant\n%s", err, got, want)
	}
}
