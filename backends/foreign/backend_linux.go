package foreign

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/internal/helper"
)

// A Backend runs commands with a tool.
type Backend struct {
	tool         Tool
	program      string // absolute; empty when there is none
	missing      error  // why there is none
	unprivileged bool
	capabilities func() backends.Capabilities
	prepare      func() error                 // once
	basics       func() backends.Capabilities // the same, or where a machine would have to boot, as it has to be

	// starts is served by one thread, which lives as long as the Backend: tools
	// die with their parent, and for the kernel that is the thread.
	starts      chan func()
	stop, ended chan struct{} // closed by Close, and by that thread
	once        sync.Once
}

var _ backends.Backend = (*Backend)(nil)

// Open returns the backend of a tool. It does not fail where the tool is missing
// or does not work: Capabilities says so, and Run.
func Open(tool Tool) (*Backend, error) {
	b := &Backend{
		tool: tool, unprivileged: os.Geteuid() != 0,
		starts: make(chan func()), stop: make(chan struct{}), ended: make(chan struct{}),
	}
	b.program, b.missing = exec.LookPath(tool.Program)
	if b.missing == nil {
		b.program, b.missing = filepath.Abs(b.program)
	}
	switch {
	case b.missing != nil:
		b.missing = fmt.Errorf("%w: %s", b.missing, tool.Install)
	case tool.RootOnly && b.unprivileged:
		b.missing = fmt.Errorf("%s works for root only: be root, or take another backend", tool.Program)
	}
	b.prepare = sync.OnceValue(func() error {
		if tool.Prepare == nil {
			return nil
		}
		return tool.Prepare(b.program)
	})
	b.capabilities = sync.OnceValue(func() backends.Capabilities { return b.probe(true) })
	b.basics = b.capabilities
	if tool.Machine != nil {
		b.basics = sync.OnceValue(func() backends.Capabilities { return b.probe(false) })
	}
	go b.serve()
	return b, nil
}

func (b *Backend) serve() {
	defer close(b.ended)
	runtime.LockOSThread() // and never unlocked: the thread ends with us
	for {
		select {
		case f := <-b.starts:
			f()
		case <-b.stop:
			return
		}
	}
}

// Name implements [backends.Backend].
func (b *Backend) Name() string { return b.tool.Name }

// Capabilities implements [backends.Backend]. The first call runs commands, to
// see what this machine allows.
func (b *Backend) Capabilities() backends.Capabilities { return b.capabilities() }

// Basics are the capabilities, without the proof that a machine boots: who runs a
// command will see.
func (b *Backend) Basics() backends.Capabilities { return b.basics() }

// Close implements [backends.Backend].
func (b *Backend) Close() error {
	b.once.Do(func() { close(b.stop) })
	<-b.ended
	return nil
}

// Run implements [backends.Backend].
func (b *Backend) Run(ctx context.Context, spec *backends.Spec) (*backends.Status, error) {
	return backends.RunChecked(ctx, spec, b.check, b.runPiped)
}

// runPiped is run, with pipes where the tool needs them.
func (b *Backend) runPiped(ctx context.Context, spec *backends.Spec) (*backends.Status, error) {
	if !b.tool.Pipes {
		return b.run(ctx, spec)
	}
	inner, wait, err := piped(spec)
	if err != nil {
		return nil, err
	}
	st, err := b.run(ctx, inner)
	if e := wait(); err == nil && e != nil {
		if st.Root != nil {
			st.Root.Close()
		}
		return nil, fmt.Errorf("write the command's output: %w", e)
	}
	return st, err
}

// check refuses what we cannot do, or what the tool would take for something else.
func (b *Backend) check(spec *backends.Spec) error {
	if b.missing != nil {
		return b.missing
	}
	if spec.Network != backends.NetworkNone && spec.Network != backends.NetworkHost {
		return fmt.Errorf("network %d: %w", spec.Network, backends.ErrUnsupported)
	}
	if spec.SELinux != nil && b.tool.Labels {
		if err := helper.CheckSELinux(spec.SELinux, helper.SELinuxStatus); err != nil {
			return err
		}
	}
	return b.refuse(spec)
}

// refuse compares what is asked for with the capabilities. It does not look at
// them when nothing special is asked for, so that a plain command does not wait
// for our probes.
func (b *Backend) refuse(spec *backends.Spec) error {
	images, over := false, false
	for _, l := range spec.Root.Lowers {
		images = images || l.Image != ""
	}
	for _, bind := range spec.Root.Binds {
		over = over || bind.Over
	}
	for _, r := range []struct {
		what  string
		asked bool
		has   func(backends.Capabilities) bool
	}{
		{"layers", len(spec.Root.Lowers) > 0, func(c backends.Capabilities) bool { return c.Overlay }},
		{"layers that are images", images, func(c backends.Capabilities) bool { return c.Images }},
		{"data layers", spec.Root.Data != "", func(c backends.Capabilities) bool { return c.DataLayers }},
		{"a network of its own", spec.Network == backends.NetworkNone && b.tool.Adjust != nil, func(c backends.Capabilities) bool { return c.NetworkNone }},
		{"the host's network", spec.Network == backends.NetworkHost && b.tool.Adjust != nil, func(c backends.Capabilities) bool { return c.NetworkHost }},
		{"another user", spec.Root.HasUser(), func(c backends.Capabilities) bool { return c.Users }},
		{"binds below fresh layers", over, func(c backends.Capabilities) bool { return c.OverBinds }},
		{"observation", spec.Observe, func(c backends.Capabilities) bool { return c.Observe }},
		{"another umask, or the number of the caller", spec.Umask != nil || spec.Caller, func(c backends.Capabilities) bool { return c.Caller }},
		{"a terminal", spec.Terminal != nil, func(c backends.Capabilities) bool { return c.Terminal }},
		{"a filter of system calls", spec.Filter != nil, func(c backends.Capabilities) bool { return c.Filters }},
		{"variation", spec.Vary != nil, func(c backends.Capabilities) bool { return c.Vary }},
		{"SELinux labels", spec.SELinux != nil, func(backends.Capabilities) bool { return b.tool.Labels }},
		{"recorded owners", spec.Owners, func(c backends.Capabilities) bool { return c.Owners }},
		// The tools have no right to give our init a map with the host's other users.
		{"recorded owners as another user", spec.Owners && spec.Root.HasUser(), func(backends.Capabilities) bool { return b.unprivileged }},
		{"programs of another machine", spec.Machine != nil, func(c backends.Capabilities) bool { return c.Machines }},
		{"a memory limit", spec.Limits.Memory > 0, func(c backends.Capabilities) bool { return c.MemoryLimit != backends.Absent }},
		{"a limit of processes", spec.Limits.Pids > 0, func(c backends.Capabilities) bool { return c.PidsLimit != backends.Absent }},
		{"a limit of a scratch that is a directory", spec.Limits.Scratch > 0 && spec.Root.ScratchDir != "", func(backends.Capabilities) bool { return false }},
	} {
		if r.asked && !r.has(b.basics()) {
			return fmt.Errorf("%s: %w on this machine, as this user", r.what, backends.UnsupportedBy(b.Name()))
		}
	}
	return nil
}
