package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/native"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/cache/pack"
	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/cmd/wiring"
	"github.com/sbx-action/sbx-action/integration/reapi/access"
	"github.com/sbx-action/sbx-action/integration/reapi/asset"
	"github.com/sbx-action/sbx-action/integration/reapi/capabilities"
	"github.com/sbx-action/sbx-action/integration/reapi/execution"
	"github.com/sbx-action/sbx-action/integration/reapi/metrics"
	"github.com/sbx-action/sbx-action/integration/reapi/storage"
	"github.com/sbx-action/sbx-action/integration/reapi/tracing"
	"github.com/sbx-action/sbx-action/internal/durable"
	"github.com/sbx-action/sbx-action/staging"
)

func serveCommand() commandline.Command {
	return commandline.Command{
		Name: "serve", Settings: true, Alone: true, Args: "[FLAGS]",
		Short: "serve a cache and remote execution",
		Long: `
Serves the store and the sandboxes of this machine to any client of the Remote
Execution API, versions 2.0 to 2.13: Bazel, BuildStream, Buck2, Pants, Please,
recc and others.

  sbx-action serve --listen 127.0.0.1:8980
  bazel build --remote_executor=grpc://127.0.0.1:8980 //...

Who can do what is in the file of --access, a line for each:

  alice:$2y$05$…:read,write,execute    a password; 'htpasswd -nB alice' makes it
  ci:sha256=9f86…:execute@main         a bearer token, by its SHA-256; in one instance
  builder:cert:read,execute            a client certificate, by its name
  *:-:read                             anybody at all

read is blobs and results, upload is blobs, execute is actions with both of these,
write is results and assets: who has it can make others use what he has made. A
line without rights gives execute. Without a file, anybody can do everything, and
the server listens on this machine only.

It runs until a signal ends it; then it waits a moment for what is going on. What
was not done by then runs again when the next server starts.
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			f := &serveFlags{abandon: commandline.Span(2 * time.Second), timeout: commandline.Span(15 * time.Minute), maxTimeout: commandline.Span(24 * time.Hour), rootfs: "host"}
			f.declare(flags)
			return f.run
		},
	}
}

type serveFlags struct {
	listen              commandline.List
	cache, backend      string
	rootfs              string
	jobs                commandline.Count
	timeout, maxTimeout commandline.Span
	memory              commandline.Size
	maxBlob             commandline.Size
	maxSize, minFree    commandline.Size
	ignore, instance    commandline.List
	fetchFrom           commandline.List
	trace               string
	noExecution         bool
	verbose             bool
	abandon             commandline.Span

	http, access                 string
	allowAnyone, anyResult       bool
	tlsCert, tlsKey, tlsClientCA string
}

func (f *serveFlags) declare(flags *flag.FlagSet) {
	flags.Var(&f.listen, "listen", "`ADDRESS` to serve gRPC on: HOST:PORT, or unix:PATH; may be given more than once\n(default 127.0.0.1:8980)")
	flags.Var((*commandline.Given)(&f.cache), "cache", "`DIR` of the store (default: $SBX_CACHE, else $XDG_CACHE_HOME/sbx-action)")
	flags.StringVar(&f.backend, "backend", "", "`NAME` of the sandbox, of those that 'sbx-action backends --list' shows (default: the best that works here)")
	flags.StringVar(&f.rootfs, "rootfs", "host", "`ROOTFS` of actions that name none: host, a name given by 'sbx-action rootfs import',\nor the digest of a tree")
	flags.Var(&f.jobs, "jobs", "`N` actions run at a time (default: the number of processors)")
	flags.Var(&f.timeout, "timeout", "`DURATION` after which an action is killed that sets none")
	flags.Var(&f.maxTimeout, "max-timeout", "`DURATION`: an action that wants to run longer is refused")
	flags.Var(&f.memory, "memory", "`SIZE` that an action may use (default: any)")
	flags.Var(&f.ignore, "ignore-property", "`NAME` of a platform property that has no meaning here; * for all; may be given more\nthan once (default: a property that is not known is an error)")
	flags.Var(&f.abandon, "abandon", "`DURATION` after which an action is killed for which no client waits any more")
	flags.Var(&f.maxBlob, "max-blob", "`SIZE` of the largest blob that is taken (default: any)")
	flags.Var(&f.maxSize, "max-size", "`SIZE` to which the server trims the store whenever it has grown larger, such as 50G:\nwhat was not used for longest goes, and nothing that was within the last hour\n(default: any; it is never trimmed)")
	flags.Var(&f.minFree, "min-free", "`SIZE` that stays free on the disk, likewise: below it the store is trimmed")
	flags.Var(&f.instance, "instance", "`'NAME SETTING…'` of an instance: max-blob=SIZE, max-timeout=DURATION, rootfs=ROOTFS,\nexecute=no; may be given more than once (default: any name is one)")
	flags.Var((*commandline.Given)(&f.http), "http", "`ADDRESS` to serve Bazel's HTTP cache on (/cas and /ac), and a page for people")
	flags.BoolVar(&f.anyResult, "http-any-result", false, "take anything for /ac over HTTP, as ccache and others need it")
	flags.Var((*commandline.Given)(&f.access), "access", "`FILE` of names, secrets and rights, as above")
	flags.Var((*commandline.Given)(&f.tlsCert), "tls-cert", "`FILE` with the server's certificate, in PEM; it may be renewed while the server runs")
	flags.Var((*commandline.Given)(&f.tlsKey), "tls-key", "`FILE` with its key")
	flags.Var((*commandline.Given)(&f.tlsClientCA), "tls-client-ca", "`FILE` with the authority whose certificates clients must have")
	flags.BoolVar(&f.allowAnyone, "allow-anyone", false, "let anybody who can reach the server use it")
	flags.Var(&f.fetchFrom, "fetch-from", "`HOST` from which assets are downloaded that nobody has pushed; * for any; may be given\nmore than once (default: nothing is downloaded)")
	flags.Var((*commandline.Given)(&f.trace), "trace", "`URL` of an OpenTelemetry collector, such as http://127.0.0.1:4318, that is told of actions")
	flags.BoolVar(&f.noExecution, "no-execution", false, "serve the cache only")
	flags.BoolVar(&f.verbose, "verbose", false, "log every request")
}

// run serves until ctx is done.
func (f *serveFlags) run(ctx context.Context, args []string) (err error) {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q: everything is said by flags", args[0])
	}
	if err := wiring.CheckBackend(f.backend); err != nil {
		return err
	}
	if f.maxSize > 0 && f.maxSize < leastMaxSize {
		return fmt.Errorf("--max-size %s: want %s at least", commandline.HumanSize(int64(f.maxSize)), commandline.HumanSize(leastMaxSize))
	}
	if len(f.listen) == 0 {
		f.listen = commandline.List{"127.0.0.1:8980"}
	}
	level := slog.LevelInfo
	if f.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	p, err := f.open(ctx, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	return f.serve(ctx, p)
}

// serverParts is what a server is made of.
type serverParts struct {
	log     *slog.Logger
	lock    *os.File
	store   *cache.Store
	pack    *pack.Pack // of small blobs in the store
	trimmer *trimmer   // nil: it is not trimmed
	hasher  *staging.FileHasher
	backend backends.Backend
	engine  *execution.Engine // nil: the cache only
	storage *storage.Server
	results *storage.Results
	caps    *capabilities.Server
	asset   *asset.Server
	in      *instances
	guard   *access.Guard
	tls     *tls.Config

	began       time.Time
	traces      *tracing.Exporter // nil: nobody is told
	rpcs        metrics.RPCs
	web         atomic.Int64      // requests over HTTP
	waited, ran metrics.Histogram // of actions
}

// open opens the store, which no other server may have, and wires the rest.
func (f *serveFlags) open(ctx context.Context, log *slog.Logger) (_ *serverParts, err error) {
	dir, err := wiring.CacheDir(f.cache)
	if err != nil {
		return nil, err
	}
	p := &serverParts{log: log, began: time.Now()}
	if err := f.openAccess(p); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	if f.trace != "" {
		if p.traces, err = tracing.New(f.trace, log); err != nil {
			return nil, fmt.Errorf("--trace: %w", err)
		}
	}
	if p.store, err = cache.Open(dir, cache.Options{Warn: func(err error) { log.Warn("cache", "err", err) }}); err != nil {
		return nil, err
	}
	// The first thing that is read makes the store, before there is anything of
	// ours in its directory.
	empty, err := p.store.Open(ctx, action.Sum(action.BLAKE3, nil))
	if err != nil {
		return nil, err
	}
	_ = empty.Close()
	if p.lock, err = lockServer(filepath.Join(dir, "serve")); err != nil {
		return nil, err
	}
	p.pack, err = pack.Open(filepath.Join(dir, "serve", "pack"), f.packOptions(pack.Options{
		Boot: durable.BootID(), Spill: p.store.Unpacked, SpillRecord: p.store.UnpackedRecord, Warn: func(err error) { log.Warn("cache", "err", err) },
	}))
	if err != nil {
		return nil, err
	}
	p.store.SetPacked(p.pack)
	host := staging.HostRootfs(staging.HostOptions{})
	p.hasher = staging.NewFileHasher(wiring.StatDir(dir), action.BLAKE3)
	witness := &staging.HostWitness{Notes: cache.PackedNotes{Store: p.store}, Host: host.HostPath, Made: host.Made, Hash: p.hasher, Log: log}
	p.results = &storage.Results{Store: p.store, Witness: witness}
	uploads, err := uploadDir(filepath.Join(dir, "serve", "uploads"))
	if err != nil {
		return nil, err
	}
	p.storage = storage.New(p.store, p.results, storage.Options{
		Log: log, Uploads: uploads, MaxBlob: func(name string) int64 { return p.in.of(name).maxBlob },
		Room: func(n int64) error { return f.room(p, n) },
	})
	p.caps = &capabilities.Server{Instance: p.capabilities, CacheFunctions: action.Functions()}
	p.asset = &asset.Server{Store: p.store, Log: log, Upstream: f.fetchFrom, MaxBlob: int64(f.maxBlob)}
	if err := f.openTrimmer(p); err != nil || f.noExecution {
		return p, err
	}
	return p, f.openEngine(p, witness)
}

// openAccess says who may do what, in which instances.
func (f *serveFlags) openAccess(p *serverParts) (err error) {
	usual := &instance{maxBlob: int64(f.maxBlob), maxTimeout: time.Duration(f.maxTimeout), rootfs: f.rootfs, noExecute: f.noExecution}
	if p.in, err = parseInstances(f.instance, usual); err != nil {
		return err
	}
	if p.tls, err = f.tlsConfig(); err != nil {
		return err
	}
	list, err := f.accessList()
	p.guard = &access.Guard{List: list, Known: p.in.known}
	return err
}

// capabilities are what the client of a request can do in an instance.
func (p *serverParts) capabilities(ctx context.Context, name string) (capabilities.Instance, error) {
	may := access.From(ctx).May(name)
	in := p.in.of(name)
	return capabilities.Instance{
		Execute:       p.engine != nil && !in.noExecute && may&access.Execute != 0,
		UpdateResults: may&access.Write != 0,
		MaxBatch:      storage.DefaultMaxBatch, MaxBlob: in.maxBlob, Chunking: storage.ChunkParams(),
	}, nil
}

func (f *serveFlags) openEngine(p *serverParts, witness action.Witness) (err error) {
	p.backend, err = wiring.Choice{Name: f.backend, Options: native.Options{}, Log: p.log}.Open()
	if err != nil {
		return fmt.Errorf("%w; --no-execution serves the cache only", err)
	}
	rootfs := namedRootfs{wiring.Rootfs{Store: p.store.Dir()}, p.store, p.in}
	for _, in := range p.in.all() {
		if _, err := rootfs.find(in, ""); err != nil {
			return fmt.Errorf("instance %q: rootfs: %w", in, err)
		}
	}
	p.engine, err = execution.New(execution.Options{
		Store: p.store, Results: p.results, Witness: witness, Backend: p.backend, Can: wiring.Basics(p.backend),
		Rootfs: rootfs.find, Jobs: int(f.jobs), DefaultTimeout: time.Duration(f.timeout),
		MaxTimeout: func(name string) time.Duration { return p.in.of(name).maxTimeout },
		Refuse:     func(name string) bool { return p.in.of(name).noExecute }, Abandon: time.Duration(f.abandon),
		Limits: backends.Limits{Memory: int64(f.memory)}, IgnoreProperties: f.ignore,
		Journal: filepath.Join(p.store.Dir(), "serve", "operations"), Log: p.log,
	})
	if err != nil {
		return err
	}
	p.storage.Streams = p.engine.Streams()
	p.caps.NodeProperties = execution.NodeProperties
	for _, fn := range action.Functions() {
		if execution.CanRun(fn) {
			p.caps.RunFunctions = append(p.caps.RunFunctions, fn)
		}
	}
	p.engine.Observe = func(r *execution.Report) {
		p.waited.Observe(r.Started.Sub(r.Queued))
		p.ran.Observe(r.Ended.Sub(r.Started))
		if p.traces != nil {
			p.traces.Send(r.Parent, spanOf(r))
		}
	}
	p.engine.Start()
	return nil
}

// uploadDir makes a directory for uploads below dir. What is left there of another
// boot of the machine is removed: a power cut may have taken any part of it.
func uploadDir(dir string) (string, error) {
	boot := filepath.Join(dir, cmp.Or(durable.BootID(), "boot"))
	if err := os.MkdirAll(boot, 0o700); err != nil {
		return "", err
	}
	list, err := os.ReadDir(dir)
	for _, e := range list {
		if e.Name() != filepath.Base(boot) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return boot, err
}

// lockServer sees to it that a store has one server: two would both run the
// operations that an earlier one left.
func lockServer(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	ok, err := durable.TryLock(f, 0, 1)
	if errors.Is(err, errors.ErrUnsupported) {
		return f, nil
	}
	if err == nil && !ok {
		err = fmt.Errorf("another server serves %s: give this one another --cache", filepath.Dir(dir))
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// Close ends everything that was opened, the last thing first.
func (p *serverParts) Close() error {
	var errs []error
	if p.engine != nil {
		errs = append(errs, p.engine.Close())
	}
	if p.traces != nil {
		errs = append(errs, p.traces.Close())
	}
	if p.backend != nil {
		errs = append(errs, p.backend.Close())
	}
	if p.storage != nil {
		errs = append(errs, p.storage.Close())
	}
	if p.hasher != nil {
		errs = append(errs, p.hasher.Close())
	}
	if p.pack != nil {
		errs = append(errs, p.pack.Close())
	}
	if p.store != nil {
		errs = append(errs, p.store.Close())
	}
	if p.lock != nil {
		errs = append(errs, p.lock.Close())
	}
	return errors.Join(errs...)
}

// namedRootfs finds the root file system that an action names.
type namedRootfs struct {
	names wiring.Rootfs
	store *cache.Store
	in    *instances
}

// find returns what name means in an instance. Bazel writes docker:// before the name of an
// image.
func (n namedRootfs) find(instance, name string) (staging.Rootfs, error) {
	if name == "" {
		name = n.in.of(instance).rootfs
	}
	name = strings.TrimPrefix(name, "docker://")
	if name == "host" {
		return staging.HostRootfs(staging.HostOptions{}), nil
	}
	d, err := action.ParseDigest(name)
	if err != nil {
		e, err := n.names.Lookup(name)
		if errors.Is(err, fs.ErrNotExist) || err != nil {
			return staging.Rootfs{}, fmt.Errorf("%w; 'sbx-action rootfs import NAME SOURCE' gives one a name", err)
		}
		d = e.Tree
	}
	if !n.store.Has(context.Background(), d) {
		return staging.Rootfs{}, fmt.Errorf("tree %v is not in the store: import it again", d)
	}
	return staging.TreeRootfs(d), nil
}
