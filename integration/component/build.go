package component

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/staging"
)

// A Builder builds components. Its fields are set before it is used; then any
// number of goroutines may build different components, each after what it needs.
type Builder struct {
	Runner   *action.Runner // without a Stager
	Staging  func() (*staging.Stager, error)
	Blobs    action.Blobs
	Results  action.Cache // of this machine
	Function action.Function
	Fetcher  *Fetcher
	Bases    func(ctx context.Context, b Base) (*BaseTree, error)
	ISA      string // of the platform, as REAPI spells it

	// Owners lets components that ask for it, and integration, change owners and
	// make devices, which are recorded.
	Owners bool

	// Machine, where not nil, is the one whose programs run, and Emulator the digest
	// of what executes them.
	Machine  *backends.Machine
	Emulator action.Digest

	// ScratchDir is a directory of the host for what builds write, where memory
	// cannot hold it. Empty: memory.
	ScratchDir string

	// Bounds are of components without limits of their own: see bounds.go.
	Bounds Bounds
	disk   diskGuard

	// Overlaps is what happens when two components that are staged together, or
	// are in one system, have different files of the same path.
	Overlaps Overlaps

	// Caches, if it is not nil, is the directory of a component's caches, which
	// then are kept from one build to the next: see caches.go.
	Caches func(*Component) string

	// Remember, if it is not nil, is told of each run and each hit.
	Remember func(name string, req *action.Request, out *action.Outcome, err error, started time.Time)

	// Say gets what a user should know, one line at a time.
	Say func(format string, args ...any)
}

// Overlaps is a policy for files that two components have.
type Overlaps string

// The policies.
const (
	IgnoreOverlaps Overlaps = "ignore"
	WarnOverlaps   Overlaps = "warn"
	RefuseOverlaps Overlaps = "exit"
)

// A BaseTree is a root file system in the store.
type BaseTree struct {
	Tree   action.Digest
	Owners action.Digest                   // see staging.Owners; zero: none
	Save   func(ctx context.Context) error // stores it; nil: it is there
}

// A Built component.
type Built struct {
	*Component
	Tree    action.Digest // of what it installed
	Key     action.Digest // of its action; zero if it has none
	Cached  bool
	Away    bool    // another machine built it now
	Warm    bool    // it was built with caches that were kept
	Seconds float64 // that the commands took, when they ran
	Inputs  Inputs
	Owners  action.Digest // of a root file system
}

// Inputs are what the key of a component is made of, for people.
type Inputs struct {
	Base   string            `json:"base,omitempty"`
	Source string            `json:"source,omitempty"`
	Pinned bool              `json:"pinned"`
	Needs  map[string]string `json:"needs,omitempty"` // digests of results, by name
	Script string            `json:"script"`
	Root   string            `json:"root"`
}

// A FailedError says that a command of a component failed.
type FailedError struct {
	Component *Component
	Code      int
	Reason    string // what ended it, if it was not the command itself
	Tail      string // the last lines of the log
	Hint      string // what may be behind it; or empty

	limits backends.Limits // that it ran with
}

func (e *FailedError) Error() string {
	if e.Reason != "" {
		return e.Reason
	}
	return fmt.Sprintf("a command failed with %d", e.Code)
}

// A Request is one component to be built.
type Request struct {
	*Component
	Needs   map[*Component]*Built
	Source  *Fetched // of its source, or nil
	Log     io.Writer
	Rebuild bool                        // run it although there is a result
	Admit   func(context.Context) error // waits until it may run; nil: it may
	DryRun  bool                        // run nothing: the error wraps action.ErrMiss if it would have to
}

// Build returns the result of a component, from the cache where possible.
func (b *Builder) Build(ctx context.Context, req *Request) (*Built, error) {
	if req.Tree != "" {
		return b.replaced(ctx, req.Component)
	}
	p, err := b.plan(ctx, req)
	if err != nil {
		return nil, err
	}
	if b.Caches != nil && len(req.Caches) > 0 {
		if _, err := b.known(ctx, p); err != nil || req.Rebuild {
			p.withCaches(req.Component, b.Caches(req.Component))
		}
	}
	built := &Built{Component: req.Component, Inputs: p.inputs, Key: p.action.Digest(b.Function), Warm: p.caches != ""}
	if req.DryRun {
		res, err := b.known(ctx, p)
		if err == nil {
			built.Cached, built.Tree = true, res.Directories[0].Root
		}
		return built, err
	}
	out, err := b.run(ctx, p, req)
	if err != nil {
		return nil, err
	}
	if err := p.verdict(req.Component, out); err != nil {
		return nil, err
	}
	if len(out.Result.Directories) != 1 || out.Result.Directories[0].Root.IsZero() {
		return nil, errors.New("the result in the cache is not one of a component")
	}
	built.Key, built.Cached, built.Tree = out.Key, out.Cached, out.Result.Directories[0].Root
	if m := out.Result.Metadata; m != nil && m.ExecutionStart != nil && m.ExecutionCompleted != nil {
		built.Seconds = seconds(m.ExecutionCompleted) - seconds(m.ExecutionStart)
	}
	built.Away = out.Away != nil
	b.compareCaches(ctx, req.Component, p, built)
	if out.Unkept != nil {
		b.Say("%s: the result was not cached: %v", req.Name, out.Unkept)
	}
	return built, nil
}

func seconds(t *action.Timestamp) float64 { return float64(t.Seconds) + float64(t.Nanos)/1e9 }

// replaced is a component that is a root file system.
func (b *Builder) replaced(ctx context.Context, c *Component) (*Built, error) {
	base, err := b.Bases(ctx, c.Tree)
	if err != nil {
		return nil, err
	}
	if base.Save != nil {
		if err := base.Save(ctx); err != nil {
			return nil, err
		}
	}
	return &Built{Component: c, Tree: base.Tree, Owners: base.Owners, Cached: true, Inputs: Inputs{Base: base.Tree.String(), Pinned: true}}, nil
}

// verdict says why an outcome is no result.
func (p *plan) verdict(c *Component, out *action.Outcome) error {
	code := int(out.Result.ExitCode)
	if code == 0 && len(out.Missing) == 0 {
		return nil
	}
	e := &FailedError{Component: c, Code: code}
	switch s := out.Status; {
	case s == nil:
	case s.Start != nil:
		e.Reason = fmt.Sprintf("/bin/sh could not be started: %v: is there one in what the component needs, or its base?", s.Start)
	case s.TimedOut:
		e.Reason = fmt.Sprintf("it was killed after its limit of %v", c.Limits.Timeout)
	case s.OutOfMemory:
		e.Reason = fmt.Sprintf("it was killed because it needed more memory than its limit of %s, in which is what it writes unless --scratch-dir DIR puts that on a disk: give it more with limits: {memory: SIZE}, or all with --component-memory SIZE", humanSize(p.limits.Memory))
	case p.short && (s.Signal == 9 || code == 137):
		e.Reason = "the kernel killed it because memory was short"
	case s.Signal != 0:
		e.Reason = fmt.Sprintf("signal %d ended it", s.Signal)
	case code == 0:
		e.Reason = "the commands succeeded, but what they installed is not there: did one remove $DESTDIR?"
	}
	if p.short && (out.Status == nil || !out.Status.OutOfMemory) {
		e.Hint = shortage
	}
	e.limits = p.limits
	return e
}

// run runs the action.
func (b *Builder) run(ctx context.Context, p *plan, req *Request) (*action.Outcome, error) {
	r := *b.Runner
	r.Stager = p.stager
	defer p.stager.clean()
	backend := &bounded{Backend: r.Backend, bounds: b.Bounds, disk: &b.disk, name: req.Name}
	r.Backend = backend
	defer func() { p.limits, p.short = backend.limits, backend.short }()
	if p.caches != "" { // what caches had a part in stays here
		r.Cache, r.Elsewhere = b.Results, nil
	}
	l := req.Component.Limits
	again := false
	done := func() {}
	defer func() { done() }()
	save := func(ctx context.Context) (err error) {
		if req.Admit != nil {
			if err := req.Admit(ctx); err != nil {
				return err
			}
		}
		done()
		if done, err = b.openCaches(ctx, req.Component, p); err != nil {
			done = func() {}
			return err
		}
		return p.save(ctx)
	}
	for {
		started := time.Now()
		request := &action.Request{
			Machine: b.machine(p),
			Action:  p.action, Command: p.command, Save: save, Stdout: req.Log, Stderr: req.Log,
			Limits:     backends.Limits{Wall: l.Timeout, Memory: l.Memory, Scratch: l.Scratch, Pids: l.Pids},
			SkipLookup: req.Rebuild || again, Observe: req.Component.HostTools, Elsewhere: !req.Component.HostTools && !p.stager.whole && len(p.stager.owned) == 0 && !p.stager.machine,
		}
		out, err := r.Run(ctx, request)
		if b.Remember != nil && out != nil {
			b.Remember(req.Name, request, out, err, started)
		}
		if err != nil && out != nil && out.Cached && !again && errors.Is(err, action.ErrMiss) {
			again = true // a blob vanished since the look-up
			continue
		}
		if stopped, ok := errors.AsType[*boundError](err); ok {
			err = stopped
		}
		return out, err
	}
}

// known returns the result of an action, if the cache has one.
func (b *Builder) known(ctx context.Context, p *plan) (*action.Result, error) {
	sealed, err := b.Runner.Witness.Recall(ctx, p.action)
	if err != nil {
		return nil, err
	}
	res, err := b.Runner.Cache.Result(ctx, sealed.Digest(b.Function))
	if err == nil && (res.ExitCode != 0 || len(res.Directories) != 1) {
		err = fmt.Errorf("it failed: %w", action.ErrMiss)
	}
	return res, err
}
