// Package buildbarn makes a worker one of a Buildbarn cluster: it speaks
// buildbarn.remoteworker.OperationQueue with the scheduler.
//
// A [Slot] is what the scheduler calls a worker: it executes one action at a
// time, and is one loop around one call, Synchronize. Whatever either side
// believes of the other after a lost message or a restart, the next call puts
// right, because each call says everything: the slot what it does, the scheduler
// what it is to do. The slot promises
//
//   - one call at a time, each by the time that the last answer named;
//   - a call at once when the stage of the action changes, where changes during
//     a call become one;
//   - that it does what an answer says before it calls again: what is to be
//     stopped is dead by then;
//   - a result that is told again until the scheduler has answered.
package buildbarn

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	rexec "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/sbx-action/sbx-action/integration/reapi/remote"
	"github.com/sbx-action/sbx-action/integration/reapi/worker"
	pb "github.com/sbx-action/sbx-action/integration/reapi/worker/proto/remoteworkerpb"
)

// Options of a [Slot].
type Options struct {
	Queue    pb.OperationQueueClient
	Executor worker.Executor

	ID        map[string]string          // unlike that of any other slot of the cluster
	Prefix    string                     // of the names of the instances that it works for
	Platform  []*rexec.Platform_Property // what actions must ask for, exactly
	SizeClass uint32

	// Heartbeat is the longest time between two calls while an action is
	// executed: a cancellation is noticed after that much at most. Zero: the
	// scheduler decides, which says ten seconds.
	Heartbeat time.Duration

	// Retry is the longest pause before a call that failed is made again.
	// Zero: five seconds.
	Retry time.Duration

	Log *slog.Logger
}

// forgetting is for how long after the time that it named a scheduler waits for
// a call before it forgets a slot.
const forgetting = time.Minute

// A Slot is one slot. Make it with [New], and call Run once.
type Slot struct {
	opts     Options
	id       string // as results name it
	platform *rexec.Platform

	current *execution // nil: idle
	next    time.Time  // when to call again
	busy    time.Time  // until when the scheduler may believe that we execute
	failing bool       // the last call failed
	unready bool       // the last call said that we want no work because of our state
}

// An execution is an action that the slot was given.
type execution struct {
	desired *pb.DesiredState_Executing
	cancel  context.CancelFunc
	stages  chan worker.Stage           // the last one only
	done    chan *rexec.ExecuteResponse // gets one
	state   *pb.CurrentState_Executing  // as it was last told, or is to be
	over    bool                        // done has given it
	ended   time.Time                   // when it did
}

// New returns a slot.
func New(o Options) (*Slot, error) {
	if len(o.ID) == 0 {
		return nil, errors.New("a slot without an id")
	}
	id, err := json.Marshal(o.ID)
	if err != nil {
		return nil, err
	}
	s := &Slot{opts: o, id: string(id), platform: &rexec.Platform{Properties: slices.Clone(o.Platform)}}
	// The scheduler refuses any other order.
	slices.SortFunc(s.platform.Properties, func(a, b *rexec.Platform_Property) int {
		if n := strings.Compare(a.Name, b.Name); n != 0 {
			return n
		}
		return strings.Compare(a.Value, b.Value)
	})
	return s, nil
}

// Run serves the scheduler until drain is done: then it finishes what it does,
// tells the scheduler, and returns nil; or, if there is no scheduler any more that
// could be told a result, an error that names it. After ctx is done it kills what it
// does.
func (s *Slot) Run(ctx, drain context.Context) error {
	defer s.stop()
	var draining time.Time
	for {
		last := drain.Err() != nil
		if last && draining.IsZero() {
			draining = time.Now()
		}
		resp, err := s.synchronize(ctx, drain)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && !last && drain.Err() != nil && status.Code(err) == codes.Canceled:
			continue // by ourselves, so that the scheduler hears of it
		case err != nil && last && status.Code(err) == codes.ResourceExhausted:
			// It has not noticed yet that we gave up the call that waited.
		case err != nil:
			s.failed(ctx, err)
		default:
			s.failing = false
			s.obey(ctx, resp)
		}
		if last && s.current == nil && err == nil {
			return nil
		}
		if last && err != nil && s.hopeless(draining) {
			return s.lost(err)
		}
		if err := s.wait(ctx, drain, err != nil); err != nil {
			return err
		}
	}
}

// patience is how long a slot that is to end tries to tell so, and its last result, to
// a scheduler that does not answer.
const patience = 10 * time.Second

// hopeless says whether a slot that takes no more since draining, and has no answer,
// has nothing to do any more but to try again, and has done so for long enough: until
// the scheduler gives the action to another.
func (s *Slot) hopeless(draining time.Time) bool {
	since := draining
	if e := s.current; e != nil {
		if !e.over {
			return false
		}
		if e.ended.After(since) {
			since = e.ended
		}
	}
	return time.Since(since) > patience && time.Now().After(s.busy)
}

// lost says which result nobody was told, if there is one.
func (s *Slot) lost(err error) error {
	if s.current == nil {
		return nil
	}
	d := s.current.desired.ActionDigest
	return fmt.Errorf("%s ends, and its scheduler was not told the result of action %s/%d: %w", s.id, d.GetHash(), d.GetSizeBytes(), err)
}

// stop kills what is being done, and waits for its end.
func (s *Slot) stop() {
	if s.current == nil {
		return
	}
	s.current.cancel()
	if !s.current.over {
		<-s.current.done
	}
	s.current = nil
}

// synchronize makes one call. When there is nothing to do it may take minutes;
// drain ends it then.
func (s *Slot) synchronize(ctx, drain context.Context) (*pb.SynchronizeResponse, error) {
	req := &pb.SynchronizeRequest{
		WorkerId: s.opts.ID, InstanceNamePrefix: s.opts.Prefix, Platform: s.platform, SizeClass: s.opts.SizeClass,
		CurrentState:    &pb.CurrentState{WorkerState: &pb.CurrentState_Idle{Idle: &emptypb.Empty{}}},
		PreferBeingIdle: drain.Err() != nil,
	}
	if s.current != nil {
		req.CurrentState.WorkerState = &pb.CurrentState_Executing_{Executing: s.current.state}
	}
	blocks := s.current == nil || s.current.over
	s.unready = false
	if blocks && !req.PreferBeingIdle {
		if err := s.opts.Executor.Ready(ctx); err != nil {
			s.opts.Log.WarnContext(ctx, "not ready for work", "err", err)
			req.PreferBeingIdle, s.unready = true, true
		}
	}
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	if !blocks || req.PreferBeingIdle { // it is answered at once
		call, cancel = context.WithTimeout(call, forgetting/2)
		defer cancel()
	} else { // a result that has not been answered by then is told again
		defer context.AfterFunc(drain, cancel)()
	}
	return s.opts.Queue.Synchronize(call, req)
}

// failed says what went wrong, once for each time that it begins to.
func (s *Slot) failed(ctx context.Context, err error) {
	if !s.failing {
		hint := ""
		if status.Code(err) == codes.ResourceExhausted {
			hint = "is there another worker with this id? --id makes it different"
		}
		s.opts.Log.WarnContext(ctx, "the scheduler does not answer; trying again", "worker", s.id, "err", err, "hint", hint)
	}
	s.failing = true
}

// obey does what an answer says.
func (s *Slot) obey(ctx context.Context, resp *pb.SynchronizeResponse) {
	s.next = time.Now()
	if t := resp.NextSynchronizationAt; t.IsValid() {
		// Its clock need not be ours: what is meant is a few seconds.
		if d := time.Until(t.AsTime()); d > 0 {
			s.next = s.next.Add(min(d, forgetting/2))
		}
	}
	switch d := resp.DesiredState.GetWorkerState().(type) {
	case *pb.DesiredState_Idle:
		s.stop()
		s.busy = time.Time{}
	case *pb.DesiredState_Executing_:
		s.stop()
		s.begin(ctx, d.Executing)
	}
	if s.current == nil || s.current.over {
		pause := idlePause
		if s.unready {
			pause = unreadyPause
		}
		if earliest := time.Now().Add(pause); s.next.Before(earliest) {
			s.next = earliest
		}
	} else {
		s.busy = s.next.Add(forgetting)
		if s.opts.Heartbeat > 0 {
			s.next = minTime(s.next, time.Now().Add(s.opts.Heartbeat))
		}
	}
}

// idlePause is between two calls that were answered with no work, and
// unreadyPause between two that did not want any.
const (
	idlePause    = 20 * time.Millisecond
	unreadyPause = 5 * time.Second
)

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// begin executes an action.
func (s *Slot) begin(ctx context.Context, d *pb.DesiredState_Executing) {
	if len(d.W3CTraceContext) > 0 {
		var pairs []string
		for name, value := range d.W3CTraceContext {
			pairs = append(pairs, name, value)
		}
		ctx = metadata.AppendToOutgoingContext(ctx, pairs...)
	}
	ctx, cancel := context.WithCancel(ctx)
	e := &execution{
		desired: d, cancel: cancel, stages: make(chan worker.Stage, 1), done: make(chan *rexec.ExecuteResponse, 1),
		state: &pb.CurrentState_Executing{
			ActionDigest: d.ActionDigest, ExecutionState: &pb.CurrentState_Executing_Started{Started: &emptypb.Empty{}},
		},
	}
	s.current = e
	go func() {
		e.done <- s.execute(ctx, e)
	}()
}

// execute executes an action in its goroutine.
func (s *Slot) execute(ctx context.Context, e *execution) *rexec.ExecuteResponse {
	d := e.desired
	f, err := remote.Function(d.DigestFunction, d.ActionDigest.GetHash())
	if err != nil {
		return refusal(err)
	}
	digest, err := remote.FromDigest(d.ActionDigest, f)
	if err != nil {
		return refusal(fmt.Errorf("action_digest: %w", err))
	}
	task := &worker.Task{
		Instance: join(s.opts.Prefix, d.InstanceNameSuffix), Digest: digest, Action: d.Action,
		Queued: d.QueuedTimestamp, Auxiliary: d.AuxiliaryMetadata,
	}
	return s.opts.Executor.Execute(ctx, task, s.id, func(st worker.Stage) {
		for { // the last one counts
			select {
			case e.stages <- st:
				return
			default:
			}
			select {
			case <-e.stages:
			default:
			}
		}
	})
}

func refusal(err error) *rexec.ExecuteResponse {
	return &rexec.ExecuteResponse{
		Result: &rexec.ActionResult{}, Status: status.New(codes.InvalidArgument, err.Error()).Proto(),
	}
}

func join(prefix, suffix string) string {
	if prefix == "" || suffix == "" {
		return prefix + suffix
	}
	return prefix + "/" + suffix
}

// wait waits until it is time for the next call. After a failed one that is a
// random time, so that a scheduler that comes back is not met by all its
// workers at once.
func (s *Slot) wait(ctx, drain context.Context, failed bool) error {
	d := time.Until(s.next)
	if failed {
		d = rand.N(cmp.Or(s.opts.Retry, 5*time.Second))
	}
	timer := time.NewTimer(max(d, 0))
	defer timer.Stop()
	var stages chan worker.Stage
	var done chan *rexec.ExecuteResponse
	if s.current != nil && !s.current.over {
		stages, done = s.current.stages, s.current.done
	}
	draining := drain.Done()
	if drain.Err() != nil {
		draining = nil
	}
	for {
		select {
		case st := <-stages:
			s.current.tell(st)
		case resp := <-done:
			s.current.complete(resp)
			stages, done = nil, nil
		case <-draining: // to be told at once
			draining = nil
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if !failed {
			return nil
		}
	}
}

// tell makes st the state that the next call tells.
func (e *execution) tell(st worker.Stage) {
	switch st {
	case worker.Fetching:
		e.state.ExecutionState = &pb.CurrentState_Executing_FetchingInputs{FetchingInputs: &emptypb.Empty{}}
	case worker.Running:
		e.state.ExecutionState = &pb.CurrentState_Executing_Running{Running: &emptypb.Empty{}}
	case worker.Uploading:
		e.state.ExecutionState = &pb.CurrentState_Executing_UploadingOutputs{UploadingOutputs: &emptypb.Empty{}}
	}
}

func (e *execution) complete(resp *rexec.ExecuteResponse) {
	e.over, e.ended = true, time.Now()
	e.cancel()
	e.state.ExecutionState = &pb.CurrentState_Executing_Completed{Completed: resp}
}
