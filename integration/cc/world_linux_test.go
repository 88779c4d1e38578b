package cc_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// command is the program under test: that of SBX_TEST_COMMAND, or one that is
// built now.
var command string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if what := os.Getenv("SBX_TEST_REFUSE"); what != "" {
		fmt.Fprintln(os.Stderr, refuse(what, os.Args[1:]))
		return 1
	}
	os.Setenv("SBX_WARM", "off") // what is tested is a call
	if command = os.Getenv("SBX_TEST_COMMAND"); command != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "sbx-cc-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	command = filepath.Join(dir, "sbx-action")
	build := exec.Command("go", "build", "-ldflags", "-E sbx_front", "-o", command, "../../cmd/sbx-action")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build sbx-action: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// A world is a project directory and a store of its own.
type world struct {
	t     *testing.T
	top   string // all that belongs to the test
	dir   string // the project, where calls start
	cache string
	env   map[string]string
	flags []string
	stdin string
	umask string
	front []string // a program that executes the wrapper
	in    string   // another working directory, below top
	skip  string   // outputs below this directory are not looked at
	dirs  bool     // directories are looked at, too
}

func newWorld(t *testing.T) *world {
	t.Helper()
	// A result of the test that go test has kept is good for this program only: go test
	// takes note of the files that a test looks at, not of those that it executes.
	if _, err := os.Stat(command); err != nil {
		t.Fatal(err)
	}
	top := t.TempDir()
	w := &world{t: t, top: top, dir: filepath.Join(top, "p"), cache: filepath.Join(top, "cache"), env: map[string]string{}}
	w.mkdir(".")
	w.mkdir(filepath.Join(top, "home"))
	return w
}

func (w *world) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(w.dir, name)
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) mkdir(name string) {
	w.t.Helper()
	w.must(os.MkdirAll(w.path(name), 0o755))
}

func (w *world) write(name, text string) {
	w.t.Helper()
	w.must(os.MkdirAll(filepath.Dir(w.path(name)), 0o755))
	w.must(os.WriteFile(w.path(name), []byte(text), 0o644))
}

// script writes a script. Another process does it: a child of ours that is
// forked meanwhile would hold it open for writing, and it could not be executed.
func (w *world) script(name, text string) {
	w.t.Helper()
	w.must(os.MkdirAll(filepath.Dir(w.path(name)), 0o755))
	cmd := exec.Command("sh", "-c", `cat >"$1" && chmod 755 "$1"`, "sh", w.path(name))
	cmd.Stdin = strings.NewReader("#!/bin/sh\n" + text + "\n")
	w.must(cmd.Run())
}

func (w *world) remove(name string) {
	w.t.Helper()
	w.must(os.RemoveAll(w.path(name)))
}

func (w *world) link(target, name string) {
	w.t.Helper()
	w.remove(name)
	w.must(os.Symlink(target, w.path(name)))
}

// host runs a program on the host, without us, in the project.
func (w *world) host(args ...string) string {
	w.t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = w.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// A file as it is on the disk.
type file struct {
	mode fs.FileMode
	data string // the target of a link
}

// tree is what is in the project, with its directories where the world has dirs.
func (w *world) tree() map[string]file {
	w.t.Helper()
	files := map[string]file{}
	w.must(filepath.WalkDir(w.dir, func(p string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrPermission) {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(w.dir, p)
		if err != nil || rel == "." || e.IsDir() && !w.dirs {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		f := file{mode: info.Mode()}
		switch {
		case e.Type() == fs.ModeSymlink:
			f.data, err = os.Readlink(p)
		case e.Type().IsRegular():
			var data []byte
			if data, err = os.ReadFile(p); errors.Is(err, fs.ErrPermission) {
				err = nil
			}
			f.data = string(data)
		}
		files[rel] = f
		return err
	}))
	return files
}

// restore makes the project what it was: it removes and rewrites what a call made.
func (w *world) restore(before map[string]file) {
	w.t.Helper()
	now := w.tree()
	for name, f := range now {
		if old, ok := before[name]; ok && old == f {
			continue
		}
		w.remove(name)
	}
	for name, f := range before {
		if now[name] == f {
			continue
		}
		if f.mode&fs.ModeSymlink != 0 {
			w.link(f.data, name)
			continue
		}
		w.write(name, f.data)
		w.must(os.Chmod(w.path(name), f.mode.Perm()))
	}
}

// What a call gave.
type effect struct {
	code           int
	stdout, stderr string
	files          map[string]file // made or changed
	gone           []string
}

func (e effect) differs(o effect) string {
	switch {
	case e.code != o.code:
		return fmt.Sprintf("exit code %d, want %d; standard error %q, want %q", e.code, o.code, e.stderr, o.stderr)
	case e.stdout != o.stdout:
		return fmt.Sprintf("standard output %.500q, want %.500q", e.stdout, o.stdout)
	case e.stderr != o.stderr:
		return fmt.Sprintf("standard error %.1000q, want %.1000q", e.stderr, o.stderr)
	case !slices.Equal(e.gone, o.gone):
		return fmt.Sprintf("removed %q, want %q", e.gone, o.gone)
	}
	names := slices.Sorted(maps.Keys(o.files))
	if got := slices.Sorted(maps.Keys(e.files)); !slices.Equal(got, names) {
		return fmt.Sprintf("made %q, want %q", got, names)
	}
	for _, n := range names {
		if e.files[n].mode != o.files[n].mode {
			return fmt.Sprintf("%s has mode %v, want %v", n, e.files[n].mode, o.files[n].mode)
		}
		if e.files[n] != o.files[n] {
			return fmt.Sprintf("%s has other contents: %d bytes, want %d", n, len(e.files[n].data), len(o.files[n].data))
		}
	}
	return ""
}

// run runs args in the project and undoes what it did there.
func (w *world) run(args []string) effect {
	w.t.Helper()
	before := w.tree()
	if w.umask != "" {
		args = append([]string{"/bin/sh", "-c", "umask " + w.umask + ` && exec "$@"`, "sh"}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = w.dir
	if w.in != "" {
		cmd.Dir = filepath.Join(w.top, w.in)
	}
	// As in a shell, which has a PWD; and without what the tests' own environment has.
	cmd.Env = []string{"HOME=" + filepath.Join(w.top, "home"), "PWD=" + cmd.Dir, "SBX_CACHE=" + w.cache, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + w.top, "SBX_WARM=off"}
	for name, value := range w.env {
		cmd.Env = slices.DeleteFunc(cmd.Env, func(v string) bool { return strings.HasPrefix(v, name+"=") })
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	if w.stdin != "" {
		cmd.Stdin = strings.NewReader(w.stdin)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		w.t.Fatalf("%q: %v", args, err)
	}
	after := w.tree()
	e := effect{stdout: stdout.String(), stderr: stderr.String(), files: map[string]file{}}
	e.code = cmd.ProcessState.ExitCode()
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		e.code = 1000 + int(ws.Signal())
	}
	for name, f := range after {
		if before[name] != f && w.skip != "." && (w.skip == "" || !strings.HasPrefix(name, w.skip+"/")) {
			e.files[name] = f
		}
	}
	for name := range before {
		if _, ok := after[name]; !ok {
			e.gone = append(e.gone, name)
		}
	}
	slices.Sort(e.gone)
	w.restore(before)
	return e
}

// bare runs a call as it is, wrapped through the program under test.
func (w *world) bare(args []string) effect {
	w.t.Helper()
	return w.run(append([]string{"/usr/bin/env"}, args...)) // which looks at the PATH of the call
}

// wrapped also says how it ended.
func (w *world) wrapped(args []string) (effect, cc.Outcome, cc.Reason) {
	w.t.Helper()
	w.settle()
	before := w.lines()
	e := w.run(slices.Concat(w.front, []string{command, "cc"}, w.flags, args))
	var outcome cc.Outcome
	var reason cc.Reason
	n := 0
	for k, count := range w.lines() {
		if count > before[k] {
			outcome, reason = k.o, k.r
			n++
		}
	}
	if n != 1 {
		w.t.Fatalf("%q: %d events, want 1; standard error %q", args, n, e.stderr)
	}
	return e, outcome, reason
}

type totalKey struct {
	o cc.Outcome
	r cc.Reason
}

// totals are the counts of calls. Whether the front answered a hit depends on how old
// files are, and makes no difference here.
func (w *world) totals() map[totalKey]int64 {
	w.t.Helper()
	m := w.lines()
	at := totalKey{cc.Hit, cc.AtOnce}
	if n := m[at]; n > 0 {
		delete(m, at)
		m[totalKey{cc.Hit, ""}] += n
	}
	return m
}

// lines are the counts as the statistics have them.
func (w *world) lines() map[totalKey]int64 {
	w.t.Helper()
	s, err := cc.ReadStats(filepath.Join(w.cache, "stat"))
	w.must(err)
	m := map[totalKey]int64{}
	for _, l := range s.Lines {
		m[totalKey{l.Outcome, l.Reason}] = l.Count
	}
	return m
}

// expect runs the call wrapped and wants it to end so, with this effect.
func (w *world) expect(what string, args []string, want effect, outcomes ...cc.Outcome) {
	w.t.Helper()
	got, outcome, reason := w.wrapped(args)
	if diff := got.differs(want); diff != "" {
		w.t.Errorf("%s: %s (%s %s)", what, diff, outcome, reason)
	}
	if !slices.Contains(outcomes, outcome) {
		w.t.Errorf("%s: ended with %s (%s), want %v", what, outcome, reason, outcomes)
		w.why(args)
	}
}

// why logs why the last call ended as it did.
func (w *world) why(args []string) {
	w.t.Helper()
	cmd := exec.Command(command, "cc", "--why", "a.o")
	if args[0] == "python3" {
		cmd.Args[3] = "out.txt"
	}
	cmd.Dir, cmd.Env = w.dir, append(os.Environ(), "SBX_CACHE="+w.cache)
	out, _ := cmd.CombinedOutput()
	w.t.Logf("%s", out)
}

// atOnce runs a call that is a hit again until the front answers it, and says
// whether it did: what was written just now is not trusted at first, and of some
// calls there is no memo. Whoever answers, the effect has to be this one.
func (w *world) atOnce(what string, args []string, want effect) bool {
	w.t.Helper()
	for range 12 {
		got, outcome, reason := w.wrapped(args)
		if diff := got.differs(want); diff != "" || outcome != cc.Hit {
			w.t.Errorf("%s: %s (%s %s)", what, diff, outcome, reason)
			w.why(args)
			return false
		}
		if reason == cc.AtOnce {
			return true
		}
		time.Sleep(50 * time.Millisecond)
	}
	return false
}

// settle waits for the next tick of the clock that files are stamped with: what
// was written in the tick in which a call starts may have been written after it
// started.
func (w *world) settle() { time.Sleep(12 * time.Millisecond) }
