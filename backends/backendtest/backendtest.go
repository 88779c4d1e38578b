// Package backendtest checks that a backend keeps its promises, which are a
// table in package promise. Every backend's test is a call of [Test]:
//
//	func TestPromises(t *testing.T) { backendtest.Test(t, backendtest.Opener(Open, Options{})) }
package backendtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/backendtest/promise"
)

// victimArgs tells a process that was started by [Test] that it is to open a
// backend, run a probe in it, and be killed. Its value is the probe's command
// line, separated by newlines.
const victimArgs = "SBX_BACKENDTEST_VICTIM"

// Opener returns what the tests here open backends with: open, with options o,
// and the end of the test closes it.
func Opener[B backends.Backend, O any](open func(O) (B, error), o O) func(*testing.T) backends.Backend {
	return func(t *testing.T) backends.Backend {
		t.Helper()
		b, err := open(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		})
		return b
	}
}

// Test checks every promise with a backend that open opens, each in a subtest
// of its own. It needs the go command, to build the probe, unless the
// environment variable SBX_TEST_PROBE names one that was built before.
//
// Test starts the test binary again to have something to kill. That process
// runs the test that called Test and no other one: what comes before the call
// happens twice.
//
// Tests that call Test must not run in parallel with others: some promises are
// about the whole process.
func Test(t *testing.T, open func(*testing.T) backends.Backend) {
	check(t, open, testing.Short())
}

// TestBrief is Test with the first promise of each kind, and what is left behind:
// for a backend that takes long, and shares with others what it does.
func TestBrief(t *testing.T, open func(*testing.T) backends.Backend) {
	check(t, open, true)
}

func check(t *testing.T, open func(*testing.T) backends.Backend, brief bool) {
	if args, ok := os.LookupEnv(victimArgs); ok {
		beVictim(t, open, strings.Split(args, "\n"))
		return
	}
	e := NewEnv(t)
	misbehave(t)
	e.Backend = open(t)
	if caps := e.Backend.Capabilities(); !caps.Works {
		t.Fatalf("backend %s does not work here: %s", e.Backend.Name(), caps.Reason)
	}
	e.Reopen = func() (backends.Backend, error) { return open(t), nil }
	e.Victim = func(ctx context.Context, args []string) (*os.Process, *os.File, error) {
		return startVictim(ctx, t, e, args)
	}
	for _, p := range promises(e.Backend, brief) {
		t.Run(p.Name, func(t *testing.T) {
			e.Logf = t.Logf
			Report(t, promise.Check(t.Context(), e, p))
		})
	}
}

// promises are those to check: in brief, as with -short, for a backend that is not the
// default one, the first of each kind only, because some tools take long. What
// starts a kernel for each command is not asked for each of 256 exit codes,
// and what boots a machine for each is held to some of them, or with SBX_TEST_ALL to all.
func promises(b backends.Backend, brief bool) []promise.Promise {
	if b.Capabilities().Boots && os.Getenv("SBX_TEST_ALL") == "" {
		return promise.Essential(b.Capabilities(), brief || os.Geteuid() != 0)
	}
	if b.Capabilities().OwnKernel && !brief {
		return slices.DeleteFunc(promise.All(), func(p promise.Promise) bool { return strings.HasSuffix(p.Name, "-all") })
	}
	if !brief || b.Name() == "native" {
		return promise.All()
	}
	var list []promise.Promise
	last := ""
	for _, p := range promise.All() {
		kind, _, _ := strings.Cut(p.Name, "/")
		if kind != last || !testing.Short() && (kind == "kill" || kind == "lifetime") {
			list, last = append(list, p), kind
		}
	}
	return list
}

// TestRootOnly is Test for a backend that works for root only, and has to say
// so to everybody else.
func TestRootOnly(t *testing.T, open func(*testing.T) backends.Backend) {
	if os.Geteuid() == 0 {
		Test(t, open)
		return
	}
	b := open(t)
	if c := b.Capabilities(); c.Works || !strings.Contains(c.Reason, "root") {
		t.Errorf("Capabilities = %+v, want a reason that speaks of root", c)
	}
	if _, err := b.Run(t.Context(), &backends.Spec{Args: []string{"/x"}, Dir: "/"}); err == nil || !strings.Contains(err.Error(), "root") {
		t.Errorf("Run = %v, want an error that speaks of root", err)
	}
}

// Report makes the outcome of a test of a finding. As root, a promise must be
// proven: then a control that does not succeed is a mistake of ours.
func Report(t *testing.T, f promise.Finding) {
	t.Helper()
	switch f.Verdict {
	case promise.Kept:
	case promise.Refused, promise.NotOffered:
		t.Logf("%v: %s", f.Verdict, f.Promise.Says)
	case promise.Unproven:
		if os.Geteuid() == 0 {
			t.Errorf("%s: %v", f.Promise.Says, f.Err)
			return
		}
		t.Logf("unproven: %s: %v", f.Promise.Says, f.Err)
	default:
		t.Errorf("%s: %v: %v", f.Promise.Says, f.Verdict, f.Err)
	}
}

// NewEnv makes what checks need, but no backend. It lasts as long as t.
func NewEnv(t *testing.T) *promise.Env {
	t.Helper()
	// Not t.TempDir, which other users may not enter.
	dir, err := os.MkdirTemp("", "backendtest-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	e := &promise.Env{Dir: filepath.Join(dir, "files"), TempDir: filepath.Join(dir, "tmp"), Lifetime: time.Minute, Logf: t.Logf}
	for _, d := range []string{dir, e.Dir, e.TempDir} {
		os.Mkdir(d, 0o755)
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	e.Probe = buildProbe(t, dir)
	t.Setenv("TMPDIR", e.TempDir)
	return e
}

func buildProbe(t *testing.T, dir string) string {
	t.Helper()
	name := filepath.Join(dir, promise.ProbeName)
	if built := os.Getenv("SBX_TEST_PROBE"); built != "" {
		data, err := os.ReadFile(built)
		if err == nil {
			err = os.WriteFile(name, data, 0o755)
		}
		if err == nil {
			err = os.Chmod(name, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
		return name
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", name, "github.com/sbx-action/sbx-action/backends/backendtest/probe/sbx-probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // it runs where there are no libraries
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the probe: %v\n%s", err, out)
	}
	return name
}

// misbehave makes this process one that a careful backend has to expect: it
// ignores a signal, and has descriptors that are inherited.
func misbehave(t *testing.T) {
	signal.Ignore(syscall.SIGUSR2)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var fds []int
	for _, f := range []*os.File{r, w} {
		fd, err := syscall.Dup(int(f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, fd)
		f.Close()
	}
	t.Cleanup(func() {
		signal.Reset(syscall.SIGUSR2)
		for _, fd := range fds {
			syscall.Close(fd)
		}
	})
}

// startVictim starts the running test once more, by itself, as a victim.
func startVictim(ctx context.Context, t *testing.T, e *promise.Env, args []string) (*os.Process, *os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer w.Close()
	var pattern []string
	for name := range strings.SplitSeq(t.Name(), "/") {
		pattern = append(pattern, "^"+regexp.QuoteMeta(name)+"$")
	}
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run="+strings.Join(pattern, "/"), "-test.count=1")
	cmd.Env = append(os.Environ(), victimArgs+"="+strings.Join(args, "\n"), "SBX_TEST_PROBE="+e.Probe)
	cmd.ExtraFiles = []*os.File{w}
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr // why it failed, if it did
	if err := cmd.Start(); err != nil {
		r.Close()
		return nil, nil, err
	}
	return cmd.Process, r, nil
}

// beVictim runs a probe until somebody kills us.
func beVictim(t *testing.T, open func(*testing.T) backends.Backend, args []string) {
	probe := os.Getenv("SBX_TEST_PROBE")
	stdin, _, err := os.Pipe() // nobody closes the other end
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.NewFile(3, "output")
	syscall.CloseOnExec(3)
	b := open(t)
	status, err := b.Run(t.Context(), promise.Plain(b, probe, stdin, stdout, args...))
	if err == nil && status.Start != nil {
		err = status.Start
	}
	t.Fatal(errors.Join(fmt.Errorf("nobody killed the victim, but it ended: %+v", status), err))
}
