// Package workertest has schedulers to test workers with: small, honest and
// strict. They keep a list of what a worker did against the protocol, and lose,
// repeat and forget on demand.
package workertest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	rexec "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi/remote"
	"github.com/sbx-action/sbx-action/integration/reapi/remote/remotetest"
	pb "github.com/sbx-action/sbx-action/integration/reapi/worker/proto/remoteworkerpb"
)

// A Fault is what happens to one call.
type Fault int

const (
	None      Fault = iota
	LostCall        // it does not arrive
	LostReply       // it is answered, and the answer does not arrive
	Twice           // it arrives twice, and the second answer counts
	Restart         // the scheduler has forgotten everything but its queue
	Slow            // the answer takes as long as a busy slot may wait
)

// A Scheduler is Buildbarn's, as far as workers see it. Set its fields before
// the first call.
type Scheduler struct {
	pb.UnimplementedOperationQueueServer

	Storage  *remotetest.Server
	Prefix   string
	Platform *rexec.Platform

	Busy  time.Duration // after which a slot that executes must call again
	Grace time.Duration // by which it may be late
	Idle  time.Duration // for which a call waits for work

	// Fault says what happens to call number n, from 1 on; nil: nothing.
	Fault func(n int, req *pb.SynchronizeRequest) Fault

	mu         sync.Mutex
	calls      int
	wake       chan struct{} // closed when there may be work
	queue      []*Job
	slots      map[string]*slot
	violations []string
	requests   []*pb.SynchronizeRequest
}

// A slot is what the scheduler knows of one.
type slot struct {
	calling   bool
	ctx       context.Context // of the call
	job       *Job
	begun     bool // it has told that it executes job
	delivered bool // the answer that gave it job has arrived
	stage     int
	due       time.Time
}

// A Job is an action that is to be executed.
type Job struct {
	Digest   action.Digest
	Action   *rexec.Action
	Metadata []*anypb.Any
	Suffix   string
	Function rexec.DigestFunction_Value

	Done chan *rexec.ExecuteResponse // gets the answer

	canceled bool // guarded by Scheduler.mu
	handed   int
}

// Enqueue adds a job for the action.
func (s *Scheduler) Enqueue(digest action.Digest, act *rexec.Action) *Job {
	extra, err := anypb.New(&rexec.RequestMetadata{ActionMnemonic: "Test"})
	if err != nil {
		panic(err)
	}
	j := &Job{
		Digest: digest, Action: act, Metadata: []*anypb.Any{extra}, Done: make(chan *rexec.ExecuteResponse, 1),
		Function: rexec.DigestFunction_Value(digest.Function()),
	}
	s.EnqueueJob(j)
	return j
}

// EnqueueJob adds a job.
func (s *Scheduler) EnqueueJob(j *Job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(s.queue, j)
	s.awake()
}

func (s *Scheduler) awake() {
	if s.wake != nil {
		close(s.wake)
	}
	s.wake = make(chan struct{})
}

// Cancel makes the scheduler tell whoever executes j to stop.
func (s *Scheduler) Cancel(j *Job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j.canceled = true
	s.queue = slices.DeleteFunc(s.queue, func(q *Job) bool { return q == j })
}

// Executing says whether some slot has told that it executes j.
func (s *Scheduler) Executing(j *Job) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.slots {
		if w.job == j && w.begun {
			return true
		}
	}
	return false
}

// Violations are what workers did against the protocol.
func (s *Scheduler) Violations() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.violations)
}

// Calls are the calls so far.
func (s *Scheduler) Calls() []*pb.SynchronizeRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Slots is how many slots the scheduler knows.
func (s *Scheduler) Slots() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.slots)
}

func (s *Scheduler) violated(format string, args ...any) {
	s.violations = append(s.violations, fmt.Sprintf(format, args...))
}

// Synchronize implements OperationQueue.
func (s *Scheduler) Synchronize(ctx context.Context, req *pb.SynchronizeRequest) (*pb.SynchronizeResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	s.requests = append(s.requests, proto.CloneOf(req))
	fault := None
	if s.Fault != nil {
		fault = s.Fault(s.calls, req)
	}
	if fault == LostCall {
		return nil, status.Error(codes.Unavailable, "injected: the call is lost")
	}
	if err := s.check(req); err != nil {
		return nil, err
	}
	if fault == Restart {
		s.restart()
		return nil, status.Error(codes.Unavailable, "injected: the scheduler restarts")
	}
	id := identity(req.WorkerId)
	w := s.slot(id)
	if w.calling {
		s.violated("%s: two calls at a time", id)
		return nil, status.Error(codes.ResourceExhausted, "two calls at a time")
	}
	w.calling, w.ctx = true, ctx
	defer func() { w.calling = false }()
	if late := time.Since(w.due) - s.Grace; w.job != nil && late > 0 {
		s.violated("%s: a call was late by %v", id, late)
	}
	resp, err := s.answer(ctx, id, w, req)
	if err == nil && fault == Twice {
		w.delivered = false
		resp, err = s.answer(ctx, id, w, req)
	}
	if fault == Slow {
		s.mu.Unlock()
		time.Sleep(s.Busy)
		s.mu.Lock()
	}
	if err != nil {
		return nil, err
	}
	w.due = resp.NextSynchronizationAt.AsTime()
	if fault == LostReply {
		if resp.DesiredState != nil {
			w.delivered = false
		}
		return nil, status.Error(codes.Unavailable, "injected: the answer is lost")
	}
	return resp, nil
}

// restart forgets who there is. What they worked on is to be done again.
func (s *Scheduler) restart() {
	for _, w := range s.slots {
		if w.job != nil && !w.job.canceled {
			s.queue = append(s.queue, w.job)
		}
	}
	s.slots = nil
}

// slot is the slot of that identity, once a call that its worker has given up is over.
func (s *Scheduler) slot(id string) *slot {
	if s.slots == nil {
		s.slots = map[string]*slot{}
	}
	w := s.slots[id]
	if w == nil {
		w = &slot{due: time.Now().Add(time.Hour)}
		s.slots[id] = w
	}
	for w.calling && w.ctx.Err() != nil { // we are about to notice
		s.mu.Unlock()
		time.Sleep(time.Millisecond)
		s.mu.Lock()
	}
	return w
}

func identity(id map[string]string) string {
	b, err := json.Marshal(id)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// check refuses what a scheduler refuses.
func (s *Scheduler) check(req *pb.SynchronizeRequest) error {
	invalid := func(format string, args ...any) error {
		s.violated(format, args...)
		return status.Errorf(codes.InvalidArgument, format, args...)
	}
	if len(req.WorkerId) == 0 {
		return invalid("no worker_id")
	}
	if req.CurrentState.GetWorkerState() == nil {
		return invalid("no current_state")
	}
	if req.InstanceNamePrefix != s.Prefix {
		return invalid("instance_name_prefix %q", req.InstanceNamePrefix)
	}
	properties := req.Platform.GetProperties()
	if !slices.IsSortedFunc(properties, func(a, b *rexec.Platform_Property) int {
		if n := strings.Compare(a.Name, b.Name); n != 0 {
			return n
		}
		return strings.Compare(a.Value, b.Value)
	}) {
		return invalid("the platform is not sorted")
	}
	if req.Platform == nil || !proto.Equal(req.Platform, s.Platform) {
		return invalid("the platform is %v", req.Platform)
	}
	if e := req.CurrentState.GetExecuting(); e != nil && (e.ActionDigest == nil || e.ExecutionState == nil) {
		return invalid("it executes, but not what, or not how far it is: %v", e)
	}
	return nil
}

// answer is what the real one does with a call, once it is accepted.
func (s *Scheduler) answer(ctx context.Context, id string, w *slot, req *pb.SynchronizeRequest) (*pb.SynchronizeResponse, error) {
	e := req.CurrentState.GetExecuting()
	if e == nil {
		if w.job != nil && w.begun {
			s.violated("%s: it is idle, but has not told what became of %v", id, w.job.Digest)
		}
		if w.job != nil {
			return s.hand(w, w.job), nil
		}
		return s.idle(ctx, w, req.PreferBeingIdle)
	}
	mine := w.job != nil && e.ActionDigest.Hash == w.job.Digest.Hash() && e.ActionDigest.SizeBytes == w.job.Digest.Size()
	if !mine {
		if w.job != nil && w.delivered {
			s.violated("%s: it executes %s, not %v as it was told", id, e.ActionDigest.Hash, w.job.Digest)
		}
		if w.job != nil {
			return s.hand(w, w.job), nil
		}
		if e.GetCompleted() != nil { // told again, or of before a restart
			return s.idle(ctx, w, req.PreferBeingIdle)
		}
		return idleNow(0), nil
	}
	if w.begun && stage(e) < w.stage {
		s.violated("%s: %v went back from stage %d to %d", id, w.job.Digest, w.stage, stage(e))
	}
	w.begun, w.delivered, w.stage = true, true, stage(e)
	if resp := e.GetCompleted(); resp != nil {
		j := w.job
		if !j.canceled {
			s.examine(id, j, resp)
			j.Done <- resp
		}
		w.job = nil
		return s.idle(ctx, w, req.PreferBeingIdle)
	}
	if w.job.canceled {
		w.job = nil
		return idleNow(0), nil
	}
	return &pb.SynchronizeResponse{NextSynchronizationAt: timestamppb.New(time.Now().Add(s.Busy))}, nil
}

func stage(e *pb.CurrentState_Executing) int {
	switch e.ExecutionState.(type) {
	case *pb.CurrentState_Executing_Started:
		return 0
	case *pb.CurrentState_Executing_FetchingInputs:
		return 1
	case *pb.CurrentState_Executing_Running:
		return 2
	case *pb.CurrentState_Executing_UploadingOutputs:
		return 3
	}
	return 4
}

func idleNow(after time.Duration) *pb.SynchronizeResponse {
	return &pb.SynchronizeResponse{
		NextSynchronizationAt: timestamppb.New(time.Now().Add(after)),
		DesiredState:          &pb.DesiredState{WorkerState: &pb.DesiredState_Idle{Idle: &emptypb.Empty{}}},
	}
}

// idle waits for work.
func (s *Scheduler) idle(ctx context.Context, w *slot, rather bool) (*pb.SynchronizeResponse, error) {
	if rather {
		return idleNow(s.Busy), nil
	}
	timer := time.NewTimer(s.Idle)
	defer timer.Stop()
	for len(s.queue) == 0 {
		if s.wake == nil {
			s.wake = make(chan struct{})
		}
		wake := s.wake
		s.mu.Unlock()
		var err error
		over := false
		select {
		case <-wake:
		case <-timer.C:
			over = true
		case <-ctx.Done():
			err = status.FromContextError(ctx.Err()).Err()
		}
		s.mu.Lock()
		if err != nil {
			return nil, err
		}
		if over {
			return idleNow(0), nil
		}
	}
	j := s.queue[0]
	s.queue = s.queue[1:]
	return s.hand(w, j), nil
}

// hand gives j to w.
func (s *Scheduler) hand(w *slot, j *Job) *pb.SynchronizeResponse {
	j.handed++
	w.job, w.begun, w.delivered, w.stage = j, false, true, 0
	act := proto.CloneOf(j.Action)
	if act.Timeout == nil {
		act.Timeout = durationpb.New(time.Minute)
	}
	return &pb.SynchronizeResponse{
		NextSynchronizationAt: timestamppb.New(time.Now().Add(s.Busy)),
		DesiredState: &pb.DesiredState{WorkerState: &pb.DesiredState_Executing_{Executing: &pb.DesiredState_Executing{
			ActionDigest: remote.ToDigest(j.Digest), Action: act, QueuedTimestamp: timestamppb.Now(),
			AuxiliaryMetadata: j.Metadata, InstanceNameSuffix: j.Suffix, DigestFunction: j.Function,
		}}},
	}
}

// examine looks at an answer as closely as any client may.
func (s *Scheduler) examine(id string, j *Job, resp *rexec.ExecuteResponse) {
	for _, v := range Examine(s.Storage, j, resp, id) {
		s.violated("%s: %v: %s", id, j.Digest, v)
	}
}

// Examine returns what is wrong with an answer about j.
func Examine(storage *remotetest.Server, j *Job, resp *rexec.ExecuteResponse, id string) (list []string) {
	bad := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	r := resp.GetResult()
	m := r.GetExecutionMetadata()
	if m == nil {
		bad("no result, or no metadata")
		return list
	}
	if m.Worker != id {
		bad("worker %q", m.Worker)
	}
	for _, want := range j.Metadata {
		if !slices.ContainsFunc(m.AuxiliaryMetadata, func(x *anypb.Any) bool { return proto.Equal(x, want) }) {
			bad("the scheduler's auxiliary metadata is not handed on")
		}
	}
	last := time.Time{}
	for i, t := range []*timestamppb.Timestamp{
		m.QueuedTimestamp, m.WorkerStartTimestamp, m.InputFetchStartTimestamp, m.InputFetchCompletedTimestamp,
		m.ExecutionStartTimestamp, m.ExecutionCompletedTimestamp, m.OutputUploadStartTimestamp,
		m.OutputUploadCompletedTimestamp, m.WorkerCompletedTimestamp,
	} {
		if t == nil || t.AsTime().Before(last) {
			bad("time stamp %d is %v, before %v", i, t, last)
		}
		last = t.AsTime()
	}
	if len(r.StdoutRaw)+len(r.StderrRaw) > 0 {
		bad("output is inlined")
	}
	for _, d := range []*rexec.Digest{r.StdoutDigest, r.StderrDigest} {
		if d != nil && d.SizeBytes == 0 {
			bad("empty output is not left out")
		}
	}
	for _, d := range r.OutputDirectories {
		if d.TreeDigest != nil && !d.IsTopologicallySorted {
			bad("directory %q is not topologically sorted", d.Path)
		}
	}
	ok := resp.Status.GetCode() == 0
	if ok && m.VirtualExecutionDuration == nil {
		bad("no virtual_execution_duration")
	}
	if ok {
		if err := storage.Complete(j.Digest, r, j.Function); err != nil {
			bad("not complete: %v", err)
		}
	}
	cacheable := ok && r.ExitCode == 0 && !j.Action.DoNotCache
	if cached := storage.Result(j.Digest) != nil; cached != cacheable {
		bad("in the action cache: %v, want %v", cached, cacheable)
	}
	return list
}

// Wait returns the answer about j, or fails the test.
func Wait(t testing.TB, j *Job) *rexec.ExecuteResponse {
	t.Helper()
	select {
	case resp := <-j.Done:
		return resp
	case <-time.After(30 * time.Second):
		t.Fatalf("no answer about %v", j.Digest)
		return nil
	}
}
