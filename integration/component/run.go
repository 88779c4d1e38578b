package component

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/schedule"
)

// A Run builds components of a project, and what they need, as many at a time as
// it may.
type Run struct {
	*Builder
	Project *Project
	State   *State
	View    View

	Jobs      int   // at a time; 0: half the processors, because each uses several
	Memory    int64 // that components with a limit may have together; 0: no limit
	KeepGoing bool  // build what does not need what has failed
	Rebuild   func(*Component) bool
	Tokens    schedule.Tokens       // of make; nil: none are needed
	Only      func(*Component) bool // what may run: all else must be in the cache. nil: everything may
}

// A View shows what happens. Its methods are called by many goroutines.
type View interface {
	Begin(components []*Component, jobs []schedule.Job, atOnce int)
	Observe(e schedule.Event)
	Start(c *Component, log *Log)
	Done(c *Component, b *Built, took time.Duration)
	Failed(c *Component, err error, took time.Duration, log string)
	End()
}

// A RunError says which components failed.
type RunError struct {
	Failed  map[*Component]error
	Skipped int
	order   []*Component
}

func (e *RunError) Error() string {
	var lines []string
	for _, c := range e.order {
		if err := e.Failed[c]; err != nil {
			lines = append(lines, fmt.Sprintf("%s: %v", c.Name, err))
		}
	}
	if e.Skipped > 0 {
		lines = append(lines, fmt.Sprintf("%d components that need what failed were not built", e.Skipped))
	}
	return strings.Join(lines, "\n")
}

// Sources fetches the sources of all components. bad are those that are not what
// they should be: their digest is another, they cannot be unpacked, a patch is none.
// The error names all that are not there, with their components, and then, if they
// can be told without fetching anything, the bad ones, too.
func (r *Run) Sources(ctx context.Context, list []*Component) (sources map[*Component]*Fetched, bad map[*Component]error, err error) {
	missing := map[*Component]error{}
	for _, c := range list {
		if c.Source == nil || c.Test {
			continue
		}
		if err := r.Fetcher.Missing(c.Source); err != nil {
			missing[c] = sourceError(c, err)
		}
	}
	out := map[*Component]*Fetched{}
	bad = map[*Component]error{}
	var mu sync.Mutex
	var first []*Component // of each source; its tests have the same
	for _, c := range list {
		if c.Source == nil || missing[c] != nil || len(missing) > 0 && !r.Fetcher.here(c.Source) {
			continue
		}
		if !slices.ContainsFunc(first, func(o *Component) bool { return o.Source == c.Source }) {
			first = append(first, c)
		}
	}
	each(ctx, first, runtime.GOMAXPROCS(0), func(c *Component) {
		f, err := r.Fetcher.Fetch(ctx, c.Source)
		if err == nil {
			err = checkPatches(c.Source)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, o := range list {
			if o.Source == c.Source {
				out[o] = f
				if err != nil {
					bad[o] = sourceError(o, err)
				}
			}
		}
	})
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	if len(missing) > 0 {
		maps.Copy(missing, bad)
		return nil, nil, inOrder(list, missing)
	}
	return out, bad, nil
}

// inOrder joins the errors of components, but not of tests, in the order of list.
func inOrder(list []*Component, of map[*Component]error) error {
	var all []error
	for _, c := range list {
		if err := of[c]; err != nil && !c.Test {
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}

func sourceError(c *Component, err error) error {
	return fmt.Errorf("%s: the source of %s: %s", c.Where, c.Name, strings.ReplaceAll(err.Error(), "\n", "; "))
}

// each calls f for all of list, at most n at a time.
func each[T any](ctx context.Context, list []T, n int, f func(T)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, n)
	for _, x := range list {
		if ctx.Err() != nil {
			break
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			f(x)
		})
	}
	wg.Wait()
}

// needed returns the components that are needed for targets, each after what it
// needs.
func needed(targets []*Component) []*Component {
	var list []*Component
	seen := map[*Component]bool{}
	var visit func(c *Component)
	visit = func(c *Component) {
		if seen[c] {
			return
		}
		seen[c] = true
		for _, n := range c.Needs {
			visit(n)
		}
		list = append(list, c)
	}
	for _, t := range targets {
		visit(t)
	}
	return list
}

// Build builds targets, and what they need. An error of type [*RunError] names
// what failed; then what is returned is what did not.
func (r *Run) Build(ctx context.Context, targets []*Component) (map[*Component]*Built, error) {
	list := needed(targets)
	sources, bad, err := r.Sources(ctx, list)
	if err == nil && !r.KeepGoing && len(bad) > 0 {
		err = errors.Join(inOrder(list, bad), errors.New("nothing was built: --keep-going builds what does not need these"))
	}
	if err != nil {
		return nil, err
	}
	r.State.Tidy()
	w := &worker{Run: r, sources: sources, bad: bad, built: map[*Component]*Built{}}
	index := make(map[*Component]int, len(list))
	jobs := make([]schedule.Job, len(list))
	for i, c := range list {
		index[c] = i
		jobs[i] = schedule.Job{Name: c.Name, Memory: c.Limits.Memory, Expect: r.estimate(c), Run: func(ctx context.Context, t *schedule.Turn) error {
			return w.one(ctx, c, t)
		}}
		for _, n := range c.Needs {
			jobs[i].Needs = append(jobs[i].Needs, index[n])
		}
	}
	r.View.Begin(list, jobs, r.AtOnce())
	defer r.View.End()
	results, err := schedule.Run(ctx, jobs, schedule.Options{
		Jobs: r.AtOnce(), Memory: r.Memory, KeepGoing: r.KeepGoing, Tokens: r.Tokens,
		Observe: func(e schedule.Event) { r.View.Observe(e) },
	})
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return w.built, context.Cause(ctx)
	}
	failed := &RunError{order: list, Failed: map[*Component]error{}}
	for i, res := range results {
		switch res.State {
		case schedule.Failed:
			failed.Failed[list[i]] = res.Err
		case schedule.Skipped, schedule.Stopped:
			failed.Skipped++
		}
	}
	if len(failed.Failed) > 0 {
		return w.built, failed
	}
	return w.built, nil
}

// AtOnce is how many components are built at a time: each uses several processors
// where it can.
func (r *Run) AtOnce() int {
	if r.Jobs > 0 {
		return r.Jobs
	}
	return max(1, (runtime.GOMAXPROCS(0)+1)/2)
}

// estimate is how long a component took when it last ran.
func (r *Run) estimate(c *Component) time.Duration {
	if rec := r.State.Record(c.Name); rec != nil {
		return time.Duration(rec.Seconds * float64(time.Second))
	}
	return 0
}

// A worker is one call of Build.
type worker struct {
	*Run
	sources map[*Component]*Fetched
	bad     map[*Component]error // of sources

	mu    sync.Mutex
	built map[*Component]*Built // guarded by mu
}

// one builds a component.
func (w *worker) one(ctx context.Context, c *Component, t *schedule.Turn) error {
	if err := w.bad[c]; err != nil {
		return err
	}
	w.mu.Lock()
	needs := make(map[*Component]*Built, len(c.Needs))
	for _, n := range c.Needs {
		needs[n] = w.built[n]
	}
	w.mu.Unlock()
	b, err := w.build(ctx, c, needs, t)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.built[c] = b
	return nil
}

// build builds a component, keeps its log, and remembers what it was made of.
func (w *worker) build(ctx context.Context, c *Component, needs map[*Component]*Built, t *schedule.Turn) (*Built, error) {
	start := time.Now()
	log, err := w.State.OpenLog(c.Name)
	if err != nil {
		return nil, err
	}
	w.View.Start(c, log)
	may := w.Only == nil || w.Only(c)
	b, err := w.Builder.Build(ctx, &Request{
		Component: c, Needs: needs, Source: w.sources[c], Log: log,
		Rebuild: may && w.Rebuild != nil && w.Rebuild(c), DryRun: !may && c.Tree == "",
		Admit: func(ctx context.Context) error {
			_, err := t.Admit(ctx)
			return err
		},
	})
	if err != nil && !may && errors.Is(err, action.ErrMiss) {
		err = fmt.Errorf("it is not in the cache (%w), and --only does not name it", err)
	}
	if err != nil {
		if failed, ok := errors.AsType[*FailedError](err); ok {
			failed.Tail = log.Tail(20)
			if more := w.hint(failed); more != "" {
				failed.Hint = more
			}
		}
		if errors.Is(err, schedule.ErrStopped) || ctx.Err() != nil {
			log.Drop()
			return nil, err
		}
		path := w.State.LogPath(c.Name)
		if e := log.Close(); e != nil {
			w.Say("%s: %v", c.Name, e)
		}
		w.View.Failed(c, err, time.Since(start), path)
		return nil, err
	}
	if log.empty() {
		log.Drop()
	} else if err := log.Close(); err != nil {
		w.Say("%s: %v", c.Name, err)
	}
	w.View.Done(c, b, time.Since(start))
	w.remember(b)
	return b, nil
}

// hint says what may be behind what a log says in the end, or nothing.
func (b *Builder) hint(e *FailedError) string {
	for line := range strings.Lines(e.Tail) {
		if strings.Contains(line, "No space left on device") {
			return roomHint(e.limits, b.ScratchDir)
		}
		// The latter for owners that are not in the user namespace of a caller who
		// is not root.
		if !strings.Contains(line, "Operation not permitted") && !strings.Contains(line, "Invalid argument") {
			continue
		}
		for _, word := range []string{"chown", "chgrp", "ownership", "mknod"} {
			if strings.Contains(line, word) {
				return "commands run as a user without privileges, who cannot give files away or make devices: with \"owners: true\" in sbx.yaml, and without --no-owners, both are recorded"
			}
		}
	}
	return ""
}

// remember writes a record, if it says something new.
func (w *worker) remember(b *Built) {
	rec := &Record{Component: b.Name, Inputs: b.Inputs, Key: b.Key.String(), Tree: b.Tree.String(), Seconds: b.Seconds, When: time.Now().UTC()}
	if old := w.State.Record(b.Name); old != nil && old.Key == rec.Key && old.Tree == rec.Tree {
		return
	}
	if err := w.State.PutRecord(rec); err != nil {
		w.Say("%s: what it was made of is not remembered: %v", b.Name, err)
	}
}
