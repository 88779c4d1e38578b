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
	"time"

	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/integration/reapi/remote"
	"github.com/sbx-action/sbx-action/integration/reapi/share"
	"github.com/sbx-action/sbx-action/integration/reapi/share/agent"
)

// agentCommand is for sbx-action, which starts it: users need not know it.
func agentCommand() commandline.Command {
	return commandline.Command{
		Name: "agent", Args: "[FLAGS]",
		Short: "speak to remotes for every sbx-action of this user (it starts this itself)",
		Long: `
Listens on a socket, at which every 'sbx-action run --remote' of this user asks for
results and leaves what is to be sent. sbx-action starts it when it needs it.
'sbx-action remote' asks it how things are.
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			socket := flags.String("socket", "", "`PATH` of the socket, in a directory that nobody else can enter")
			ready := flags.Int("ready-fd", -1, "`FD` to which \"ready\" is written once it listens")
			idle := commandline.Span(5 * time.Minute)
			flags.Var(&idle, "idle", "`DURATION` after which it ends when nobody asks and nothing is left to send")
			verbose := flags.Bool("verbose", false, "say on standard error what is done and why")
			return func(ctx context.Context, args []string) error {
				if len(args) > 0 {
					return fmt.Errorf("unexpected argument %q", args[0])
				}
				level := slog.LevelInfo
				if *verbose {
					level = slog.LevelDebug
				}
				log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
				l, err := listenAgent(*socket)
				if *ready >= 0 {
					tell(*ready, err)
				}
				if err != nil {
					return err
				}
				a := agent.New(agent.Options{Idle: time.Duration(idle), Connect: connect, Log: log})
				return a.Serve(ctx, l)
			}
		},
	}
}

// listenAgent listens at the socket. One that a dead agent has left is replaced.
func listenAgent(socket string) (net.Listener, error) {
	if socket == "" {
		path, err := share.SocketPath()
		if err != nil {
			return nil, err
		}
		socket = path
	}
	if share.Listening(socket) {
		return nil, fmt.Errorf("another agent listens at %s", socket)
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return l, os.Chmod(socket, 0o600)
}

// tell tells whoever started us that we are ready, or why not.
func tell(fd int, err error) {
	f := os.NewFile(uintptr(fd), "ready")
	defer f.Close()
	if err != nil {
		fmt.Fprintln(f, err)
		return
	}
	fmt.Fprintln(f, "ready")
}

// connect says how to connect to a target.
func connect(t share.Target) (remote.Options, error) {
	c := connection{ca: t.CA, cert: t.Cert, key: t.Key, headers: t.Headers}
	o, err := c.options()
	o.Version = commandline.Version()
	return o, err
}
