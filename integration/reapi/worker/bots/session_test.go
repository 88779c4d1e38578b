package bots_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	rexec "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/sbx-action/sbx-action/integration/reapi/remote/remotetest"
	"github.com/sbx-action/sbx-action/integration/reapi/worker"
	"github.com/sbx-action/sbx-action/integration/reapi/worker/bots"
	pb "github.com/sbx-action/sbx-action/integration/reapi/worker/proto/botspb"
	"github.com/sbx-action/sbx-action/integration/reapi/worker/workertest"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

type farm struct {
	*workertest.Bots
	storage *remotetest.Server
	client  pb.BotsClient
}

func start(t *testing.T, fault func(int) workertest.Fault) *farm {
	t.Helper()
	storage := &remotetest.Server{}
	s := &workertest.Bots{
		Storage: storage, Instance: "main", Device: map[string]string{"OSFamily": "linux"}, Expire: time.Minute, Fault: fault,
	}
	address := remotetest.Serve(t, storage, func(g *grpc.Server) { pb.RegisterBotsServer(g, s) })
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &farm{s, storage, pb.NewBotsClient(conn)}
}

// run starts a bot and returns what drains it and waits for its end.
func (f *farm) run(t *testing.T, x worker.Executor, id string, change ...func(*bots.Options)) (drain func() error) {
	t.Helper()
	o := bots.Options{
		Server: f.client, Executor: x, ID: id, Instance: f.Instance, Platform: []*rexec.Platform_Property{{Name: "OSFamily", Value: "linux"}},
		Poll: time.Second, Heartbeat: 20 * time.Millisecond, Retry: 20 * time.Millisecond,
		Log: quiet,
	}
	for _, f := range change {
		f(&o)
	}
	b, err := bots.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return workertest.Run(t, b.Run)
}

// An executor runs nothing; it answers with the digest that it was given.
type executor struct {
	hold    chan struct{} // where not nil: until it gives something
	running atomic.Int64
	unready atomic.Bool
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
	if x.hold != nil {
		select {
		case <-x.hold:
		case <-ctx.Done():
			return &rexec.ExecuteResponse{Status: status.New(codes.Canceled, "").Proto()}
		}
	}
	return &rexec.ExecuteResponse{Result: &rexec.ActionResult{
		StdoutRaw: []byte(task.Instance + " " + task.Digest.Hash()), ExecutionMetadata: &rexec.ExecutedActionMetadata{Worker: id},
	}}
}

func (f *farm) job(t *testing.T, script string) *workertest.Job {
	t.Helper()
	j := &workertest.Job{Done: make(chan *rexec.ExecuteResponse, 1)}
	j.Digest, j.Action = workertest.Spec{Script: script}.Store(t, f.storage)
	f.Enqueue(j)
	return j
}

func (f *farm) check(t *testing.T, j *workertest.Job) {
	t.Helper()
	resp := workertest.Wait(t, j)
	if got := string(resp.GetResult().GetStdoutRaw()); resp.Status.GetCode() != 0 || got != "main "+j.Digest.Hash() {
		t.Errorf("%v, want the result of %v", resp, j.Digest)
	}
}

func (f *farm) faultless(t *testing.T) {
	t.Helper()
	for _, v := range f.Violations() {
		t.Error(v)
	}
}

func TestManyJobsOnTwoBots(t *testing.T) {
	for _, withAction := range []bool{false, true} {
		f := start(t, nil)
		f.WithAction = withAction
		for i := range 2 {
			f.run(t, &executor{}, fmt.Sprint("bot", i))
		}
		var jobs []*workertest.Job
		for i := range 20 {
			jobs = append(jobs, f.job(t, fmt.Sprint(i)))
		}
		for _, j := range jobs {
			f.check(t, j)
		}
		f.faultless(t)
	}
}

// TestEveryFault breaks each of the first calls in each way.
func TestEveryFault(t *testing.T) {
	for _, fault := range []workertest.Fault{workertest.LostCall, workertest.LostReply, workertest.Restart} {
		for n := 1; n <= 6; n++ {
			t.Run(fmt.Sprintf("%d-%d", fault, n), func(t *testing.T) {
				t.Parallel()
				var happened atomic.Bool
				f := start(t, func(call int) workertest.Fault {
					if call == n {
						happened.Store(true)
						return fault
					}
					return workertest.None
				})
				drain := f.run(t, &executor{}, "bot")
				for i := range 5 {
					f.check(t, f.job(t, fmt.Sprint(i)))
				}
				if err := drain(); err != nil {
					t.Errorf("drain: %v", err)
				}
				if !happened.Load() {
					t.Error("control: the fault did not happen")
				}
				f.faultless(t)
			})
		}
	}
}

func TestCancel(t *testing.T) {
	f := start(t, nil)
	x := &executor{hold: make(chan struct{})}
	f.run(t, x, "bot")
	j := f.job(t, "canceled")
	workertest.Eventually(t, "the bot works", func() bool { return f.Active(j) && x.running.Load() == 1 })
	f.Cancel(j)
	workertest.Eventually(t, "the lease is stopped", func() bool { return x.running.Load() == 0 })
	close(x.hold)
	f.check(t, f.job(t, "next"))
	f.faultless(t)
}

// TestServerForgets: what the bot does for a session that is no more, is
// stopped, because somebody else does it.
func TestServerForgets(t *testing.T) {
	var forget atomic.Bool
	f := start(t, func(int) workertest.Fault {
		if forget.CompareAndSwap(true, false) {
			return workertest.Restart
		}
		return workertest.None
	})
	x := &executor{hold: make(chan struct{})}
	f.run(t, x, "bot")
	j := f.job(t, "twice")
	workertest.Eventually(t, "the bot works", func() bool { return f.Active(j) })
	forget.Store(true)
	workertest.Eventually(t, "the bot begins anew", func() bool { return !forget.Load() && f.Active(j) && x.running.Load() == 1 })
	close(x.hold)
	f.check(t, j)
	f.faultless(t)
}

func TestDrain(t *testing.T) {
	f := start(t, nil)
	x := &executor{hold: make(chan struct{})}
	drain := f.run(t, x, "bot")
	j, next := f.job(t, "last"), f.job(t, "never")
	workertest.Eventually(t, "the bot works", func() bool { return f.Active(j) })
	ended := make(chan error, 1)
	go func() { ended <- drain() }()
	workertest.Eventually(t, "the server is told", func() bool {
		all := f.Statuses()
		return all[len(all)-1] == pb.BotStatus_BOT_TERMINATING
	})
	close(x.hold)
	f.check(t, j)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	select {
	case <-next.Done:
		t.Error("it took another lease")
	default:
	}
	f.faultless(t)
}

func TestNotReady(t *testing.T) {
	f := start(t, nil)
	x := &executor{}
	x.unready.Store(true)
	f.run(t, x, "bot")
	j := f.job(t, "x")
	workertest.Eventually(t, "the bot calls", func() bool { return len(f.Statuses()) > 2 })
	for _, s := range f.Statuses() {
		if s != pb.BotStatus_UNHEALTHY {
			t.Errorf("status %v, want UNHEALTHY", s)
		}
	}
	x.unready.Store(false)
	f.check(t, j)

	// The server answers at once, and is not asked again at once; but a bot that is to
	// end does so.
	f = start(t, nil)
	x.unready.Store(true)
	drain := f.run(t, x, "bot", func(o *bots.Options) { o.Retry = 24 * time.Hour })
	workertest.Eventually(t, "the bot calls", func() bool { return len(f.Statuses()) > 0 })
	time.Sleep(200 * time.Millisecond)
	if n := len(f.Statuses()); n > 1 {
		t.Errorf("%d calls of a bot that is not fit for work, in a moment", n)
	}
	if err := drain(); err != nil {
		t.Error(err)
	}
}

// TestMalformedPayload: refused with an answer, not with silence.
func TestMalformedPayload(t *testing.T) {
	f := start(t, nil)
	f.WithAction = true
	f.run(t, &executor{}, "bot")
	j := &workertest.Job{Done: make(chan *rexec.ExecuteResponse, 1), Action: &rexec.Action{}}
	f.Enqueue(j)
	if resp := workertest.Wait(t, j); codes.Code(resp.Status.GetCode()) != codes.InvalidArgument {
		t.Errorf("%v, want INVALID_ARGUMENT", resp.Status)
	}
}

// TestTheServerIsStrict is the control of all that find no violation.
func TestTheServerIsStrict(t *testing.T) {
	device := &pb.Worker{Devices: []*pb.Device{{Properties: []*pb.Device_Property{{Key: "OSFamily", Value: "linux"}}}}}
	create := func(f *farm) *pb.BotSession {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		s, err := f.client.CreateBotSession(ctx, &pb.CreateBotSessionRequest{Parent: "main", BotSession: &pb.BotSession{BotId: "b", Worker: device, Status: pb.BotStatus_OK}})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	update := func(f *farm, s *pb.BotSession) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, _ = f.client.UpdateBotSession(ctx, &pb.UpdateBotSessionRequest{Name: s.Name, BotSession: s})
	}
	for want, do := range map[string]func(*farm){
		"create": func(f *farm) {
			_, _ = f.client.CreateBotSession(t.Context(), &pb.CreateBotSessionRequest{Parent: "other", BotSession: &pb.BotSession{BotId: "b"}})
		},
		"it offers": func(f *farm) {
			s := create(f)
			s.Worker = nil
			update(f, s)
		},
		"nothing was said": func(f *farm) {
			s := create(f)
			s.Worker, s.Status = device, pb.BotStatus_OK
			s.Leases[0].State = pb.LeaseState_ACTIVE
			update(f, s)
			s.Leases = nil
			update(f, s)
		},
		"not given": func(f *farm) {
			s := create(f)
			s.Worker, s.Status = device, pb.BotStatus_OK
			s.Leases[0].Id, s.Leases[0].State = "x", pb.LeaseState_ACTIVE
			update(f, s)
		},
		"without a status": func(f *farm) {
			s := create(f)
			s.Worker = device
			s.Leases[0].State = pb.LeaseState_COMPLETED
			update(f, s)
		},
		"late": func(f *farm) {
			f.Expire = time.Millisecond
			s := create(f)
			s.Worker = device
			time.Sleep(20 * time.Millisecond)
			update(f, s)
		},
	} {
		f := start(t, nil)
		f.job(t, "x")
		do(f)
		if got := strings.Join(f.Violations(), "\n"); !strings.Contains(got, want) {
			t.Errorf("violations %q, want %q", got, want)
		}
	}
}
