package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/sbx-action/sbx-action/integration/reapi/share"
)

// startLimit is how long an agent may take to start.
const startLimit = 10 * time.Second

// startAgent starts the user's agent, and returns when it listens. Of many that
// do so at once, one starts it.
func startAgent(ctx context.Context, socket string) error {
	program, err := findHeavy()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	lock, err := lockStart(ctx, socket+".lock")
	if err != nil {
		return err
	}
	defer lock.Close()
	if share.Listening(socket) { // somebody was faster
		return nil
	}
	log, err := os.OpenFile(socket+".log", os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	if info, err := log.Stat(); err == nil && info.Size() > 1<<20 {
		log.Truncate(0)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command(program, "agent", "--socket", socket, "--ready-fd", "3")
	cmd.Dir, cmd.Stderr, cmd.ExtraFiles = "/", log, []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it outlives us, and our terminal
	err = cmd.Start()
	w.Close()
	if err != nil {
		return err
	}
	r.SetDeadline(time.Now().Add(startLimit))
	said, err := io.ReadAll(r)
	if err == nil && string(said) != "ready\n" {
		err = errors.New(strings.TrimSpace(string(said)))
	}
	if err != nil {
		cmd.Process.Kill()
		return fmt.Errorf("start %s agent: %w; %s.log may say more", program, err, socket)
	}
	return cmd.Process.Release()
}

// lockStart holds off others who want to start an agent.
func lockStart(ctx context.Context, name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			f.Close()
			return nil, context.Cause(ctx)
		}
	}
}

func remoteCommand() command {
	return command{
		Name: "remote", Args: "status|flush|stop",
		Short: "show, flush or stop the agent that speaks to remotes",
		Long: `
With --remote or SBX_REMOTE, one agent for each user speaks to the remotes. It is
started when it is first needed, and ends after five minutes in which nobody asked
for anything.

  sbx-action remote status   prints which remotes there are, and how they are
  sbx-action remote flush    waits until all results are sent: at the end of a CI job
  sbx-action remote stop     ends it when it has sent what it can
`,
		Setup: func(*flag.FlagSet) func(context.Context, []string) error {
			return func(ctx context.Context, args []string) error {
				if len(args) != 1 {
					return errors.New("want one of status, flush and stop")
				}
				return askAgent(ctx, args[0])
			}
		},
	}
}

func askAgent(ctx context.Context, what string) error {
	socket, err := share.SocketPath()
	if err != nil {
		return err
	}
	store := "/" // none: only the agent itself is asked
	link := &share.Link{
		Target: share.Target{Store: store, Timeout: time.Minute}, Socket: socket,
		Start: func(context.Context, string) error { return errNoAgent },
	}
	defer link.Close()
	switch what {
	case "status":
		var text string
		if text, err = link.Info(ctx); err == nil {
			_, err = io.WriteString(os.Stdout, text)
		}
	case "flush":
		err = link.Flush(ctx)
	case "stop":
		if err = link.Quit(ctx); err == nil {
			awaitEnd(ctx, socket)
		}
	default:
		return fmt.Errorf("unknown word %q: want status, flush or stop", what)
	}
	if !share.Listening(socket) && err != nil && strings.Contains(err.Error(), errNoAgent.Error()) {
		if what == "flush" {
			return nil // what waits on the disk, if anything, is sent by the next
		}
		fmt.Println("no agent is running")
		return nil
	}
	return err
}

// awaitEnd waits until nobody answers at the socket: an agent first sends what
// waits for a remote that answers.
func awaitEnd(ctx context.Context, socket string) {
	for end := time.Now().Add(10 * time.Second); share.Listening(socket); {
		if ctx.Err() != nil || time.Now().After(end) {
			say("the agent ends when it has sent what waits")
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

var errNoAgent = errors.New("none is running")
