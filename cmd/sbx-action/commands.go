package main

import (
	"context"
	"slices"

	"github.com/sbx-action/sbx-action/cmd/commandline"
)

// These are used all over the program; see [commandline].
type (
	command  = commandline.Command
	exitCode = commandline.ExitCode
)

const exitOurs = commandline.ExitOurs

// interruptible is [commandline.Interruptible].
func interruptible(ctx context.Context) { commandline.Interruptible(ctx) }

// commands is the table that dispatch, the help and the completion read. The
// commands of sbx-actiond are in delegate.go.
func commands() []command {
	return append([]command{
		runCommand(), ccCommand(), sandboxCommand(), explainCommand(), cacheCommand(), backendsCommand(), remoteCommand(),
		whyCommand(), diffCommand(), historyCommand(), warmCommand(), showCommand(), lsCommand(), catCommand(), logCommand(),
		enterCommand(), rerunCommand(), exportCommand(), importCommand(), doctorCommand(),
	}, slices.Concat(fileCommands(), delegates(), personalityCommands(), []command{commandline.VersionCommand("sbx-action")})...)
}

func program() *commandline.Program {
	promised = jsonPromise{}
	return &commandline.Program{
		Name:     "sbx-action",
		Failed:   jsonFailed,
		Commands: commands(),
		Intro: `
sbx-action makes any command a hermetic, cached build action: the command gets a
fresh root file system that holds its declared inputs and nothing else, runs
without network in a sandbox, and its outputs go into a content-addressed cache.
The same action later costs a quarter of a millisecond.`,
		Groups: []commandline.Group{
			{Title: "Run and cache commands", Names: []string{"run", "cc", "warm", "build", "graph", "init"}},
			{Title: "Ask what happened, and why", Names: []string{"why", "diff", "history", "show", "ls", "cat", "log", "explain"}},
			{Title: "Look inside, run again, carry elsewhere", Names: []string{"enter", "rerun", "export", "import", "attest"}},
			{Title: "Sandboxes and root file systems", Names: []string{"sandbox", "rootfs", "owners", "backends", "doctor"}},
			{Title: "Share results and machines", Names: []string{"serve", "worker", "remote"}},
			{Title: "In the place of another program", Names: []string{"bwrap", "linux-user-chroot", "runner", "buildbox-run"}},
			{Title: "The store and this program", Names: []string{"cache", "config", "completion", "man", "version"}},
		},
		Outro: `
Example: compile hello.c; the second time comes from the cache.

  sbx-action run -i hello.c -o hello.o -- gcc -c hello.c -o hello.o

'sbx-action COMMAND --help' says more about each.`,
		Unknown: "unknown command %[1]q%[3]s: put \"run\" and the inputs before a command to cache it, as in 'sbx-action run -i a.c -o a.o -- %[1]s …'; '%[2]s help' lists the commands",
	}
}
