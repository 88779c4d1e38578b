package native

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/internal/helper"
)

// A Backend runs commands with the kernel's own means.
type Backend struct {
	unprivileged bool
	once         bool
	prepared     bool
	noScribe     bool
	kernel       version
	groups       *groups
	basics       func() backends.Capabilities
	capabilities func() backends.Capabilities

	mu     sync.Mutex
	idle   map[backends.Network][]*slot         // guarded by mu; the last one was used last
	next   map[backends.Network]*backends.Ahead // guarded by mu; what the next command will likely want to see: see Prepare
	last   *backends.Network                    // guarded by mu; of the last command, or nil
	ending []*slot                              // guarded by mu; Close waits for them
	closed bool                                 // guarded by mu
}

var _ backends.Backend = (*Backend)(nil)

// Open returns the backend. It starts nothing yet, and does not fail where
// sandboxes are not to be had: Capabilities says so, and Run.
func Open(o Options) (*Backend, error) {
	b := &Backend{
		once:         o.Once,
		prepared:     o.Prepared,
		noScribe:     o.NoScribe,
		unprivileged: os.Geteuid() != 0,
		kernel:       kernel(),
		idle:         map[backends.Network][]*slot{},
		next:         map[backends.Network]*backends.Ahead{},
		groups:       &groups{parent: o.CgroupParent},
	}
	b.basics = sync.OnceValue(b.probe)
	b.capabilities = sync.OnceValue(b.probeLimits)
	return b, nil
}

// Drains implements [backends.Drainer].
func (b *Backend) Drains() bool { return true }

// Name implements [backends.Backend].
func (b *Backend) Name() string { return "native" }

// Capabilities implements [backends.Backend].
func (b *Backend) Capabilities() backends.Capabilities { return b.capabilities() }

// Basics is Capabilities without the limits, which take longer to find out than
// all the rest. All of them are Absent in it.
func (b *Backend) Basics() backends.Capabilities { return b.basics() }

// Warm starts what the next Run needs, if nothing is idle, and does not wait for
// it: about 0.2 ms now for 1 ms then. It is for callers that know that they
// will run a command but have to prepare its root first: of spec it looks at
// Network and Observe. What goes wrong, Run finds out.
func (b *Backend) Warm(spec *backends.Spec) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, begin := spec.Network, []string{"begin"}
	if b.closed || len(b.idle[n]) > 0 {
		return
	}
	if spec.Observe && b.observes() {
		begin = append(begin, "watch")
	}
	if s, err := b.newSlot(n, begin...); err == nil {
		b.idle[n] = append(b.idle[n], s)
	}
}

// Prepare makes a sandbox for the next command, as Warm does, in each slot that is
// idle: there is one for each kind of network that was used. It also begins the root
// of the next command, if the last one had one that can be begun, and does not wait.
func (b *Backend) Prepare() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for network, idle := range b.idle {
		n := len(idle)
		if n == 0 || idle[n-1].begun {
			continue
		}
		s := idle[n-1]
		s.begun = true
		s.process.Prepare()
		if a := b.next[network]; a != nil {
			s.ahead = beginAhead(s.process.Socket, a)
		}
	}
}

// Last is the network of the last command, or "none" where there was no command yet.
func (b *Backend) Last(none backends.Network) backends.Network {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last == nil {
		return none
	}
	return *b.last
}

// Renew ends the slots that are idle, because something has changed of what they have
// inherited from this process. Nothing may run meanwhile.
func (b *Backend) Renew() {
	b.mu.Lock()
	idle := b.idle
	b.idle = map[backends.Network][]*slot{}
	b.mu.Unlock()
	for _, slots := range idle {
		for _, s := range slots {
			s.stop()
		}
	}
}

// Run implements [backends.Backend].
func (b *Backend) Run(ctx context.Context, spec *backends.Spec) (*backends.Status, error) {
	return backends.RunChecked(ctx, spec, b.refuse, b.run)
}

func (b *Backend) run(ctx context.Context, spec *backends.Spec) (*backends.Status, error) {
	spec, done, err := showCPUs(spec)
	if err != nil {
		return nil, err
	}
	defer done()
	s, err := b.take(spec.Network)
	if err != nil {
		return nil, err
	}
	st, err := s.run(ctx, b, spec)
	b.put(s, spec.Root.Ahead)
	if ctx.Err() != nil {
		if st != nil && st.Root != nil {
			st.Root.Close()
		}
		return nil, context.Cause(ctx)
	}
	return st, err
}

// Close implements [backends.Backend].
func (b *Backend) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for _, slots := range b.idle {
		for _, s := range slots {
			s.stop()
		}
	}
	for _, s := range b.ending {
		s.process.Wait()
	}
	b.idle, b.ending = nil, nil
	return b.groups.close()
}

// take returns an idle slot, the one used last because its memory is warmest,
// or a new one.
func (b *Backend) take(n backends.Network) (*slot, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, errors.New("backend native is closed")
	}
	if idle := b.idle[n]; len(idle) > 0 {
		s := idle[len(idle)-1]
		b.idle[n] = idle[:len(idle)-1]
		if s.ahead.wait() {
			return s, nil
		}
		s.stop() // what was begun could not be; what a new one says of it counts
	}
	return b.newSlot(n)
}

// put makes a slot idle. Beyond what this machine can keep busy, and if it is
// broken, it is stopped. With Options.Once it begins to end, which takes 0.3 ms,
// and is waited for by Close.
// Next is what of the root could be made in advance.
func (b *Backend) put(s *slot, next *backends.Ahead) {
	b.mu.Lock()
	network := s.network
	b.next[network], b.last = next, &network
	if b.once && !b.closed {
		s.process.End()
		b.ending = append(b.ending, s)
		b.mu.Unlock()
		return
	}
	keep := !s.broken && !b.closed && len(b.idle[s.network]) < runtime.NumCPU()+1
	if keep {
		b.idle[s.network] = append(b.idle[s.network], s)
	}
	b.mu.Unlock()
	if !keep {
		s.stop()
	}
}

// refuse refuses what our Capabilities do not offer, but for the limits.
func (b *Backend) refuse(spec *backends.Spec) error {
	if err := helper.CheckSELinux(spec.SELinux, helper.SELinuxStatus); err != nil {
		return err
	}
	what := ""
	for _, l := range spec.Root.Lowers {
		switch {
		case l.Dir != "" && !b.overlay():
			what = "layers"
		case l.Image != "" && !b.images():
			what = "layers that are images"
		}
	}
	for _, bind := range spec.Root.Binds {
		if bind.Over && !b.basics().OverBinds {
			what = "binds below fresh layers"
		}
	}
	switch {
	case spec.Root.HasUser() && b.unprivileged:
		what = "another user"
	case spec.Root.Data != "" && !b.dataLayers():
		what = "data layers"
	case spec.Observe && !b.observes():
		what = "observation"
	case spec.Caller && (!spec.Observe || spec.Owners || spec.Machine != nil):
		what = "the caller's number without observation"
	case spec.Vary != nil && (spec.Observe || spec.Owners || !b.varies()):
		what = "variation"
	case spec.Owners && !b.records():
		what = "recorded owners"
	case spec.Machine != nil && !b.emulates():
		what = "programs of another machine, which need Linux 6.7"
	case spec.Network < backends.NetworkNone || spec.Network > backends.NetworkSealed:
		what = fmt.Sprintf("network %d", spec.Network)
	}
	if what != "" {
		return fmt.Errorf("%s: %w on this machine, as this user", what, backends.UnsupportedBy("native"))
	}
	return nil
}
