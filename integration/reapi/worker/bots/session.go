// Package bots makes a worker one of a cluster that speaks the Bots interface of
// the Remote Workers API, v1test2: BuildGrid's, for one.
//
// A [Bot] holds one session with one lease at most, and is one loop around one
// call, UpdateBotSession. Each call says everything that the bot has; each answer
// says everything that it is to have. So
//
//   - a lease that an answer does not have any more, or has as cancelled, is
//     stopped, and is dead before the next call;
//   - a lease that was completed is told again until an answer does not have it;
//   - a session that the server has forgotten is begun anew, and what the bot
//     was doing, which the server has given to somebody else, is stopped.
//
// The result of a lease goes to the server, which decides whether to put it into
// its action cache.
package bots

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	rexec "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi/remote"
	"github.com/sbx-action/sbx-action/integration/reapi/worker"
	pb "github.com/sbx-action/sbx-action/integration/reapi/worker/proto/botspb"
)

// Options of a [Bot].
type Options struct {
	Server   pb.BotsClient
	Executor worker.Executor

	ID       string // unlike that of any other bot of the farm
	Instance string
	Platform []*rexec.Platform_Property // what it offers
	Version  string                     // of our program

	// Poll is the deadline of a call that waits for work: the server waits
	// nearly as long. Zero: a minute.
	Poll time.Duration

	// Heartbeat is the time between two calls while a lease is worked on: a
	// cancellation is noticed after that much at most. Zero: a second.
	Heartbeat time.Duration

	// Retry is the longest pause before a call that failed is made again, and the
	// one between two that say that we are not fit for work. Zero: five seconds.
	Retry time.Duration

	Log *slog.Logger
}

// A Bot is one bot. Make it with [New], and call Run once.
type Bot struct {
	opts    Options
	worker  *pb.Worker
	name    string // of the session; "": there is none
	current *lease // nil: none
	failing bool
	unready bool // the last call said that we are not fit for work
}

// A lease is what the bot works on.
type lease struct {
	state  *pb.Lease
	cancel context.CancelFunc
	done   chan *rexec.ExecuteResponse // gets one
	over   bool                        // done has given it
	ended  time.Time                   // when it did
	told   bool                        // the server hears with the next call that it is worked on
}

// New returns a bot.
func New(o Options) (*Bot, error) {
	if o.ID == "" {
		return nil, errors.New("a bot without an id")
	}
	d := &pb.Device{Handle: o.ID}
	for _, p := range o.Platform {
		d.Properties = append(d.Properties, &pb.Device_Property{Key: p.Name, Value: p.Value})
	}
	return &Bot{opts: o, worker: &pb.Worker{Devices: []*pb.Device{d}}}, nil
}

// Run serves the server until drain is done: then it finishes what it does, tells
// the server, and returns nil; or, if there is no server any more that could be told a
// result, an error that names it. After ctx is done it kills what it does.
func (b *Bot) Run(ctx, drain context.Context) error {
	defer b.stop()
	var draining time.Time
	for {
		last := drain.Err() != nil
		if last && draining.IsZero() {
			draining = time.Now()
		}
		session, err := b.call(ctx, drain)
		switch code := status.Code(err); {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			b.failing = false
			b.name = session.Name
			b.obey(ctx, session)
		case !last && drain.Err() != nil && code == codes.Canceled:
			continue // by ourselves, so that the server hears of it
		case !last && code == codes.DeadlineExceeded && b.current == nil && b.name != "":
			continue // there was no work
		case b.name != "" && (code == codes.NotFound || code == codes.FailedPrecondition || code == codes.InvalidArgument):
			b.opts.Log.InfoContext(ctx, "the server has forgotten the session; beginning another", "bot", b.opts.ID, "err", err)
			b.stop()
			b.name = ""
		default:
			b.failed(ctx, err)
		}
		if last && b.current == nil && err == nil {
			return nil
		}
		if last && err != nil && b.hopeless(draining) {
			return b.lost(err)
		}
		if err := b.wait(ctx, drain, err != nil); err != nil {
			return err
		}
	}
}

// patience is how long a bot that is to end tries to tell so to a server that does not
// answer, and telling how long it tries to tell a result: nothing says when a server
// gives a lease to another.
const (
	patience = 10 * time.Second
	telling  = time.Minute
)

// hopeless says whether a bot that takes no more since draining, and has no answer, has
// nothing to do any more but to try again, and has done so for long enough.
func (b *Bot) hopeless(draining time.Time) bool {
	if b.current == nil {
		return time.Since(draining) > patience
	}
	return b.current.over && time.Since(draining) > telling && time.Since(b.current.ended) > telling
}

// lost says which result nobody was told, if there is one.
func (b *Bot) lost(err error) error {
	if b.current == nil {
		return nil
	}
	return fmt.Errorf("%s ends, and its server was not told the result of lease %s: %w", b.opts.ID, b.current.state.Id, err)
}

func (b *Bot) failed(ctx context.Context, err error) {
	if !b.failing {
		b.opts.Log.WarnContext(ctx, "the server does not answer; trying again", "bot", b.opts.ID, "err", err)
	}
	b.failing = true
}

// stop kills what is being done, and waits for its end.
func (b *Bot) stop() {
	if b.current == nil {
		return
	}
	b.current.cancel()
	if !b.current.over {
		<-b.current.done
	}
	b.current = nil
}

// call makes one call: it begins a session, or updates it.
func (b *Bot) call(ctx, drain context.Context) (*pb.BotSession, error) {
	session := &pb.BotSession{
		Name: b.name, BotId: b.opts.ID, Status: pb.BotStatus_OK, Worker: b.worker, Version: b.opts.Version,
	}
	if b.current != nil {
		session.Leases = []*pb.Lease{b.current.state}
	}
	b.unready = false
	if drain.Err() != nil {
		session.Status = pb.BotStatus_BOT_TERMINATING
	} else if b.current == nil {
		if err := b.opts.Executor.Ready(ctx); err != nil {
			b.opts.Log.WarnContext(ctx, "not ready for work", "err", err)
			session.Status, b.unready = pb.BotStatus_UNHEALTHY, true
		}
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(b.opts.Poll, time.Minute))
	defer cancel()
	if session.Status == pb.BotStatus_OK && (b.current == nil || b.current.over) {
		defer context.AfterFunc(drain, cancel)() // it may wait for work
	}
	if b.name == "" {
		return b.opts.Server.CreateBotSession(ctx, &pb.CreateBotSessionRequest{Parent: b.opts.Instance, BotSession: session})
	}
	return b.opts.Server.UpdateBotSession(ctx, &pb.UpdateBotSessionRequest{Name: b.name, BotSession: session})
}

// obey does what an answer says.
func (b *Bot) obey(ctx context.Context, session *pb.BotSession) {
	var mine, next *pb.Lease
	for _, l := range session.Leases {
		switch {
		case b.current != nil && l.Id == b.current.state.Id:
			mine = l
		case l.State == pb.LeaseState_PENDING && next == nil:
			next = l
		}
	}
	if b.current != nil {
		if mine != nil && mine.State != pb.LeaseState_CANCELLED {
			return // go on; or, if it is over, tell it again
		}
		b.stop()
	}
	if next != nil {
		b.begin(ctx, next)
	}
}

// begin works on a lease.
func (b *Bot) begin(ctx context.Context, l *pb.Lease) {
	ctx, cancel := context.WithCancel(ctx)
	state := proto.CloneOf(l)
	state.State = pb.LeaseState_ACTIVE
	b.current = &lease{state: state, cancel: cancel, done: make(chan *rexec.ExecuteResponse, 1)}
	done := b.current.done
	go func() {
		task, err := b.task(l)
		if err != nil {
			done <- &rexec.ExecuteResponse{Status: status.New(codes.InvalidArgument, err.Error()).Proto()}
			return
		}
		done <- b.opts.Executor.Execute(ctx, task, b.opts.ID, func(worker.Stage) {})
	}()
}

// task reads the payload of a lease: the digest of an action, or an action.
func (b *Bot) task(l *pb.Lease) (*worker.Task, error) {
	m, err := l.GetPayload().UnmarshalNew()
	if err != nil {
		return nil, fmt.Errorf("payload of lease %s: %w", l.Id, err)
	}
	task := &worker.Task{Instance: b.opts.Instance}
	switch m := m.(type) {
	case *rexec.Digest:
		f, err := remote.Function(rexec.DigestFunction_UNKNOWN, m.Hash)
		if err != nil {
			return nil, fmt.Errorf("payload of lease %s: %w", l.Id, err)
		}
		if task.Digest, err = remote.FromDigest(m, f); err != nil {
			return nil, fmt.Errorf("payload of lease %s: %w", l.Id, err)
		}
	case *rexec.Action:
		f, err := remote.Function(rexec.DigestFunction_UNKNOWN, m.GetCommandDigest().GetHash())
		if err != nil {
			return nil, fmt.Errorf("payload of lease %s: %w", l.Id, err)
		}
		task.Action, task.Digest = m, action.Sum(f, l.Payload.Value)
	default:
		return nil, fmt.Errorf("payload of lease %s: a %s, not the digest of an action, or one", l.Id, l.Payload.TypeUrl)
	}
	return task, nil
}

// complete makes the answer what the server hears.
func (l *lease) complete(resp *rexec.ExecuteResponse) {
	l.over, l.ended = true, time.Now()
	l.cancel()
	l.state.State = pb.LeaseState_COMPLETED
	l.state.Status = cmp.Or(resp.GetStatus(), &statuspb.Status{})
	if resp.GetResult() == nil {
		return
	}
	result, err := anypb.New(resp.Result)
	if err != nil {
		l.state.Status = status.New(codes.Internal, err.Error()).Proto()
		return
	}
	l.state.Result = result
}

// wait waits until it is time for the next call.
func (b *Bot) wait(ctx, drain context.Context, failed bool) error {
	d := time.Duration(0)
	var done chan *rexec.ExecuteResponse
	if b.current != nil && !b.current.over {
		done = b.current.done
		d = cmp.Or(b.opts.Heartbeat, time.Second)
		if !b.current.told { // that it was accepted
			b.current.told, d = true, 0
		}
	}
	switch retry := cmp.Or(b.opts.Retry, 5*time.Second); {
	case failed:
		d = rand.N(retry)
	case b.unready && b.current == nil: // no server waits with its answer to such a call
		d = retry
	}
	timer := time.NewTimer(max(d, idlePause))
	defer timer.Stop()
	draining := drain.Done()
	if drain.Err() != nil {
		draining = nil
	}
	for {
		select {
		case resp := <-done:
			b.current.complete(resp)
			done = nil
		case <-draining:
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

// idlePause is the least time between two calls.
const idlePause = 20 * time.Millisecond
