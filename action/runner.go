package action

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/backends"
)

// A Runner runs actions, or finds their results. Its fields are set before
// Run, which any number of goroutines may call.
type Runner struct {
	Cache   Cache
	Blobs   Blobs
	Stager  Stager
	Witness Witness
	Backend backends.Backend
	Locks   Locker // nil: equal actions may run more than once

	// Meanwhile, where not nil, may be called while a command runs whose result is to
	// be stored, if there is nothing else to do.
	Meanwhile func()

	// Elsewhere, where not nil, runs misses on other machines.
	Elsewhere Elsewhere

	Log *slog.Logger // what costs time but no result
}

// Run returns the outcome of an action, from the cache where possible.
//
// A command that ran and failed is a Result with an exit code that is not 0.
// An error means that we cannot say what the command does; it is never cached,
// and the outcome says how far we came.
func (r *Runner) Run(ctx context.Context, req *Request) (*Outcome, error) {
	out := &Outcome{Key: req.Action.Digest(req.Action.InputRoot.Function())}
	if r.lookup(ctx, req, out) {
		return out, r.hit(ctx, req, out)
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
		return out, r.hit(ctx, req, out)
	}
	if err := req.certain(); err != nil {
		return out, err
	}

	lap := stopwatch()
	if err := req.Save(ctx); err != nil {
		return out, fmt.Errorf("store the inputs: %w", err)
	}
	out.Times.Save = lap()
	if r.Elsewhere != nil && req.Elsewhere && req.Prune == nil { // a Pruner wants to know what the command looks at
		return out, r.elsewhere(ctx, req, out)
	}
	return out, r.here(ctx, req, out)
}

// hit gives what the cache has.
func (r *Runner) hit(ctx context.Context, req *Request, out *Outcome) error {
	if err := req.certain(); err != nil {
		return err
	}
	return r.replay(ctx, req, out.Result)
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
	if req.Intact != nil {
		if err := req.Intact(ctx, root, status); err != nil {
			return err
		}
	}
	if req.Inspect != nil {
		if err := req.Inspect(ctx, root, status); err != nil {
			return fmt.Errorf("look at what the command left: %w", err)
		}
	}
	if err := r.gather(ctx, req, out); err != nil {
		return err
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
	d, ok := r.Backend.(backends.Drainer)
	drains := ok && d.Drains()
	if err := errors.Join(stdout.open(drains), stderr.open(drains)); err != nil {
		return nil, nil, err
	}
	spec := &backends.Spec{
		Root: root, Args: req.Command.Arguments, Env: environ(req.Command), Dir: cmp.Or(req.Dir, WorkDir(req.Command)),
		Stdin: req.Stdin, Stdout: stdout.w, Stderr: stderr.w,
		Limits: req.Limits, Network: req.Network, Observe: req.Observe, KeepRoot: true, Vary: req.Vary, Umask: req.Umask, Caller: req.Caller, Terminal: req.Terminal, Owners: req.Action.recordsOwners(), Machine: req.Machine,
	}
	if !req.SkipStore {
		spec.Meanwhile = r.Meanwhile
	}
	switch {
	case req.Terminal != nil:
		spec.Stdin, spec.Stdout, spec.Stderr = nil, nil, nil
	case drains:
		spec.Drains = []backends.Drain{stdout.drain(), stderr.drain()}
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
	whole, err := blob.Verify(f)
	if err == nil && !whole {
		err = Doubted(ctx, r.Blobs, blob)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return err
	}
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
