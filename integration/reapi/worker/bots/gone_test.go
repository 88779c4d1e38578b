package bots_test

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
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sbx-action/sbx-action/integration/reapi/worker"
	"github.com/sbx-action/sbx-action/integration/reapi/worker/bots"
	pb "github.com/sbx-action/sbx-action/integration/reapi/worker/proto/botspb"
)

// TestDrainWithoutServer drains bots whose server goes away, by a clock that does not
// wait. A bot ends, also with a result that nobody takes, but gives the server a minute
// to come back for it, and never ends while it works.
func TestDrainWithoutServer(t *testing.T) {
	errGrace := errors.New("injected: the grace is over")
	for name, c := range map[string]struct {
		q                 mortal
		runs, drain, kill time.Duration // kill 0: never
		from, to          time.Duration // when the bot ends, from the beginning on
		err               string        // a part of what it ends with; "": nothing
		told              bool          // the server has the result
	}{
		"it stays": {
			runs: time.Hour, drain: time.Minute, from: time.Hour, to: time.Hour + 2*time.Second, told: true,
		},
		"gone for good": {
			q: mortal{gone: 2 * time.Minute}, runs: time.Hour, drain: 3 * time.Minute,
			from: time.Hour + time.Minute, to: time.Hour + 2*time.Minute, err: "result of lease one: ",
		},
		"gone for good, and calls hang": {
			q: mortal{gone: 2 * time.Minute, hangs: true}, runs: time.Hour, drain: 3 * time.Minute,
			from: time.Hour + time.Minute, to: time.Hour + 4*time.Minute, err: "result of lease one: ",
		},
		"gone before the drain, with the lease over": {
			q: mortal{gone: 2 * time.Minute}, runs: 3 * time.Minute, drain: time.Hour,
			from: time.Hour + time.Minute, to: time.Hour + 2*time.Minute, err: "was not told the result",
		},
		"back in time": {
			q: mortal{gone: 2 * time.Minute, back: time.Hour + 40*time.Second}, runs: time.Hour, drain: time.Minute,
			from: time.Hour + 40*time.Second, to: time.Hour + 50*time.Second, told: true,
		},
		"killed with a result": {
			q: mortal{gone: 2 * time.Minute}, runs: 2*time.Minute + time.Second, drain: time.Minute, kill: 2*time.Minute + 5*time.Second,
			from: 2*time.Minute + 5*time.Second, to: 2*time.Minute + 5*time.Second, err: errGrace.Error(),
		},
		"gone with nothing to do": {
			q: mortal{gone: 2 * time.Minute}, runs: time.Second, drain: 3 * time.Minute,
			from: 3*time.Minute + 10*time.Second, to: 4 * time.Minute, told: true,
		},
		"gone with nothing to do, and calls hang": {
			q: mortal{gone: 2 * time.Minute, hangs: true}, runs: time.Second, drain: 3 * time.Minute,
			from: 3*time.Minute + 10*time.Second, to: 6 * time.Minute, told: true,
		},
		"never there": {
			q: mortal{gone: time.Nanosecond}, drain: time.Minute, from: time.Minute + 10*time.Second, to: 2 * time.Minute,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := c.q
				q.begin = time.Now()
				b, err := bots.New(bots.Options{Server: &q, Executor: sleeper(c.runs), ID: "bot", Log: quiet})
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

				err = b.Run(ctx, drain)
				if took := time.Since(q.begin); took < c.from || took > c.to {
					t.Errorf("it ended after %v, want %v to %v", took, c.from, c.to)
				}
				if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
					t.Errorf("it ended with %v, want %q", err, c.err)
				}
				if q.told != c.told {
					t.Errorf("the server has the result: %v, want %v", q.told, c.told)
				}
			})
		})
	}
}

// A mortal is a server that has one lease, and is away from gone to back. Zero: it
// stays, or for good.
type mortal struct {
	gone, back time.Duration
	hangs      bool // and is not refused, what is called meanwhile

	begin time.Time
	told  bool // it has the result
}

func (q *mortal) CreateBotSession(ctx context.Context, req *pb.CreateBotSessionRequest, _ ...grpc.CallOption) (*pb.BotSession, error) {
	return q.answer(ctx, req.BotSession)
}

func (q *mortal) UpdateBotSession(ctx context.Context, req *pb.UpdateBotSessionRequest, _ ...grpc.CallOption) (*pb.BotSession, error) {
	return q.answer(ctx, req.BotSession)
}

func (q *mortal) answer(ctx context.Context, s *pb.BotSession) (*pb.BotSession, error) {
	if at := time.Since(q.begin); q.gone > 0 && at >= q.gone && (q.back == 0 || at < q.back) {
		if q.hangs {
			<-ctx.Done()
			return nil, status.FromContextError(ctx.Err()).Err()
		}
		return nil, status.Error(codes.Unavailable, "injected: connection refused")
	}
	s = proto.CloneOf(s)
	fresh := s.Name == ""
	s.Name = "session"
	if len(s.Leases) > 0 && s.Leases[0].State == pb.LeaseState_COMPLETED {
		q.told, s.Leases = true, nil
		return s, nil
	}
	if fresh {
		payload, err := anypb.New(&rexec.Action{CommandDigest: &rexec.Digest{Hash: strings.Repeat("a", 64), SizeBytes: 1}})
		if err != nil {
			return nil, err
		}
		s.Leases = []*pb.Lease{{Id: "one", State: pb.LeaseState_PENDING, Payload: payload}}
	}
	if !fresh && len(s.Leases) == 0 && s.Status == pb.BotStatus_OK { // it waits for work, of which there is none
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	return s, nil
}

// A sleeper is an executor whose leases take their time, and nothing else.
type sleeper time.Duration

func (sleeper) Ready(context.Context) error { return nil }

func (d sleeper) Execute(ctx context.Context, _ *worker.Task, _ string, _ func(worker.Stage)) *rexec.ExecuteResponse {
	select {
	case <-time.After(time.Duration(d)):
	case <-ctx.Done():
	}
	return &rexec.ExecuteResponse{Result: &rexec.ActionResult{}}
}
