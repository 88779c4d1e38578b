// Package worker executes actions of a cluster: it fetches what they need from
// the cluster's storage into a store of its own, runs them in a sandbox of ours,
// and puts what they made, and their results, into the cluster's storage.
//
// A [Worker] knows no scheduler. Packages buildbarn and bots speak to one each
// and hand [Task]s to it. What they rely on: Execute always gives an answer that
// can be sent as it is, whatever happened; nothing of the command is alive when
// it does; and after the context is done it does so at once.
package worker

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	rexec "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/integration/reapi/inputs"
	"github.com/sbx-action/sbx-action/integration/reapi/remote"
	"github.com/sbx-action/sbx-action/staging"
)

// A Stage says what is being done for an action.
type Stage int

const (
	Fetching  Stage = iota // its inputs
	Running                // its command
	Uploading              // its outputs
)

// A Task is an action as a scheduler hands it out.
type Task struct {
	Instance  string // in which its blobs are, and its result will be
	Digest    action.Digest
	Action    *rexec.Action // nil: it is read from the storage
	Queued    *timestamppb.Timestamp
	Auxiliary []*anypb.Any // to be handed on in the result's metadata
}

// Options of a [Worker].
type Options struct {
	Storage *remote.Client // the cluster's
	Store   *cache.Store   // the input cache
	Backend backends.Backend
	// Capabilities are those of Backend, as far as staging asks for them.
	Capabilities backends.Capabilities
	Rootfs       staging.Rootfs

	// WholeRoot says that input roots are whole root file systems, beside which
	// there is nothing: Rootfs is not looked at.
	WholeRoot bool

	// DefaultTimeout is for actions that say nothing, MaxTimeout the most that
	// one may ask for. Zero: no limit.
	DefaultTimeout, MaxTimeout time.Duration
	Limits                     backends.Limits // for every command; Wall is not looked at

	// CacheSize bounds what the store takes on the disk, in bytes. Zero: no
	// bound.
	CacheSize int64

	// Keep, where not nil, marks what trim must leave in the store, such as the
	// root file system. It is called before each.
	Keep func(context.Context) error

	// UseCache makes the worker look for a result before it executes.
	// Schedulers whose clients do that themselves do not need it.
	UseCache bool

	// NoCache leaves the action cache to the scheduler, and what is not cached
	// to itself.
	NoCache bool

	// Browser is the address of a bb-browser, for links in messages; or "".
	Browser string

	Log *slog.Logger
}

// A Worker executes tasks, any number at a time. Make one with [New].
type Worker struct {
	Options
	room  *room
	dirs  *inputs.Directories
	tasks atomic.Uint64

	mu    sync.Mutex
	trees map[action.Digest]time.Time // guarded by mu: directories that were whole in the store, and when
}

// An Executor is what those who speak with schedulers need of a [Worker].
type Executor interface {
	// Execute executes a task: see [Worker.Execute].
	Execute(ctx context.Context, task *Task, id string, stage func(Stage)) *rexec.ExecuteResponse
	// Ready says why no task should be taken at present, or nil.
	Ready(ctx context.Context) error
}

var _ Executor = (*Worker)(nil)

// New returns a worker.
func New(o Options) *Worker {
	return &Worker{
		Options: o, room: &room{store: o.Store, max: o.CacheSize, log: o.Log, spare: spare, keep: o.Keep},
		dirs: inputs.New(o.Store), trees: map[action.Digest]time.Time{},
	}
}

// Ready says why no task should be taken at present, or nil.
func (w *Worker) Ready(ctx context.Context) error {
	if c := w.Backend.Capabilities(); !c.Works {
		return fmt.Errorf("backend %s: %s", w.Backend.Name(), c.Reason)
	}
	if _, err := w.Store.PutBytes(ctx, action.SHA256, []byte("check readiness")); err != nil {
		return err
	}
	return nil
}

// treeTrust is for how long a tree that was whole needs no look at its blobs:
// less than what trim spares. (While an action runs, its blobs are safe because
// of its lock, and those of the layer that it runs on because of that.)
const treeTrust = spare / 2

// treesMax bounds what a worker remembers of trees.
const treesMax = 1 << 17

// fetch sees to it that the store has the input root.
func (w *Worker) fetch(ctx context.Context, c *remote.Client, root action.Digest) (*remote.TreeReport, error) {
	began := time.Now()
	report, err := c.DownloadTree(ctx, w.Store, root, remote.TreeOptions{
		Reserve: func(n int64) error { return w.room.reserve(ctx, n) },
		Known:   w.whole,
	})
	if err != nil {
		return report, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.trees)+len(report.Whole) > treesMax {
		w.trees = map[action.Digest]time.Time{}
	}
	for _, d := range report.Whole {
		w.trees[d] = began
	}
	return report, nil
}

// whole says whether the directory d is known to be in the store, with everything
// below it.
func (w *Worker) whole(d action.Digest) bool {
	w.mu.Lock()
	seen := w.trees[d]
	w.mu.Unlock()
	return time.Since(seen) < treeTrust && !w.room.trimmedSince(seen)
}

// forget is for when a tree turned out not to be whole: then the store has lost
// something, and nothing is known.
func (w *Worker) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trees = map[action.Digest]time.Time{}
}

// stager stages and collects for one task.
type stager struct {
	w    *Worker
	task *run
}

// Stage implements [action.Stager].
func (s *stager) Stage(ctx context.Context, a *action.Action, c *action.Command) (backends.Root, error) {
	st := &staging.Stager{
		Blobs: s.w.Store, Layers: s.w.Store, Notes: s.w.Store, Capabilities: s.w.Capabilities, Log: s.w.Log,
	}
	find, err := s.w.dirs.Finder(ctx, a.InputRoot)
	if err != nil {
		return backends.Root{}, err
	}
	own, err := s.w.dirs.Properties(ctx, a.InputRoot)
	if err != nil {
		return backends.Root{}, err
	}
	in := staging.Input{
		Tree: a.InputRoot, Hint: action.Sum(a.InputRoot.Function(), []byte("worker "+s.task.task.Instance)),
		Directories: staging.Parents(c, find), Properties: own,
	}
	if s.w.WholeRoot {
		return s.wholeRoot(ctx, st, in)
	}
	return st.Stage(ctx, in, s.w.Rootfs)
}

// wholeRoot stages the input root as the root.
func (s *stager) wholeRoot(ctx context.Context, st *staging.Stager, in staging.Input) (backends.Root, error) {
	rootfs := staging.TreeRootfs(in.Tree)
	empty, err := s.w.Store.PutBytes(ctx, in.Tree.Function(), (&action.Directory{}).Marshal())
	if err != nil {
		return backends.Root{}, err
	}
	st.WorkDir = "/tmp" // which is another one when the command runs
	in.Tree, in.Properties = empty, false
	for i, d := range in.Directories {
		in.Directories[i] = "../" + d
	}
	return st.Stage(ctx, in, rootfs)
}
