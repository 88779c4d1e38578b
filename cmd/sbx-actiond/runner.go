package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/native"
	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/cmd/wiring"
	"github.com/sbx-action/sbx-action/integration/reapi/worker/proto/runnerpb"
	"github.com/sbx-action/sbx-action/integration/reapi/worker/runner"
)

// runnerFlags are the flags of runner: some are those of worker.
type runnerFlags struct {
	workerFlags
	listen, mode, buildDir string
}

func runnerCommand() commandline.Command {
	return commandline.Command{
		Name: "runner", Args: "[FLAGS]", Settings: true, Alone: true, SettingFlags: workerSettings,
		Short: "run the commands of a stock bb_worker in sandboxes",
		Long: `
Is to a Buildbarn worker what bb_runner is: it listens on a unix socket, and runs
what bb_worker has staged. Commands get a sandbox of their own each: no network, no
other process, inputs that they cannot change for others. docs/clusters.md says
what to write into the worker's configuration.

  sbx-action runner --listen unix:/worker/runner --build-dir /worker/build

SIGTERM or Ctrl-C lets it finish what it runs; a second one ends it at once.
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			f := &runnerFlags{mode: "0600"}
			flags.StringVar(&f.listen, "listen", "", "`unix:PATH` of the socket, as bb_worker's configuration has it for its runner")
			flags.StringVar(&f.mode, "socket-mode", f.mode, "`MODE` of the socket, in octal: who may have commands run")
			flags.StringVar(&f.buildDir, "build-dir", "", "`DIR` of the builds: buildDirectoryPath in bb_worker's configuration")
			flags.StringVar(&f.cache, "cache", "", "`DIR` of a store for root file systems (default: $XDG_CACHE_HOME/sbx-action-worker)")
			flags.StringVar(&f.rootfs, "rootfs", "host", "`ROOTFS` that commands see beside their inputs: host, or a name that 'sbx-action\nrootfs import' gave in the cache, or the digest of a tree there")
			flags.StringVar(&f.backend, "backend", "", "`NAME` of the sandbox (default: the best that works here)")
			flags.Var(&f.memory, "memory", "`SIZE`: most memory for each command")
			flags.Var(&f.pids, "pids", "`N`: most processes and threads of each command")
			flags.BoolVar(&f.verbose, "verbose", false, "say on standard error what is done and why")
			return f.run
		},
	}
}

func (f *runnerFlags) run(ctx context.Context, args []string) error {
	socket, ok := strings.CutPrefix(f.listen, "unix:")
	socket = "/" + strings.TrimLeft(socket, "/")
	mode, err := strconv.ParseUint(f.mode, 8, 9)
	switch {
	case len(args) > 0:
		return fmt.Errorf("unexpected argument %q: there are flags only", args[0])
	case !ok || socket == "/":
		return fmt.Errorf("--listen %q: want unix:PATH, the socket that bb_worker knows", f.listen)
	case len(socket) > 107:
		return fmt.Errorf("--listen: the path of a socket has at most 107 bytes, not %d", len(socket))
	case err != nil:
		return fmt.Errorf("--socket-mode %q: want permissions in octal, such as 0660", f.mode)
	case f.buildDir == "":
		return errors.New("--build-dir is missing: give bb_worker's buildDirectoryPath")
	}
	if err := wiring.CheckBackend(f.backend); err != nil {
		return err
	}
	level := slog.LevelInfo
	if f.verbose {
		level = slog.LevelDebug
	}
	f.log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	if f.buildDir, err = filepath.Abs(f.buildDir); err != nil {
		return err
	}
	server, done, err := f.server(ctx)
	if err != nil {
		return err
	}
	defer done()
	l, err := listenSocket(socket, fs.FileMode(mode))
	if err != nil {
		return err
	}
	g := grpc.NewServer()
	runnerpb.RegisterRunnerServer(g, server)
	defer context.AfterFunc(ctx, func() {
		f.log.Info("finishing what runs; a second signal ends it at once")
		g.GracefulStop()
	})()
	f.log.Info("runner", "socket", socket, "build-dir", f.buildDir, "rootfs", f.rootfs)
	err = g.Serve(l)
	g.GracefulStop() // waits for what runs
	return err
}

// server opens everything that is not the socket.
func (f *runnerFlags) server(ctx context.Context) (*runner.Server, func(), error) {
	store, err := f.openStore()
	if err != nil {
		return nil, nil, err
	}
	rootfs, err := f.openRootfs(ctx, store, wiring.Rootfs{Store: store.Dir()})
	if err != nil {
		store.Close()
		return nil, nil, err
	}
	backend, err := wiring.Choice{Name: f.backend, Options: native.Options{}, Log: f.log}.Open()
	if err != nil {
		store.Close()
		return nil, nil, err
	}
	s, err := runner.New(runner.Options{
		BuildDir: f.buildDir, Backend: backend, Capabilities: wiring.Basics(backend), Store: store, Rootfs: rootfs,
		Limits: backends.Limits{Memory: int64(f.memory), Pids: int64(f.pids)}, Log: f.log,
	})
	if err != nil {
		backend.Close()
		store.Close()
		return nil, nil, err
	}
	return s, func() {
		s.Close()
		backend.Close()
		store.Close()
	}, nil
}

// listenSocket listens at a socket. One that nobody listens at any more is
// replaced.
func listenSocket(path string, mode fs.FileMode) (net.Listener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("another program listens at %s", path)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("%s is there, and no socket: choose another --listen", path)
	} else if err == nil {
		os.Remove(path)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("--listen: %w", err)
	}
	if err := os.Chmod(path, mode); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}
