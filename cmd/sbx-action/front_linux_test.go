package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/history"
)

// A fronted is a workspace, a store, and the program as make builds it.
type fronted struct {
	t                        *testing.T
	command, dir, store, top string
	env, flags               []string
}

func newFronted(t *testing.T) *fronted {
	t.Helper()
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	f := &fronted{t: t, command: os.Getenv("SBX_TEST_COMMAND"), top: top, dir: filepath.Join(top, "w"), store: filepath.Join(top, "store")}
	if f.command == "" {
		f.command = filepath.Join(top, "sbx-action")
		build := exec.Command("go", "build", "-ldflags", "-E sbx_front", "-o", f.command, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	f.env = []string{"HOME=" + filepath.Join(top, "home"), "SBX_CACHE=" + f.store, "PATH=" + os.Getenv("PATH"), "PWD=" + f.dir, "SBX_WARM=off"}
	f.write("src/a.c", "#include \"a.h\"\nint value = A;\n")
	f.write("src/a.h", "#define A 1\n")
	f.flags = []string{"-i", "src/a.c", "-i", "src/a.h", "-o", "a.o"}
	return f
}

func (f *fronted) write(name, text string) {
	f.t.Helper()
	name = filepath.Join(f.dir, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

// run runs the action and says how it ended: "run", "hit", or "front", and what is
// in the output.
func (f *fronted) run() (how, output string) {
	f.t.Helper()
	before := f.history()
	args := append(append([]string{"run"}, f.flags...), "--", "sh", "-c", "cat src/a.h; echo made >&2; gcc -c src/a.c -o a.o && echo $X >>a.o")
	cmd := exec.Command(f.command, args...)
	cmd.Dir, cmd.Env = f.dir, f.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		f.t.Fatalf("%v\n%s", err, stderr.String())
	}
	data, err := os.ReadFile(filepath.Join(f.dir, "a.o"))
	if err != nil {
		f.t.Fatal(err)
	}
	runs := f.history()
	if len(runs) != len(before)+1 {
		f.t.Fatalf("%d runs in the history, and %d before: want one more", len(runs), len(before))
	}
	r := runs[len(runs)-1]
	if age := time.Since(r.Time); age < 0 || age > time.Hour {
		f.t.Errorf("the history says that it was at %v", r.Time)
	}
	how = r.Verdict.String()
	if how == "hit" && r.Took == 0 {
		how = "front"
	}
	return how, fmt.Sprintf("%q %q %q", stdout.String(), stderr.String(), data)
}

func (f *fronted) history() []*history.Run {
	f.t.Helper()
	s, err := cache.Open(f.store, cache.Options{ReadOnly: true})
	if err != nil {
		f.t.Fatal(err)
	}
	defer s.Close()
	book, err := history.Open(s)
	if err != nil {
		f.t.Fatal(err)
	}
	return book.Runs
}

// atOnce runs the action until the front answers: what was written just now is not
// trusted at first.
func (f *fronted) atOnce(want string) {
	f.t.Helper()
	for range 200 {
		how, got := f.run()
		if got != want {
			f.t.Fatalf("%s gave\n%s, want\n%s", how, got, want)
		}
		if how == "front" {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	f.t.Fatal("the front does not answer")
}

// TestFrontRun changes what an action depends on while there is a memo of it.
func TestFrontRun(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		return // there is no front
	}
	f := newFronted(t)
	keep := func(name, text string) { // its time, too
		info, err := os.Stat(filepath.Join(f.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		f.write(name, text)
		if err := os.Chtimes(filepath.Join(f.dir, name), info.ModTime(), info.ModTime()); err != nil {
			t.Fatal(err)
		}
	}
	_, first := f.run()
	f.atOnce(first)
	flags, env := f.flags, f.env
	for i, c := range []struct {
		what, how    string // what it is then: run, hit, or any of them
		same         bool   // with the same outputs
		change, back func()
	}{
		{"header", "run", false, func() { f.write("src/a.h", "#define A 2\n") }, func() { f.write("src/a.h", "#define A 1\n") }},
		{"header of the same size and time", "run", false, func() { keep("src/a.h", "#define A 3\n") }, func() { keep("src/a.h", "#define A 1\n") }},
		{"header's time", "hit", true, func() {
			now := time.Now()
			os.Chtimes(filepath.Join(f.dir, "src/a.h"), now, now)
		}, func() {}},
		{"directory becomes a link", "run", false, func() {
			os.Rename(filepath.Join(f.dir, "src"), filepath.Join(f.dir, "real"))
			f.write("other/a.c", "#include \"a.h\"\nint value = A;\n")
			f.write("other/a.h", "#define A 4\n")
			os.Symlink("other", filepath.Join(f.dir, "src"))
		}, func() {
			os.Remove(filepath.Join(f.dir, "src"))
			os.Rename(filepath.Join(f.dir, "real"), filepath.Join(f.dir, "src"))
		}},
		{"executable", "run", true, func() { os.Chmod(filepath.Join(f.dir, "src/a.h"), 0o755) }, func() { os.Chmod(filepath.Join(f.dir, "src/a.h"), 0o644) }},
		{"variable", "run", false, func() { f.flags = append([]string{"--env", "X=1"}, flags...) }, func() { f.flags = flags }},
		{"variable of the caller", "run", false, func() {
			f.flags, f.env = append([]string{"--env", "X"}, flags...), append([]string{"X=2"}, env...)
		}, func() { f.flags, f.env = flags, env }},
		{"--refresh", "run", true, func() { f.flags = append([]string{"--refresh"}, flags...) }, func() { f.flags = flags }},
		{"--no-cache", "unkept", true, func() { f.flags = append([]string{"--no-cache"}, flags...) }, func() { f.flags = flags }},
		{"setting by a variable", "hit", true, func() { f.env = append([]string{"SBX_LOG=" + f.top + "/log"}, env...) }, func() { f.env = env }},
		{"settings of the project", "run", true, func() { f.write(".sbx-action", "digest = sha256\n") }, func() { os.Remove(filepath.Join(f.dir, ".sbx-action")) }},
		{"settings above the project", "run", true, func() { f.write("../.sbx-action", "pids = 99\ndigest = sha256\n") }, func() { os.Remove(f.top + "/.sbx-action") }},
		{"settings of the user", "hit", true, func() { f.write("../home/.config/sbx-action/settings", "log = "+f.top+"/log\n") }, func() { os.RemoveAll(f.top + "/home") }},
		{"result is gone", "run", true, func() { os.RemoveAll(f.store + "/result") }, func() {}},
		{"blobs are gone", "run", true, func() { os.RemoveAll(f.store + "/blob") }, func() {}},
	} {
		if testing.Short() && i%4 != 0 {
			continue
		}
		c.change()
		how, got := f.run()
		if (got == first) != c.same {
			t.Errorf("%s: the outputs are the same: %v\n%s", c.what, got == first, got)
		}
		if how == "front" || how != c.how && c.how == "run" && how != "hit" {
			t.Errorf("%s: %s, want %s", c.what, how, c.how)
		}
		if again, out := f.run(); out != got {
			t.Errorf("%s, again (%s): %s, want %s", c.what, again, out, got)
		}
		c.back()
		f.atOnce(first)
	}
	log, err := os.ReadFile(f.top + "/log")
	if n := strings.Count(string(log), "hit "); !testing.Short() && (err != nil || n != 4) {
		t.Errorf("%d hits in the log, want 4: %v\n%s", n, err, log)
	}
	// Special calls are never answered by the front.
	for _, flag := range []string{"--json", "--verbose", "--prune", "--changes", "--read-only", "--keep-failed", "--log=" + f.top + "/log2"} {
		f.flags = append([]string{flag}, flags...)
		for range 3 {
			if how := f.special(); how == "front" {
				t.Errorf("%s is answered by the front", flag)
			}
		}
	}
}

// special runs the action and only says how.
func (f *fronted) special() string {
	args := append(append([]string{"run"}, f.flags...), "--", "sh", "-c", "cat src/a.h; echo made >&2; gcc -c src/a.c -o a.o && echo $X >>a.o")
	cmd := exec.Command(f.command, args...)
	cmd.Dir, cmd.Env = f.dir, f.env
	if out, err := cmd.CombinedOutput(); err != nil {
		f.t.Errorf("%v\n%s", err, out)
	}
	runs := f.history()
	if r := runs[len(runs)-1]; r.Verdict == history.Hit && r.Took == 0 {
		return "front"
	}
	return ""
}

// TestProcessorsAreOurs has a command see how many processors the user wants Go to use,
// and never how many we were started with.
func TestProcessorsAreOurs(t *testing.T) {
	t.Parallel()
	f := newFronted(t)
	env := f.env
	for _, c := range []struct{ variable, want string }{
		{"A=1", "GOMAXPROCS: the variable is not set"},
		{"GOMAXPROCS=3", "they are 3\n"},
		{"A=2", "GOMAXPROCS: the variable is not set"},
	} {
		for range 2 {
			cmd := exec.Command(f.command, "run", "--env", "GOMAXPROCS", "--", "sh", "-c", "echo they are $GOMAXPROCS")
			cmd.Dir, cmd.Env = f.dir, append(slices.Clip(env), c.variable)
			if out, _ := cmd.CombinedOutput(); !strings.Contains(string(out), c.want) {
				t.Errorf("%s: %q, want %q", c.variable, out, c.want)
			}
		}
	}
}
