package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/integration/component"
)

// buildWord is a command that has the flags of build and does something else
// with the one component that it is given.
func buildWord(name, short, long string, do func(ctx context.Context, f *buildFlags, args []string) error) commandline.Command {
	return commandline.Command{
		Name: name, Settings: true, SettingFlags: buildSettings, Args: "[FLAGS] COMPONENT", Short: short, Long: long,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			var f buildFlags
			f.declare(flags)
			return func(ctx context.Context, args []string) error {
				args, err := flagsAnywhere(flags, args)
				if err != nil {
					return err
				}
				if err := f.check(); err != nil {
					return err
				}
				return do(ctx, &f, args)
			}
		},
	}
}

// one opens what it takes to build the one component that args name.
func (f *buildFlags) one(args []string) (*buildParts, *component.Run, *component.Component, error) {
	if len(args) != 1 {
		return nil, nil, nil, fmt.Errorf("want one component, not %d", len(args))
	}
	job, err := f.job(args)
	if err != nil {
		return nil, nil, nil, err
	}
	if len(job.roots) != 1 {
		return nil, nil, nil, fmt.Errorf("%s is no single component", args[0])
	}
	parts, err := openBuildParts(*f)
	if err != nil {
		return nil, nil, nil, err
	}
	run, _, err := f.wire(parts, job)
	if err != nil {
		return nil, nil, nil, errors.Join(err, parts.Close())
	}
	return parts, run, job.roots[0], nil
}

func whyCommand() commandline.Command {
	return buildWord("why", "say what of a component is not as it was when it was last built", `
Says whether COMPONENT would be built, and if so, why: what of its source, its
commands, its environment, its base and of what it needs is not as it was.
Nothing is built.`,
		explainBuild)
}

func explainBuild(ctx context.Context, f *buildFlags, args []string) error {
	parts, run, c, err := f.one(args)
	if err != nil {
		return err
	}
	lines, err := run.Why(ctx, c)
	for _, l := range lines {
		fmt.Println(l)
	}
	return errors.Join(err, parts.Close())
}

func shellCommand() commandline.Command {
	return buildWord("shell", "run a shell where the build of a component would run", `
Builds what COMPONENT needs, and runs a shell in the root in which it would be
built itself: with its source, its environment, and nothing else. What the shell
does is lost when it ends.`,
		openShell)
}

func openShell(ctx context.Context, f *buildFlags, args []string) error {
	parts, run, c, err := f.one(args)
	if err != nil {
		return err
	}
	defer parts.Close()
	built, err := run.Build(ctx, c.Needs)
	if err != nil {
		return f.failed(err)
	}
	code, err := run.Shell(ctx, c, built)
	if err == nil && code != 0 {
		err = commandline.ExitCode(code)
	}
	return err
}

func logCommand() commandline.Command {
	return commandline.Command{
		Name: "log", Settings: true, SettingFlags: buildSettings, Args: "[FLAGS] [COMPONENT]",
		Short: "print what the last build of a component printed, or list who has a log",
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			var f buildFlags
			f.declare(flags)
			return func(_ context.Context, args []string) error {
				args, err := flagsAnywhere(flags, args)
				if err != nil {
					return err
				}
				return f.printLog(args)
			}
		},
	}
}

func (f *buildFlags) printLog(args []string) error {
	parts, err := openBuildParts(*f)
	if err != nil {
		return err
	}
	defer parts.Close()
	_, dir, err := f.place()
	if err != nil {
		return err
	}
	state := stateOf(parts.store.Dir(), dir)
	names, err := state.Names()
	if err != nil {
		return err
	}
	if len(args) == 0 {
		for _, n := range names {
			fmt.Println(n)
		}
		return nil
	}
	var found []string
	for _, n := range names {
		if n == args[0] || strings.HasSuffix(n, "/"+args[0]) {
			found = append(found, n)
		}
	}
	if len(names) == 0 {
		return errors.New("nothing has a log: no component was built with this store")
	}
	if len(args) != 1 || len(found) != 1 {
		return fmt.Errorf("want one component that has a log: %s", strings.Join(names, ", "))
	}
	file, err := os.Open(state.LogPath(found[0]))
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(os.Stdout, file)
	return err
}

// template is what init writes.
//
//go:embed sbx.yaml.template
var template []byte

func initCommand() commandline.Command {
	return commandline.Command{
		Name: "init", Args: "[FILE]", Short: "write an sbx.yaml with comments that say what everything is",
		Long: `
Writes FILE, or sbx.yaml, of which 'sbx-action build' builds components: an example
to edit, with comments that say what each field is. A file that is there stays as it is.

  sbx-action init && sbx-action build
`,
		Setup: func(*flag.FlagSet) func(context.Context, []string) error {
			return func(_ context.Context, args []string) error {
				name := component.FileName
				if len(args) > 1 {
					return fmt.Errorf("want one file, not %d", len(args))
				}
				if len(args) == 1 {
					name = args[0]
				}
				f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
				if errors.Is(err, fs.ErrExist) {
					return fmt.Errorf("%s is there: remove it, or name another file", name)
				}
				if err != nil {
					return err
				}
				if _, err := f.Write(template); err != nil {
					return errors.Join(err, f.Close(), os.Remove(name))
				}
				fmt.Printf("wrote %s\n", name)
				return f.Close()
			}
		},
	}
}

func schemaCommand() commandline.Command {
	return commandline.Command{
		Name: "schema", Short: "print the JSON Schema of sbx.yaml, for editors",
		Setup: func(*flag.FlagSet) func(context.Context, []string) error {
			return func(_ context.Context, args []string) error {
				if len(args) > 0 {
					return fmt.Errorf("unexpected argument %q", args[0])
				}
				_, err := os.Stdout.Write(component.Schema)
				return err
			}
		},
	}
}

func convertCommand() commandline.Command {
	c := buildWord("convert", "print definitions as an sbx.yaml", `
Prints TARGET of a tree of definitions, and what it needs, as an sbx.yaml. Sources
that are nowhere keep the name of their repository: edit that. Bootstrap chunks
cannot be said there: --replace the toolchain.`,
		convert)
	c.Args = "[FLAGS] TARGET"
	return c
}

func convert(ctx context.Context, f *buildFlags, args []string) error {
	f.anySource = true
	job, err := f.job(args)
	if err != nil {
		return err
	}
	for _, c := range job.project.Components {
		if c.Source == nil || c.Source.Kind != component.GitSource {
			continue
		}
		// What aliases make of .gitmodules, an sbx.yaml says itself. A repository
		// that is not here is one to be edited anyway.
		if subs, err := c.Source.GitSubmodules(ctx); err == nil {
			c.Source.Submodules = subs
		}
	}
	return component.WriteYAML(os.Stdout, job.project)
}
