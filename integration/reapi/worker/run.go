//lint:file-ignore SA1019 old clients say it with what is deprecated for new ones

package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	rexec "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/integration/reapi/inputs"
	"github.com/sbx-action/sbx-action/integration/reapi/remote"
	"github.com/sbx-action/sbx-action/integration/reapi/worker/proto/runnerpb"
	"github.com/sbx-action/sbx-action/staging"
)

// A run is one task while it is executed. It is used by one goroutine.
type run struct {
	w      *Worker
	task   *Task
	client *remote.Client
	stage  func(Stage)

	action  *action.Action
	command *action.Command
	inputs  *remote.TreeReport
	dirs    []string // outputs that an old client said to be directories

	meta *rexec.ExecutedActionMetadata
	last time.Time // of the stamps: they never go back
}

// Execute executes a task. id is what the result says of who did it; stage is
// called at the beginning of each stage. The answer is complete: its status
// says what went wrong, if anything did, and its result is in the action cache,
// if it belongs there.
func (w *Worker) Execute(ctx context.Context, task *Task, id string, stage func(Stage)) *rexec.ExecuteResponse {
	r := &run{
		w: w, task: task, client: w.Storage.Instance(task.Instance), stage: stage,
		meta: &rexec.ExecutedActionMetadata{Worker: id, QueuedTimestamp: task.Queued, AuxiliaryMetadata: task.Auxiliary},
	}
	if task.Queued != nil {
		r.last = task.Queued.AsTime() // the clock of another machine may be ahead of ours
	}
	r.meta.WorkerStartTimestamp = r.now()
	resp := &rexec.ExecuteResponse{}
	unlock, err := w.Store.Lock(ctx, action.Sum(action.SHA256, fmt.Appendf(nil, "task %s %d", id, w.tasks.Add(1))))
	if err == nil {
		err = r.execute(ctx, resp)
		unlock()
	}
	if err != nil {
		resp.Status = Status(ctx, err).Proto()
	}
	r.complete(resp)
	if ctx.Err() != nil { // nobody wants it any more
		return resp
	}
	if err := r.publish(ctx, resp); err != nil {
		resp.Status = Status(ctx, err).Proto()
	}
	return resp
}

// now is a time stamp, not before any other of the task.
func (r *run) now() *timestamppb.Timestamp {
	if t := time.Now(); t.After(r.last) {
		r.last = t
	}
	return timestamppb.New(r.last)
}

// complete fills in what every answer has: the stamps of stages that were not
// come to are those of when the task ended.
func (r *run) complete(resp *rexec.ExecuteResponse) {
	if resp.CachedResult {
		return
	}
	m := r.meta
	m.WorkerCompletedTimestamp = r.now()
	for _, t := range []**timestamppb.Timestamp{
		&m.InputFetchStartTimestamp, &m.InputFetchCompletedTimestamp, &m.ExecutionStartTimestamp,
		&m.ExecutionCompletedTimestamp, &m.OutputUploadStartTimestamp, &m.OutputUploadCompletedTimestamp,
	} {
		if *t == nil {
			*t = m.WorkerCompletedTimestamp
		}
	}
	if resp.Result == nil {
		resp.Result = &rexec.ActionResult{}
	}
	resp.Result.ExecutionMetadata = m
}

// execute does everything but to publish the result.
func (r *run) execute(ctx context.Context, resp *rexec.ExecuteResponse) error {
	r.stage(Fetching)
	r.meta.InputFetchStartTimestamp = r.now()
	if err := r.describe(ctx); err != nil {
		return err
	}
	if found, err := r.cached(ctx, resp); found || err != nil {
		return err
	}
	limits := r.w.Limits
	var err error
	if limits.Wall, err = r.timeout(); err != nil {
		return err
	}
	out, err := r.run(ctx, limits)
	if err != nil {
		return err
	}
	if err := r.upload(ctx, out, resp); err != nil {
		return err
	}
	switch s := out.Status; {
	case s.TimedOut:
		return status.Errorf(codes.DeadlineExceeded, "the command was killed after %v", limits.Wall)
	case s.OutOfMemory:
		return status.Errorf(codes.ResourceExhausted, "the command was killed because it needed more than %d bytes of memory", limits.Memory)
	}
	return nil
}

// run runs the command. A blob that went missing below us is fetched again.
func (r *run) run(ctx context.Context, limits backends.Limits) (*action.Outcome, error) {
	for again := true; ; again = false {
		req := &action.Request{Action: r.action, Command: r.command, Save: r.fetch, Limits: limits, SkipLookup: true, SkipStore: true}
		if r.w.WholeRoot {
			req.Dir = "/" + r.command.WorkingDirectory
		}
		out, err := r.runner().Run(ctx, req)
		_, remotely := errors.AsType[*remote.MissingError](err)
		if err == nil || remotely || !errors.Is(err, action.ErrMiss) {
			return out, err
		}
		r.w.forget()
		if !again || out.Started {
			return out, fmt.Errorf("%w: %w", errLocal, err)
		}
	}
}

// errLocal is for what is the fault of this worker.
var errLocal = errors.New("the input cache of the worker lost something")

// describe reads action and command.
func (r *run) describe(ctx context.Context) error {
	f := r.task.Digest.Function()
	m := r.task.Action
	if m == nil {
		m = new(rexec.Action)
		if err := r.message(ctx, r.task.Digest, m); err != nil {
			return err
		}
	}
	command := new(rexec.Command)
	commandDigest, err := remote.FromDigest(m.GetCommandDigest(), f)
	if err != nil {
		return status.Errorf(codes.InvalidArgument, "command_digest: %v", err)
	}
	if err := r.message(ctx, commandDigest, command); err != nil {
		return err
	}
	if r.command, err = toCommand(command); err != nil {
		return status.Errorf(codes.InvalidArgument, "command %v: %v", commandDigest, err)
	}
	r.dirs = command.OutputDirectories
	root, err := remote.FromDigest(m.GetInputRootDigest(), f)
	if err != nil {
		return status.Errorf(codes.InvalidArgument, "input_root_digest: %v", err)
	}
	r.action = &action.Action{
		Command: commandDigest, InputRoot: root, DoNotCache: m.DoNotCache,
		Timeout: m.GetTimeout().AsDuration(),
	}
	if m.Timeout != nil && m.Timeout.CheckValid() != nil || r.action.Timeout < 0 {
		return status.Errorf(codes.InvalidArgument, "timeout: %v is none", m.Timeout)
	}
	return nil
}

// message fetches a blob that is a message.
func (r *run) message(ctx context.Context, d action.Digest, m proto.Message) error {
	if err := r.client.Download(ctx, r.w.Store, []action.Digest{d}); err != nil {
		return err
	}
	data, err := remote.ReadMessage(ctx, r.w.Store, d)
	if err != nil {
		return err
	}
	if err := proto.Unmarshal(data, m); err != nil {
		return &remote.MalformedError{Digest: d, Err: err}
	}
	return nil
}

// toCommand takes what old clients say, too, and sorts what they forgot to.
func toCommand(m *rexec.Command) (*action.Command, error) {
	c := &action.Command{
		Arguments: m.Arguments, WorkingDirectory: strings.Trim(m.WorkingDirectory, "/"),
		OutputPaths: slices.Clone(m.OutputPaths), OutputDirectoryFormat: int32(m.OutputDirectoryFormat),
	}
	c.OutputNodeProperties = slices.Compact(slices.Sorted(slices.Values(m.OutputNodeProperties)))
	for _, p := range c.OutputNodeProperties {
		if p != "mtime" && p != "unix_mode" {
			return nil, fmt.Errorf("output_node_properties: %q is not known: there are mtime and unix_mode", p)
		}
	}
	if c.WorkingDirectory == "." {
		c.WorkingDirectory = ""
	}
	if len(m.OutputPaths) == 0 { // before REAPI 2.1
		c.OutputPaths = slices.Concat(m.OutputFiles, m.OutputDirectories)
	}
	for i, p := range c.OutputPaths {
		c.OutputPaths[i] = strings.TrimSuffix(p, "/")
	}
	slices.Sort(c.OutputPaths)
	c.OutputPaths = slices.Compact(c.OutputPaths)
	if c.OutputDirectoryFormat < 0 || c.OutputDirectoryFormat > 2 {
		c.OutputDirectoryFormat = 0 // as REAPI says of those that a server does not know
	}
	for _, v := range m.EnvironmentVariables {
		c.Environment = append(c.Environment, action.EnvironmentVariable{Name: v.Name, Value: v.Value})
	}
	slices.SortStableFunc(c.Environment, func(a, b action.EnvironmentVariable) int { return strings.Compare(a.Name, b.Name) })
	if err := c.Check(); err != nil {
		return nil, err
	}
	return c, inputs.CheckPaths(c)
}

// cached looks for a result, if the worker is to do so.
func (r *run) cached(ctx context.Context, resp *rexec.ExecuteResponse) (bool, error) {
	if !r.w.UseCache || r.action.DoNotCache {
		return false, nil
	}
	res, err := r.client.Result(ctx, r.task.Digest)
	if errors.Is(err, action.ErrMiss) || err == nil && res.ExitCode != 0 {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	resp.Result, err = remote.ToResult(res)
	resp.CachedResult = err == nil
	return err == nil, err
}

// timeout is how long the command may run.
func (r *run) timeout() (time.Duration, error) {
	t := r.action.Timeout
	if t == 0 {
		return r.w.DefaultTimeout, nil
	}
	if r.w.MaxTimeout > 0 && t > r.w.MaxTimeout {
		return 0, status.Errorf(codes.InvalidArgument, "timeout: %v is more than the %v that this worker allows", t, r.w.MaxTimeout)
	}
	return t, nil
}

// fetch is the first thing that the runner does.
func (r *run) fetch(ctx context.Context) (err error) {
	r.inputs, err = r.w.fetch(ctx, r.client, r.action.InputRoot)
	return err
}

func (r *run) runner() *action.Runner {
	return &action.Runner{
		Blobs: r.w.Store, Stager: &stager{r.w, r}, Witness: unwitnessed{}, Backend: watched{r.w.Backend, r}, Log: r.w.Log,
	}
}

// Collect implements [action.Stager].
func (s *stager) Collect(ctx context.Context, left *backends.Status, c *action.Command) (*action.Result, []action.Missing, error) {
	s.task.stage(Uploading)
	s.task.meta.OutputUploadStartTimestamp = s.task.now()
	work := ""
	if s.w.WholeRoot {
		work = "/"
	}
	return staging.Collect(ctx, s.w.Store, left.Root, staging.Outputs{
		Work: work, Dir: c.WorkingDirectory, Paths: c.OutputPaths, Failed: left.Code != 0, Function: s.task.task.Digest.Function(), Format: c.OutputDirectoryFormat,
		Properties: c.OutputNodeProperties, Owned: staging.NewOwned(left.Owned),
	})
}

// watched tells when the command starts and ends.
type watched struct {
	backends.Backend
	task *run
}

// Run implements [backends.Backend].
func (s watched) Run(ctx context.Context, spec *backends.Spec) (*backends.Status, error) {
	m := s.task.meta
	m.InputFetchCompletedTimestamp = s.task.now()
	m.ExecutionStartTimestamp = m.InputFetchCompletedTimestamp
	s.task.stage(Running)
	st, err := s.Backend.Run(ctx, spec)
	m.ExecutionCompletedTimestamp = s.task.now()
	m.VirtualExecutionDuration = durationpb.New(m.ExecutionCompletedTimestamp.AsTime().Sub(m.ExecutionStartTimestamp.AsTime()))
	return st, err
}

// unwitnessed is the Witness of actions whose key is the client's affair.
type unwitnessed struct{}

func (unwitnessed) Recall(_ context.Context, a *action.Action) (*action.Action, error) {
	return a, nil
}

func (unwitnessed) Seal(_ context.Context, a *action.Action, _ *backends.Status, _ time.Time) (*action.Action, error) {
	return a, nil
}

func (unwitnessed) Clock() time.Time { return time.Now() }

// upload puts what the command made into the cluster's storage, and into resp.
func (r *run) upload(ctx context.Context, out *action.Outcome, resp *rexec.ExecuteResponse) error {
	res, st := out.Result, out.Status
	if st.Start != nil && len(res.StderrRaw) == 0 && res.Stderr.IsZero() {
		res.StderrRaw = fmt.Appendf(nil, "the command could not be started: %v\n", st.Start)
	}
	var err error
	for _, s := range []struct {
		raw  *[]byte
		blob *action.Digest
	}{{&res.StdoutRaw, &res.Stdout}, {&res.StderrRaw, &res.Stderr}} {
		if len(*s.raw) > 0 { // clients of workers expect digests
			if *s.blob, err = r.w.Store.PutBytes(ctx, r.task.Digest.Function(), *s.raw); err != nil {
				return err
			}
			*s.raw = nil
		}
	}
	res.Metadata = nil // ours says more
	if err := r.client.UploadResult(ctx, r.w.Store, res); err != nil {
		return err
	}
	r.meta.OutputUploadCompletedTimestamp = r.now()
	r.oldLinks(res)
	if resp.Result, err = remote.ToResult(res); err != nil {
		return err
	}
	return r.usage(st)
}

// oldLinks repeats links where clients from before REAPI 2.1 look for them.
func (r *run) oldLinks(res *action.Result) {
	for _, l := range res.Symlinks {
		if slices.Contains(r.dirs, l.Path) {
			res.DirSymlinks = append(res.DirSymlinks, l)
		} else {
			res.FileSymlinks = append(res.FileSymlinks, l)
		}
	}
}

// usage says in the metadata what the command used.
func (r *run) usage(st *backends.Status) error {
	posix := &runnerpb.POSIXResourceUsage{
		UserTime: durationpb.New(st.Usage.User), SystemTime: durationpb.New(st.Usage.System),
		MaximumResidentSetSize: st.Usage.MaxRSS, TerminationSignal: signalName(st.Signal),
	}
	inputs := &runnerpb.InputRootResourceUsage{
		DirectoriesResolved: uint64(r.inputs.Directories), DirectoriesRead: uint64(r.inputs.DirectoriesRead), FilesRead: uint64(r.inputs.FilesRead),
	}
	for _, m := range []proto.Message{posix, inputs} {
		x, err := anypb.New(m)
		if err != nil {
			return err
		}
		r.meta.AuxiliaryMetadata = append(r.meta.AuxiliaryMetadata, x)
	}
	return nil
}
