package landlock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/internal/helper"
)

// A backend runs commands below helpers in the mode fence, each its own.
type backend struct {
	unprivileged bool
	capabilities func() backends.Capabilities
	places       places
}

// Open returns the backend. It does not fail where Landlock is missing:
// Capabilities says so, and Run.
func Open(Options) (backends.Backend, error) {
	b := &backend{unprivileged: os.Geteuid() != 0}
	b.capabilities = sync.OnceValue(b.probe)
	return b, nil
}

func (b *backend) Name() string                        { return Name }
func (b *backend) Capabilities() backends.Capabilities { return b.capabilities() }
func (b *backend) Close() error                        { return b.places.close() }

// The versions of Landlock's interface.
const (
	abiNeeded = 3 // Linux 6.2: truncation
	abiScopes = 6 // Linux 6.12: signals and abstract sockets
)

// abi is 0 where there is no Landlock.
func abi() int {
	const versionOfIt = 1
	n, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, versionOfIt)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// probe finds out what can be done here, by doing it.
func (b *backend) probe() backends.Capabilities {
	c := backends.Capabilities{Owner: os.Geteuid()}
	if !b.unprivileged {
		c.Owner = backends.ID
	}
	version := abi()
	switch {
	case version == 0:
		c.Reason = "the kernel has no Landlock, or it is not switched on: Linux 6.2 or newer, with landlock in the list of the boot parameter lsm="
		return c
	case version < abiNeeded:
		c.Reason = fmt.Sprintf("the kernel has version %d of Landlock: Linux 6.2 or newer is needed, which keeps files from being truncated", version)
		return c
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	st, err := b.run(ctx, &backends.Spec{Args: []string{"/absent"}, Dir: "/", Root: backends.Root{InPlace: true}})
	if err == nil && !errors.Is(st.Start, unix.ENOENT) {
		err = fmt.Errorf("executing a program that is not there: got %v, want %w", st.Start, unix.ENOENT)
	}
	if err != nil {
		c.Reason = err.Error()
		return c
	}
	c.Works, c.Mounts = true, true
	c.FixedID = !b.unprivileged
	c.NetworkNone, c.NetworkHost = true, true
	c.Seccomp, c.NoNewPrivs, c.ExactStatus = true, true, true
	c.MemoryLimit, c.FileLimit = backends.PerProc, true
	// Else a command that is the caller could end our helper first.
	c.KillsAll = version >= abiScopes || !b.unprivileged
	return c
}

// Run implements [backends.Backend].
func (b *backend) Run(ctx context.Context, spec *backends.Spec) (*backends.Status, error) {
	return backends.RunChecked(ctx, spec, b.check, b.run)
}

func (b *backend) check(spec *backends.Spec) error {
	c := b.Capabilities()
	if !c.Works {
		return errors.New(c.Reason)
	}
	l, over := spec.Limits, false
	for _, bind := range spec.Root.Binds {
		over = over || bind.Over
	}
	for _, r := range []struct {
		what string
		bad  bool
	}{
		{"a root of its own", !spec.Root.InPlace},
		{"layers", len(spec.Root.Lowers) > 0 || spec.Root.Data != ""},
		{"binds below fresh layers", over},
		{"another user", spec.Root.HasUser()},
		{"a filter of system calls", spec.Filter != nil},
		{"observation", spec.Observe},
		{"a terminal", spec.Terminal != nil},
		{"variation", spec.Vary != nil},
		{"another umask, or the number of the caller", spec.Umask != nil || spec.Caller},
		{"SELinux labels", spec.SELinux != nil},
		{"recorded owners", spec.Owners},
		{"programs of another machine", spec.Machine != nil},
		{"a limit of processes", l.Pids > 0},
		{"a limit of the scratch", l.Scratch > 0},
		{fmt.Sprintf("network %d", spec.Network), spec.Network != backends.NetworkNone && spec.Network != backends.NetworkHost},
	} {
		if r.bad {
			return fmt.Errorf("%s: %w", r.what, backends.UnsupportedBy(Name))
		}
	}
	return nil
}

// run makes the directory that stands for the root, and runs the command there.
func (b *backend) run(ctx context.Context, spec *backends.Spec) (_ *backends.Status, err error) {
	p, err := b.places.make(spec.Root.ScratchDir, b.owner())
	if err != nil {
		return nil, err
	}
	kept := false
	defer func() {
		if !kept {
			err = errors.Join(err, p.remove())
		}
	}()
	l, err := layOut(p, spec, b.owner())
	if err != nil {
		return nil, err
	}
	st, err := b.fence(ctx, spec, l.request(p))
	if err != nil || !spec.KeepRoot {
		return st, err
	}
	if st.Root, err = l.keep(p); err != nil {
		return nil, err
	}
	kept = true
	b.places.keep(p, st.Root)
	return st, nil
}

// owner is the user and group, as we see them, of a command's files, or -1 if
// that is us.
func (b *backend) owner() int {
	if b.unprivileged {
		return -1
	}
	return backends.ID
}

// fence has the helper run the command, and returns when the helper has ended, with
// everything that it had started.
func (b *backend) fence(ctx context.Context, spec *backends.Spec, req *helper.Request) (*backends.Status, error) {
	args := []string{}
	if b.unprivileged {
		args = append(args, "user")
	}
	if spec.Network == backends.NetworkHost {
		args = append(args, "hostnet")
	}
	h, err := helper.StartFence(args...)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	over := false
	stop := context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		if !over {
			unix.Shutdown(h.Socket, unix.SHUT_RDWR) //nolint:errcheck // it has ended, then
		}
	})
	st, err := converse(h, spec, req)
	stopped := stop()
	mu.Lock()
	over = true
	mu.Unlock()
	h.End()
	how := h.Wait()
	switch {
	case !stopped:
		return nil, context.Cause(ctx)
	case errors.Is(err, helper.ErrGone) && how.Signaled():
		return nil, fmt.Errorf("somebody killed the command's supervisor (%v): what it has started may still run", how.Signal())
	}
	return st, err
}

func converse(h *helper.Process, spec *backends.Spec, req *helper.Request) (*backends.Status, error) {
	if err := req.Send(h.Socket); err != nil {
		return nil, err
	}
	reply, err := helper.Receive(h.Socket, req)
	if err != nil {
		return nil, err
	}
	defer reply.Close()
	switch reply.Kind {
	case helper.Done:
		return reply.BackendStatus(spec)
	case helper.Failed:
		// It says "open /x: no such file", of what was asked for.
		return nil, fmt.Errorf("put up the fence: %w", reply.Err)
	}
	return nil, fmt.Errorf("the fence's helper answered with %d: %w", reply.Kind, syscall.EPROTO)
}
