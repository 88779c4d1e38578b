package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// A command is one word after sbx-action. Its flags are declared by setup,
// which returns what runs once they are parsed; --help prints what they say of
// themselves, so that every flag is described in one place.
type command struct {
	name  string
	args  string // the synopsis after the flags
	short string // one line
	long  string // what --help says between the synopsis and the flags
	setup func(*flag.FlagSet) func(ctx context.Context, args []string) error
	quick bool // calls interruptible itself, before what takes long
}

// commands is the table that dispatch, the help and the completion read.
func commands() []command {
	return []command{
		runCommand(), explainCommand(), cacheCommand(), rootfsCommand(), backendsCommand(), versionCommand(),
	}
}

func dispatch(ctx context.Context, args []string) error {
	if len(args) == 0 {
		overview(os.Stderr)
		return exitCode(exitOurs)
	}
	name, rest := args[0], args[1:]
	switch name {
	case "help", "--help", "-h", "-help":
		if len(rest) > 0 {
			return dispatch(ctx, []string{rest[0], "--help"})
		}
		overview(os.Stdout)
		return nil
	case "--version", "-V":
		name = "version"
	}
	for _, c := range commands() {
		if c.name == name {
			return c.run(ctx, rest)
		}
	}
	return fmt.Errorf("unknown command %q: put \"run\" and the inputs before a command to cache it, as in 'sbx-action run -i a.c -o a.o -- %s …'; 'sbx-action help' lists the commands", name, name)
}

func (c command) run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // the error says it all; usage on demand only
	action := c.setup(flags)
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		c.help(os.Stdout, flags)
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w; 'sbx-action %s --help' lists the flags", c.name, err, c.name)
	}
	if !c.quick {
		interruptible(ctx)
	}
	if err := action(ctx, flags.Args()); err != nil {
		if _, said := errors.AsType[exitCode](err); said {
			return err
		}
		return fmt.Errorf("%s: %w", c.name, err)
	}
	return nil
}

func overview(w io.Writer) {
	fmt.Fprint(w, `sbx-action makes any command a hermetic, cached build action: the command gets a
fresh root file system that holds its declared inputs and nothing else, runs
without network in a sandbox, and its outputs go into a content-addressed cache.
The same action later costs a millisecond or two.

Usage: sbx-action COMMAND [FLAGS] [ARGUMENTS]

`)
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-10s %s\n", c.name, c.short)
	}
	fmt.Fprint(w, `
Example: compile hello.c; the second time comes from the cache.

  sbx-action run -i hello.c -o hello.o -- gcc -c hello.c -o hello.o

'sbx-action COMMAND --help' says more about each.
`)
}

// help prints the synopsis, the long text, and every flag with its usage.
// A flag's usage starts with the name of its value in backquotes.
func (c command) help(w io.Writer, flags *flag.FlagSet) {
	fmt.Fprintf(w, "Usage: sbx-action %s %s\n\n%s\n", c.name, c.args, strings.TrimSpace(c.long))
	first := true
	flags.VisitAll(func(f *flag.Flag) {
		if first {
			fmt.Fprint(w, "\nFlags:\n")
			first = false
		}
		value, usage := flag.UnquoteUsage(f)
		dash := "--"
		if len(f.Name) == 1 {
			dash = "-"
		}
		head := dash + f.Name
		if value != "" {
			head += " " + value
		}
		if len(head) > 16 {
			fmt.Fprintf(w, "  %s\n  %-16s  %s", head, "", indent(usage))
		} else {
			fmt.Fprintf(w, "  %-16s  %s", head, indent(usage))
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" {
			fmt.Fprintf(w, " (default %s)", f.DefValue)
		}
		fmt.Fprintln(w)
	})
}

func indent(s string) string {
	return strings.ReplaceAll(s, "\n", "\n"+strings.Repeat(" ", 20))
}
