package workertest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	rexec "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sbx-action/sbx-action/integration/reapi/remote"
	"github.com/sbx-action/sbx-action/integration/reapi/remote/remotetest"
	pb "github.com/sbx-action/sbx-action/integration/reapi/worker/proto/botspb"
)

// Bots is a server of the Bots interface as BuildGrid is one: it gives a bot one
// lease at a time, waits for work until shortly before the deadline of a call,
// forgets a session that is late, and takes a lease that a bot does not have any
// more to be lost. Set its fields before the first call.
type Bots struct {
	pb.UnimplementedBotsServer

	Storage    *remotetest.Server
	Instance   string
	Device     map[string]string // what a bot must offer
	Expire     time.Duration     // without a call, a session is forgotten
	WithAction bool              // the payload is an action, not its digest

	// Fault says what happens to call number n, from 1 on; nil: nothing.
	Fault func(n int) Fault

	mu         sync.Mutex
	calls      int
	sessions   map[string]*session
	wake       chan struct{}
	queue      []*Job
	leases     int
	violations []string
	statuses   []pb.BotStatus
}

type session struct {
	bot    string
	expire time.Time
	lease  *pb.Lease
	job    *Job
	active bool // the bot has said that it works on it
}

// Enqueue adds a job.
func (s *Bots) Enqueue(j *Job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(s.queue, j)
	if s.wake != nil {
		close(s.wake)
	}
	s.wake = make(chan struct{})
}

// Cancel cancels a job.
func (s *Bots) Cancel(j *Job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j.canceled = true
}

// Active says whether a bot has told that it works on j.
func (s *Bots) Active(j *Job) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.sessions {
		if x.job == j && x.active {
			return true
		}
	}
	return false
}

// Violations are what bots did against the protocol.
func (s *Bots) Violations() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.violations)
}

// Statuses are those of the calls so far.
func (s *Bots) Statuses() []pb.BotStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.statuses)
}

func (s *Bots) violated(format string, args ...any) {
	s.violations = append(s.violations, fmt.Sprintf(format, args...))
}

// CreateBotSession implements Bots.
func (s *Bots) CreateBotSession(ctx context.Context, req *pb.CreateBotSessionRequest) (*pb.BotSession, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := req.BotSession
	if req.Parent != s.Instance || b.GetBotId() == "" || b.Name != "" {
		s.violated("create: parent %q, bot_id %q, name %q", req.Parent, b.GetBotId(), b.GetName())
		return nil, status.Error(codes.InvalidArgument, "malformed session")
	}
	if len(b.Leases) > 0 {
		s.violated("create: with leases of another session")
	}
	s.offers(b)
	for name, x := range s.sessions {
		if x.bot == b.BotId { // the old one is closed
			s.lose(x)
			delete(s.sessions, name)
		}
	}
	if s.sessions == nil {
		s.sessions = map[string]*session{}
	}
	s.leases++
	name := fmt.Sprintf("%s/sessions/%d", s.Instance, s.leases)
	x := &session{bot: b.BotId}
	s.sessions[name] = x
	return s.respond(ctx, name, x, b)
}

func (s *Bots) offers(b *pb.BotSession) {
	devices := b.GetWorker().GetDevices()
	got := map[string]string{}
	if len(devices) == 1 {
		for _, p := range devices[0].Properties {
			got[p.Key] = p.Value
		}
	}
	for k, v := range s.Device {
		if got[k] != v {
			s.violated("it offers %s=%q, want %q", k, got[k], v)
		}
	}
}

// lose gives what x worked on to somebody else.
func (s *Bots) lose(x *session) {
	if x.job != nil && !x.job.canceled {
		s.queue = append(s.queue, x.job)
	}
	x.job, x.lease = nil, nil
}

// UpdateBotSession implements Bots.
func (s *Bots) UpdateBotSession(ctx context.Context, req *pb.UpdateBotSessionRequest) (*pb.BotSession, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	fault := None
	if s.Fault != nil {
		fault = s.Fault(s.calls)
	}
	switch fault {
	case LostCall:
		return nil, status.Error(codes.Unavailable, "injected: the call is lost")
	case Restart:
		for _, x := range s.sessions {
			s.lose(x)
		}
		s.sessions = map[string]*session{}
	}
	x := s.sessions[req.Name]
	if x == nil {
		return nil, status.Error(codes.NotFound, "no such session")
	}
	if req.BotSession.GetName() != req.Name || req.BotSession.BotId != x.bot {
		s.violated("update of %s: name %q, bot_id %q", req.Name, req.BotSession.GetName(), req.BotSession.GetBotId())
		return nil, status.Error(codes.InvalidArgument, "malformed session")
	}
	if time.Now().After(x.expire) {
		s.violated("%s: late by %v", x.bot, time.Since(x.expire))
	}
	s.told(x, req.BotSession)
	resp, err := s.respond(ctx, req.Name, x, req.BotSession)
	if err == nil && fault == LostReply {
		return nil, status.Error(codes.Unavailable, "injected: the answer is lost")
	}
	return resp, err
}

// told takes in what a bot says of its lease.
func (s *Bots) told(x *session, b *pb.BotSession) {
	s.offers(b)
	if len(b.Leases) > 1 {
		s.violated("%s: %d leases", x.bot, len(b.Leases))
		return
	}
	if len(b.Leases) == 0 {
		if x.active {
			s.violated("%s: lease %s is gone, and nothing was said of it", x.bot, x.lease.Id)
		}
		return
	}
	l := b.Leases[0]
	if x.lease == nil || l.Id != x.lease.Id {
		if l.State != pb.LeaseState_COMPLETED { // that may be told again
			s.violated("%s: it works on lease %s, which it was not given", x.bot, l.Id)
		}
		return
	}
	switch l.State {
	case pb.LeaseState_ACTIVE:
		x.active = true
	case pb.LeaseState_COMPLETED:
		if l.Status == nil {
			s.violated("%s: a completed lease without a status", x.bot)
		}
		resp := &rexec.ExecuteResponse{Status: l.Status}
		if l.Result != nil {
			resp.Result = new(rexec.ActionResult)
			if err := l.Result.UnmarshalTo(resp.Result); err != nil {
				s.violated("%s: result: %v", x.bot, err)
			}
		}
		if !x.job.canceled {
			x.job.Done <- resp
		}
		x.job, x.lease, x.active = nil, nil, false
	default:
		s.violated("%s: lease %s in state %v", x.bot, l.Id, l.State)
	}
}

// respond answers, with work if there is some and the bot wants it.
func (s *Bots) respond(ctx context.Context, name string, x *session, b *pb.BotSession) (*pb.BotSession, error) {
	s.statuses = append(s.statuses, b.Status)
	deadline, ok := ctx.Deadline()
	if !ok {
		s.violated("%s: a call without a deadline", x.bot)
	}
	x.expire = time.Now().Add(time.Hour) // not while we make it wait
	if x.lease != nil && x.job.canceled {
		gone := proto.CloneOf(x.lease)
		gone.State = pb.LeaseState_CANCELLED
		x.job, x.lease, x.active = nil, nil, false
		return s.session(name, x, gone), nil
	}
	for x.lease == nil && b.Status == pb.BotStatus_OK {
		if len(s.queue) > 0 {
			s.give(x)
			break
		}
		if s.wake == nil {
			s.wake = make(chan struct{})
		}
		wake := s.wake
		left := time.Until(deadline) - 50*time.Millisecond
		s.mu.Unlock()
		over := false
		select {
		case <-wake:
		case <-time.After(left):
			over = true
		case <-ctx.Done():
			over = true
		}
		s.mu.Lock()
		if ctx.Err() != nil {
			return nil, status.FromContextError(ctx.Err()).Err()
		}
		if over {
			break
		}
	}
	return s.session(name, x, x.lease), nil
}

func (s *Bots) give(x *session) {
	j := s.queue[0]
	s.queue = s.queue[1:]
	var payload proto.Message = remote.ToDigest(j.Digest)
	if s.WithAction {
		payload = j.Action
	}
	packed := new(anypb.Any)
	if err := anypb.MarshalFrom(packed, payload, proto.MarshalOptions{Deterministic: true}); err != nil {
		panic(err)
	}
	s.leases++
	x.job, x.active = j, false
	x.lease = &pb.Lease{Id: fmt.Sprint("lease-", s.leases), State: pb.LeaseState_PENDING, Payload: packed}
}

func (s *Bots) session(name string, x *session, l *pb.Lease) *pb.BotSession {
	x.expire = time.Now().Add(s.Expire)
	b := &pb.BotSession{Name: name, BotId: x.bot, ExpireTime: timestamppb.New(x.expire)}
	if l != nil {
		l = proto.CloneOf(l)
		if x.active {
			l.State = pb.LeaseState_ACTIVE
		}
		b.Leases = []*pb.Lease{l}
	}
	return b
}
