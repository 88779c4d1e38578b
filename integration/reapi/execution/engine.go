// Package execution runs actions for clients of the Remote Execution API, with
// the same [action.Runner] as the command line.
//
// A request is prepared: its action and command are read and checked. If there
// is a result, that is the answer. Else it becomes an operation, which has a
// name, and which waits for a task. Requests for equal actions share one task,
// unless the action says do_not_cache. A task waits for one of a fixed number
// of slots, in the order of priority, then of arrival.
//
// An operation ends when its task does, when it is cancelled, or some time after
// the last client that waited for it has gone; a task whose last operation has
// ended is killed, with every process of it, at once. Operations are written to
// a journal: after a restart of the server, clients find those that are done,
// and the others run again.
package execution

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/integration/reapi/inputs"
	"github.com/sbx-action/sbx-action/integration/reapi/storage"
	"github.com/sbx-action/sbx-action/internal/durable"
	"github.com/sbx-action/sbx-action/staging"
)

// Options of an [Engine]. What has no default is required.
type Options struct {
	Store   *cache.Store
	Results *storage.Results
	Witness action.Witness
	Backend backends.Backend
	Can     backends.Capabilities // what Backend can do, but for limits

	// Rootfs is the root file system that a name in an action's platform means
	// in an instance; "" is that of an action that names none.
	Rootfs func(instance, name string) (staging.Rootfs, error)

	// Refuse, where not nil, says that nothing is run in an instance.
	Refuse func(instance string) bool

	Jobs     int // actions at a time; 0: one for each processor
	MaxQueue int // actions that may wait; 0: 100,000

	MaxQueued int64 // bytes of the messages of all actions that wait; 0: 256 MiB

	DefaultTimeout time.Duration // of an action that has none; 0: 15 minutes; at most MaxTimeout
	MaxTimeout     func(instance string) time.Duration

	Abandon   time.Duration // how long nobody need wait for an operation; 0: 2 s
	KeepAlive time.Duration // between updates of an operation; 0: 30 s

	Limits           backends.Limits // of every action; Wall is the action's own
	IgnoreProperties []string        // of platforms; "*": every one that is not known

	MaxInline int64  // bytes of a message; 0: as storage.DefaultMaxBatch
	Journal   string // the file of operations; "": none are kept
	Log       *slog.Logger
}

// An Engine runs actions. Its methods may be called by any number of
// goroutines.
type Engine struct {
	opts    Options
	stop    context.CancelCauseFunc
	ctx     context.Context // ends with the engine
	slots   sync.WaitGroup
	dirs    *inputs.Directories
	journal *journal
	logs    logs

	mu      sync.Mutex
	work    *sync.Cond            // mu: the queue is longer, or the engine ends
	queue   queue                 // guarded by mu
	running int                   // guarded by mu
	tasks   map[taskKey]*task     // guarded by mu: those that can be joined
	ops     map[string]*Operation // guarded by mu: by name
	done    []*Operation          // guarded by mu: the first one ended first
	bytes   int64                 // guarded by mu: of the answers in done
	ended   bool                  // guarded by mu
	serial  int64                 // guarded by mu
	counts  Counts                // guarded by mu

	// Observe, where not nil, is told of every task that has ended. Set before
	// Start.
	Observe func(*Report)
}

// Counts are what an engine has done since it began.
type Counts struct {
	Queued, Running          int
	Executed, Hits, Merged   int64
	Failed, Cancelled, Stale int64 // of Executed: with an exit code or error; by a client; because nobody waited
}

// errStopped is the cause of contexts when the engine ends.
var errStopped = errors.New("the server is stopping")

// New returns an engine that Start has to start and Close to end.
func New(o Options) (*Engine, error) {
	if o.Jobs == 0 {
		o.Jobs = runtime.NumCPU()
	}
	if o.MaxQueue == 0 {
		o.MaxQueue = 100_000
	}
	if o.MaxQueued == 0 {
		o.MaxQueued = 256 << 20
	}
	if o.DefaultTimeout == 0 {
		o.DefaultTimeout = 15 * time.Minute
	}
	if o.MaxTimeout == nil {
		o.MaxTimeout = func(string) time.Duration { return 24 * time.Hour }
	}
	if o.Abandon == 0 {
		o.Abandon = 2 * time.Second
	}
	if o.KeepAlive == 0 {
		o.KeepAlive = 30 * time.Second
	}
	if o.MaxInline == 0 {
		o.MaxInline = storage.DefaultMaxBatch
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	e := &Engine{opts: o, dirs: inputs.New(o.Store), tasks: map[taskKey]*task{}, ops: map[string]*Operation{}}
	e.work = sync.NewCond(&e.mu)
	e.ctx, e.stop = context.WithCancelCause(context.Background())
	e.logs.engine = e
	if o.Journal != "" {
		var err error
		e.journal, err = openJournal(o.Journal)
		if durable.IsFull(err) { // what can be read is served all the same
			o.Log.Warn("operations do not survive a restart", "err", err)
			e.journal, err = nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("the journal of operations: %w", err)
		}
	}
	return e, nil
}

// Start begins to run actions: first those that the journal says were not done.
func (e *Engine) Start() {
	e.recover()
	for range e.opts.Jobs {
		e.slots.Go(e.slot)
	}
}

// Close kills what runs, without an answer for it: the journal still has these
// operations, and the next server runs them again.
func (e *Engine) Close() error {
	e.mu.Lock()
	e.ended = true
	e.work.Broadcast()
	for _, op := range e.ops {
		op.stopTimer()
	}
	e.mu.Unlock()
	e.stop(errStopped)
	e.slots.Wait()
	e.logs.close()
	if e.journal != nil {
		return e.journal.close()
	}
	return nil
}

// Counts says what the engine has done.
func (e *Engine) Counts() Counts {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.counts
	c.Queued, c.Running = e.queue.Len(), e.running
	return c
}

// Oldest says when the oldest operation began that is not done, if there is one.
func (e *Engine) Oldest() (began time.Time, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, op := range e.ops {
		if op.response == nil && (!ok || op.begun.Before(began)) {
			began, ok = op.begun, true
		}
	}
	return began, ok
}

// Jobs is how many actions run at a time.
func (e *Engine) Jobs() int { return e.opts.Jobs }

// slot runs one task after the other.
func (e *Engine) slot() {
	for {
		t := e.next()
		if t == nil {
			return
		}
		e.run(t)
	}
}

// next waits for a task; nil at the end.
func (e *Engine) next() *task {
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.queue.Len() == 0 && !e.ended {
		e.work.Wait()
	}
	if e.ended {
		return nil
	}
	t := e.queue.pop()
	t.stage, t.started = stageExecuting, time.Now()
	e.running++
	t.broadcast()
	return t
}

// Streams are the logs of running actions, for package storage.
func (e *Engine) Streams() storage.Streams { return &e.logs }

// CanRun says whether actions can be run whose digests are of f. GitSHA1 is
// not among them: it needs the size of a file before its content.
func CanRun(f action.Function) bool { return f.Known() && f != action.GitSHA1 }

// Drain waits until nothing runs any more, for at most d, and lets nothing new
// begin. What still runs then is left to Close.
func (e *Engine) Drain(d time.Duration) {
	e.mu.Lock()
	e.ended = true // the slots end after what they have
	e.work.Broadcast()
	e.mu.Unlock()
	done := make(chan struct{})
	go func() {
		e.slots.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(d):
	}
	e.stop(errStopped) // those that follow are sent away
}
