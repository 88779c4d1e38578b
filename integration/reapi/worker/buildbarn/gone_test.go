package buildbarn_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	rexec "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sbx-action/sbx-action/integration/reapi/worker"
	"github.com/sbx-action/sbx-action/integration/reapi/worker/buildbarn"
	pb "github.com/sbx-action/sbx-action/integration/reapi/worker/proto/remoteworkerpb"
)

// TestDrainWithoutScheduler drains slots whose scheduler goes away, by a clock that
// does not wait. A slot ends, also with a result that nobody takes, but not before the
// scheduler may have come back for it, and never while it executes.
func TestDrainWithoutScheduler(t *testing.T) {
	errGrace := errors.New("injected: the grace is over")
	for name, c := range map[string]struct {
		q                 mortal
		runs, drain, kill time.Duration // kill 0: never
		from, to          time.Duration // when the slot ends, from the beginning on
		err               string        // a part of what it ends with; "": nothing
		told              bool          // the scheduler has the result
	}{
		"it stays": {
			runs: time.Hour, drain: time.Minute, from: time.Hour, to: time.Hour + time.Second, told: true,
		},
		"gone for good": {
			q: mortal{gone: 2 * time.Minute}, runs: time.Hour, drain: 3 * time.Minute,
			from: time.Hour + 10*time.Second, to: time.Hour + 30*time.Second, err: "action " + strings.Repeat("a", 64) + "/1: ",
		},
		"gone for good, and calls hang": {
			q: mortal{gone: 2 * time.Minute, hangs: true}, runs: time.Hour, drain: 3 * time.Minute,
			from: time.Hour + 10*time.Second, to: time.Hour + 2*time.Minute, err: "action " + strings.Repeat("a", 64) + "/1: ",
		},
		"gone before the drain, with the action over": {
			q: mortal{gone: 2 * time.Minute}, runs: 3 * time.Minute, drain: time.Hour,
			from: time.Hour + 10*time.Second, to: time.Hour + 30*time.Second, err: "was not told the result",
		},
		"gone a moment ago: it may still wait for us": {
			q: mortal{gone: 2 * time.Minute}, runs: 2*time.Minute + time.Second, drain: time.Minute,
			from: 2*time.Minute + 50*time.Second, to: 4 * time.Minute, err: "was not told the result",
		},
		"back in time": {
			q: mortal{gone: 2 * time.Minute, back: 2*time.Minute + 40*time.Second}, runs: 2*time.Minute + time.Second, drain: time.Minute,
			from: 2*time.Minute + 40*time.Second, to: 2*time.Minute + 50*time.Second, told: true,
		},
		"back after an hour in which the action ran": {
			q: mortal{gone: 2 * time.Minute, back: time.Hour}, runs: time.Hour + time.Second, drain: 3 * time.Minute,
			from: time.Hour, to: time.Hour + 30*time.Second, told: true,
		},
		"killed with a result": {
			q: mortal{gone: 2 * time.Minute}, runs: 2*time.Minute + time.Second, drain: time.Minute, kill: 2*time.Minute + 5*time.Second,
			from: 2*time.Minute + 5*time.Second, to: 2*time.Minute + 5*time.Second, err: errGrace.Error(),
		},
		"killed with an action": {
			q: mortal{gone: 2 * time.Minute}, runs: time.Hour, drain: time.Minute, kill: 3 * time.Minute,
			from: 3 * time.Minute, to: 3 * time.Minute, err: errGrace.Error(),
		},
		"never there": {
			q: mortal{gone: time.Nanosecond}, drain: time.Minute, from: time.Minute + 10*time.Second, to: 2 * time.Minute,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := c.q
				q.begin = time.Now()
				s, err := buildbarn.New(buildbarn.Options{
					Queue: &q, Executor: sleeper(c.runs), ID: map[string]string{"x": "1"}, Log: quiet, Heartbeat: time.Second,
				})
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Millisecond)
				ctx, kill := context.WithCancelCause(t.Context())
				defer kill(nil)
				if c.kill > 0 {
					time.AfterFunc(time.Until(q.begin.Add(c.kill)), func() { kill(errGrace) })
				}
				drain, begin := context.WithCancel(t.Context())
				time.AfterFunc(time.Until(q.begin.Add(c.drain)), begin)
				defer begin()
				time.AfterFunc(24*time.Hour, func() { kill(errors.New("it did not end by itself")) })

				err = s.Run(ctx, drain)
				if took := time.Since(q.begin); took < c.from || took > c.to {
					t.Errorf("it ended after %v, want %v to %v", took, c.from, c.to)
				}
				if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
					t.Errorf("it ended with %v, want %q", err, c.err)
				}
				if q.told != c.told {
					t.Errorf("the scheduler has the result: %v, want %v", q.told, c.told)
				}
				want := 2
				if c.q.hangs {
					want = 1 // that takes longer than its patience
				}
				if c.err != "" && c.kill == 0 && q.tries < want {
					t.Errorf("it tried to tell the result %d times, want %d at least", q.tries, want)
				}
			})
		})
	}
}

// A mortal is a scheduler that has one action, and is away from gone to back. Zero: it
// stays, or for good.
type mortal struct {
	gone, back time.Duration
	hangs      bool // and is not refused, what is called meanwhile

	begin time.Time
	given bool
	tries int  // to tell the result, for which it was away
	told  bool // it has the result
}

func (q *mortal) Synchronize(ctx context.Context, req *pb.SynchronizeRequest, _ ...grpc.CallOption) (*pb.SynchronizeResponse, error) {
	over := req.CurrentState.GetExecuting().GetCompleted() != nil
	if at := time.Since(q.begin); q.gone > 0 && at >= q.gone && (q.back == 0 || at < q.back) {
		if over {
			q.tries++
		}
		if q.hangs {
			<-ctx.Done()
			return nil, status.FromContextError(ctx.Err()).Err()
		}
		return nil, status.Error(codes.Unavailable, "injected: connection refused")
	}
	resp := &pb.SynchronizeResponse{}
	switch {
	case over:
		q.told = true
		resp = idle()
	case !q.given:
		q.given = true
		resp = execute("a")
	case req.CurrentState.GetExecuting() == nil:
		resp = idle()
	}
	resp.NextSynchronizationAt = timestamppb.New(time.Now().Add(10 * time.Second))
	return resp, nil
}

// A sleeper is an executor whose actions take their time, and nothing else.
type sleeper time.Duration

func (sleeper) Ready(context.Context) error { return nil }

func (d sleeper) Execute(ctx context.Context, _ *worker.Task, _ string, _ func(worker.Stage)) *rexec.ExecuteResponse {
	select {
	case <-time.After(time.Duration(d)):
	case <-ctx.Done():
	}
	return &rexec.ExecuteResponse{Result: &rexec.ActionResult{}}
}
