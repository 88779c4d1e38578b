package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	rexec "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/native"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/cmd/wiring"
	"github.com/sbx-action/sbx-action/integration/reapi/remote"
	"github.com/sbx-action/sbx-action/integration/reapi/worker"
	"github.com/sbx-action/sbx-action/integration/reapi/worker/bots"
	"github.com/sbx-action/sbx-action/integration/reapi/worker/buildbarn"
	"github.com/sbx-action/sbx-action/integration/reapi/worker/proto/botspb"
	pb "github.com/sbx-action/sbx-action/integration/reapi/worker/proto/remoteworkerpb"
	"github.com/sbx-action/sbx-action/staging"
)

// workerFlags are the flags of worker.
type workerFlags struct {
	connection
	engine, scheduler, storage, instance string
	platform, id                         commandline.List
	concurrency                          commandline.Count
	sizeClass                            uint
	cache, rootfs, backend, browser      string
	cacheSize, memory                    commandline.Size
	pids                                 commandline.Count
	timeout, most, heartbeat, grace      commandline.Span
	lookup, verbose                      bool

	log *slog.Logger
}

// workerSettings: the store of a worker is its own, and so are the names in it.
var workerSettings = map[string]string{"cache": "", "rootfs": "", "jobs": "concurrency"}

func workerCommand() commandline.Command {
	return commandline.Command{
		Name: "worker", Args: "[FLAGS]", Settings: true, Alone: true, SettingFlags: workerSettings,
		Short: "execute the actions of a Buildbarn or BuildGrid cluster",
		Long: `
Takes actions from a cluster's scheduler, fetches what they need from its storage,
runs each in a sandbox of its own, and puts results and outputs into the storage.
docs/clusters.md takes you through adding one to a cluster.

  sbx-action worker --scheduler bb-scheduler:8983 --storage bb-storage:8980 \
    --platform OSFamily=linux --platform container-image=docker://example/image
  sbx-action worker --engine bots --scheduler grpc://buildgrid:50051 \
    --storage grpc://buildgrid:50051 \
    --platform OSFamily=linux --platform ISA=x86-64

SIGTERM or Ctrl-C lets it finish what it executes and take no more; a second one,
or --grace, ends it at once, and nothing of the commands stays behind.
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			f := &workerFlags{concurrency: commandline.Count(runtime.NumCPU())}
			f.declare(flags)
			return f.run
		},
	}
}

func (f *workerFlags) declare(flags *flag.FlagSet) {
	f.connection.declare(flags)
	flags.StringVar(&f.engine, "engine", "buildbarn", "`ENGINE` of the cluster: buildbarn, or bots for BuildGrid and others that speak\nthe Bots interface of the Remote Workers API")
	flags.StringVar(&f.scheduler, "scheduler", "", "`ADDR` of the scheduler's port for workers: [grpc[s]://]HOST:PORT")
	flags.StringVar(&f.storage, "storage", "", "`ADDR` of the storage: [grpc[s]://]HOST:PORT")
	flags.StringVar(&f.instance, "instance", "", "`NAME` of the instance to work for; with buildbarn, what the names of the\ninstances begin with")
	flags.Var(&f.platform, "platform", "`NAME=VALUE` that actions ask for; with buildbarn, exactly all of them; may be repeated")
	flags.Var(&f.concurrency, "concurrency", "`N`: most actions at a time")
	flags.Var(&f.id, "id", "`NAME=VALUE` that tells this worker from others, instead of hostname=…; may be\nrepeated")
	flags.UintVar(&f.sizeClass, "size-class", 0, "`N`: the size class, where a Buildbarn scheduler tells them apart")
	flags.StringVar(&f.cache, "cache", "", "`DIR` of the input cache; it must be the worker's alone\n(default: $XDG_CACHE_HOME/sbx-action-worker)")
	flags.Var(&f.cacheSize, "cache-size", "`SIZE`: most that the input cache may take on the disk, such as 50G (default:\nhalf of what is free there)")
	flags.StringVar(&f.rootfs, "rootfs", "host", "`ROOTFS` that actions see beside their inputs: host, or a name that 'sbx-action\nrootfs import' gave in the input cache, or the digest of a tree there")
	flags.StringVar(&f.backend, "backend", "", "`NAME` of the sandbox (default: the best that works here)")
	flags.Var(&f.memory, "memory", "`SIZE`: most memory for each action")
	flags.Var(&f.pids, "pids", "`N`: most processes and threads of each action")
	flags.Var(&f.timeout, "timeout", "`DURATION` for actions that do not say how long they may run")
	flags.Var(&f.most, "max-timeout", "`DURATION`: the longest that an action may ask for")
	flags.Var(&f.heartbeat, "heartbeat", "`DURATION`: the longest between two calls of the scheduler while an action runs:\nby then a cancellation is noticed")
	flags.Var(&f.grace, "grace", "`DURATION` after SIGTERM in which what runs may finish (default: as long as it takes)")
	flags.StringVar(&f.browser, "browser", "", "`URL` of a bb-browser, for links to what happened in results that are not cached")
	flags.BoolVar(&f.lookup, "use-cache", false, "look for a result in the action cache before executing: for clients that do not")
	flags.BoolVar(&f.verbose, "verbose", false, "say on standard error what is done and why")
	f.heartbeat = commandline.Span(time.Second)
	f.timeout = commandline.Span(time.Hour)
}

// check refuses what can be seen to be wrong at once.
func (f *workerFlags) check(args []string) (scheduler, storage remote.Address, err error) {
	switch {
	case len(args) > 0:
		err = fmt.Errorf("unexpected argument %q: there are flags only", args[0])
	case f.engine != "buildbarn" && f.engine != "bots":
		err = fmt.Errorf("unknown --engine %q: there are buildbarn and bots", f.engine)
	case f.most > 0 && f.timeout > f.most:
		err = fmt.Errorf("--timeout %v is longer than --max-timeout %v", time.Duration(f.timeout), time.Duration(f.most))
	}
	if err == nil {
		scheduler, err = address("scheduler", f.scheduler)
	}
	if err == nil {
		storage, err = address("storage", f.storage)
	}
	if err == nil {
		err = errors.Join(remote.CheckInstance(f.instance), wiring.CheckBackend(f.backend))
	}
	if err == nil && scheduler.Instance+storage.Instance != "" {
		err = fmt.Errorf("--scheduler and --storage name no instance: give it with --instance %s", scheduler.Instance+storage.Instance)
	}
	return scheduler, storage, err
}

// pairs parses NAME=VALUE flags.
func pairs(flag string, list []string) (props []*rexec.Platform_Property, err error) {
	for _, s := range list {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--%s %q: want NAME=VALUE", flag, s)
		}
		props = append(props, &rexec.Platform_Property{Name: name, Value: value})
	}
	return props, nil
}

// identity is what tells this worker from others.
func (f *workerFlags) identity() (map[string]string, error) {
	props, err := pairs("id", f.id)
	if err != nil {
		return nil, err
	}
	id := map[string]string{}
	for _, p := range props {
		id[p.Name] = p.Value
	}
	if len(id) == 0 {
		if id["hostname"], err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("%w; give --id", err)
		}
	}
	return id, nil
}

func (f *workerFlags) run(ctx context.Context, args []string) error {
	schedulerAddr, storageAddr, err := f.check(args)
	if err != nil {
		return err
	}
	platform, err := pairs("platform", f.platform)
	if err != nil {
		return err
	}
	id, err := f.identity()
	if err != nil {
		return err
	}
	level := slog.LevelInfo
	if f.verbose {
		level = slog.LevelDebug
	}
	f.log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	options, err := f.connection.options()
	if err != nil {
		return err
	}
	options.Attempts, options.Version = 8, commandline.Version()
	storage, err := remote.Dial(storageAddr, options)
	if err != nil {
		return err
	}
	defer storage.Close()
	scheduler, err := remote.Dial(schedulerAddr, options)
	if err != nil {
		return err
	}
	defer scheduler.Close()
	w, done, err := f.open(ctx, storage)
	if err != nil {
		return err
	}
	defer done()
	s := &service{flags: f, worker: w, scheduler: scheduler, platform: platform, id: id}
	return s.serve(ctx)
}

// open opens everything but the connection to the scheduler.
func (f *workerFlags) open(ctx context.Context, storage *remote.Client) (*worker.Worker, func(), error) {
	store, err := f.openStore()
	if err != nil {
		return nil, nil, err
	}
	names := wiring.Rootfs{Store: store.Dir()}
	rootfs, err := f.openRootfs(ctx, store, names)
	if err != nil {
		store.Close()
		return nil, nil, err
	}
	backend, err := wiring.Choice{Name: f.backend, Options: native.Options{}, Log: f.log}.Open()
	if err != nil {
		store.Close()
		return nil, nil, err
	}
	done := func() {
		backend.Close()
		store.Close()
	}
	size := int64(f.cacheSize)
	if size == 0 {
		if size, err = halfOfFree(store.Dir()); err != nil {
			done()
			return nil, nil, err
		}
	}
	limits := backends.Limits{Memory: int64(f.memory), Pids: int64(f.pids)}
	f.log.Info("worker", "cache", store.Dir(), "cache-size", size, "backend", backend.Name(), "rootfs", rootfs.ID(), "concurrency", int(f.concurrency))
	return worker.New(worker.Options{
		Storage: storage, Store: store, Backend: backend, Capabilities: wiring.Basics(backend), Rootfs: rootfs,
		DefaultTimeout: time.Duration(f.timeout), MaxTimeout: time.Duration(f.most), Limits: limits,
		CacheSize: size, UseCache: f.lookup, NoCache: f.engine == "bots", Browser: f.browser, Log: f.log,
		Keep: func(ctx context.Context) error { return names.Keep(ctx, store) },
	}), done, nil
}

// touchAfter lets the input cache know well what was used when.
const touchAfter = 5 * time.Second

func (f *workerFlags) openStore() (*cache.Store, error) {
	dir := f.cache
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("no place for the input cache: %w; give one with --cache DIR", err)
		}
		dir = filepath.Join(user, "sbx-action-worker")
	}
	return cache.Open(dir, cache.Options{TouchAfter: touchAfter, Warn: func(err error) { f.log.Warn("input cache", "err", err) }})
}

func (f *workerFlags) openRootfs(ctx context.Context, store *cache.Store, names wiring.Rootfs) (staging.Rootfs, error) {
	if f.rootfs == "host" {
		return staging.HostRootfs(staging.HostOptions{}), nil
	}
	tree, err := action.ParseDigest(f.rootfs)
	if err != nil {
		e, lerr := names.Lookup(f.rootfs)
		if lerr != nil {
			return staging.Rootfs{}, fmt.Errorf("--rootfs: %w; import it with 'sbx-action rootfs import --cache %s'", lerr, store.Dir())
		}
		tree = e.Tree
	}
	if err := staging.KeepTree(ctx, store, tree); err != nil {
		return staging.Rootfs{}, fmt.Errorf("--rootfs %s: %w", f.rootfs, err)
	}
	return staging.TreeRootfs(tree), nil
}

// A service is a worker at work.
type service struct {
	flags     *workerFlags
	worker    *worker.Worker
	scheduler *remote.Client
	platform  []*rexec.Platform_Property
	id        map[string]string
}

// serve works until ctx is done, which is when it takes no more.
func (s *service) serve(ctx context.Context) error {
	run, kill := context.WithCancelCause(context.WithoutCancel(ctx))
	defer kill(nil)
	defer context.AfterFunc(ctx, func() {
		s.flags.log.Info("finishing what is being executed; a second signal ends it at once")
		if s.flags.grace > 0 {
			time.AfterFunc(time.Duration(s.flags.grace), func() { kill(errors.New("--grace is over")) })
		}
	})()
	var wg sync.WaitGroup
	errs := make([]error, s.flags.concurrency)
	for n := range errs {
		loop, err := s.slot(n)
		if err != nil {
			return err
		}
		wg.Go(func() { errs[n] = loop(run, ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// slot returns the loop of slot n.
func (s *service) slot(n int) (func(ctx, drain context.Context) error, error) {
	id := maps.Clone(s.id)
	id["thread"] = strconv.Itoa(n)
	if s.flags.engine == "bots" {
		return s.bot(id)
	}
	slot, err := buildbarn.New(buildbarn.Options{
		Queue: pb.NewOperationQueueClient(s.scheduler.Conn()), Executor: s.worker, ID: id, Prefix: s.flags.instance,
		Platform: s.platform, SizeClass: uint32(s.flags.sizeClass), Heartbeat: time.Duration(s.flags.heartbeat), Log: s.flags.log,
	})
	if err != nil {
		return nil, err
	}
	return slot.Run, nil
}

// bot returns the loop of a slot that is a bot.
func (s *service) bot(id map[string]string) (func(ctx, drain context.Context) error, error) {
	name, err := json.Marshal(id)
	if err != nil {
		return nil, err
	}
	b, err := bots.New(bots.Options{
		Server: botspb.NewBotsClient(s.scheduler.Conn()), Executor: s.worker, ID: string(name), Instance: s.flags.instance,
		Platform: s.platform, Version: commandline.Version(), Heartbeat: time.Duration(s.flags.heartbeat), Log: s.flags.log,
	})
	if err != nil {
		return nil, err
	}
	return b.Run, nil
}
