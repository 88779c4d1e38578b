package execution

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi"
)

// An Operation is what one Execute began. Its fields are guarded by Engine.mu,
// but for those that never change.
type Operation struct {
	Name     string
	Instance string
	Request  *repb.ExecuteRequest
	digest   action.Digest
	begun    time.Time

	task     *task                 // nil when it has ended
	response *repb.ExecuteResponse // nil until it has ended
	ended    time.Time
	size     int64  // of the request and the response
	noted    bool   // in the journal
	miss     string // why there was no result

	waiters int
	timer   *time.Timer // runs when nobody waits
}

func (op *Operation) stopTimer() {
	if op.timer != nil {
		op.timer.Stop()
		op.timer = nil
	}
}

const (
	// keepDone is how long the answer of an operation can be asked for.
	keepDone = time.Hour
	// keepBytes and keepCount bound these answers.
	keepBytes = 64 << 20
	keepCount = 20_000
)

// newName returns a name for an operation of an instance, which nobody can
// guess: whoever knows it may cancel it.
func newName(instance string) string {
	name := "operations/" + rand.Text()
	if instance != "" {
		name = instance + "/" + name
	}
	return name
}

// hit is an operation that had its answer before it began. The caller waits for it.
func (e *Engine) hit(req *repb.ExecuteRequest, d action.Digest, res *repb.ExecuteResponse) *Operation {
	op := &Operation{
		Name: newName(req.InstanceName), Instance: req.InstanceName, Request: req, digest: d,
		begun: time.Now(), response: res, waiters: 1,
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.counts.Hits++
	e.ops[op.Name] = op
	e.retire(op)
	return op
}

// begin makes an operation, and a task for it, or lets it join one. name is "" for a
// new one, for which the caller waits: see wait. miss says why there was no result.
func (e *Engine) begin(name string, req *repb.ExecuteRequest, j *job, miss string) (*Operation, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended {
		return nil, reapi.Busy(codes.Unavailable, time.Second, "%v", errStopped).Err()
	}
	op := &Operation{
		Name: name, Instance: req.InstanceName, Request: req, digest: j.digest, begun: time.Now(), miss: miss,
	}
	if name == "" {
		op.Name, op.waiters = newName(req.InstanceName), 1
	}
	key := taskKey{j.instance, j.digest}
	t := e.tasks[key]
	priority := req.GetExecutionPolicy().GetPriority()
	switch {
	case t != nil && !j.action.DoNotCache && t.joinable(req.SkipCacheLookup):
		e.counts.Merged++
		e.queue.hurry(t, priority)
	case name == "" && e.full(j):
		return nil, reapi.Busy(codes.ResourceExhausted, 5*time.Second, "%d actions wait already: try again later", e.queue.Len()).Err()
	default:
		t = e.newTask(j, req, priority)
		if !j.action.DoNotCache {
			e.tasks[key] = t
		}
		e.queue.push(t)
		e.work.Signal()
	}
	op.task = t
	t.ops = append(t.ops, op)
	e.ops[op.Name] = op
	if op.waiters == 0 { // its client has to find the new server first
		op.watch(e, max(recoverGrace, e.opts.Abandon))
	}
	op.noted = true
	if err := e.journal.begin(op); err != nil {
		e.opts.Log.Warn("operations may not survive a restart", "err", err)
	}
	return op, nil
}

// full says whether the queue has no room for j. Needs mu.
func (e *Engine) full(j *job) bool {
	n := e.queue.Len()
	return n >= e.opts.MaxQueue || n > 0 && e.queue.bytes+j.size > e.opts.MaxQueued
}

// joinable says whether a request can join t: one that does not want a result of
// before can so if t does not want one, too, or has not looked yet. Needs mu.
func (t *task) joinable(skipLookup bool) bool {
	if skipLookup && t.stage == stageQueued {
		t.skipLookup = true
	}
	return t.skipLookup || !skipLookup
}

// newTask returns a task that waits. Needs mu.
func (e *Engine) newTask(j *job, req *repb.ExecuteRequest, priority int32) *task {
	e.serial++
	t := &task{
		job: j, id: rand.Text(), skipLookup: req.SkipCacheLookup, priority: priority, serial: e.serial, index: -1,
		stage: stageQueued, queued: time.Now(), changed: make(chan struct{}),
	}
	t.ctx, t.cancel = context.WithCancelCause(e.ctx)
	t.logs = e.logs.of(j.instance, t.id)
	return t
}

// watch begins the time for which nobody need wait for op. Needs mu.
func (op *Operation) watch(e *Engine, grace time.Duration) {
	op.timer = time.AfterFunc(grace, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if op.waiters == 0 && op.response == nil && !e.ended {
			e.counts.Stale++
			// Not CANCELLED: nobody has called CancelOperation.
			e.endEarly(op, reapi.Busy(codes.Unavailable, time.Second, "no client waited for %v, so the action was killed: execute it again", grace))
		}
	})
}

// wait says that one more, or with -1 one less, waits for op.
func (e *Engine) wait(op *Operation, n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	op.waiters += n
	op.stopTimer()
	if op.waiters == 0 && op.response == nil && !e.ended {
		op.watch(e, e.opts.Abandon)
	}
}

// endEarly ends op before its task has: with it, if nobody else needs it. Then
// op ends when no process of it is left. Needs mu.
func (e *Engine) endEarly(op *Operation, why *status.Status) {
	t := op.task
	if len(t.ops) == 1 && t.stage == stageExecuting {
		e.forget(t) // whoever comes now gets a task of its own
		t.cancel(why.Err())
		return
	}
	t.ops = slices.DeleteFunc(t.ops, func(o *Operation) bool { return o == op })
	if len(t.ops) == 0 {
		e.queue.remove(t)
		e.forget(t)
		t.cancel(why.Err())
		t.logs.end()
	}
	e.end(op, &repb.ExecuteResponse{Status: why.Proto()})
	t.broadcast()
}

// forget makes t one that nobody can join. Needs mu.
func (e *Engine) forget(t *task) {
	key := taskKey{t.job.instance, t.job.digest}
	if e.tasks[key] == t {
		delete(e.tasks, key)
	}
}

// end gives op its answer. Needs mu.
func (e *Engine) end(op *Operation, res *repb.ExecuteResponse) {
	op.task, op.response = nil, res
	op.stopTimer()
	if err := e.journal.end(op); err != nil {
		e.opts.Log.Warn("operations may not survive a restart", "err", err)
	}
	e.retire(op)
	e.compact()
}

// retire keeps the answer of op for a while, and drops old ones. Needs mu.
func (e *Engine) retire(op *Operation) {
	op.ended, op.size = time.Now(), op.weigh()
	e.done = append(e.done, op)
	e.bytes += op.size
	for len(e.done) > 0 {
		old := e.done[0]
		if e.bytes <= keepBytes && len(e.done) <= keepCount && time.Since(old.ended) < keepDone {
			break
		}
		if old == op {
			break // whoever asked for it must get it
		}
		e.drop(0)
	}
}

// weigh is how much memory op takes when it is done, about.
func (op *Operation) weigh() int64 { return int64(proto.Size(op.Request) + proto.Size(op.response)) }

// drop forgets the operation e.done[i]. Needs mu.
func (e *Engine) drop(i int) {
	op := e.done[i]
	if i == 0 {
		e.done[0], e.done = nil, e.done[1:]
	} else {
		e.done = slices.Delete(e.done, i, i+1)
	}
	e.bytes -= op.size
	delete(e.ops, op.Name)
	if !op.noted {
		return
	}
	if err := e.journal.drop(op.Name); err != nil {
		e.opts.Log.Warn("operations may not survive a restart", "err", err)
	}
}

// find returns the operation called name. The error is a status.
func (e *Engine) find(name string) (*Operation, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if op := e.ops[name]; op != nil {
		return op, nil
	}
	return nil, status.Errorf(codes.NotFound, "operation %q is not known: it may be done for long, or of another server; execute the action again", name)
}

// message is op as it is now, and, if it has not ended, what tells that it has
// changed.
func (e *Engine) message(op *Operation) (*longrunningpb.Operation, <-chan struct{}, error) {
	e.mu.Lock()
	meta := &repb.ExecuteOperationMetadata{
		Stage: stageCompleted, ActionDigest: reapi.ToDigest(op.digest), DigestFunction: reapi.ToFunction(op.digest.Function()),
	}
	res := op.response
	var changed <-chan struct{}
	if t := op.task; t != nil {
		meta.Stage, changed = t.stage, t.changed
		meta.PartialExecutionMetadata = &repb.ExecutedActionMetadata{QueuedTimestamp: timestamppb.New(t.queued)}
		if t.stage == stageExecuting {
			meta.StdoutStreamName, meta.StderrStreamName = t.logs.names()
			meta.PartialExecutionMetadata.WorkerStartTimestamp = timestamppb.New(t.started)
		}
	}
	e.mu.Unlock()

	m := &longrunningpb.Operation{Name: op.Name, Done: res != nil}
	var err error
	if m.Metadata, err = anypb.New(meta); err != nil {
		return nil, nil, fmt.Errorf("operation %s: %w", op.Name, err)
	}
	if res != nil {
		answer, err := anypb.New(res)
		if err != nil {
			return nil, nil, fmt.Errorf("operation %s: %w", op.Name, err)
		}
		m.Result = &longrunningpb.Operation_Response{Response: answer}
	}
	return m, changed, nil
}
