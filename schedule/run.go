package schedule

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
)

// A message is what jobs tell the loop.
type message struct {
	kind    messageKind
	job     int
	err     error        // of ended and token
	granted chan<- error // of wantRoom
	release func()       // of token
}

type messageKind uint8

const (
	wantRoom  messageKind = iota // the job wants to be admitted
	leaveRoom                    // it gives its room back, or no longer wants it
	ended                        // its Run has returned
	token                        // the pool has given one, or failed
)

// A run is one call of Run. All fields belong to the loop, but for inbox.
type run struct {
	jobs    []Job
	o       Options
	results []Result
	inbox   chan message

	missing    []int   // per job: how many of its needs are not done
	dependents [][]int // per job: who needs it
	ready      queue   // may be started
	waiting    queue   // want to be admitted
	grants     map[int]chan<- error
	rooms      map[int]func() // admitted jobs, and what gives their token back; nil: the caller's own token
	lanes      []bool         // which are taken
	lane       []int          // per job

	flying  int   // jobs whose Run has not returned
	light   int   // of them, those in their first part
	memory  int64 // of the admitted jobs
	own     bool  // the caller's own token is in use
	asking  bool  // the pool is being asked for a token
	stopped bool  // nothing is admitted any more
	lost    bool  // the pool failed

	askers sync.WaitGroup
}

func newRun(jobs []Job, order []int, o Options) *run {
	r := &run{
		jobs: jobs, o: o, results: make([]Result, len(jobs)), inbox: make(chan message),
		missing: make([]int, len(jobs)), dependents: make([][]int, len(jobs)), lane: make([]int, len(jobs)),
		grants: map[int]chan<- error{}, rooms: map[int]func(){},
	}
	prio := priorities(jobs, order)
	r.ready.prio, r.waiting.prio = prio, prio
	for i, j := range jobs {
		seen := map[int]bool{}
		for _, n := range j.Needs {
			if !seen[n] {
				seen[n] = true
				r.dependents[n] = append(r.dependents[n], i)
				r.missing[i]++
			}
		}
		if r.missing[i] == 0 {
			r.ready.add(i)
		}
	}
	return r
}

func (r *run) send(m message) { r.inbox <- m }

// loop starts jobs and listens to them until none is left.
func (r *run) loop(ctx context.Context) {
	asking, stopAsking := context.WithCancel(ctx)
	defer stopAsking()
	done := ctx.Done()
	for {
		r.admit(asking)
		r.start(ctx)
		if r.flying == 0 {
			break
		}
		select {
		case m := <-r.inbox:
			r.handle(ctx, m)
		case <-done:
			r.stop(context.Cause(ctx))
			done = nil
		}
	}
	stopAsking()
	if r.asking { // the last token may be on its way
		r.handle(ctx, <-r.inbox)
	}
	r.askers.Wait()
	for len(r.ready.jobs) > 0 { // were never started
		i := r.ready.take()
		r.end(i, Stopped, nil)
	}
}

// start starts as many first parts as there are processors. While as many jobs
// wait for room as could have it, only those that would go before all of them
// are started: each holds memory, and what it found out gets old.
func (r *run) start(ctx context.Context) {
	for len(r.ready.jobs) > 0 && !r.stopped && r.light < runtime.GOMAXPROCS(0) {
		if len(r.waiting.jobs) >= r.o.Jobs && !r.waiting.before(r.ready.jobs[0], r.waiting.jobs[0]) {
			return
		}
		i := r.ready.take()
		r.flying++
		r.light++
		r.lane[i] = r.freeLane()
		r.observe(i, Started, nil)
		t := &Turn{Lane: r.lane[i], run: r, job: i}
		go func() { r.send(message{kind: ended, job: i, err: r.jobs[i].Run(ctx, t)}) }()
	}
}

func (r *run) freeLane() int {
	for i, taken := range r.lanes {
		if !taken {
			r.lanes[i] = true
			return i
		}
	}
	r.lanes = append(r.lanes, true)
	return len(r.lanes) - 1
}

// admit lets those in for whom there is room, in order: a job that needs more
// memory than there is keeps back those behind it, or it would wait for ever.
func (r *run) admit(ctx context.Context) {
	for !r.stopped && len(r.waiting.jobs) > 0 && r.fits(r.waiting.jobs[0]) {
		if r.o.Tokens != nil && r.own {
			r.ask(ctx)
			return
		}
		r.let(r.waiting.take(), nil)
	}
}

// fits says whether there is a place and memory for a job. One that needs more
// than all of it fits when it is alone.
func (r *run) fits(i int) bool {
	return len(r.rooms) == 0 || len(r.rooms) < r.o.Jobs && (r.o.Memory <= 0 || r.memory+r.jobs[i].Memory <= r.o.Memory)
}

// ask asks the pool for a token, once at a time.
func (r *run) ask(ctx context.Context) {
	if r.asking || r.lost {
		return
	}
	r.asking = true
	r.askers.Go(func() {
		release, err := r.o.Tokens.Acquire(ctx)
		r.send(message{kind: token, release: release, err: err})
	})
}

// let gives a job its room. release gives its token back.
func (r *run) let(i int, release func()) {
	if release == nil {
		r.own = true
	}
	r.rooms[i] = release
	r.memory += r.jobs[i].Memory
	r.observe(i, Admitted, nil)
	r.grants[i] <- nil
	delete(r.grants, i)
}

func (r *run) handle(ctx context.Context, m message) {
	switch m.kind {
	case wantRoom:
		r.wants(m)
	case leaveRoom:
		r.leave(m.job)
	case ended:
		r.ended(ctx, m)
	case token:
		r.token(ctx, m)
	}
}

func (r *run) wants(m message) {
	if _, has := r.rooms[m.job]; has {
		m.granted <- nil
		return
	}
	if r.stopped {
		m.granted <- ErrStopped
		return
	}
	r.light--
	r.grants[m.job] = m.granted
	r.waiting.add(m.job)
	r.observe(m.job, Waiting, nil)
}

// leave takes a job's room back, or its place in the queue.
func (r *run) leave(i int) {
	if release, has := r.rooms[i]; has {
		delete(r.rooms, i)
		r.memory -= r.jobs[i].Memory
		r.light++
		if release == nil {
			r.own = false
		} else {
			release()
		}
		return
	}
	if r.waiting.remove(i) {
		delete(r.grants, i)
		r.light++
	}
}

func (r *run) ended(ctx context.Context, m message) {
	r.leave(m.job)
	r.flying--
	r.light--
	r.lanes[r.lane[m.job]] = false
	switch {
	case m.err == nil:
		r.end(m.job, Done, nil)
	case errors.Is(m.err, ErrStopped) || ctx.Err() != nil: // whatever failed now, failed because of that
		r.end(m.job, Stopped, m.err)
	default:
		r.end(m.job, Failed, m.err)
		if !r.o.KeepGoing {
			r.stop(ErrStopped)
		}
	}
}

// token gives a token to the first who waits, or back if nobody does.
func (r *run) token(ctx context.Context, m message) {
	r.asking = false
	if m.err != nil {
		if ctx.Err() == nil && !errors.Is(m.err, context.Canceled) {
			r.lost = true
			if r.o.Observe != nil {
				r.o.Observe(Event{Job: -1, NoTokens: m.err})
			}
		}
		return
	}
	if r.stopped || len(r.waiting.jobs) == 0 || !r.fits(r.waiting.jobs[0]) {
		m.release()
		return
	}
	r.let(r.waiting.take(), m.release)
}

// stop lets nobody in any more.
func (r *run) stop(why error) {
	r.stopped = true
	for len(r.waiting.jobs) > 0 {
		i := r.waiting.take()
		r.light++
		r.grants[i] <- why
		delete(r.grants, i)
	}
}

// end notes what became of a job, and what that means for those that need it.
func (r *run) end(i int, s State, err error) {
	r.results[i] = Result{s, err}
	r.observe(i, s, err)
	for _, d := range r.dependents[i] {
		switch {
		case s == Done:
			if r.missing[d]--; r.missing[d] == 0 && r.results[d].State == Pending {
				r.ready.add(d)
			}
		case r.results[d].State != Pending: // for another reason already
		case s == Stopped:
			r.end(d, Stopped, nil)
		case s == Failed:
			r.end(d, Skipped, fmt.Errorf("%s failed", r.jobs[i].Name))
		case s == Skipped:
			r.end(d, Skipped, err)
		}
	}
}

func (r *run) observe(i int, s State, err error) {
	if r.o.Observe != nil {
		r.o.Observe(Event{Job: i, State: s, Err: err, Lane: r.lane[i]})
	}
}

// A queue is a heap of jobs, the one with the longest path first, and of equal
// ones the one that was given first.
type queue struct {
	jobs []int
	prio []time.Duration
}

func (q *queue) before(a, b int) bool {
	if q.prio[a] != q.prio[b] {
		return q.prio[a] > q.prio[b]
	}
	return a < b
}

func (q *queue) add(i int) { heap.Push((*byPriority)(q), i) }

func (q *queue) take() int { return heap.Pop((*byPriority)(q)).(int) }

func (q *queue) remove(i int) bool {
	for at, j := range q.jobs {
		if j == i {
			heap.Remove((*byPriority)(q), at)
			return true
		}
	}
	return false
}

// byPriority is a queue as package heap wants it.
type byPriority queue

func (q *byPriority) Len() int           { return len(q.jobs) }
func (q *byPriority) Less(a, b int) bool { return (*queue)(q).before(q.jobs[a], q.jobs[b]) }
func (q *byPriority) Swap(a, b int)      { q.jobs[a], q.jobs[b] = q.jobs[b], q.jobs[a] }
func (q *byPriority) Push(x any)         { q.jobs = append(q.jobs, x.(int)) }

func (q *byPriority) Pop() any {
	last := q.jobs[len(q.jobs)-1]
	q.jobs = q.jobs[:len(q.jobs)-1]
	return last
}
