package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/compare"
	"github.com/sbx-action/sbx-action/reproduce"
	"github.com/sbx-action/sbx-action/staging"
)

// recordedFlags are the flags of commands that make the sandbox of an earlier
// action again.
type recordedFlags struct {
	bookFlags
	timeout span
	inside  insideFlags
	to      string
}

func (f *recordedFlags) declare(flags *flag.FlagSet) {
	f.declareCache(flags)
	flags.StringVar(&f.backend, "backend", "", "`NAME` of the sandbox, of those that 'sbx-action backends --list' shows\n(default: the best that works here)")
	flags.BoolVar(&f.verbose, "verbose", false, "say on standard error what is done and why")
	flags.Var(&f.timeout, "timeout", "`DURATION` after which everything in the sandbox is killed")
	flags.Var(&f.inside.keep, "keep", "leave the work directory, as it is at the end, in `DIR`, which is made\n(default: a new directory in $TMPDIR)")
	flags.BoolVar(&f.inside.changes, "changes", false, "list what was added, changed and deleted inside")
}

func enterCommand() command {
	return command{
		SettingFlags: map[string]string{"timeout": ""}, // who works in it is not cut off by the time for a build
		Name:         "enter", Settings: true, Args: "[FLAGS] OUTPUT|DIGEST|DIR [-- COMMAND [ARGUMENT…]]",
		Short: "open a shell in the sandbox of an action that ran before",
		Long: `
Makes the sandbox of an action again, as its command found it, and opens a shell
in it: of an action that made OUTPUT, of one with DIGEST (also one that failed;
'sbx-action history' lists them), or of one whose work directory --keep left in
DIR, as its command left it. With COMMAND, that runs instead of the shell.

What happens inside changes neither the store nor the workspace. The inputs come
from the store; if they were trimmed, the action has to run again first.

  sbx-action enter build/main.o
  sbx-action enter 41f7a2 -- ls -l
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			var f recordedFlags
			f.declare(flags)
			return f.enter
		},
	}
}

// open finds the action and makes a job of it.
func (f *recordedFlags) open(ctx context.Context, name string) (*recorded, *job, error) {
	r, err := f.find(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	j, err := r.open(ctx, f.wiringFlags)
	if err != nil {
		return nil, nil, err
	}
	if err := r.changedHost(ctx, j); err != nil {
		say("the host is not as it was when this ran: %v", err)
	}
	return r, j, nil
}

func (f *recordedFlags) find(ctx context.Context, name string) (*recorded, error) {
	if r, err := keptRecord(name); err != nil || r != nil {
		return r, err
	}
	if r, err := f.fileRecord(ctx, name); err != nil || r != nil {
		return r, err
	}
	book, err := f.bookFlags.open()
	if err != nil {
		return nil, err
	}
	defer book.Store.Close()
	return findRecorded(ctx, book, name)
}

func (f *recordedFlags) enter(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("say what to enter: an output, the digest of an action, or a directory of --keep")
	}
	r, j, err := f.open(ctx, args[0])
	if err != nil {
		return err
	}
	defer j.Close()
	req := r.request(j)
	req.Limits.Wall = time.Duration(f.timeout)
	if len(args) > 1 {
		return f.other(ctx, j, req, args[1:])
	}
	return f.inside.enter(ctx, j, req)
}

// other runs another command in the sandbox.
func (f *recordedFlags) other(ctx context.Context, j *job, req *action.Request, args []string) error {
	if args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return errors.New("no command after --")
	}
	cmd := *req.Command
	cmd.Arguments = args
	cmd.OutputPaths, cmd.OutputFiles, cmd.OutputDirectories = nil, nil, nil
	left := f.inside.watch(j, req)
	j.stager.outputs = req.Command
	req.Command, req.Stdin = &cmd, os.Stdin
	req.SkipLookup, req.SkipStore, req.Observe, req.Elsewhere, req.Prune = true, true, false, false, nil
	out, err := j.runner.Run(ctx, req)
	if err != nil {
		return err
	}
	left.report(false)
	if s := out.Status; s.Start != nil {
		say("the command could not be started: %v", s.Start)
	}
	if out.Status.Code != 0 {
		return exitCode(out.Status.Code)
	}
	return nil
}

func rerunCommand() command {
	return command{
		Name: "rerun", Settings: true, Args: "[FLAGS] OUTPUT|DIGEST|FILE.tar",
		Short: "run an action that ran before again, and compare",
		Long: `
Runs the recorded command again, with the recorded inputs, as its sandbox was: an
action of this store, or one that 'sbx-action export' wrote into FILE. Says whether it
gives what it gave, and where not. Neither the workspace nor the store changes;
--to writes what it makes into a directory.

The exit code is the command's own; 125 if it is the same but something else of
what it gave is not.
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			var f recordedFlags
			f.declare(flags)
			flags.StringVar(&f.to, "to", "", "`DIR` into which the outputs are written")
			return anywhere(flags, f.rerun)
		},
	}
}

func (f *recordedFlags) rerun(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("say what to run again: one output, or the digest of an action")
	}
	r, j, err := f.open(ctx, args[0])
	if err != nil {
		return err
	}
	defer j.Close()
	before, known := r.result(ctx, f)
	req := r.request(j)
	req.Limits.Wall = time.Duration(f.timeout)
	req.SkipLookup, req.SkipStore, req.Observe, req.Elsewhere, req.Prune = true, true, false, false, nil
	left := f.inside.watch(j, req)
	out, err := j.runner.Run(ctx, req)
	if err != nil {
		return err
	}
	left.report(false)
	if f.to != "" {
		if err := os.MkdirAll(f.to, 0o755); err != nil {
			return fmt.Errorf("--to: %w", err)
		}
		if err := staging.Deliver(ctx, j.parts.blobs, out.Result, staging.Workspace{Root: f.to, Dir: r.command.WorkingDirectory}); err != nil {
			return fmt.Errorf("--to: %w", err)
		}
	}
	same := f.compare(ctx, j, before, known, out)
	switch {
	case out.Status.Code != 0:
		return exitCode(out.Status.Code)
	case !same:
		return exitCode(exitOurs)
	}
	return nil
}

// compare says how what came out differs from what came out before.
func (f *recordedFlags) compare(ctx context.Context, j *job, before *action.Result, known error, out *action.Outcome) bool {
	if s := out.Status; s.Start != nil {
		say("the command could not be started: %v", s.Start)
	}
	if before == nil {
		say("what it gave before is not known any more: %v", known)
		return true
	}
	list, err := reproduce.Differences(ctx, j.parts.blobs, before, out.Result, j.command.WorkingDirectory)
	if err != nil {
		say("what it gave before is not in the store any more: %v", err)
		return true
	}
	for _, line := range list {
		say("%s", compare.Sentence(line))
	}
	if len(list) == 0 {
		say("it gave the same as before")
	}
	return len(list) == 0
}

// result is what the action gave before, from the store or from the history.
func (r *recorded) result(ctx context.Context, f *recordedFlags) (*action.Result, error) {
	if r.run == nil {
		return nil, errors.New("it is a directory of --keep")
	}
	book, err := f.bookFlags.open()
	if err != nil {
		return nil, err
	}
	defer book.Store.Close()
	return book.Result(r.run)
}
