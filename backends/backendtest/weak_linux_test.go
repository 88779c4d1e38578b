package backendtest_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/backendtest"
	"github.com/sbx-action/sbx-action/backends/backendtest/promise"
)

// boast is what our weak backends say of themselves.
var boast = backends.Capabilities{
	Works: true, Overlay: true, Images: true, DataLayers: true, Observe: true, NetworkNone: true, NetworkHost: true,
	OwnRoot: true, FixedID: true, Loopback: true, KillsAll: true, PidNamespace: true, IPCNamespace: true, UTSNamespace: true, Seccomp: true, NoNewPrivs: true,
	MemoryLimit: backends.Exact, PidsLimit: backends.Exact, ScratchLimit: true, FileLimit: true, ExactStatus: true,
	Owner: os.Getuid(),
}

// weak runs commands without any isolation, and with small mistakes of the
// tools that we know: it is what the promises must tell from a sandbox.
type weak struct{ dir string }

func (weak) Name() string                        { return "weak" }
func (weak) Capabilities() backends.Capabilities { return boast }
func (weak) Close() error                        { return nil }

func (w weak) Run(_ context.Context, spec *backends.Spec) (*backends.Status, error) {
	dir, err := os.MkdirTemp(w.dir, "root-") // which nobody removes
	if err != nil {
		return nil, err
	}
	os.Chmod(dir, 0o755)
	if spec.Root.Fill != nil {
		root, err := os.Open(dir)
		if err != nil {
			return nil, err
		}
		defer root.Close()
		spec.Root.Fill(root) // and its error is lost
	}
	args := slices.Clone(spec.Args)
	for i, arg := range args {
		args[i] = place(&spec.Root, dir, arg)
	}
	cmd := &exec.Cmd{
		Path: args[0], Args: append([]string{promise.ProbeName}, args[1:]...), Dir: place(&spec.Root, dir, spec.Dir),
		Env: append(slices.Clone(spec.Env), "PWD="+spec.Dir), // as bwrap does
	}
	if spec.Stdin != nil {
		cmd.Stdin = spec.Stdin
	}
	if spec.Stdout != nil {
		cmd.Stdout, cmd.Stderr = spec.Stdout, spec.Stdout
	}
	err = cmd.Run()
	status := &backends.Status{Complete: true}
	if spec.KeepRoot {
		status.Root, _ = os.Open(dir)
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if ws := exit.Sys().(syscall.WaitStatus); ws.Signaled() {
			status.Code = 128 + int(ws.Signal())
		} else {
			status.Code = ws.ExitStatus()
		}
	} else if err != nil {
		status.Code = 1
	}
	return status, nil
}

// place finds the file that a path in the root would be, where that is ours.
func place(root *backends.Root, dir, path string) string {
	for _, b := range root.Binds {
		if rest, ok := strings.CutPrefix(path, b.Target); ok && (rest == "" || rest[0] == '/') && b.Source != b.Target {
			return b.Source + rest
		}
	}
	if !strings.HasPrefix(path, "/build") {
		return path
	}
	for _, l := range root.Lowers {
		if _, err := os.Lstat(filepath.Join(l.Dir, path)); err == nil {
			return filepath.Join(l.Dir, path)
		}
	}
	return filepath.Join(dir, path)
}

// soft runs commands below an ordinary init, which belongs to the same user and
// defends itself against nothing, and leaves them the capabilities that they
// have in namespaces of their own.
type soft struct{ weak }

func (s soft) Run(ctx context.Context, spec *backends.Spec) (*backends.Status, error) {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", `mount --make-rprivate / && mount -t proc proc /proc && { "$@"; exit $?; }`, "sh", place(&spec.Root, s.dir, spec.Args[0]))
	cmd.Args = append(cmd.Args, spec.Args[1:]...)
	cmd.Stdout, cmd.Dir = spec.Stdout, s.dir // not ours, where files would be left
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWNET}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return &backends.Status{}, cmd.Run()
}

// liar runs nothing and says that all went well.
type liar struct{}

func (liar) Name() string                        { return "liar" }
func (liar) Capabilities() backends.Capabilities { return boast }
func (liar) Close() error                        { return nil }

func (liar) Run(context.Context, *backends.Spec) (*backends.Status, error) {
	return &backends.Status{}, nil
}

// fickle changes its mind about what it can do.
type fickle struct {
	liar
	calls *int
}

func (f fickle) Capabilities() backends.Capabilities {
	c := boast
	*f.calls++
	c.Overlay = *f.calls%2 == 0
	return c
}

// hasty runs commands, but tells things that nobody asked for, and times out
// commands that are not late.
type hasty struct{ weak }

func (h hasty) Run(ctx context.Context, spec *backends.Spec) (*backends.Status, error) {
	status, err := h.weak.Run(ctx, spec)
	if err == nil && status.Root == nil {
		status.Root, _ = os.Open("/")
	}
	status.Lookups = []backends.Lookup{{Path: "/"}}
	status.TimedOut = true
	return status, err
}

// deaf has no capability, and drops what it is asked for without a word.
type deaf struct{ weak }

func (deaf) Capabilities() backends.Capabilities {
	return backends.Capabilities{Works: true, Owner: os.Getuid()}
}

// TestEveryPromiseCanBeBroken shows that no check passes whatever a backend
// does. Those of isolation must be broken by a backend that has none; for the
// others some other mistake will do.
func TestEveryPromiseCanBeBroken(t *testing.T) {
	e := backendtest.NewEnv(t)
	e.Lifetime = 2 * time.Second
	e.Reopen = func() (backends.Backend, error) { return weak{e.TempDir}, nil }
	e.Victim = func(ctx context.Context, args []string) (*os.Process, *os.File, error) {
		return leaveBehind(ctx, e.Probe, args)
	}
	bare := weak{e.TempDir}
	all := []backends.Backend{bare, soft{bare}, liar{}, fickle{calls: new(int)}, hasty{bare}}
	for _, p := range promise.All() {
		t.Run(p.Name, func(t *testing.T) {
			tries := all
			group, _, _ := strings.Cut(p.Name, "/")
			if slices.Contains([]string{"network", "process", "privilege", "kill"}, group) && !kept[p.Name] {
				tries = all[:2]
			}
			for _, b := range tries {
				env := *e
				env.Backend = b
				f := promise.Check(t.Context(), &env, p)
				if f.Verdict == promise.Broken {
					t.Logf("%s breaks it: %v", b.Name(), f.Err)
					return
				}
				t.Logf("%s: %v, %v", b.Name(), f.Verdict, f.Err)
				if f.Verdict == promise.Unproven && os.Geteuid() != 0 {
					return // only root could do it: the test as root is what counts
				}
			}
			t.Errorf("nothing breaks the promise that %s", p.Says)
		})
	}
}

// kept are the promises of isolation that hold without any.
var kept = map[string]bool{
	"network/loopback": true, // a program can reach itself
	"network/host":     true, // which is all there is
	"kill/in-time":     true,
}

// TestSilenceIsNotRefusal shows that what a backend cannot do is found out when
// it ignores the request for it.
func TestSilenceIsNotRefusal(t *testing.T) {
	e := backendtest.NewEnv(t)
	e.Backend = deaf{weak{e.TempDir}}
	asked := 0
	for _, p := range promise.All() {
		if !p.CanBeAsked() {
			continue
		}
		asked++
		if f := promise.Check(t.Context(), e, p); f.Verdict != promise.Broken {
			t.Errorf("%s: verdict %v, %v; want %v", p.Name, f.Verdict, f.Err, promise.Broken)
		}
	}
	if asked < 10 {
		t.Errorf("only %d capabilities can be asked for", asked)
	}
}

// leaveBehind starts a program which starts a probe that survives it.
func leaveBehind(ctx context.Context, probe string, args []string) (*os.Process, *os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer w.Close()
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", `"$@" <&0; :`, "sh", probe}, args...)...)
	stdin, _, err := os.Pipe() // nobody closes the other end
	if err != nil {
		return nil, nil, err
	}
	cmd.Stdin, cmd.Stdout = stdin, w
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	return cmd.Process, r, nil
}

// TestMatrix shows that a matrix has all promises, and none of a backend that
// does not work.
func TestMatrix(t *testing.T) {
	e := backendtest.NewEnv(t)
	e.Lifetime = time.Second
	e.Backend = liar{}
	broken, unprobed, unproven := 0, 0, 0 // what only root has a control for
	err := promise.Matrix(t.Context(), e, func(f promise.Finding) {
		switch f.Verdict {
		case promise.Unprobed:
			unprobed++
		case promise.Unproven:
			unproven++
		case promise.Broken:
			broken++
		}
	})
	if all := len(promise.All()); err != nil || broken+unprobed+unproven < all*9/10 || broken < all*3/4 || unprobed > all/10 {
		t.Errorf("of %d promises of a liar %d are broken, %d were not probed, %d not proven; error %v", all, broken, unprobed, unproven, err)
	}
	e.Backend = idle{}
	err = promise.Matrix(t.Context(), e, func(f promise.Finding) { t.Errorf("found %v of a backend that does not work", f) })
	if err == nil || !strings.Contains(err.Error(), "the reason") {
		t.Errorf("Matrix = %v, want the reason why the backend does not work", err)
	}
}

// idle is a backend that does not work.
type idle struct{ liar }

func (idle) Capabilities() backends.Capabilities { return backends.Capabilities{Reason: "the reason"} }
