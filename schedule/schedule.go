// Package schedule runs a graph of jobs: each after the ones that it needs,
// as many at a time as there is room for, the longest path first.
//
// A job has two parts. What it does first is cheap: it finds out whether there
// is anything to do. Then it calls [Turn.Admit], which waits until there is room
// for what costs: one of the places that [Options.Jobs] counts, the memory that
// the job says it needs, and, under make, a token of its jobserver. So a graph
// in which everything is up to date waits for nobody.
//
// A job is run at most once, and only after everything it needs has succeeded.
// When [Run] returns, no job is running, whatever happened.
//
// The package knows nothing of what jobs are.
package schedule

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"
)

// A Job is one node of the graph.
type Job struct {
	Name   string        // for messages
	Needs  []int         // indexes of the jobs that must have succeeded before
	Memory int64         // bytes that it may need once it is admitted; 0: not counted
	Expect time.Duration // how long it takes once it is admitted; 0: not known

	// Run does the work. An error means that what needs this job cannot run.
	Run func(ctx context.Context, t *Turn) error
}

// Options say how much runs at a time. The zero value is fine.
type Options struct {
	// Jobs is how many jobs are admitted at a time, at most. 0: as many as there
	// are processors.
	Jobs int

	// Memory is how many bytes the admitted jobs may need together. A job that
	// needs more than that alone runs when no other does. 0: no limit.
	Memory int64

	// KeepGoing says that a failed job stops only what needs it. Else nothing is
	// admitted any more after a failure, and what runs is waited for.
	KeepGoing bool

	// Tokens is asked for a token for each admitted job but one: the caller of
	// this program already has one for it. Nil: none are needed.
	Tokens Tokens

	// Observe is told what happens, one event after the other. It must not wait
	// for a job. Nil: nobody is told.
	Observe func(Event)
}

// Tokens is a pool that other programs take from, too.
type Tokens interface {
	// Acquire waits for a token. Whoever has it calls release, once.
	Acquire(ctx context.Context) (release func(), err error)
}

// A State is what became of a job.
type State uint8

// The states. A job goes through the first four in this order, with Waiting and
// Admitted only if it calls [Turn.Admit], and ends in one of the others.
const (
	Pending  State = iota // it was not started
	Started               // its first part runs
	Waiting               // it waits for room
	Admitted              // its second part runs
	Done                  // it has succeeded
	Failed                // its Run returned an error, see Event.Err
	Skipped               // something that it needs has failed or was skipped
	Stopped               // it did not get to its second part, because another job failed or the context ended
)

func (s State) String() string {
	return [...]string{"pending", "started", "waiting", "admitted", "done", "failed", "skipped", "stopped"}[s]
}

// An Event says that a job is in a new state.
type Event struct {
	Job   int
	State State
	Err   error // of Failed; of Skipped: says because of which job
	Lane  int   // a small number that no other job has between Started and the end

	// NoTokens is set, in an event of no job (Job is -1), if the pool of tokens
	// failed: from then on one job is admitted at a time.
	NoTokens error
}

// ErrStopped is what Turn.Admit returns if another job has failed. Run takes a
// job that returns it as stopped, not as failed.
var ErrStopped = errors.New("another job failed")

// A Turn is what a job in flight has of the schedule.
type Turn struct {
	Lane int // see Event

	run *run
	job int
}

// Admit waits until there is room for the costly part of the job. The room is
// the job's until it calls release or returns, whichever is first. The error is
// ErrStopped, or the cause of the end of ctx. A second call while the room is
// held returns at once.
func (t *Turn) Admit(ctx context.Context) (release func(), err error) {
	granted := make(chan error, 1)
	t.run.send(message{kind: wantRoom, job: t.job, granted: granted})
	select {
	case err = <-granted:
	case <-ctx.Done():
		t.run.send(message{kind: leaveRoom, job: t.job})
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	return func() { t.run.send(message{kind: leaveRoom, job: t.job}) }, nil
}

// A Result is what became of a job.
type Result struct {
	State State // Done, Failed, Skipped or Stopped
	Err   error // see Event.Err
}

// Run runs jobs, and returns what became of each. It returns an error only if
// the graph is none: see [Check]. After the end of ctx nothing is started, and
// what runs is waited for; it is up to the jobs to be quick about it.
func Run(ctx context.Context, jobs []Job, o Options) ([]Result, error) {
	order, err := Check(jobs)
	if err != nil {
		return nil, err
	}
	if o.Jobs <= 0 {
		o.Jobs = runtime.GOMAXPROCS(0)
	}
	r := newRun(jobs, order, o)
	r.loop(ctx)
	return r.results, nil
}

// A CycleError says that jobs need each other: each the next one, the last one
// the first.
type CycleError struct{ Cycle []int }

func (e *CycleError) Error() string { return fmt.Sprintf("jobs need each other: %v", e.Cycle) }

// Check returns the jobs in an order in which each comes after the ones that it
// needs, and otherwise as they are; or a [CycleError], or an error that names a
// job that needs one that is not there.
func Check(jobs []Job) ([]int, error) {
	const open, closed = 1, 2
	state := make([]uint8, len(jobs))
	var order, path []int
	// By hand, not by recursion: a chain may be as long as there are jobs.
	type frame struct{ job, next int }
	for start := range jobs {
		if state[start] != 0 {
			continue
		}
		stack := []frame{{start, 0}}
		state[start], path = open, append(path[:0], start)
		for len(stack) > 0 {
			f := &stack[len(stack)-1]
			needs := jobs[f.job].Needs
			if f.next == len(needs) {
				state[f.job] = closed
				order = append(order, f.job)
				stack, path = stack[:len(stack)-1], path[:len(path)-1]
				continue
			}
			n := needs[f.next]
			f.next++
			switch {
			case n < 0 || n >= len(jobs):
				return nil, fmt.Errorf("job %d (%s) needs job %d, of %d", f.job, jobs[f.job].Name, n, len(jobs))
			case state[n] == open:
				return nil, &CycleError{slices.Clone(path[slices.Index(path, n):])}
			case state[n] == 0:
				state[n] = open
				stack, path = append(stack, frame{n, 0}), append(path, n)
			}
		}
	}
	return order, nil
}

// priorities are the lengths of the longest paths from the start of each job to
// the end of everything, by an order that Check gave. A job of which it is not
// known how long it takes counts as long as the mean of the others, or as a
// second.
func priorities(jobs []Job, order []int) []time.Duration {
	var sum time.Duration
	known := 0
	for _, j := range jobs {
		if j.Expect > 0 {
			sum, known = sum+j.Expect, known+1
		}
	}
	mean := time.Second
	if known > 0 {
		mean = max(sum/time.Duration(known), 1)
	}
	after := make([]time.Duration, len(jobs)) // the longest path behind a job
	prio := make([]time.Duration, len(jobs))
	for _, i := range slices.Backward(order) {
		own := jobs[i].Expect
		if own <= 0 {
			own = mean
		}
		prio[i] = own + after[i]
		for _, n := range jobs[i].Needs {
			after[n] = max(after[n], prio[i])
		}
	}
	return prio
}
