package schedule

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestRandomGraphs runs random graphs under random limits and checks all that
// the package promises while they run.
func TestRandomGraphs(t *testing.T) {
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) { randomGraph(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func randomGraph(t *testing.T, rnd *rand.Rand) {
	const budget = 100
	n := rnd.IntN(40)
	o := Options{Jobs: 1 + rnd.IntN(5), KeepGoing: rnd.IntN(2) == 0}
	if rnd.IntN(2) == 0 {
		o.Memory = budget
	}
	pool := &pool{free: make(chan struct{}, 3), t: t}
	if rnd.IntN(2) == 0 {
		o.Tokens = pool
		for range 3 {
			pool.free <- struct{}{}
		}
	}
	var mu sync.Mutex
	finished := make([]bool, n)
	runs := make([]int, n)
	admitted, memory := 0, int64(0)
	jobs := make([]Job, n)
	fails := make([]bool, n)
	for i := range jobs {
		for range rnd.IntN(4) {
			if i > 0 {
				jobs[i].Needs = append(jobs[i].Needs, rnd.IntN(i))
			}
		}
		jobs[i].Name = fmt.Sprint("job", i)
		jobs[i].Memory = int64(rnd.IntN(150))
		jobs[i].Expect = time.Duration(rnd.IntN(3)) * time.Second
		fails[i] = rnd.IntN(15) == 0
		hit := rnd.IntN(3) == 0
		work := time.Duration(rnd.IntN(1000)) * time.Millisecond
		early := rnd.IntN(2) == 0
		jobs[i].Run = func(ctx context.Context, turn *Turn) error {
			mu.Lock()
			runs[i]++
			for _, n := range jobs[i].Needs {
				if !finished[n] {
					t.Errorf("job %d began before job %d had ended", i, n)
				}
			}
			mu.Unlock()
			time.Sleep(work / 10)
			if !hit {
				release, err := turn.Admit(ctx)
				if err != nil {
					return err
				}
				mu.Lock()
				admitted++
				memory += jobs[i].Memory
				if admitted > o.Jobs {
					t.Errorf("%d jobs are admitted, of %d", admitted, o.Jobs)
				}
				if o.Memory > 0 && memory > o.Memory && admitted > 1 {
					t.Errorf("%d jobs need %d bytes, of %d", admitted, memory, o.Memory)
				}
				if o.Tokens != nil && admitted > 1+pool.out() {
					t.Errorf("%d jobs are admitted with %d tokens", admitted, pool.out())
				}
				mu.Unlock()
				time.Sleep(work)
				mu.Lock()
				admitted--
				memory -= jobs[i].Memory
				mu.Unlock()
				if early {
					release()
					time.Sleep(work / 10)
				}
			}
			if fails[i] {
				return errors.New("planned")
			}
			mu.Lock()
			finished[i] = true
			mu.Unlock()
			return nil
		}
	}
	results, err := Run(t.Context(), jobs, o)
	if err != nil {
		t.Fatal(err)
	}
	if pool.out() != 0 {
		t.Errorf("%d tokens were not given back", pool.out())
	}
	checkResults(t, jobs, results, runs, fails, o.KeepGoing)
}

func checkResults(t *testing.T, jobs []Job, results []Result, runs []int, fails []bool, keepGoing bool) {
	t.Helper()
	anyFailed := slices.ContainsFunc(results, func(r Result) bool { return r.State == Failed })
	for i, r := range results {
		behindFailure := slices.ContainsFunc(jobs[i].Needs, func(n int) bool { return results[n].State == Failed || results[n].State == Skipped })
		want := 0
		switch r.State {
		case Done:
			want = 1
		case Failed:
			want = 1
			if !fails[i] {
				t.Errorf("job %d failed: %v", i, r.Err)
			}
		case Skipped:
			if !behindFailure || r.Err == nil {
				t.Errorf("job %d was skipped, because of %v", i, r.Err)
			}
		case Stopped:
			want = runs[i] // 0 or 1
			if keepGoing && !behindFailure || !anyFailed {
				t.Errorf("job %d was stopped", i)
			}
		default:
			t.Errorf("job %d ended as %v", i, r.State)
		}
		if runs[i] != want {
			t.Errorf("job %d is %v and ran %d times", i, r.State, runs[i])
		}
		if keepGoing && !behindFailure && r.State != Done && r.State != Failed {
			t.Errorf("job %d is %v although nothing that it needs failed", i, r.State)
		}
	}
}

// A pool is Tokens that count themselves.
type pool struct {
	free  chan struct{}
	taken atomic.Int64
	t     *testing.T
}

func (p *pool) out() int { return int(p.taken.Load()) }

func (p *pool) Acquire(ctx context.Context) (func(), error) {
	select {
	case <-p.free:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	p.taken.Add(1)
	var once atomic.Bool
	return func() {
		if once.Swap(true) {
			p.t.Error("a token was given back twice")
		}
		p.taken.Add(-1)
		p.free <- struct{}{}
	}, nil
}

// TestLongestPathFirst has one place, and jobs that are given in the wrong order.
// "long" was waiting for the place when "end" became ready: it goes first.
func TestLongestPathFirst(t *testing.T) {
	var order []string
	job := func(name string, expect time.Duration, needs ...int) Job {
		return Job{Name: name, Expect: expect, Needs: needs, Run: func(ctx context.Context, turn *Turn) error {
			if _, err := turn.Admit(ctx); err != nil {
				return err
			}
			order = append(order, name)
			return nil
		}}
	}
	jobs := []Job{
		job("short", 1*time.Second),
		job("long", 5*time.Second),
		job("start", 1*time.Second),
		job("end", 10*time.Second, 2),
		job("unknown", 0), // the mean: 4.25 s
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	if _, err := Run(t.Context(), jobs, Options{Jobs: 1}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(order, " "); got != "start long end unknown short" {
		t.Errorf("ran %s", got)
	}
}

// TestAllPlacesAreUsed: each job waits until all have begun.
func TestAllPlacesAreUsed(t *testing.T) {
	const n = 20
	var all sync.WaitGroup
	all.Add(n)
	jobs := make([]Job, n)
	for i := range jobs {
		jobs[i].Run = func(ctx context.Context, turn *Turn) error {
			_, err := turn.Admit(ctx)
			all.Done()
			all.Wait()
			return err
		}
	}
	if _, err := Run(t.Context(), jobs, Options{Jobs: n}); err != nil {
		t.Fatal(err)
	}
}

// TestNothingToDoWaitsForNobody: one job holds the only place until all the
// others, which do not want one, have ended.
func TestNothingToDoWaitsForNobody(t *testing.T) {
	var others sync.WaitGroup
	others.Add(100)
	jobs := []Job{{Expect: time.Hour, Run: func(ctx context.Context, turn *Turn) error {
		_, err := turn.Admit(ctx)
		others.Wait()
		return err
	}}}
	for range 100 {
		jobs = append(jobs, Job{Run: func(context.Context, *Turn) error { others.Done(); return nil }})
	}
	results, err := Run(t.Context(), jobs, Options{Jobs: 1})
	if err != nil || summary(results) != "101 done" {
		t.Errorf("%s, %v", summary(results), err)
	}
}

func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("that is enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		var jobs []Job
		for i := range 30 {
			jobs = append(jobs, Job{Name: fmt.Sprint(i), Run: func(ctx context.Context, turn *Turn) error {
				if _, err := turn.Admit(ctx); err != nil {
					return err
				}
				select {
				case <-time.After(time.Second):
					return nil
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}})
			if i > 0 && i%3 == 0 {
				jobs[i].Needs = []int{i - 1}
			}
		}
		go func() {
			time.Sleep(2500 * time.Millisecond)
			cancel(why)
		}()
		results, err := Run(ctx, jobs, Options{Jobs: 2, KeepGoing: true})
		if err != nil || summary(results) != "4 done, 26 stopped" {
			t.Errorf("%s, %v", summary(results), err)
		}
	})
}

func TestPoolFails(t *testing.T) {
	var events []string
	o := Options{Jobs: 4, Tokens: brokenPool{}, Observe: func(e Event) {
		if e.NoTokens != nil {
			events = append(events, e.NoTokens.Error())
		}
	}}
	atOnce, most := atomic.Int64{}, atomic.Int64{}
	var jobs []Job
	for range 10 {
		jobs = append(jobs, Job{Run: func(ctx context.Context, turn *Turn) error {
			_, err := turn.Admit(ctx)
			most.Store(max(most.Load(), atOnce.Add(1)))
			runtime.Gosched()
			atOnce.Add(-1)
			return err
		}})
	}
	results, err := Run(t.Context(), jobs, o)
	if err != nil || summary(results) != "10 done" || most.Load() != 1 {
		t.Errorf("%s, %v, %d at once", summary(results), err, most.Load())
	}
	if len(events) != 1 || events[0] != "no pool" {
		t.Errorf("said %q", events)
	}
}

type brokenPool struct{}

func (brokenPool) Acquire(context.Context) (func(), error) { return nil, errors.New("no pool") }

func TestCheck(t *testing.T) {
	graph := func(needs ...[]int) (jobs []Job) {
		for i, n := range needs {
			jobs = append(jobs, Job{Name: fmt.Sprint("job", i), Needs: n})
		}
		return jobs
	}
	order, err := Check(graph([]int{2}, nil, []int{1}))
	if err != nil || !slices.Equal(order, []int{1, 2, 0}) {
		t.Errorf("%v %v", order, err)
	}
	_, err = Check(graph(nil, []int{0, 3}, []int{1}, []int{2}))
	if cycle, ok := errors.AsType[*CycleError](err); !ok || !slices.Equal(cycle.Cycle, []int{1, 3, 2}) {
		t.Errorf("%v", err)
	}
	if _, err = Check(graph([]int{7})); err == nil || !strings.Contains(err.Error(), "job 0 (job0) needs job 7, of 1") {
		t.Errorf("%v", err)
	}
	long := make([]Job, 100_000)
	for i := range long[1:] {
		long[i].Needs = []int{i + 1}
	}
	if order, err := Check(long); err != nil || order[0] != len(long)-1 {
		t.Errorf("a long chain: %v", err)
	}
}

// TestEvents checks the order of the states of each job, and its lane.
func TestEvents(t *testing.T) {
	states := map[int][]State{}
	lanes := map[int]int{} // lane: job
	jobs := []Job{
		{Name: "a", Run: func(ctx context.Context, turn *Turn) error { _, err := turn.Admit(ctx); return err }},
		{Name: "b", Run: func(context.Context, *Turn) error { return errors.New("planned") }},
		{Name: "c", Needs: []int{1}},
		{Name: "d", Needs: []int{2}},
	}
	results, err := Run(t.Context(), jobs, Options{Jobs: 2, KeepGoing: true, Observe: func(e Event) {
		states[e.Job] = append(states[e.Job], e.State)
		switch e.State {
		case Started:
			if other, taken := lanes[e.Lane]; taken {
				t.Errorf("lane %d of %d is taken by %d", e.Lane, e.Job, other)
			}
			lanes[e.Lane] = e.Job
		case Done, Failed:
			delete(lanes, e.Lane)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := "map[0:[started waiting admitted done] 1:[started failed] 2:[skipped] 3:[skipped]]"
	if got := fmt.Sprint(states); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if results[3].Err == nil || results[3].Err.Error() != "b failed" {
		t.Errorf("d was skipped because %v", results[3].Err)
	}
}

// summary says in words how many jobs ended how: "3 done, 1 failed".
func summary(results []Result) string {
	counts := map[State]int{}
	for _, r := range results {
		counts[r.State]++
	}
	var words []string
	for s := Pending; s <= Stopped; s++ {
		if counts[s] > 0 {
			words = append(words, fmt.Sprintf("%d %v", counts[s], s))
		}
	}
	return strings.Join(words, ", ")
}
