package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/integration/actionfile"
	"github.com/sbx-action/sbx-action/progress"
	"github.com/sbx-action/sbx-action/schedule"
)

// A fileRun is one 'run -f'. Jobs of the schedule are the selected actions.
type fileRun struct {
	flags   *runFlags
	graph   *actionfile.Graph
	actions []*actionfile.Action
	jobs    []schedule.Job
	looked  map[*actionfile.Action]string // the actions that --unused, --changes and --keep look into, and where --keep leaves them

	view  *progress.View
	trace *tracer
	times *timings
	parts partsPool

	mu   sync.Mutex
	ours bool // guarded by mu: an action failed for a reason that is not its command
}

// loadGraph reads an action file, and returns the actions that the targets need.
// workspace is that of the flag --workspace.
func loadGraph(file, workspace string, targets []string) (*actionfile.Graph, []int, error) {
	var err error
	if workspace == "" {
		workspace = filepath.Dir(file)
	}
	if workspace, err = filepath.Abs(workspace); err == nil {
		workspace, err = filepath.EvalSymlinks(workspace)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("the workspace: %w", err)
	}
	graph, err := actionfile.Load(file, workspace)
	if err != nil {
		return nil, nil, err
	}
	selected, err := graph.Select(targets)
	return graph, selected, err
}

// runFile runs the actions of a file.
func (f *runFlags) runFile(ctx context.Context, targets []string) (err error) {
	if err := f.checkMany(); err != nil {
		return err
	}
	if f.suggest {
		return f.suggestIntoFile(ctx, targets)
	}
	graph, selected, err := loadGraph(f.file, f.workspace, targets)
	if err != nil {
		return err
	}
	interruptible(ctx)
	if err := graph.CheckInputs(selected); err != nil {
		return err
	}
	r := &fileRun{flags: f, graph: graph}
	f.workspace, f.several = graph.Workspace, true
	if err := r.checkSettings(selected); err != nil {
		return err
	}
	into, err := r.shellIn(targets)
	if err != nil {
		return err
	}
	if makeOnlyPrints() {
		say("make -n: nothing is run")
		return nil
	}
	options, closeTokens, err := r.options()
	if err != nil {
		return err
	}
	defer closeTokens()
	if r.trace, err = newTracer(f.trace); err != nil {
		return err
	}
	r.parts.open = func(w *wiringFlags, network bool) (*parts, error) {
		return w.open(ctx, f.digest.Function, networkOf(network), false)
	}
	defer r.parts.Close()
	if into != nil {
		selected = slices.DeleteFunc(selected, func(i int) bool { return graph.Actions[i] == into })
	} else {
		forget, err := r.lookInto(targets)
		if err != nil {
			return errors.Join(err, r.trace.drop())
		}
		defer forget()
	}
	if err := r.plan(ctx, selected); err != nil {
		return errors.Join(err, r.trace.drop())
	}
	if into == nil || len(selected) > 0 || f.trace != "" {
		err = r.run(ctx, options)
	}
	if err != nil || into == nil {
		return err
	}
	return r.shell(ctx, into)
}

// makeOnlyPrints says whether a make that called us runs nothing, as with -n: its
// MAKEFLAGS begin with the letters of its options.
func makeOnlyPrints() bool {
	first, _, _ := strings.Cut(os.Getenv("MAKEFLAGS"), " ")
	return !strings.HasPrefix(first, "-") && strings.Contains(first, "n") && !strings.Contains(first, "=")
}

// options are those of the schedule, with make's tokens.
func (r *fileRun) options() (o schedule.Options, closeTokens func(), err error) {
	f := r.flags
	o = schedule.Options{Jobs: int(f.jobs), Memory: int64(f.budget), KeepGoing: f.keepGoing, Observe: r.observe}
	if o.Memory == 0 {
		o.Memory = defaultBudget()
	}
	pool, err := schedule.OpenJobserver(os.Getenv("MAKEFLAGS"))
	switch {
	case err != nil && o.Jobs == 0: // as make does it
		say("%v; one action at a time", err)
		o.Jobs = 1
	case err != nil:
		say("%v; --jobs %d counts", err, o.Jobs)
	case pool != nil:
		o.Tokens = pool
		if o.Jobs == 0 {
			o.Jobs = 256 // make knows
		}
		return o, func() { pool.Close() }, nil
	case o.Jobs == 0 && schedule.OneAtATime(os.Getenv("MAKEFLAGS")):
		o.Jobs = 1
	}
	return o, func() {}, nil
}

// plan makes the jobs of the schedule.
func (r *fileRun) plan(ctx context.Context, selected []int) error {
	first, err := r.parts.get(&r.flags.wiringFlags, r.flags.network)
	if err != nil {
		return err
	}
	r.times = readTimes(ctx, first.store, r.graph)
	index := make(map[int]int, len(selected))
	for job, i := range selected {
		index[i] = job
	}
	for job, i := range selected {
		a := r.graph.Actions[i]
		j := schedule.Job{Name: a.Name, Run: func(ctx context.Context, t *schedule.Turn) error { return r.one(ctx, job, t) }}
		j.Expect, j.Memory = r.times.of(a.Name)
		for _, s := range a.Settings {
			if s.Name == "memory" {
				var m size
				if m.Set(s.Value) == nil {
					j.Memory = int64(m)
				}
			}
		}
		for _, n := range a.Needs {
			j.Needs = append(j.Needs, index[n])
		}
		r.jobs, r.actions = append(r.jobs, j), append(r.actions, a)
	}
	return nil
}

// run runs the schedule, and says how it went.
func (r *fileRun) run(ctx context.Context, o schedule.Options) error {
	f := r.flags
	size, color := f.screen()
	v := progress.Options{To: os.Stderr, Size: size, Color: color, Verbose: f.verbose, Unit: "actions", AtOnce: o.Jobs}
	if f.progress.word == "none" {
		v.Quiet = true
	}
	for _, j := range r.jobs {
		v.Jobs = append(v.Jobs, progress.Job{Name: j.Name, Expect: j.Expect})
	}
	r.view = progress.New(v)
	sayThrough = func(line string) { r.view.Print(func() { fmt.Fprintln(os.Stderr, line) }) }
	defer func() { sayThrough = nil }()
	results, err := schedule.Run(ctx, r.jobs, o)
	r.view.Close()
	err = errors.Join(err, r.trace.write())
	if first, e := r.parts.get(&f.wiringFlags, f.network); e == nil {
		r.times.write(context.WithoutCancel(ctx), first.store)
	}
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	failed := slices.ContainsFunc(results, func(r schedule.Result) bool { return r.State == schedule.Failed })
	switch {
	case failed && r.ours:
		return exitCode(exitOurs)
	case failed:
		return exitCode(1)
	}
	return nil
}

// observe shows what the schedule does.
func (r *fileRun) observe(e schedule.Event) {
	if e.NoTokens != nil {
		say("%v; one action at a time from now on", e.NoTokens)
		return
	}
	switch e.State {
	case schedule.Started:
		r.view.Phase(e.Job, "look up")
	case schedule.Waiting:
		r.view.Phase(e.Job, "wait")
	case schedule.Admitted:
		r.view.Phase(e.Job, "run")
	case schedule.Skipped:
		r.view.Finish(e.Job, progress.Skipped, 0, e.Err.Error())
	case schedule.Stopped:
		r.view.Finish(e.Job, progress.Stopped, 0, "")
	}
}

// errFailed is what a job returns whose command failed, or that we failed with:
// it has been said why.
var errFailed = errors.New("failed")

// one runs one action.
func (r *fileRun) one(ctx context.Context, job int, turn *schedule.Turn) error {
	a := r.actions[job]
	began := time.Now()
	span := r.trace.begin(turn.Lane, a.Name, began)
	var c capture
	defer c.Close()
	var lines []string
	f := r.flagsOf(a)
	f.tell = func(line string) { lines = append(lines, "sbx-action: "+a.Name+": "+line) }
	admitted := began
	out, j, err := r.runOne(ctx, f, a, began, &c, func(ctx context.Context) (func(), error) {
		release, at, err := span.await(ctx, turn)
		admitted = at
		return release, err
	})
	took := time.Since(admitted)
	reason := ""
	code, isCode := errors.AsType[exitCode](err)
	switch {
	case err == nil:
	case errors.Is(err, schedule.ErrStopped), ctx.Err() != nil:
		return err
	case isCode && out != nil && out.Result != nil && out.Result.ExitCode != 0:
		reason = fmt.Sprintf("exit code %d", int(code))
	case isCode: // said in lines
		reason = "see above"
	default:
		lines = append(lines, fmt.Sprintf("sbx-action: %v: %s: %v", a.Pos, a.Name, err))
		if f.json && c.json.Len() == 0 {
			_ = jsonFailure{Name: a.Name, ExitCode: exitOurs, Error: err.Error()}.print(&c.json) // it is in memory
		}
		reason = "sbx-action failed"
		r.mu.Lock()
		r.ours = true
		r.mu.Unlock()
	}
	hit := out != nil && out.Cached
	r.show(a.Name, &c, lines, hit, err != nil)
	end := progress.Ran
	switch {
	case err != nil:
		end = progress.Failed
	case hit:
		end, took = progress.Hit, 0
	}
	r.view.Finish(job, end, took, reason)
	span.end(time.Now(), end.String(), out, j)
	if out != nil && out.Status != nil && err == nil {
		r.times.note(a.Name, took, out.Status.Usage.MaxRSS)
	}
	if err != nil {
		return errFailed
	}
	return nil
}

// runOne describes and runs one action with the flags that are its own.
func (r *fileRun) runOne(ctx context.Context, f *runFlags, a *actionfile.Action, began time.Time, c *capture, admit func(context.Context) (func(), error)) (*action.Outcome, *job, error) {
	p, err := r.parts.get(&f.wiringFlags, f.network)
	if err != nil {
		return nil, nil, err
	}
	if err := f.check(a.Args); err != nil {
		return nil, nil, err
	}
	j, err := f.describeWith(ctx, p, a.Args)
	if err != nil {
		return nil, nil, err
	}
	defer j.Close()
	out, err := f.runJob(ctx, j, began, streams{&c.stdout, &c.stderr, &c.json}, admit)
	return out, j, err
}

// flagsOf are the flags of run that an action of the file stands for. What was
// given on the command line counts for all of them.
func (r *fileRun) flagsOf(a *actionfile.Action) *runFlags {
	f := *r.flags
	f.name = a.Name
	f.inputs, f.outputs, f.env, f.cwd = r.graph.ScanInputs(a), r.graph.RunOutputs(a), slices.Clone(a.Env), a.Cwd
	if a.Stdin != "" {
		f.stdin = filepath.Join(r.graph.Workspace, a.Stdin)
	}
	for _, s := range a.Settings {
		_ = f.setFromFile(s, r.graph.Workspace) // checkSettings said what is wrong
	}
	dir, looked := r.looked[a]
	if !looked {
		f.unused, f.inside = false, insideFlags{}
	}
	f.inside.keep.dir = dir
	return &f
}

// setFromFile sets a flag to what the file says, unless the command line does.
func (f *runFlags) setFromFile(s actionfile.Setting, workspace string) (err error) {
	if f.cli[s.Name] {
		return nil
	}
	switch s.Name {
	case "timeout":
		err = f.timeout.Set(s.Value)
	case "memory":
		err = f.memory.Set(s.Value)
	case "scratch":
		err = f.scratch.Set(s.Value)
	case "pids":
		err = f.pids.Set(s.Value)
	case "rootfs":
		f.rootfs = s.Value
		if strings.Contains(s.Value, "/") && !filepath.IsAbs(s.Value) && !strings.Contains(s.Value, ":") {
			f.rootfs = filepath.Join(workspace, s.Value)
		}
	case "network":
		f.network = s.Value == "true"
	case "no-cache":
		f.noCache = s.Value == "true"
	case "cache-failures":
		f.cacheFailures = s.Value == "true"
	default:
		err = fmt.Errorf("no such setting")
	}
	return err
}

// checkSettings refuses values that are none, before anything runs.
func (r *fileRun) checkSettings(selected []int) error {
	var errs []string
	seen := map[actionfile.Setting]bool{}
	for _, i := range selected {
		for _, s := range r.graph.Actions[i].Settings {
			if seen[s] {
				continue
			}
			seen[s] = true
			f := *r.flags
			if err := f.setFromFile(s, r.graph.Workspace); err != nil {
				errs = append(errs, fmt.Sprintf("%v: %s %q: %v", s.Pos, s.Name, s.Value, err))
			}
		}
	}
	if len(errs) > 0 {
		return errors.New(strings.Join(errs, "\n"))
	}
	return nil
}

// show prints what a command printed, and what we have to say of it.
func (r *fileRun) show(name string, c *capture, lines []string, hit, failed bool) {
	which := r.flags.show.word
	shown := which == "all" || which == "ran" && (!hit || failed) || which == "failed" && failed
	if shown && c.any() || len(lines) > 0 || c.json.Len() > 0 {
		r.view.Print(func() {
			if shown && c.any() {
				fmt.Fprintf(os.Stderr, "--- %s\n", progress.Clean(name))
				out := os.Stdout
				if r.flags.json {
					out = os.Stderr
				}
				c.stdout.copyTo(out)
				c.stderr.copyTo(os.Stderr)
			}
			for _, line := range lines {
				fmt.Fprintln(os.Stderr, commandline.Visible(line))
			}
			os.Stdout.Write(c.json.Bytes())
		})
	}
}

// A capture is what a command prints.
type capture struct {
	stdout, stderr spill
	json           bytes.Buffer
}

func (c *capture) any() bool { return c.stdout.n+c.stderr.n > 0 }

func (c *capture) Close() {
	c.stdout.Close()
	c.stderr.Close()
}

// A partsPool is the parts of the program, for each root file system that actions
// have. They share the store.
type partsPool struct {
	open func(*wiringFlags, bool) (*parts, error)

	mu   sync.Mutex
	list map[string]func() (*parts, error)
	all  []*parts
}

func (p *partsPool) get(w *wiringFlags, network bool) (*parts, error) {
	key := fmt.Sprint(network, w.rootfs)
	p.mu.Lock()
	if p.list == nil {
		p.list = map[string]func() (*parts, error){}
	}
	get, ok := p.list[key]
	if !ok {
		own := *w
		get = sync.OnceValues(func() (*parts, error) {
			opened, err := p.open(&own, network)
			if err == nil {
				p.mu.Lock()
				p.all = append(p.all, opened)
				p.mu.Unlock()
			}
			return opened, err
		})
		p.list[key] = get
	}
	p.mu.Unlock()
	return get()
}

func (p *partsPool) Close() {
	for _, one := range p.all {
		one.Close()
	}
}
