package sandboxexec

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sbx-action/sbx-action/backends"
)

type backend struct {
	program string
	works   func() error

	mu   sync.Mutex
	kept []string // guarded by mu: roots that Status.Root names
}

// Open returns the backend.
func Open(o Options) (backends.Backend, error) {
	b := &backend{program: cmp.Or(o.Program, "/usr/bin/sandbox-exec")}
	b.works = sync.OnceValue(func() error {
		return exec.Command(b.program, "-p", "(version 1)(allow default)", "/usr/bin/true").Run()
	})
	return b, nil
}

func (b *backend) Name() string { return Name }

func (b *backend) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var errs []error
	for _, dir := range b.kept {
		errs = append(errs, os.RemoveAll(dir))
	}
	b.kept = nil
	return errors.Join(errs...)
}

func (b *backend) Capabilities() backends.Capabilities {
	c := backends.Capabilities{Owner: os.Geteuid()}
	if err := b.works(); err != nil {
		c.Reason = fmt.Sprintf("%s: %v", b.program, err)
		return c
	}
	c.Works, c.NetworkNone, c.NetworkHost = true, true, true
	return c
}

// refuse names what a Spec asks for and cannot have.
func (b *backend) refuse(spec *backends.Spec) error {
	if err := b.works(); err != nil {
		return fmt.Errorf("%s does not work: %w", b.program, err)
	}
	other := false
	for _, bind := range spec.Root.Binds {
		other = other || bind.Over || bind.Source != bind.Target
	}
	l := spec.Limits
	for _, r := range []struct {
		what string
		bad  bool
	}{
		{"a root of its own", !spec.Root.InPlace},
		{"layers", len(spec.Root.Lowers) > 0 || spec.Root.Data != ""},
		{"binds to other names", other},
		{"mounts", spec.Root.ReadOnly || spec.Root.Tmpfs != nil || spec.Root.Writable != nil},
		{"another user", spec.Root.HasUser()},
		{"recorded owners", spec.Owners},
		{"programs of another machine", spec.Machine != nil},
		{"a filter of system calls", spec.Filter != nil},
		{"observation", spec.Observe},
		{"a terminal", spec.Terminal != nil},
		{"variation", spec.Vary != nil},
		{"a limit other than of time", l.Memory != 0 || l.Pids != 0 || l.FileSize != 0 || l.Scratch != 0},
	} {
		if r.bad {
			return fmt.Errorf("%s: %w", r.what, backends.UnsupportedBy(Name))
		}
	}
	return nil
}

// Run implements [backends.Backend].
func (b *backend) Run(ctx context.Context, spec *backends.Spec) (*backends.Status, error) {
	return backends.RunChecked(ctx, spec, b.refuse, b.run)
}

func (b *backend) run(ctx context.Context, spec *backends.Spec) (*backends.Status, error) {
	root, own, err := makeRoot(spec)
	if err != nil {
		return nil, err
	}
	st, err := b.execute(ctx, spec, root)
	if err == nil && spec.KeepRoot {
		os.RemoveAll(root + "/tmp")
		if st.Root, err = os.Open(root); err == nil && own {
			b.mu.Lock()
			b.kept = append(b.kept, root)
			b.mu.Unlock()
			return st, nil
		}
	}
	if own {
		err = errors.Join(err, os.RemoveAll(root))
	}
	return st, err
}

// makeRoot makes the directory that stands for the root, and says whether it is ours.
func makeRoot(spec *backends.Spec) (root string, own bool, err error) {
	root = spec.Root.ScratchDir
	if own = root == ""; own {
		if root, err = os.MkdirTemp("", "sbx-root-"); err != nil {
			return "", false, err
		}
	}
	if root, err = filepath.EvalSymlinks(root); err == nil {
		err = os.MkdirAll(root+"/tmp", 0o777)
	}
	if err == nil && spec.Root.Fill != nil {
		var dir *os.File
		if dir, err = os.Open(root); err == nil {
			err = spec.Root.Fill(dir)
			dir.Close()
		}
	}
	if err != nil && own {
		os.RemoveAll(root)
	}
	return root, own, err
}

// profile is what the command of spec may do.
func profile(spec *backends.Spec, root string) (string, error) {
	p := Profile{Write: []Path{{root, true}}, Network: spec.Network == backends.NetworkHost}
	for _, bind := range spec.Root.Binds {
		name, err := filepath.EvalSymlinks(bind.Source)
		if err != nil {
			return "", err
		}
		info, err := os.Stat(name)
		if err != nil {
			return "", err
		}
		if path := (Path{name, info.IsDir()}); bind.Writable {
			p.Write = append(p.Write, path)
		} else {
			p.Read = append(p.Read, path)
		}
	}
	return p.String()
}

// where is the path on the host of a path in the root.
func where(spec *backends.Spec, root, path string) string {
	for _, b := range spec.Root.Binds {
		if path == b.Source || strings.HasPrefix(path, strings.TrimSuffix(b.Source, "/")+"/") {
			return path
		}
	}
	return filepath.Join(root, path)
}

// program finds what the first argument means, as in the other backends.
func program(spec *backends.Spec, root, dir string) (string, error) {
	name := spec.Args[0]
	switch {
	case filepath.IsAbs(name):
		return where(spec, root, name), nil
	case strings.Contains(name, "/"):
		return filepath.Join(dir, name), nil
	}
	for _, v := range spec.Env {
		if list, ok := strings.CutPrefix(v, "PATH="); ok {
			for _, d := range filepath.SplitList(list) {
				if info, err := os.Stat(filepath.Join(d, name)); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
					return filepath.Join(d, name), nil
				}
			}
		}
	}
	return "", fs127(name)
}

func fs127(name string) error { return &exec.Error{Name: name, Err: os.ErrNotExist} }

// execute runs the command of spec below sandbox-exec.
func (b *backend) execute(ctx context.Context, spec *backends.Spec, root string) (*backends.Status, error) {
	text, err := profile(spec, root)
	if err != nil {
		return nil, err
	}
	dir := where(spec, root, spec.Dir)
	path, err := program(spec, root, dir)
	if err == nil {
		var info os.FileInfo
		if info, err = os.Stat(path); err == nil && (!info.Mode().IsRegular() || info.Mode()&0o111 == 0) {
			return &backends.Status{Code: 126, Start: &exec.Error{Name: spec.Args[0], Err: os.ErrPermission}}, nil
		}
	}
	if err != nil {
		return &backends.Status{Code: 127, Start: fs127(spec.Args[0])}, nil
	}
	env := slices.Clone(spec.Env)
	for i, v := range env {
		if d, ok := strings.CutPrefix(v, "TMPDIR="); ok && filepath.IsAbs(d) {
			env[i] = "TMPDIR=" + where(spec, root, d)
		}
	}
	cmd := exec.Command(b.program, append([]string{"-p", text, path}, spec.Args[1:]...)...)
	cmd.Dir, cmd.Env = dir, append([]string{}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// Not by assignment: an interface that holds a nil file is not nil.
	if spec.Stdin != nil {
		cmd.Stdin = spec.Stdin
	}
	if spec.Stdout != nil {
		cmd.Stdout = spec.Stdout
	}
	if spec.Stderr != nil {
		cmd.Stderr = spec.Stderr
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", b.program, err)
	}
	kill := func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	stop := context.AfterFunc(ctx, kill)
	late := make(chan bool, 1)
	if spec.Limits.Wall > 0 {
		timer := time.AfterFunc(spec.Limits.Wall, func() { late <- true; kill() })
		defer timer.Stop()
	}
	err = cmd.Wait()
	kill() // what it has left in its group
	if !stop() {
		return nil, context.Cause(ctx)
	}
	return status(cmd, err, time.Since(start), len(late) > 0)
}

func status(cmd *exec.Cmd, err error, wall time.Duration, late bool) (*backends.Status, error) {
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		return nil, err
	}
	ws, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	st := &backends.Status{Code: ws.ExitStatus(), TimedOut: late, Usage: backends.Usage{
		Wall: wall, User: cmd.ProcessState.UserTime(), System: cmd.ProcessState.SystemTime(),
	}}
	if ws.Signaled() {
		st.Signal = int(ws.Signal())
		st.Code = 128 + st.Signal
	}
	if ru, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		st.Usage.MaxRSS = ru.Maxrss // bytes here
	}
	return st, nil
}
