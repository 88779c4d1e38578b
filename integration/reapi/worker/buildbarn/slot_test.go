package buildbarn_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	rexec "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sbx-action/sbx-action/integration/reapi/remote/remotetest"
	"github.com/sbx-action/sbx-action/integration/reapi/worker"
	"github.com/sbx-action/sbx-action/integration/reapi/worker/buildbarn"
	pb "github.com/sbx-action/sbx-action/integration/reapi/worker/proto/remoteworkerpb"
	"github.com/sbx-action/sbx-action/integration/reapi/worker/workertest"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// properties are not sorted: the slot has to do that.
func properties() []*rexec.Platform_Property {
	return []*rexec.Platform_Property{{Name: "b", Value: "2"}, {Name: "b", Value: "1"}, {Name: "a", Value: "3"}}
}

// A cluster is a scheduler and a storage.
type cluster struct {
	*workertest.Scheduler
	storage *remotetest.Server
	queue   pb.OperationQueueClient
	address string
}

func start(t *testing.T, fault func(int, *pb.SynchronizeRequest) workertest.Fault) *cluster {
	t.Helper()
	storage := &remotetest.Server{}
	s := &workertest.Scheduler{
		Storage: storage, Prefix: "team",
		Platform: &rexec.Platform{Properties: []*rexec.Platform_Property{{Name: "a", Value: "3"}, {Name: "b", Value: "1"}, {Name: "b", Value: "2"}}},
		Busy:     300 * time.Millisecond, Grace: time.Minute, Idle: 200 * time.Millisecond, Fault: fault,
	}
	address := remotetest.Serve(t, storage, func(g *grpc.Server) { pb.RegisterOperationQueueServer(g, s) })
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &cluster{s, storage, pb.NewOperationQueueClient(conn), address}
}

// run starts a slot and returns what drains it and waits for its end.
func (c *cluster) run(t *testing.T, x worker.Executor, id string) (drain func() error) {
	t.Helper()
	s, err := buildbarn.New(buildbarn.Options{
		Queue: c.queue, Executor: x, ID: map[string]string{"hostname": "here", "thread": id}, Prefix: c.Prefix,
		Platform: properties(), Retry: 20 * time.Millisecond, Log: quiet,
	})
	if err != nil {
		t.Fatal(err)
	}
	return workertest.Run(t, s.Run)
}

// An executor is one that runs nothing: it tells all stages and answers as a
// worker would.
type executor struct {
	storage *remotetest.Server
	hold    chan struct{} // where not nil: between stages, until it gives something
	unready atomic.Bool
	running atomic.Int64
	done    atomic.Int64
}

func (x *executor) Ready(context.Context) error {
	if x.unready.Load() {
		return errors.New("injected")
	}
	return nil
}

func (x *executor) Execute(ctx context.Context, task *worker.Task, id string, stage func(worker.Stage)) *rexec.ExecuteResponse {
	x.running.Add(1)
	defer x.running.Add(-1)
	now := timestamppb.Now()
	for _, st := range []worker.Stage{worker.Fetching, worker.Running, worker.Uploading} {
		stage(st)
		if x.hold != nil {
			select {
			case <-x.hold:
			case <-ctx.Done():
				return &rexec.ExecuteResponse{Status: status.New(codes.Canceled, "").Proto()}
			}
		}
	}
	m := &rexec.ExecutedActionMetadata{
		Worker: id, QueuedTimestamp: task.Queued, AuxiliaryMetadata: task.Auxiliary, VirtualExecutionDuration: durationpb.New(0),
	}
	for _, t := range []**timestamppb.Timestamp{
		&m.WorkerStartTimestamp, &m.InputFetchStartTimestamp, &m.InputFetchCompletedTimestamp, &m.ExecutionStartTimestamp,
		&m.ExecutionCompletedTimestamp, &m.OutputUploadStartTimestamp, &m.OutputUploadCompletedTimestamp, &m.WorkerCompletedTimestamp,
	} {
		*t = now
	}
	x.done.Add(1)
	r := &rexec.ActionResult{ExecutionMetadata: m}
	_, err := x.storage.UpdateActionResult(ctx, &rexec.UpdateActionResultRequest{
		ActionDigest:   &rexec.Digest{Hash: task.Digest.Hash(), SizeBytes: task.Digest.Size()},
		DigestFunction: rexec.DigestFunction_Value(task.Digest.Function()), ActionResult: r,
	})
	return &rexec.ExecuteResponse{Result: r, Status: status.Convert(err).Proto()}
}

func (c *cluster) job(t *testing.T, script string) *workertest.Job {
	t.Helper()
	return c.Enqueue(workertest.Spec{Script: script}.Store(t, c.storage))
}

func (c *cluster) faultless(t *testing.T) {
	t.Helper()
	for _, v := range c.Violations() {
		t.Error(v)
	}
}

func TestManyJobsOnTwoSlots(t *testing.T) {
	c := start(t, nil)
	x := &executor{storage: c.storage}
	for i := range 2 {
		c.run(t, x, fmt.Sprint(i))
	}
	var jobs []*workertest.Job
	for i := range 50 {
		jobs = append(jobs, c.job(t, fmt.Sprint(i)))
	}
	for _, j := range jobs {
		if resp := workertest.Wait(t, j); resp.Status.GetCode() != 0 {
			t.Errorf("%v: %v", j.Digest, resp.Status)
		}
	}
	if c.Slots() != 2 || x.done.Load() != 50 {
		t.Errorf("%d slots executed %d actions, want 2 and 50", c.Slots(), x.done.Load())
	}
	c.faultless(t)
}

// TestEveryFault breaks each of the first calls in each way.
func TestEveryFault(t *testing.T) {
	for _, fault := range []workertest.Fault{workertest.LostCall, workertest.LostReply, workertest.Twice, workertest.Restart, workertest.Slow} {
		for n := 1; n <= 9; n++ {
			t.Run(fmt.Sprintf("%d-%d", fault, n), func(t *testing.T) {
				t.Parallel()
				var happened atomic.Bool
				c := start(t, func(call int, _ *pb.SynchronizeRequest) workertest.Fault {
					if call == n {
						happened.Store(true)
						return fault
					}
					return workertest.None
				})
				x := &executor{storage: c.storage, hold: make(chan struct{})}
				drain := c.run(t, x, "0")
				stop := make(chan struct{})
				defer close(stop)
				go func() { // so that each stage is a call of its own
					for {
						time.Sleep(5 * time.Millisecond)
						select {
						case x.hold <- struct{}{}:
						case <-stop:
							return
						}
					}
				}()
				for i := range 3 {
					if resp := workertest.Wait(t, c.job(t, fmt.Sprint(i))); resp.Status.GetCode() != 0 {
						t.Errorf("%v", resp.Status)
					}
				}
				if err := drain(); err != nil {
					t.Errorf("drain: %v", err)
				}
				if !happened.Load() {
					t.Error("control: the fault did not happen")
				}
				c.faultless(t)
			})
		}
	}
}

// TestRandomFaults breaks every third call in some way.
func TestRandomFaults(t *testing.T) {
	c := start(t, func(n int, _ *pb.SynchronizeRequest) workertest.Fault {
		if n%3 != 0 {
			return workertest.None
		}
		return workertest.Fault(1 + n/3%4) // not Slow
	})
	x := &executor{storage: c.storage}
	c.run(t, x, "0")
	for i := range 30 {
		workertest.Wait(t, c.job(t, fmt.Sprint(i)))
	}
	c.faultless(t)
}

func TestCancel(t *testing.T) {
	c := start(t, nil)
	x := &executor{storage: c.storage, hold: make(chan struct{})}
	c.run(t, x, "0")
	j := c.job(t, "canceled")
	workertest.Eventually(t, "the slot executes", func() bool { return c.Executing(j) && x.running.Load() == 1 })
	c.Cancel(j)
	workertest.Eventually(t, "the action is stopped", func() bool { return x.running.Load() == 0 })
	close(x.hold)
	workertest.Wait(t, c.job(t, "next"))
	if x.done.Load() != 1 {
		t.Errorf("%d actions came to their end, want 1", x.done.Load())
	}
	c.faultless(t)
}

// TestReplacedByAnother: the scheduler says to do something else.
func TestReplacedByAnother(t *testing.T) {
	q := &scripted{answers: []*pb.SynchronizeResponse{execute("a"), nil, execute("b"), nil, idle()}, ended: make(chan struct{})}
	x := &executor{storage: &remotetest.Server{}, hold: make(chan struct{})}
	s, err := buildbarn.New(buildbarn.Options{Queue: q, Executor: x, ID: map[string]string{"x": "1"}, Log: quiet, Heartbeat: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	q.check = func(n int, req *pb.SynchronizeRequest) {
		want := []string{"", "a", "", "b", "", ""}[n] // after 2 it may have told a stage of a
		if got := req.CurrentState.GetExecuting().GetActionDigest().GetHash(); want != "" && !strings.HasPrefix(got, want) {
			t.Errorf("call %d tells %q, want %q", n, got, want)
		}
		if x.running.Load() > 1 {
			t.Errorf("call %d: %d actions at a time", n, x.running.Load())
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, t.Context()) }()
	<-q.ended
	if x.running.Load() != 0 {
		t.Error("after it was told to be idle, something runs")
	}
	cancel()
	<-done
}

// scripted is a scheduler that says what it was told to.
type scripted struct {
	answers []*pb.SynchronizeResponse
	check   func(n int, req *pb.SynchronizeRequest)
	calls   int
	ended   chan struct{}
}

func (q *scripted) Synchronize(ctx context.Context, req *pb.SynchronizeRequest, _ ...grpc.CallOption) (*pb.SynchronizeResponse, error) {
	n := q.calls
	q.calls++
	if n >= len(q.answers) {
		if n == len(q.answers) {
			close(q.ended)
		}
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	q.check(n, req)
	resp := q.answers[n]
	if resp == nil {
		resp = &pb.SynchronizeResponse{}
	}
	resp.NextSynchronizationAt = timestamppb.New(time.Now().Add(time.Minute))
	if resp.DesiredState.GetIdle() != nil {
		resp.NextSynchronizationAt = timestamppb.Now()
	}
	return resp, nil
}

func execute(letter string) *pb.SynchronizeResponse {
	return &pb.SynchronizeResponse{DesiredState: &pb.DesiredState{WorkerState: &pb.DesiredState_Executing_{Executing: &pb.DesiredState_Executing{
		ActionDigest: &rexec.Digest{Hash: strings.Repeat(letter, 64), SizeBytes: 1}, Action: &rexec.Action{}, DigestFunction: rexec.DigestFunction_SHA256,
	}}}}
}

func idle() *pb.SynchronizeResponse {
	return &pb.SynchronizeResponse{DesiredState: &pb.DesiredState{WorkerState: &pb.DesiredState_Idle{Idle: &emptypb.Empty{}}}}
}

// TestDrain: what runs is finished and told, the scheduler hears that no more
// is wanted, and then the slot ends.
func TestDrain(t *testing.T) {
	c := start(t, nil)
	x := &executor{storage: c.storage, hold: make(chan struct{})}
	drain := c.run(t, x, "0")
	j := c.job(t, "last")
	next := c.job(t, "never")
	workertest.Eventually(t, "the slot executes", func() bool { return c.Executing(j) })
	ended := make(chan error, 1)
	go func() { ended <- drain() }()
	workertest.Eventually(t, "the scheduler is told", func() bool {
		calls := c.Calls()
		return calls[len(calls)-1].PreferBeingIdle
	})
	close(x.hold)
	workertest.Wait(t, j)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	select {
	case <-next.Done:
		t.Error("it took another action")
	default:
	}
	calls := c.Calls()
	if last := calls[len(calls)-1]; !last.PreferBeingIdle {
		t.Errorf("the last call does not say that no work is wanted: %v", last)
	}
	c.faultless(t)
}

func TestDrainWhileIdle(t *testing.T) {
	c := start(t, nil)
	drain := c.run(t, &executor{storage: c.storage}, "0")
	workertest.Eventually(t, "the slot calls", func() bool { return len(c.Calls()) > 0 })
	if err := drain(); err != nil {
		t.Error(err)
	}
	calls := c.Calls()
	if !calls[len(calls)-1].PreferBeingIdle {
		t.Error("the scheduler was not told")
	}
	c.faultless(t)
}

// TestNotReady: a worker that cannot run anything wants no work, and says so.
func TestNotReady(t *testing.T) {
	c := start(t, nil)
	x := &executor{storage: c.storage}
	x.unready.Store(true)
	c.run(t, x, "0")
	j := c.job(t, "x")
	workertest.Eventually(t, "the slot calls", func() bool { return len(c.Calls()) > 0 })
	if calls := c.Calls(); !calls[0].PreferBeingIdle {
		t.Errorf("%v, want prefer_being_idle", calls[0])
	}
	select {
	case <-j.Done:
		t.Error("it executed an action")
	default:
	}
	c.faultless(t)
}

// TestUnknownFunction: refused with an answer, not with silence.
func TestUnknownFunction(t *testing.T) {
	c := start(t, nil)
	c.run(t, &executor{storage: c.storage}, "0")
	digest, act := workertest.Spec{Script: "x", Uncached: true}.Store(t, c.storage)
	j := &workertest.Job{Digest: digest, Action: act, Done: make(chan *rexec.ExecuteResponse, 1), Function: rexec.DigestFunction_MURMUR3}
	c.EnqueueJob(j)
	if resp := workertest.Wait(t, j); codes.Code(resp.Status.GetCode()) != codes.InvalidArgument || !strings.Contains(resp.Status.Message, "MURMUR3") {
		t.Errorf("%v, want that MURMUR3 is an invalid argument", resp.Status)
	}
}

// TestTheSchedulerIsStrict is the control of all that find no violation.
func TestTheSchedulerIsStrict(t *testing.T) {
	good := func() *pb.SynchronizeRequest {
		return &pb.SynchronizeRequest{
			WorkerId: map[string]string{"a": "b"}, InstanceNamePrefix: "team",
			Platform:     &rexec.Platform{Properties: []*rexec.Platform_Property{{Name: "a", Value: "3"}, {Name: "b", Value: "1"}, {Name: "b", Value: "2"}}},
			CurrentState: &pb.CurrentState{WorkerState: &pb.CurrentState_Idle{Idle: &emptypb.Empty{}}},
		}
	}
	executing := func(hash string, size int64) *pb.CurrentState {
		return &pb.CurrentState{WorkerState: &pb.CurrentState_Executing_{Executing: &pb.CurrentState_Executing{
			ActionDigest:   &rexec.Digest{Hash: hash, SizeBytes: size},
			ExecutionState: &pb.CurrentState_Executing_Running{Running: &emptypb.Empty{}},
		}}}
	}
	for name, c := range map[string]struct {
		calls []func(*pb.SynchronizeRequest, *workertest.Job)
		want  string
	}{
		"good":             {[]func(*pb.SynchronizeRequest, *workertest.Job){nil}, ""},
		"unsorted":         {[]func(*pb.SynchronizeRequest, *workertest.Job){func(r *pb.SynchronizeRequest, _ *workertest.Job) { slices.Reverse(r.Platform.Properties) }}, "sorted"},
		"nameless":         {[]func(*pb.SynchronizeRequest, *workertest.Job){func(r *pb.SynchronizeRequest, _ *workertest.Job) { r.WorkerId = nil }}, "worker_id"},
		"stateless":        {[]func(*pb.SynchronizeRequest, *workertest.Job){func(r *pb.SynchronizeRequest, _ *workertest.Job) { r.CurrentState = nil }}, "current_state"},
		"another platform": {[]func(*pb.SynchronizeRequest, *workertest.Job){func(r *pb.SynchronizeRequest, _ *workertest.Job) { r.Platform.Properties = nil }}, "platform"},
		"wrong digest": {[]func(*pb.SynchronizeRequest, *workertest.Job){nil, func(r *pb.SynchronizeRequest, _ *workertest.Job) {
			r.CurrentState = executing(strings.Repeat("a", 64), 1)
		}}, "it executes"},
		"late": {[]func(*pb.SynchronizeRequest, *workertest.Job){nil, func(r *pb.SynchronizeRequest, j *workertest.Job) {
			time.Sleep(20 * time.Millisecond)
			r.CurrentState = executing(j.Digest.Hash(), j.Digest.Size())
		}}, "late"},
		"lost": {[]func(*pb.SynchronizeRequest, *workertest.Job){nil, func(r *pb.SynchronizeRequest, j *workertest.Job) {
			r.CurrentState = executing(j.Digest.Hash(), j.Digest.Size())
		}, nil}, "what became of"},
		"empty result": {[]func(*pb.SynchronizeRequest, *workertest.Job){nil, func(r *pb.SynchronizeRequest, j *workertest.Job) {
			r.CurrentState = executing(j.Digest.Hash(), j.Digest.Size())
			r.CurrentState.GetExecuting().ExecutionState = &pb.CurrentState_Executing_Completed{Completed: &rexec.ExecuteResponse{}}
		}}, "metadata"},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, nil)
			s.Busy, s.Grace, s.Idle = time.Minute, 0, time.Millisecond
			if name == "late" {
				s.Busy = time.Millisecond
			}
			j := s.job(t, "x")
			for _, change := range c.calls {
				r := good()
				if change != nil {
					change(r, j)
				}
				_, _ = s.Synchronize(t.Context(), r)
			}
			got := strings.Join(s.Violations(), "\n")
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("violations %q, want %q", got, c.want)
			}
		})
	}
}
