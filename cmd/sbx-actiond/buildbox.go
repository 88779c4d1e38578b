//lint:file-ignore SA1019 what clients send is what is meant

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	rexec "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/native"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/cmd/wiring"
	"github.com/sbx-action/sbx-action/integration/reapi/remote"
	"github.com/sbx-action/sbx-action/integration/reapi/worker"
	"github.com/sbx-action/sbx-action/staging"
)

// buildboxFlags are those of buildbox-run, as BuildStream 2, recc and
// buildbox-worker give them.
type buildboxFlags struct {
	workerFlags
	server, actionFile, resultFile string
	stdoutFile, stderrFile, level  string
	binds                          commandline.List
	capabilities, noCapture        bool
	ignored, function              string
	ignoredFlag                    bool
	buildbox                       buildboxConnection
}

func buildboxCommand() commandline.Command {
	return commandline.Command{
		Name: "buildbox-run", Args: "[FLAGS]", Alone: true,
		Short: "run one action of a Remote Execution client, with buildbox-run's options",
		Long: `
Is to BuildStream 2, recc and buildbox-worker what buildbox-run is, by that name:
reads an Action from a file, fetches what it needs from the storage, runs it in a
sandbox, puts its outputs into the storage, and writes an ActionResult. Its exit
code is 0 when the action was run, however the command ended. Nothing is looked
up in an action cache or put there: that is the client's business.

The root file system of the command is the action's input root, if it has programs
of its own (bin or usr), and else the host's system directories with the input
root's files beside them; --rootfs says otherwise.

  sbx-action buildbox-run --remote=grpc://localhost:8980 --action=action.bin \
    --action-result=result.bin
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			f := &buildboxFlags{}
			f.connection.declare(flags)
			f.buildbox.declare(flags, &f.connection)
			flags.StringVar(&f.server, "remote", "", "`URL` of the storage: grpc[s]://HOST:PORT, http[s]://HOST:PORT for the same, or\nunix:PATH")
			flags.StringVar(&f.instance, "instance", "", "`NAME` of the instance of the storage")
			flags.StringVar(&f.actionFile, "action", "", "`FILE` with the Action")
			flags.StringVar(&f.resultFile, "action-result", "", "`FILE` for the ActionResult")
			flags.BoolVar(&f.capabilities, "capabilities", false, "print what this runner can do, one line each")
			flags.BoolVar(&f.noCapture, "no-logs-capture", false, "leave standard output and error to the command, and out of the result")
			flags.StringVar(&f.stdoutFile, "stdout-file", "", "`FILE` for standard output")
			flags.StringVar(&f.stderrFile, "stderr-file", "", "`FILE` for standard error")
			flags.Var(&f.binds, "bind-mount", "`SRC:DST`: show a directory or file of the host; may be repeated")
			flags.StringVar(&f.level, "log-level", "warning", "`LEVEL`: trace, debug, info, warning or error")
			flags.BoolVar(&f.verbose, "verbose", false, "the same as --log-level=debug")
			flags.StringVar(&f.cache, "cache", "", "`DIR` of the input cache (default: $XDG_CACHE_HOME/sbx-action-buildbox)")
			flags.Var(&f.cacheSize, "cache-size", "`SIZE`: most that the input cache may take on the disk (default: half of what is\nfree there)")
			flags.StringVar(&f.rootfs, "rootfs", "auto", "`ROOTFS` that the command sees beside its inputs: auto, as above; none, host, or a name\nthat 'sbx-action rootfs import' gave in the input cache")
			flags.StringVar(&f.backend, "backend", "", "`NAME` of the sandbox (default: the best that works here)")
			flags.StringVar(&f.ignored, "workspace-path", "", "`DIR`: not needed")
			flags.StringVar(&f.function, "digest-function", "SHA256", "`NAME` of the function of all digests: SHA256 or BLAKE3")
			flags.BoolVar(&f.ignoredFlag, "use-localcas", false, "not needed")
			flags.BoolVar(&f.ignoredFlag, "disable-localcas", false, "not needed")
			return f.run
		},
	}
}

func (f *buildboxFlags) run(ctx context.Context, args []string) error {
	if f.capabilities {
		f.printCapabilities()
		return nil
	}
	if f.buildbox.validate && len(args) == 0 {
		return nil
	}
	switch {
	case len(args) > 0:
		return fmt.Errorf("unexpected argument %q: there are flags only", args[0])
	case f.server == "":
		return errors.New("--remote is missing: it says where the inputs are")
	case f.actionFile == "":
		return errors.New("--action is missing: the file with the Action")
	case f.resultFile == "":
		return errors.New("--action-result is missing: the file for the ActionResult")
	}
	if err := wiring.CheckBackend(f.backend); err != nil {
		return err
	}
	levels := map[string]slog.Level{"trace": slog.LevelDebug, "debug": slog.LevelDebug, "info": slog.LevelInfo, "warning": slog.LevelWarn, "error": slog.LevelError}
	level, ok := levels[strings.ToLower(f.level)]
	if !ok {
		return fmt.Errorf("--log-level %s: there are trace, debug, info, warning and error", f.level)
	}
	if f.verbose {
		level = slog.LevelDebug
	}
	f.log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	data, err := os.ReadFile(f.actionFile)
	if err != nil {
		return fmt.Errorf("--action: %w", err)
	}
	m := new(rexec.Action)
	if err := proto.Unmarshal(data, m); err != nil {
		return fmt.Errorf("--action %s: it is no Action: %w", f.actionFile, err)
	}
	resp, err := f.execute(ctx, m, data)
	if err != nil {
		return f.tell(worker.Status(ctx, err).Proto(), err)
	}
	if resp.Status.GetCode() != 0 {
		return f.tell(resp.Status, fmt.Errorf("the action was not run: %s", resp.Status.GetMessage()))
	}
	if data, err = proto.Marshal(resp.Result); err != nil {
		return err
	}
	return commandline.WriteWhole(f.resultFile, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// printCapabilities prints the lines that BuildStream asks for.
func (f *buildboxFlags) printCapabilities() {
	isa := map[string]string{"amd64": "x86-64", "arm64": "aarch64"}[runtime.GOARCH]
	for _, line := range []string{
		"no-logs-capture", "bind-mount", "platform:OSFamily=linux", "platform:ISA=" + isa, "platform:network", "platform:network=on", "platform:network=off",
	} {
		fmt.Println(line)
	}
	b, err := wiring.Choice{Name: f.backend, Options: native.Options{Once: true}, Log: slog.New(slog.DiscardHandler)}.Open()
	if err != nil {
		return
	}
	defer b.Close()
	if wiring.Basics(b).Owners {
		fmt.Println("platform:unixUID=0")
		fmt.Println("platform:unixGID=0")
	}
}

// execute runs the action with a worker of its own.
func (f *buildboxFlags) execute(ctx context.Context, m *rexec.Action, raw []byte) (*rexec.ExecuteResponse, error) {
	storage, err := f.dial()
	if err != nil {
		return nil, err
	}
	defer storage.Close()
	store, err := f.inputCache()
	if err != nil {
		return nil, err
	}
	defer store.Close()
	unlock, err := store.Lock(ctx, action.Sum(action.SHA256, fmt.Appendf(nil, "buildbox-run %d", os.Getpid())))
	if err != nil {
		return nil, err
	}
	defer unlock()
	function, err := action.ParseFunction(strings.ToLower(f.function))
	if err != nil {
		return nil, fmt.Errorf("--digest-function: %w", err)
	}
	client := storage.Instance(f.instance)
	command, err := f.command(ctx, client, store, m, function)
	if err != nil {
		return nil, err
	}
	rootfs, whole, err := f.root(ctx, client, store, m, function)
	if err != nil {
		return nil, err
	}
	backend, err := wiring.Choice{Name: f.backend, Options: native.Options{Once: true}, Log: f.log}.Open()
	if err != nil {
		return nil, err
	}
	defer backend.Close()
	adjusted := &buildboxBackend{Backend: backend}
	if err := adjusted.adjust(m, command, f.binds); err != nil {
		return nil, err
	}
	closeFiles, err := f.streams(adjusted)
	if err != nil {
		return nil, err
	}
	size := int64(f.cacheSize)
	if size == 0 {
		if size, err = halfOfFree(store.Dir()); err != nil {
			return nil, err
		}
	}
	w := worker.New(worker.Options{
		Storage: storage, Store: store, Backend: adjusted, Capabilities: wiring.Basics(backend), Rootfs: rootfs, WholeRoot: whole,
		CacheSize: size, NoCache: true, Log: f.log,
		Keep: func(ctx context.Context) error { return wiring.Rootfs{Store: store.Dir()}.Keep(ctx, store) },
	})
	resp := w.Execute(ctx, &worker.Task{Instance: f.instance, Digest: action.Sum(function, raw), Action: m}, "buildbox-run", func(worker.Stage) {})
	return resp, closeFiles()
}

// inputCache opens the store, which is no other command's.
func (f *buildboxFlags) inputCache() (*cache.Store, error) {
	if f.cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("no place for the input cache: %w; give one with --cache DIR", err)
		}
		f.cache = filepath.Join(user, "sbx-action-buildbox")
	}
	return f.openStore()
}

// dial connects to the storage.
func (f *buildboxFlags) dial() (*remote.Client, error) {
	address, err := f.address()
	if err != nil {
		return nil, err
	}
	options, err := f.buildbox.options(&f.connection)
	if err != nil {
		return nil, err
	}
	return remote.Dial(address, options)
}

// address is --remote, in any of the ways that buildbox writes it.
func (f *buildboxFlags) address() (remote.Address, error) {
	s := f.server
	if rest, ok := strings.CutPrefix(s, "http"); ok && (strings.HasPrefix(rest, "://") || strings.HasPrefix(rest, "s://")) {
		s = "grpc" + rest
	}
	a, err := remote.ParseAddress(s)
	if err != nil {
		return a, fmt.Errorf("--remote: %w", err)
	}
	if a.Instance != "" && f.instance == "" {
		f.instance = a.Instance
	}
	a.Instance = ""
	return a, remote.CheckInstance(f.instance)
}

// command reads the Command, for what of its platform is ours to do.
func (f *buildboxFlags) command(ctx context.Context, c *remote.Client, store *cache.Store, m *rexec.Action, function action.Function) (*rexec.Command, error) {
	command := new(rexec.Command)
	return command, f.message(ctx, c, store, m.GetCommandDigest(), function, command)
}

func (f *buildboxFlags) message(ctx context.Context, c *remote.Client, store *cache.Store, digest *rexec.Digest, function action.Function, into proto.Message) error {
	d, err := remote.FromDigest(digest, function)
	if err != nil {
		return fmt.Errorf("--action %s: %w", f.actionFile, err)
	}
	if err := c.Download(ctx, store, []action.Digest{d}); err != nil {
		return err
	}
	data, err := remote.ReadMessage(ctx, store, d)
	if err != nil {
		return err
	}
	return proto.Unmarshal(data, into)
}

// root finds out what there is beside the input root, or that it is the whole.
func (f *buildboxFlags) root(ctx context.Context, c *remote.Client, store *cache.Store, m *rexec.Action, function action.Function) (rootfs staging.Rootfs, whole bool, err error) {
	if f.rootfs == "auto" {
		top := new(rexec.Directory)
		if err := f.message(ctx, c, store, m.GetInputRootDigest(), function, top); err != nil {
			return staging.Rootfs{}, false, err
		}
		f.rootfs = "host"
		programs := func(name string) bool { return name == "bin" || name == "usr" }
		if slices.ContainsFunc(top.Directories, func(d *rexec.DirectoryNode) bool { return programs(d.Name) }) ||
			slices.ContainsFunc(top.Symlinks, func(s *rexec.SymlinkNode) bool { return programs(s.Name) }) {
			f.rootfs = "none"
		}
	}
	if f.rootfs == "none" {
		return staging.Rootfs{}, true, nil
	}
	rootfs, err = f.openRootfs(ctx, store, wiring.Rootfs{Store: store.Dir()})
	return rootfs, false, err
}

// streams opens where standard output and error go, if not into the result alone.
func (f *buildboxFlags) streams(b *buildboxBackend) (func() error, error) {
	if f.noCapture {
		b.stdout, b.stderr = os.Stdout, os.Stderr
	}
	var opened []*os.File
	done := func() (err error) {
		for _, file := range opened {
			err = errors.Join(err, file.Close())
		}
		return err
	}
	for _, s := range []struct {
		name string
		to   **os.File
	}{{f.stdoutFile, &b.stdout}, {f.stderrFile, &b.stderr}} {
		if s.name == "" {
			continue
		}
		file, err := os.Create(s.name)
		if err != nil {
			return nil, errors.Join(err, done())
		}
		opened, *s.to = append(opened, file), file
	}
	return done, nil
}

// A buildboxBackend does what an action's platform asks for.
type buildboxBackend struct {
	backends.Backend
	network        backends.Network
	owners         bool
	binds          []backends.Bind
	stdout, stderr *os.File // where not nil
}

// Run implements [backends.Backend].
func (b *buildboxBackend) Run(ctx context.Context, spec *backends.Spec) (*backends.Status, error) {
	s := *spec
	s.Network, s.Owners = b.network, s.Owners || b.owners
	s.Root.Binds = append(slices.Clone(s.Root.Binds), b.binds...)
	if b.stdout != nil {
		s.Stdout = b.stdout
	}
	if b.stderr != nil {
		s.Stderr = b.stderr
	}
	return b.Backend.Run(ctx, &s)
}

func (b *buildboxBackend) adjust(m *rexec.Action, c *rexec.Command, binds []string) error {
	for _, p := range slices.Concat(c.GetPlatform().GetProperties(), m.GetPlatform().GetProperties()) {
		switch p.Name {
		case "network":
			if p.Value == "on" {
				b.network = backends.NetworkHost
			}
		case "unixUID", "unixGID":
			n, err := strconv.Atoi(p.Value)
			if err != nil || n != 0 && n != backends.ID {
				return fmt.Errorf("platform %s=%s: commands here are user %d, or 0", p.Name, p.Value, backends.ID)
			}
			b.owners = b.owners || n == 0
		case "OSFamily":
			if !strings.EqualFold(p.Value, "linux") {
				return fmt.Errorf("platform OSFamily=%s: this is Linux", p.Value)
			}
		}
	}
	for _, s := range binds {
		source, target, ok := strings.Cut(s, ":")
		if !ok || source == "" || !path.IsAbs(target) {
			return fmt.Errorf("--bind-mount %q: want SRC:DST, where DST is absolute", s)
		}
		source, err := filepath.Abs(source)
		if err == nil {
			_, err = os.Stat(source)
		}
		if err != nil {
			return fmt.Errorf("--bind-mount %s: %w", s, err)
		}
		b.binds = append(b.binds, backends.Bind{Source: source, Target: path.Clean(target), Writable: true})
	}
	return nil
}
