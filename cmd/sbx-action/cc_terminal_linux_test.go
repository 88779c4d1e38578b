package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCompilerOnTerminal runs programs on terminals, as they are and through us, and wants
// the same to be shown: first by a miss, then by hits if the terminal makes no difference.
func TestCompilerOnTerminal(t *testing.T) {
	self, err := exec.LookPath("sbx-action")
	if err != nil {
		t.Fatal(err)
	}
	dir, cache := t.TempDir(), ""
	const far = "int f(void) { /* so that what is marked is far to the right */ int unused_a; return 0; }\n"
	for name, text := range map[string]string{"far.c": far, "near.c": "int f(void) { int b; return 0; }\n", "ok.c": "int f(void) { return 0; }\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	onPTY := func(columns uint16, env []string, args ...string) string {
		ours, theirs := pseudoTerminal(t)
		if err := unix.IoctlSetWinsize(int(theirs.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = dir, theirs, theirs, theirs
		cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "SBX_CACHE=" + cache, "SBX_WARM=off", "TERM=xterm-256color"}, env...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		theirs.Close()
		var all strings.Builder
		for buf := make([]byte, 4096); ; {
			n, err := ours.Read(buf)
			all.Write(buf[:n])
			if err != nil { // EIO, when nobody has the other end any more
				break
			}
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%q: %v: %s", args, err, all.String())
		}
		return all.String()
	}
	count := func() string {
		cmd := exec.Command(self, "cc", "--stats")
		cmd.Env = append(os.Environ(), "SBX_CACHE="+cache)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	for _, c := range []struct {
		call    string
		columns uint16
		env     string
		hits    bool
	}{
		{"gcc -Wall -c far.c", 200, "X=1", true},
		{"gcc -Wall -c far.c", 40, "X=1", false},
		{"gcc -Wall -c far.c", 200, "COLUMNS=41", false},
		{"gcc -Wall -c near.c", 80, "X=1", true},
		{"gcc -Wall -c near.c", 80, "NO_COLOR=1", false},
		{"gcc -Wall -c near.c", 80, "TERM=dumb", true},
		{"gcc -Wall -c ok.c", 20, "NO_COLOR=1", true},
		{"clang -Wall -c far.c", 40, "COLUMNS=40", false},
		{"--any sh -c test${IFS}-t${IFS}1&&echo${IFS}terminal||echo${IFS}other", 80, "X=1", false},
		{"--any sh -c test${IFS}-t${IFS}2&&echo${IFS}terminal>&2||echo${IFS}other>&2", 80, "X=1", false},
		{"--any sh -c echo${IFS}a>a", 80, "X=1", true},
		{"--cache-links ld -shared -o a.so ok.o", 80, "X=1", true},
	} {
		args := strings.Fields(c.call)
		own := args
		if strings.HasPrefix(args[0], "--") {
			own = args[1:]
		}
		env := []string{c.env}
		want := onPTY(c.columns, env, append([]string{"env"}, own...)...)
		made, _ := os.ReadFile(filepath.Join(dir, "a.so"))
		cache = filepath.Join(t.TempDir(), "cache")
		for i := range 3 {
			if got := onPTY(c.columns, env, append([]string{self, "cc"}, args...)...); got != want {
				t.Errorf("%s, %d columns, %s, call %d: the terminal shows %q, want %q", c.call, c.columns, c.env, i+1, got, want)
			}
		}
		if now, _ := os.ReadFile(filepath.Join(dir, "a.so")); string(now) != string(made) {
			t.Errorf("%s makes something else", c.call)
		}
		// What was written just now is not trusted at first.
		if got := count(); strings.Contains(got, "from the cache            0\n") == c.hits && !(c.hits && strings.Contains(got, "changed meanwhile")) {
			t.Errorf("%s, %d columns, %s: hits: %v: %s", c.call, c.columns, c.env, !c.hits, got)
		}
	}
}
