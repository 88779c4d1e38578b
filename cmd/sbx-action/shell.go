package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cmd/wiring"
)

// enterScript starts the best shell that the root file system has. It reads no
// configuration: that would be the host's.
const enterScript = `command -v bash >/dev/null 2>&1 && exec bash --noprofile --norc "$@"; exec sh "$@"`

// enter opens a shell in the sandbox of the job, or, where standard input is not
// a terminal, lets a shell read its commands from there.
func (f *insideFlags) enter(ctx context.Context, j *job, req *action.Request) error {
	interruptible(ctx)
	b, err := j.parts.miss.Opened()
	if err != nil {
		return err
	}
	arguments := req.Command.Arguments
	shell := *req.Command
	shell.Arguments = []string{"/bin/sh", "-c", enterScript, "sh"}
	shell.OutputPaths, shell.OutputFiles, shell.OutputDirectories = nil, nil, nil
	left := f.watch(j, req)
	req.SkipLookup, req.SkipStore, req.Observe, req.Elsewhere, req.Vet = true, true, false, false, nil
	req.Stdin, req.Stdout, req.Stderr = os.Stdin, os.Stdout, os.Stderr
	interactive := isTTY(os.Stdin)
	if interactive {
		if !wiring.Basics(b).Terminal {
			return fmt.Errorf("--shell: the backend %s has no terminals: use another one, such as --backend native", b.Name())
		}
		if !hasVariable(req.Command, "TERM") {
			shell.Environment = append(shell.Environment, action.EnvironmentVariable{Name: "TERM", Value: term()})
		}
		greet(arguments)
	}
	// Outputs are not collected, but the directories they will be in are there.
	j.stager.outputs = req.Command
	req.Command = &shell
	code, err := attached(interactive, req, func() (*action.Outcome, error) { return j.runner.Run(ctx, req) })
	if err != nil {
		return err
	}
	left.report(false)
	if code != 0 {
		return exitCode(code)
	}
	return nil
}

func greet(arguments []string) {
	say("this is the sandbox as the command finds it; 'exit' leaves it. The command would be:")
	fmt.Fprintf(os.Stderr, "  %s\n", shellLine(arguments))
}

func hasVariable(c *action.Command, name string) bool {
	for _, v := range c.Environment {
		if v.Name == name {
			return true
		}
	}
	return false
}

// term is the kind of the caller's terminal. What is odd could confuse programs
// more than a plain one does.
func term() string {
	t := os.Getenv("TERM")
	if t == "" || strings.ContainsAny(t, "/\x00") {
		return "xterm"
	}
	return t
}

// attached runs the action with the caller's terminal connected to its own.
func attached(interactive bool, req *action.Request, run func() (*action.Outcome, error)) (int, error) {
	var t *terminal
	if interactive {
		var err error
		if t, err = newTerminal(os.Stdin, os.Stdout); err != nil {
			return 0, err
		}
		defer t.close()
		req.Terminal = t.connect
	}
	out, err := run()
	if t != nil {
		t.close()
	}
	if err != nil {
		return 0, err
	}
	if s := out.Status; s.Start != nil {
		return 0, fmt.Errorf("the root file system has no shell: %w", s.Start)
	}
	return out.Status.Code, nil
}

// instead names a flag of f that is about a command that runs and what becomes of its
// result, where a shell is to be opened instead; "" if there is none.
func (f *insideFlags) instead(run *runFlags) string {
	for _, name := range []string{"verify", "unused", "json", "prune"} {
		if run.cli[name] {
			return "--" + name
		}
	}
	return ""
}
