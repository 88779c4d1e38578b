package action

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/backends"
)

// A Stager makes root file systems and reads outputs from them.
type Stager interface {
	// Stage returns the root for an action: its input root on its root file
	// system, with the directories in which c's outputs will be.
	Stage(ctx context.Context, a *Action, c *Command) (backends.Root, error)

	// Collect stores what c declares as outputs and finds below left.Root, and
	// names the declared outputs that it does not find.
	Collect(ctx context.Context, left *backends.Status, c *Command) (*Result, []Missing, error)
}

// A Missing is a declared output that the command did not make.
type Missing struct {
	Path string
	Near []string // what it made instead, the likeliest first
}

// A Witness completes the key of an action whose root file system has no
// digest of its own: with what a command saw of it.
type Witness interface {
	// Recall returns a sealed as it was after an earlier run, if everything
	// that the run saw of the root file system is as it was; else an error
	// wrapping [ErrMiss] that says what changed. An action whose root file
	// system is a tree comes back as it is.
	Recall(ctx context.Context, a *Action) (*Action, error)

	// Seal returns a with the digest of what the run, which began at start by
	// Clock, saw, and notes it for Recall. An error wrapping [ErrUnsealed] says
	// why the result must not be cached.
	Seal(ctx context.Context, a *Action, status *backends.Status, start time.Time) (*Action, error)

	// Clock reads the clock by which changes of the root file system are dated.
	Clock() time.Time
}

// ErrUnsealed says that what a command saw is not known, so that its result
// cannot be cached.
var ErrUnsealed = errors.New("not cacheable")

// A Locker lets equal actions in flight run once, across processes too. Lock
// waits until no other holder of key is left. It may fail, for example on a
// read-only store; then the action runs without.
type Locker interface {
	Lock(ctx context.Context, key Digest) (unlock func(), err error)
}

// A Pruner knows actions that stand for one action of which only a part of the
// input matters, as far as earlier runs tell. They are never run: their digests
// are more keys for the same result.
type Pruner interface {
	// Known returns the action for each earlier run of the same command on
	// inputs of the same names and kinds: with what that run looked at, as it
	// is now.
	Known(ctx context.Context) []*Action

	// Seen returns the action for a run that ended with status, and notes it
	// for Known. The error says why there is none.
	Seen(ctx context.Context, status *backends.Status) (*Action, error)
}

// A Warmer is a Backend that can begin to make a sandbox before it knows for
// what. Warm does not wait. Of spec, Network and Observe are known; the rest is
// not looked at.
type Warmer interface{ Warm(spec *backends.Spec) }

// A Runner runs actions, or finds their results. Its fields are set before
// Run, which any number of goroutines may call.
type Runner struct {
	Cache   Cache
	Blobs   Blobs
	Stager  Stager
	Witness Witness
	Backend backends.Backend
	Locks   Locker // nil: equal actions may run more than once

	// Elsewhere, where not nil, runs misses on other machines.
	Elsewhere Elsewhere

	Log *slog.Logger // what costs time but no result
}

// A Request is one action, with what is not in its key.
type Request struct {
	Action  *Action
	Command *Command

	// Save stores the input root and its files. It is called on a miss only.
	Save func(context.Context) error

	// Admit, if it is there, waits until there is room for what a miss costs; it
	// is called on a miss, before anything that other actions could wait for.
	// The room is given back when Run returns.
	Admit func(context.Context) (release func(), err error)

	// Dir is where the command starts, in the root; empty: [WorkDir] of it.
	Dir string

	Stdin          *os.File
	Stdout, Stderr io.Writer // get the output while the command runs, and on a hit
	Limits         backends.Limits
	Network        backends.Network

	// Prune, where not nil, accepts a result of other inputs of which nothing
	// that was looked at differs, and makes this run's result one.
	Prune Pruner

	Elsewhere     bool              // Runner.Elsewhere may run it; then Outcome.Status is nil
	SkipLookup    bool              // run it even if there is a result, which is replaced
	SkipStore     bool              // do not remember the result
	CacheFailures bool              // remember, and accept, a result with an exit code that is not 0
	Observe       bool              // fill Outcome.Status.Lookups
	Machine       *backends.Machine // whose programs run; nil: this one's

	// Terminal, where not nil, gives the command a terminal: see backends.Spec.
	// What it writes is not kept then, so SkipStore must be set.
	Terminal func(far *os.File)

	// Inspect, where not nil, looks at the root as the command left it, in
	// status, and at what it was made of.
	Inspect func(ctx context.Context, made backends.Root, status *backends.Status) error

	// Vet, where not nil, looks at what is about to be stored, and says what is
	// then known of its reproducibility. If it fails, nothing is stored.
	Vet func(context.Context, *Outcome) (*Verification, error)

	// Vary, where not nil, changes what the command sees of the world. Its
	// result says nothing of the action as it is: SkipLookup and SkipStore
	// must be set, and Observe must not.
	Vary *backends.Vary
}

// An Outcome is what Run has to say of an action.
type Outcome struct {
	Key     Digest // the digest of the action; of the unsealed one if it was never sealed
	Result  *Result
	Cached  bool
	Pruned  bool             // the result is of other inputs: see Request.Prune
	Miss    error            // why it was not cached, when it was looked for
	Unkept  error            // why the result was not stored, or nil
	Started bool             // the command may have run
	Status  *backends.Status // nil on a hit; its Root is closed
	Missing []Missing        // declared outputs that the command did not make
	Away    *Away            // not nil: another machine gave the result, and Status is nil
	Times   Times
}

// Times is how long the stages of an action took.
type Times struct{ Lookup, Save, Stage, Run, Collect, Store time.Duration }

// Run returns the outcome of an action, from the cache where possible.
//
// A command that ran and failed is a Result with an exit code that is not 0.
// An error means that we cannot say what the command does; it is never cached,
// and the outcome says how far we came.
func (r *Runner) Run(ctx context.Context, req *Request) (*Outcome, error) {
	out := &Outcome{Key: req.Action.Digest(req.Action.InputRoot.Function())}
	if r.lookup(ctx, req, out) {
		return out, r.replay(ctx, req, out.Result)
	}
	if req.Admit != nil {
		release, err := req.Admit(ctx)
		if err != nil {
			return out, fmt.Errorf("wait for room: %w", err)
		}
		defer release()
	}
	if w, ok := r.Backend.(Warmer); ok { // the first thing, because it takes longest
		w.Warm(&backends.Spec{Network: req.Network, Observe: req.Observe})
	}
	defer r.alone(ctx, req, out.Key)()
	if r.lookup(ctx, req, out) { // somebody else ran it while we waited
		return out, r.replay(ctx, req, out.Result)
	}

	lap := stopwatch()
	if err := req.Save(ctx); err != nil {
		return out, fmt.Errorf("store the inputs: %w", err)
	}
	out.Times.Save = lap()
	if r.Elsewhere != nil && req.Elsewhere && req.Prune == nil { // which wants to know what it looks at
		return out, r.elsewhere(ctx, req, out)
	}
	return out, r.here(ctx, req, out)
}

// here runs a miss on this machine: its inputs are in the store.
func (r *Runner) here(ctx context.Context, req *Request, out *Outcome) error {
	lap := stopwatch()
	start := r.Witness.Clock() // before staging, which copies files of the host
	root, err := r.Stager.Stage(ctx, req.Action, req.Command)
	if err != nil {
		return fmt.Errorf("stage the inputs: %w", err)
	}
	out.Times.Stage = lap()
	out.Started = true
	res, status, err := r.execute(ctx, req, root)
	if err != nil {
		return err
	}
	defer closeRoot(status)
	out.Status, out.Result, out.Times.Run = status, res, lap()
	if req.Inspect != nil {
		if err := req.Inspect(ctx, root, status); err != nil {
			return fmt.Errorf("look at what the command left: %w", err)
		}
	}
	if out.Missing, err = r.collect(ctx, req, status, res); err != nil {
		return fmt.Errorf("collect the outputs: %w", err)
	}
	out.Times.Collect = lap()
	r.record(ctx, req, out, start)
	out.Times.Store = lap()
	return nil
}

// lookup says whether the cache has a result that req accepts, and notes in
// out what it found or why not.
func (r *Runner) lookup(ctx context.Context, req *Request, out *Outcome) bool {
	if req.SkipLookup || req.Action.DoNotCache {
		return false
	}
	lap := stopwatch()
	defer func() { out.Times.Lookup += lap() }()
	err := r.find(ctx, req, out, req.Action)
	if err != nil && req.Prune != nil {
		for _, a := range req.Prune.Known(ctx) {
			if out.Pruned = r.find(ctx, req, out, a) == nil; out.Pruned {
				return true
			}
		}
	}
	if err == nil {
		return true
	}
	out.Miss, out.Result = err, nil
	if !errors.Is(err, ErrMiss) { // a broken cache costs time, not builds
		r.Log.WarnContext(ctx, "cache unreadable", "action", out.Key, "err", err)
	}
	return false
}

// find fills out with the result of a, which stands for the action of req.
func (r *Runner) find(ctx context.Context, req *Request, out *Outcome, a *Action) error {
	sealed, err := r.Witness.Recall(ctx, a)
	if err != nil {
		return err
	}
	key := sealed.Digest(out.Key.Function())
	res, err := r.Cache.Result(ctx, key)
	if err != nil {
		return err
	}
	if res.ExitCode != 0 && !req.CacheFailures {
		return FailedError(res.ExitCode)
	}
	out.Result, out.Key, out.Cached, out.Miss = res, key, true, nil
	return nil
}

// A FailedError is the miss of an action whose result is that of a command that
// failed with this code.
type FailedError int32

func (e FailedError) Error() string {
	return fmt.Sprintf("the last run failed with %d, and failures are not taken from the cache", int32(e))
}

func (e FailedError) Unwrap() error { return ErrMiss }

// alone waits until no equal action is in flight, and returns what ends our turn.
func (r *Runner) alone(ctx context.Context, req *Request, key Digest) func() {
	if r.Locks == nil || req.SkipLookup || req.Action.DoNotCache {
		return func() {}
	}
	unlock, err := r.Locks.Lock(ctx, key)
	if err != nil {
		r.Log.DebugContext(ctx, "equal actions may run twice", "action", key, "err", err)
		return func() {}
	}
	return unlock
}

// execute runs the command and returns a Result with its exit code, output and
// times.
func (r *Runner) execute(ctx context.Context, req *Request, root backends.Root) (*Result, *backends.Status, error) {
	stdout, stderr := newSpool(req.Stdout), newSpool(req.Stderr)
	defer stdout.remove()
	defer stderr.remove()
	if err := errors.Join(stdout.open(), stderr.open()); err != nil {
		return nil, nil, err
	}
	spec := &backends.Spec{
		Root: root, Args: req.Command.Arguments, Env: environ(req.Command), Dir: cmp.Or(req.Dir, WorkDir(req.Command)),
		Stdin: req.Stdin, Stdout: stdout.w, Stderr: stderr.w,
		Limits: req.Limits, Network: req.Network, Observe: req.Observe, KeepRoot: true, Vary: req.Vary, Terminal: req.Terminal, Owners: req.Action.recordsOwners(), Machine: req.Machine,
	}
	if req.Terminal != nil {
		spec.Stdin, spec.Stdout, spec.Stderr = nil, nil, nil
	}
	if v := req.Vary; v != nil && v.WorkDir != "" {
		spec.Dir = v.WorkDir + strings.TrimPrefix(spec.Dir, WorkRoot)
	}
	start := time.Now()
	status, err := r.Backend.Run(ctx, spec)
	end := time.Now()
	copied := errors.Join(stdout.wait(), stderr.wait())
	if err != nil {
		return nil, nil, fmt.Errorf("run in the sandbox: %w", err)
	}
	res := &Result{ExitCode: int32(status.Code), Metadata: &Metadata{
		Worker: r.Backend.Name(), ExecutionStart: timestamp(start), ExecutionCompleted: timestamp(end),
	}}
	f := req.Action.InputRoot.Function()
	var err1, err2 error
	res.StdoutRaw, res.Stdout, err1 = stdout.store(ctx, r.Blobs, f)
	res.StderrRaw, res.Stderr, err2 = stderr.store(ctx, r.Blobs, f)
	if err := errors.Join(copied, err1, err2); err != nil {
		closeRoot(status)
		return nil, nil, fmt.Errorf("keep the output of the command: %w", err)
	}
	return res, status, nil
}

// collect adds the outputs to res.
func (r *Runner) collect(ctx context.Context, req *Request, status *backends.Status, res *Result) ([]Missing, error) {
	if status.Root == nil {
		return nil, nil
	}
	outputs, missing, err := r.Stager.Collect(ctx, status, req.Command)
	if err != nil {
		return nil, err
	}
	res.Files, res.Directories, res.Symlinks = outputs.Files, outputs.Directories, outputs.Symlinks
	res.FileSymlinks, res.DirSymlinks = outputs.FileSymlinks, outputs.DirSymlinks
	return missing, nil
}

// record stores the result, or notes in out why it does not.
func (r *Runner) record(ctx context.Context, req *Request, out *Outcome, start time.Time) {
	if out.Unkept = worthless(req, out); out.Unkept != nil {
		return
	}
	sealed, err := r.Witness.Seal(ctx, req.Action, out.Status, start)
	if err == nil {
		out.Key = sealed.Digest(out.Key.Function())
		out.Result.Metadata.Auxiliary = originOf(sealed, req.Command)
		if err = r.vet(ctx, req, out); err == nil {
			err = r.Cache.PutResult(ctx, out.Key, out.Result)
		}
	}
	if out.Unkept = err; err == nil && req.Prune != nil {
		if err := r.prune(ctx, req, out, start); err != nil {
			r.Log.WarnContext(ctx, "other inputs will not find this result", "action", out.Key, "err", err)
		}
	}
}

// prune stores the result under what the run looked at, too.
func (r *Runner) prune(ctx context.Context, req *Request, out *Outcome, start time.Time) error {
	a, err := req.Prune.Seen(ctx, out.Status)
	if err != nil {
		return err
	}
	sealed, err := r.Witness.Seal(ctx, a, out.Status, start)
	if err != nil {
		return err
	}
	return r.Cache.PutResult(ctx, sealed.Digest(out.Key.Function()), out.Result)
}

// vet adds to the result what is known of the action's reproducibility. That of
// an earlier result is inherited: to have run once more proves nothing.
func (r *Runner) vet(ctx context.Context, req *Request, out *Outcome) error {
	if req.Vet != nil {
		v, err := req.Vet(ctx, out)
		if err != nil || v == nil {
			return err
		}
		out.Result = out.Result.WithVerification(v)
		return nil
	}
	if !req.SkipLookup {
		return nil
	}
	old, err := r.Cache.Result(ctx, out.Key)
	if err == nil && old.Shareable() != nil {
		out.Result = out.Result.WithVerification(old.Verification())
	}
	return nil
}

// What an action was is kept in the auxiliary metadata of its result: as blobs
// the two messages would cost two more files, and on some file systems a new
// file costs half a millisecond.
const (
	actionType  = "type.googleapis.com/build.bazel.remote.execution.v2.Action"
	commandType = "type.googleapis.com/build.bazel.remote.execution.v2.Command"
)

func originOf(a *Action, c *Command) []Any {
	return []Any{{actionType, a.Marshal()}, {commandType, c.Marshal()}}
}

// WithOrigin returns the result as one of a, as Origin will tell.
func (m *Result) WithOrigin(a *Action, c *Command) *Result {
	res := *m
	res.Metadata = &Metadata{}
	if m.Metadata != nil {
		*res.Metadata = *m.Metadata
	}
	res.Metadata.Auxiliary = originOf(a, c)
	return &res
}

// Origin returns the action and the command that res is the result of, as
// Runner noted them. f is the function of the digests in them.
func (m *Result) Origin(f Function) (a *Action, c *Command, err error) {
	if m.Metadata == nil {
		return nil, nil, errors.New("the result does not say what ran")
	}
	for _, x := range m.Metadata.Auxiliary {
		switch x.TypeURL {
		case actionType:
			a, err = ParseAction(x.Value, f)
		case commandType:
			c, err = ParseCommand(x.Value, f)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	if a == nil || c == nil {
		return nil, nil, errors.New("the result does not say what ran")
	}
	return a, c, nil
}

// worthless says why an outcome must not be remembered, or nil.
func worthless(req *Request, out *Outcome) error {
	switch status := out.Status; {
	case req.SkipStore || req.Action.DoNotCache:
		return errors.New("caching is off for this action")
	case status.TimedOut:
		return errors.New("the command ran out of time")
	case status.OutOfMemory:
		return errors.New("the command ran out of memory")
	case status.Signal != 0:
		return fmt.Errorf("signal %d ended the command", status.Signal)
	case status.Start != nil:
		return errors.New("the command could not be started")
	case status.Code != 0 && !req.CacheFailures:
		return fmt.Errorf("the command failed with %d, and failures are not cached", status.Code)
	case status.Code != 0 && (req.Limits.Memory|req.Limits.Pids|req.Limits.Scratch) != 0:
		return fmt.Errorf("the command failed with %d, perhaps for a limit that is not in the key", status.Code)
	case len(out.Missing) > 0 && status.Code == 0:
		return fmt.Errorf("the command did not make %q", out.Missing[0].Path)
	}
	return nil
}

// replay writes the recorded output of the command.
func (r *Runner) replay(ctx context.Context, req *Request, res *Result) error {
	for _, s := range []struct {
		to   io.Writer
		raw  []byte
		blob Digest
	}{{req.Stdout, res.StdoutRaw, res.Stdout}, {req.Stderr, res.StderrRaw, res.Stderr}} {
		if err := r.replayOne(ctx, s.to, s.raw, s.blob); err != nil {
			return fmt.Errorf("replay the output of the command: %w", err)
		}
	}
	return nil
}

func (r *Runner) replayOne(ctx context.Context, to io.Writer, raw []byte, blob Digest) error {
	if len(raw) > 0 {
		_, err := to.Write(raw)
		return err
	}
	if blob.Size() == 0 {
		return nil
	}
	f, err := r.Blobs.Open(ctx, blob)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(to, f)
	return err
}

// WorkRoot is where the input root of every action is, in the sandbox.
const WorkRoot = "/build"

// WorkDir is the directory in which c starts, in the sandbox.
func WorkDir(c *Command) string {
	if c.WorkingDirectory == "" {
		return WorkRoot
	}
	return WorkRoot + "/" + c.WorkingDirectory
}

func environ(c *Command) []string {
	env := make([]string, len(c.Environment))
	for i, v := range c.Environment {
		env[i] = v.Name + "=" + v.Value
	}
	return env
}

func closeRoot(s *backends.Status) {
	if s.Root != nil {
		s.Root.Close()
	}
}

func timestamp(t time.Time) *Timestamp {
	return &Timestamp{Seconds: t.Unix(), Nanos: int32(t.Nanosecond())}
}

// stopwatch returns a function that returns the time since it was last called.
func stopwatch() func() time.Duration {
	last := time.Now()
	return func() time.Duration {
		now := time.Now()
		d := now.Sub(last)
		last = now
		return d
	}
}
