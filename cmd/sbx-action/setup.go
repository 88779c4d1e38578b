package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"os"
	"sync"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/native"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/cmd/wiring"
	"github.com/sbx-action/sbx-action/staging"
)

// wiringFlags is the flags that choose the parts of the program.
type wiringFlags struct {
	cache, workspace, rootfs, backend, log string
	verbose                                bool
	several                                bool // many actions will be run, not one
	late                                   bool // whether a worker stands for its caller is asked later, by Request.Certain
	remote                                 wiring.Remote
	max                                    limit // of the store: see limit.go
}

func (w *wiringFlags) declare(flags *flag.FlagSet) {
	w.declareCache(flags)
	flags.Var((*given)(&w.workspace), "workspace", "`DIR` that inputs and outputs are relative to (default: the current directory)")
	flags.StringVar(&w.rootfs, "rootfs", "host", "`ROOTFS`: host, a directory, a tar, a name given by 'sbx-action rootfs import',\nor the digest of a tree")
	flags.StringVar(&w.backend, "backend", "", "`NAME` of the sandbox, of those that 'sbx-action backends --list' shows (default: the best that works here)")
	flags.Var((*given)(&w.log), "log", "`FILE` to which one line is appended: \"hit\" or \"run\", seconds, outputs")
	flags.BoolVar(&w.verbose, "verbose", false, "say on standard error what is done and why")
}

func (w *wiringFlags) declareCache(flags *flag.FlagSet) {
	flags.Var((*given)(&w.cache), "cache", "`DIR` of the store (default: $SBX_CACHE, else $XDG_CACHE_HOME/sbx-action)")
}

func (w *wiringFlags) openStore(options cache.Options) (*cache.Store, error) {
	if !w.late && !serving.stands() {
		return nil, errOwnProcess
	}
	dir, err := wiring.CacheDir(w.cache)
	if err != nil {
		return nil, err
	}
	return cache.Open(dir, options)
}

// parts is what the program is made of. Everything that a hit does not need is
// opened on the first miss.
type parts struct {
	store   *cache.Store
	rootfs  staging.Rootfs
	hasher  *staging.FileHasher
	witness *staging.HostWitness
	remote  *remote // nil: none
	miss    *missPath
	runner  *action.Runner

	saving     sync.Mutex                                // guards saveRootfs once there are jobs
	saveRootfs func(context.Context, action.Blobs) error // nil: the store has it
	anewRootfs func(context.Context) error               // stores it again; guarded by saving

	blobs *spareBlobs // the store, as long as it can be written

	max *wiringFlags // says what the store may have; nil: nobody looks
}

// open opens the store and wires the rest.
func (w *wiringFlags) open(ctx context.Context, f action.Function, network backends.Network, readOnly bool) (*parts, error) {
	if err := wiring.CheckBackend(w.backend); err != nil {
		return nil, err
	}
	log := commandline.Log(serving.stderr(), "sbx-action", slog.LevelWarn, w.verbose)
	store, err := w.openStore(cache.Options{ReadOnly: readOnly, Warn: func(err error) { log.Warn("cache", "err", err) }})
	if err != nil {
		return nil, err
	}
	p := &parts{store: store, blobs: &spareBlobs{store: store}, hasher: staging.NewFileHasher(statDir(store), f)}
	p.hasher.Keep(serving.recalled())
	if err := p.openRootfs(ctx, w.rootfs, f, network); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	p.witness = &staging.HostWitness{Notes: store, Host: p.rootfs.HostPath, Made: p.rootfs.Made, Hash: p.hasher, Log: log}
	p.miss = newMissPath(missPath{choice: w.backend, once: !w.several, blobs: p.blobs, rootfs: p.rootfs, function: f, log: log})
	p.runner = &action.Runner{ // Stager is each job's own
		Cache: store, Blobs: p.blobs, Locks: store, Backend: p.miss, Witness: p.witness, Log: log,
	}
	if !readOnly && !w.several {
		p.runner.Meanwhile = func() { store.Expect(expected) }
	}
	if w.several {
		store.Stay()
	}
	if !readOnly {
		p.max = w
		if err := p.shareWith(&w.remote, log); err != nil {
			return nil, errors.Join(err, p.Close())
		}
	}
	if p.remote == nil {
		p.witness.Large = largeBelow
	}
	return p, nil
}

// largeBelow is where the system has its libraries: see [staging.HostWitness].
const largeBelow = "/usr/lib"

// statDir is where the stat caches are, beside what the store keeps.
func statDir(store *cache.Store) string {
	if store.ReadOnly() {
		return ""
	}
	return wiring.StatDir(store.Dir())
}

func (p *parts) Close() error {
	p.stayWithin()
	if p.remote != nil {
		p.remote.link.Close()
	}
	return errors.Join(p.miss.Close(), p.hasher.Close(), p.store.Close(), p.blobs.Close())
}

// keepRootfs stores the root file system, if the store does not have it yet.
func (p *parts) keepRootfs(ctx context.Context) error {
	p.saving.Lock()
	defer p.saving.Unlock()
	if p.saveRootfs == nil {
		return nil
	}
	err := p.saveRootfs(ctx, p.blobs)
	if err == nil {
		p.saveRootfs = nil
	}
	return err
}

// expected is how many files the store gets of a result that has no outputs: it, its
// note and its memo.
const expected = 3

// A missPath is the backend, opened on the first miss, and what the stagers of
// all jobs have in common.
type missPath struct {
	*wiring.Lazy

	choice   string
	once     bool // one command will be run
	blobs    action.Blobs
	rootfs   staging.Rootfs
	function action.Function
	log      *slog.Logger
	cold     func() bool // nil, or whether there is no use in beginning early
}

// newMissPath returns m with the backend of its choice.
func newMissPath(m missPath) *missPath {
	m.Lazy = &wiring.Lazy{Choice: m.choice, Open: func(begin func(backends.Backend)) (backends.Backend, error) {
		if b := serving.kept(); b != nil {
			return b, nil
		}
		return wiring.Choice{Name: m.choice, Options: native.Options{Once: m.once}, Log: m.log, Begin: begin}.Open()
	}}
	return &m
}

// Warm implements [action.Warmer]. The sandbox is begun before anything else is
// known, also whether it works: that takes longest, and happens elsewhere.
func (m *missPath) Warm(spec *backends.Spec) {
	if m.cold != nil && m.cold() {
		return
	}
	m.Begin(func(b backends.Backend) {
		if w, ok := b.(action.Warmer); ok {
			w.Warm(spec)
		}
	})
}

// Drains implements [backends.Drainer].
func (m *missPath) Drains() bool {
	b, err := m.Opened()
	if err != nil {
		return false
	}
	d, ok := b.(backends.Drainer)
	return ok && d.Drains()
}

// A jobStager is the stager of one job.
type jobStager struct {
	*missPath
	layers action.Layers
	notes  action.Notes
	hint   action.Digest // of what is staged again and again
	find   func(string) (staging.Entry, bool)

	inspect func(root *os.File) // of what a command left; nil: nobody looks
	outputs *action.Command     // whose outputs' directories are made; nil: the action's own
}

func (m *missPath) forJob(store *cache.Store, hint action.Digest, find func(string) (staging.Entry, bool)) *jobStager {
	return &jobStager{missPath: m, layers: store, notes: store, hint: hint, find: find}
}

// Stage implements [action.Stager].
func (s *jobStager) Stage(ctx context.Context, a *action.Action, c *action.Command) (backends.Root, error) {
	b, err := s.Opened()
	if err != nil {
		return backends.Root{}, err
	}
	if s.outputs != nil {
		c = s.outputs
	}
	return s.stager(b).Stage(ctx, staging.Input{Tree: a.InputRoot, Hint: s.hint, Directories: staging.Parents(c, s.find)}, s.rootfs)
}

// saved says what of an input root the store is known to have.
func (s *jobStager) saved(ctx context.Context, tree action.Digest) func(string, action.Digest) bool {
	b, err := s.Opened()
	if err != nil {
		return nil
	}
	return s.stager(b).Saved(ctx, staging.Input{Tree: tree, Hint: s.hint})
}

func (s *jobStager) stager(b backends.Backend) *staging.Stager {
	return &staging.Stager{Blobs: s.blobs, Layers: s.layers, Notes: s.notes, Capabilities: wiring.Basics(b), Log: s.log}
}

// Collect implements [action.Stager].
func (s *jobStager) Collect(ctx context.Context, left *backends.Status, c *action.Command) (*action.Result, []action.Missing, error) {
	if s.inspect != nil {
		s.inspect(left.Root)
	}
	return staging.Collect(ctx, s.blobs, left.Root, staging.Outputs{
		Dir: c.WorkingDirectory, Paths: c.OutputPaths, Globs: true, Failed: left.Code != 0, Function: s.function, Format: c.OutputDirectoryFormat,
		Modes: left.Owned != nil, Owned: staging.NewOwned(left.Owned),
	})
}
