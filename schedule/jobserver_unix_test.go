//go:build unix

package schedule

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestMain lets the test binary be the program that make calls: a client that
// runs jobs under make's jobserver and notes in $CLIENT_LOG when each begins and
// ends.
func TestMain(m *testing.M) {
	if log := os.Getenv("CLIENT_LOG"); log != "" {
		if err := client(log); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func client(log string) error {
	pool, err := OpenJobserver(os.Getenv("MAKEFLAGS"))
	if err != nil {
		return err
	}
	if pool == nil {
		return errors.New("make announced no jobserver")
	}
	defer pool.Close()
	f, err := os.OpenFile(log, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	pair := make(chan struct{})
	var jobs []Job
	for range 10 {
		jobs = append(jobs, Job{Run: func(ctx context.Context, turn *Turn) error {
			if _, err := turn.Admit(ctx); err != nil {
				return err
			}
			fmt.Fprintln(f, "+")
			if os.Getenv("CLIENT_PAIR") != "" { // with another job, or for ever
				select {
				case pair <- struct{}{}:
				case <-pair:
				}
			}
			_, err := fmt.Fprintln(f, "-")
			return err
		}})
	}
	results, err := Run(context.Background(), jobs, Options{Jobs: 10, Tokens: pool, Observe: func(e Event) {
		if e.NoTokens != nil {
			fmt.Fprintln(os.Stderr, "NO TOKENS", e.NoTokens)
		}
	}})
	if err == nil && summary(results) != "10 done" {
		err = errors.New(summary(results))
	}
	return err
}

// most is how many jobs ran at a time.
func most(t *testing.T, log string) (most, total int) {
	t.Helper()
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	now := 0
	for line := range strings.FieldsSeq(string(data)) {
		if line == "+" {
			now, total = now+1, total+1
			most = max(most, now)
		} else {
			now--
		}
	}
	return most, total
}

// runMake runs make with a Makefile that calls the client, and returns the log.
func runMake(t *testing.T, makefile string, env []string, args ...string) (string, string) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	write(t, log, "")
	write(t, filepath.Join(dir, "Makefile"), strings.ReplaceAll(makefile, "CLIENT", exe))
	cmd := exec.Command("make", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CLIENT_LOG="+log, "MAKEFLAGS=", "MAKELEVEL=")
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Logf("%v", err)
	}
	return log, string(out)
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

// styles are the kinds of jobserver that the make here has.
func styles(t *testing.T) [][]string {
	t.Helper()
	out, err := exec.Command("make", "--version").Output()
	if err != nil {
		t.Fatalf("make is needed: %v", err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(string(out), "GNU Make %d.%d", &major, &minor); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	if major > 4 || major == 4 && minor >= 4 {
		return [][]string{{"--jobserver-style=pipe"}, {"--jobserver-style=fifo"}}
	}
	return [][]string{nil} // a pipe; TestFifo has the other
}

// TestMake has four clients, with ten jobs each, under one make -j3.
func TestMake(t *testing.T) {
	const makefile = "all: a b c d\na b c d:\n\t+@CLIENT\n"
	for _, style := range styles(t) {
		t.Run(strings.Join(style, ""), func(t *testing.T) {
			log, out := runMake(t, makefile, nil, append(style, "-j3")...)
			at, total := most(t, log)
			if total != 40 || at > 3 || strings.Contains(out, "Exiting with") || strings.Contains(out, "NO TOKENS") {
				t.Errorf("%d jobs ran, %d at a time", total, at)
			}
		})
	}
}

// TestMakeGivesTokens has jobs that end in pairs only: one client alone must get
// the second token of make -j2.
func TestMakeGivesTokens(t *testing.T) {
	for _, style := range styles(t) {
		t.Run(strings.Join(style, ""), func(t *testing.T) {
			log, out := runMake(t, "all:\n\t+@CLIENT\n", []string{"CLIENT_PAIR=1"}, append(style, "-j2")...)
			at, total := most(t, log)
			if total != 10 || at != 2 || strings.Contains(out, "Exiting with") {
				t.Errorf("%d jobs ran, %d at a time", total, at)
			}
		})
	}
}

// TestMakeWithoutPlus: make keeps its pipe from a recipe that is not marked.
func TestMakeWithoutPlus(t *testing.T) {
	if s := styles(t); s[0] != nil {
		t.Log("this make has another default")
	}
	log, out := runMake(t, "all:\n\t@CLIENT\n", nil, append(styles(t)[0], "-j3")...)
	if _, total := most(t, log); total != 0 || !strings.Contains(out, `cannot be reached: `) || !strings.Contains(out, `put "+" before the line of the recipe`) {
		t.Errorf("%d jobs ran", total)
	}
}

// TestFifo is the jobserver of make 4.4, with two tokens, by hand.
func TestFifo(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "GMfifo1")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	server, err := os.OpenFile(fifo, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if _, err := server.WriteString("xy"); err != nil {
		t.Fatal(err)
	}
	j, err := OpenJobserver("j -j3 --jobserver-fds=98,99 --jobserver-auth=fifo:" + fifo + " -- CFLAGS=--jobserver-auth=1,2")
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	first, err1 := j.Acquire(t.Context())
	second, err2 := j.Acquire(t.Context())
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("no longer wanted")
	go cancel(why)
	if _, err := j.Acquire(ctx); !errors.Is(err, why) {
		t.Errorf("a third token: %v", err)
	}
	second()
	third, err := j.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	third()
	first()
	first() // is nothing
	tokens := make([]byte, 10)
	if n, err := server.Read(tokens); err != nil || string(tokens[:n]) != "yx" {
		t.Errorf("the server has %q, %v", tokens[:n], err)
	}
}

func TestOpenJobserver(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	for _, c := range []struct{ flags, want string }{
		{"", ""},
		{"kw -j4", ""},
		{"-- X=--jobserver-auth=3,4", ""},
		{"--jobserver-auth=-2,-2", "make has closed it for this command"},
		{"--jobserver-auth=900,901", "no such file"},
		{"--jobserver-auth=fifo:/nowhere", "no such file"},
		{"--jobserver-auth=fifo:" + file, "is not a pipe"},
		{"--jobserver-auth=0x1,y", "this form is not known"},
		{"--jobserver-auth=", ""},
	} {
		j, err := OpenJobserver(c.flags)
		if j != nil || c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q: %v; want %q", c.flags, err, c.want)
		}
	}
}

func TestOneAtATime(t *testing.T) {
	for flags, want := range map[string]bool{ // as make 4.3 sets them
		"": false, " -j1": true, "k -j1": true, " -j": false, " -j2 --jobserver-auth=3,4": false,
		" -j1 -- X=-j2": true, " -- X=-j1": false, "j1": false, "kj1": false, " -j1 -j4": false,
	} {
		if got := OneAtATime(flags); got != want {
			t.Errorf("MAKEFLAGS=%q: %v, want %v", flags, got, want)
		}
	}
}
