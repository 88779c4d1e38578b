package execution

import (
	"context"
	"errors"
	"fmt"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/integration/reapi"
	"github.com/sbx-action/sbx-action/integration/reapi/inputs"
	"github.com/sbx-action/sbx-action/integration/reapi/storage"
	"github.com/sbx-action/sbx-action/integration/reapi/worker/proto/runnerpb"
	"github.com/sbx-action/sbx-action/staging"
)

// A Report says what became of a task.
type Report struct {
	Instance string
	Digest   action.Digest
	Outcome  *action.Outcome // what is in it as far as the task came
	Err      error           // of the runner
	Code     codes.Code      // of the answer
	Queued   time.Time
	Started  time.Time
	Ended    time.Time
	Parent   string // the traceparent header of the request that began it
}

// run runs t and answers all who wait for it.
func (e *Engine) run(t *task) {
	out, err := e.execute(t)
	if errors.Is(context.Cause(t.ctx), errStopped) {
		e.mu.Lock()
		e.running--
		e.mu.Unlock()
		return // no answer: the next server gives it
	}
	res := e.answer(t, out, err)
	t.logs.end()
	t.cancel(nil)

	e.mu.Lock()
	e.running--
	e.counts.Executed++
	if res.Status != nil && res.Status.Code == int32(codes.Canceled) {
		e.counts.Cancelled++
	} else if res.GetStatus().GetCode() != 0 || res.GetResult().GetExitCode() != 0 {
		e.counts.Failed++
	}
	t.stage, t.response = stageCompleted, res
	e.forget(t)
	for _, op := range t.ops {
		e.end(op, e.inlined(op, out, res))
	}
	t.ops = nil
	t.broadcast()
	observe := e.Observe
	e.mu.Unlock()
	if observe != nil {
		observe(&Report{
			Instance: t.job.instance, Digest: t.job.digest, Outcome: out, Err: err, Code: codes.Code(res.GetStatus().GetCode()),
			Queued: t.queued, Started: t.started, Ended: time.Now(), Parent: t.job.parent,
		})
	}
}

// execute runs the action of t. The outcome is never nil.
func (e *Engine) execute(t *task) (*action.Outcome, error) {
	j := t.job
	t.logs.begin()
	limits := e.opts.Limits
	limits.Wall = j.timeout
	r := &action.Runner{
		Cache: &recorder{e, t}, Blobs: e.opts.Store, Stager: &stager{e, j}, Backend: &measured{e.opts.Backend, t},
		Witness: e.opts.Witness, Log: e.opts.Log,
	}
	out, err := r.Run(t.ctx, &action.Request{
		Action: j.action, Command: j.command, Save: func(context.Context) error { return nil },
		Stdout: t.logs.stdout(), Stderr: t.logs.stderr(), Limits: limits,
		SkipLookup: t.skipLookup, Observe: j.rootfs.Tree().IsZero() && e.opts.Can.Observe,
	})
	if err == nil && out.Unkept == nil && !j.action.DoNotCache {
		err = e.opts.Results.Ran(t.ctx, j.instance, j.digest, j.action)
		if errors.Is(err, cache.ErrUnwritable) {
			out.Unkept, err = err, nil
		}
	}
	return out, err
}

// answer makes the response of what became of t.
func (e *Engine) answer(t *task, out *action.Outcome, err error) *repb.ExecuteResponse {
	if err != nil {
		return &repb.ExecuteResponse{Status: e.failure(t, err).Proto()}
	}
	if out.Result.Metadata == nil || out.Result.Metadata.WorkerCompleted == nil {
		t.stamp(out.Result)
	}
	m, err := e.opts.Results.Message(t.ctx, out.Result, storage.Inline{}, e.opts.MaxInline)
	if err != nil {
		return &repb.ExecuteResponse{Status: status.Convert(reapi.Error(err)).Proto()}
	}
	res := &repb.ExecuteResponse{Result: m, CachedResult: out.Cached}
	if s := out.Status; s != nil {
		switch {
		case s.TimedOut:
			res.Status = status.Newf(codes.DeadlineExceeded, "the command was killed after its timeout of %v", t.job.timeout).Proto()
		case s.OutOfMemory:
			res.Status = reapi.Busy(codes.ResourceExhausted, time.Minute,
				"the command was killed because it needed more than the %d bytes of memory that it may use here", e.opts.Limits.Memory).Proto()
		case s.Start != nil:
			res.Message = fmt.Sprintf("the command could not be started: %v", s.Start)
		case out.Unkept != nil && s.Code == 0 && !t.job.action.DoNotCache:
			res.Message = fmt.Sprintf("the result was not cached: %v", out.Unkept)
		}
	}
	return res
}

// failure is what it means to a client that we cannot say what the command
// does.
func (e *Engine) failure(t *task, err error) *status.Status {
	if cause := context.Cause(t.ctx); cause != nil {
		if st, ok := status.FromError(cause); ok {
			return st
		}
	}
	switch {
	case errors.Is(err, action.ErrMiss):
		missing, merr := e.missing(t.ctx, t.job.action.InputRoot)
		if merr != nil {
			return status.Convert(reapi.Error(merr))
		}
		if len(missing) > 0 {
			return reapi.Missing(missing)
		}
		return reapi.Busy(codes.Unavailable, time.Second, "%v", err) // it came back meanwhile
	case errors.Is(err, backends.ErrUnsupported):
		return status.Newf(codes.FailedPrecondition, "%v", err)
	case errors.Is(err, errInput), inputs.IsMalformed(err):
		return status.Newf(codes.InvalidArgument, "%v", err)
	case errors.Is(err, errOutput):
		return status.Newf(codes.FailedPrecondition, "%v", err)
	}
	e.opts.Log.Warn("an action could not be run", "action", t.job.digest, "err", err)
	return status.Convert(reapi.Error(err))
}

// inlined is res for one operation: with what its request wants inside.
func (e *Engine) inlined(op *Operation, out *action.Outcome, res *repb.ExecuteResponse) *repb.ExecuteResponse {
	in := storage.Inline{Stdout: op.Request.InlineStdout, Stderr: op.Request.InlineStderr, Files: op.Request.InlineOutputFiles}
	if res.Result == nil || !in.Stdout && !in.Stderr && len(in.Files) == 0 {
		return res
	}
	m, err := e.opts.Results.Message(context.Background(), out.Result, in, e.opts.MaxInline)
	if err != nil {
		return res
	}
	return &repb.ExecuteResponse{Result: m, CachedResult: res.CachedResult, Status: res.Status, Message: res.Message}
}

// A recorder is the cache of one task: what it stores says when the task did
// what.
type recorder struct {
	e *Engine
	t *task
}

func (r *recorder) Result(ctx context.Context, key action.Digest) (*action.Result, error) {
	return r.e.opts.Store.PackedResult(ctx, key)
}

func (r *recorder) PutResult(ctx context.Context, key action.Digest, res *action.Result) error {
	r.t.stamp(res)
	return r.e.opts.Store.PutPackedResult(ctx, key, res)
}

// measured is the backend of one task: it notes what the command used.
type measured struct {
	backends.Backend
	t *task
}

// Run implements [backends.Backend].
func (m *measured) Run(ctx context.Context, spec *backends.Spec) (*backends.Status, error) {
	st, err := m.Backend.Run(ctx, spec)
	if err == nil {
		m.t.used = &st.Usage
	}
	return st, err
}

// usage is what the command used, in the form that Buildbarn gave it and that
// its tools show. Nil: it is not known.
func (t *task) usage() (*anypb.Any, error) {
	if t.used == nil {
		return nil, nil
	}
	return anypb.New(&runnerpb.POSIXResourceUsage{
		UserTime: durationpb.New(t.used.User), SystemTime: durationpb.New(t.used.System), MaximumResidentSetSize: t.used.MaxRSS,
	})
}

// stamp fills in what the runner does not know: the times, which never go back
// whatever the clock does, and what the command used.
func (t *task) stamp(res *action.Result) {
	if res.Metadata == nil {
		res.Metadata = &action.Metadata{}
	}
	m := res.Metadata
	now := time.Now()
	stamp := func(at time.Time) *action.Timestamp {
		return &action.Timestamp{Seconds: at.Unix(), Nanos: int32(at.Nanosecond())}
	}
	m.Queued, m.WorkerStart, m.InputFetchStart = stamp(t.queued), stamp(t.started), stamp(t.started)
	if m.ExecutionStart == nil {
		m.ExecutionStart, m.ExecutionCompleted = stamp(now), stamp(now)
	}
	m.InputFetchCompleted, m.OutputUploadStart = m.ExecutionStart, m.ExecutionCompleted
	m.OutputUploadCompleted, m.WorkerCompleted = stamp(now), stamp(now)
	latest := m.Queued
	for _, at := range []**action.Timestamp{
		&m.WorkerStart, &m.InputFetchStart, &m.InputFetchCompleted, &m.ExecutionStart, &m.ExecutionCompleted,
		&m.OutputUploadStart, &m.OutputUploadCompleted, &m.WorkerCompleted,
	} {
		if before(*at, latest) {
			*at = latest
		}
		latest = *at
	}
	virtual := time.Duration(m.ExecutionCompleted.Seconds-m.ExecutionStart.Seconds)*time.Second +
		time.Duration(m.ExecutionCompleted.Nanos-m.ExecutionStart.Nanos)
	m.VirtualExecutionDuration = &virtual
	if used, err := t.usage(); err == nil && used != nil {
		m.Auxiliary = append(m.Auxiliary, action.Any{TypeURL: used.TypeUrl, Value: used.Value})
	}
}

func before(a, b *action.Timestamp) bool {
	return a.Seconds < b.Seconds || a.Seconds == b.Seconds && a.Nanos < b.Nanos
}

// A stager is the [action.Stager] of one job.
type stager struct {
	e *Engine
	j *job
}

// errOutput is wrapped by errors about what the command made, errInput by those
// about the input root.
var (
	errOutput = errors.New("bad output")
	errInput  = errors.New("bad input")
)

// Stage implements [action.Stager].
func (s *stager) Stage(ctx context.Context, a *action.Action, c *action.Command) (backends.Root, error) {
	root, err := s.stage(ctx, a, c)
	if err != nil && !errors.Is(err, action.ErrMiss) && ctx.Err() == nil && inputs.IsMalformed(err) {
		err = fmt.Errorf("%w: %w", errInput, err)
	}
	return root, err
}

func (s *stager) stage(ctx context.Context, a *action.Action, c *action.Command) (backends.Root, error) {
	find, err := s.e.dirs.Finder(ctx, a.InputRoot)
	if err != nil {
		return backends.Root{}, err
	}
	own, err := s.e.dirs.Properties(ctx, a.InputRoot)
	if err != nil {
		return backends.Root{}, err
	}
	st := &staging.Stager{Blobs: s.e.opts.Store, Layers: s.e.opts.Store, Notes: s.e.opts.Store, Capabilities: s.e.opts.Can, Log: s.e.opts.Log}
	return st.Stage(ctx, staging.Input{Tree: a.InputRoot, Hint: s.hint(), Directories: staging.Parents(c, find), Properties: own}, s.j.rootfs)
}

// hint says which trees are likely to be alike: those of one instance.
func (s *stager) hint() action.Digest {
	return action.Sum(action.SHA256, []byte("reapi instance "+s.j.instance))
}

// Collect implements [action.Stager]. REAPI lets a command succeed without its
// outputs, so none counts as missing.
func (s *stager) Collect(ctx context.Context, left *backends.Status, c *action.Command) (*action.Result, []action.Missing, error) {
	res, _, err := staging.Collect(ctx, s.e.opts.Store, left.Root, staging.Outputs{
		Dir: c.WorkingDirectory, Paths: c.OutputPaths, Failed: left.Code != 0, Function: s.j.digest.Function(), Format: c.OutputDirectoryFormat,
		Properties: c.OutputNodeProperties, Owned: staging.NewOwned(left.Owned),
	})
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, cache.ErrUnwritable) {
			err = fmt.Errorf("%w: %w", errOutput, err)
		}
		return nil, nil, err
	}
	if left.Code == 0 {
		if err := s.checkLegacy(res); err != nil {
			return nil, nil, err
		}
	}
	s.addLegacy(res)
	return res, nil, nil
}
