package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/integration/baserock"
	"github.com/sbx-action/sbx-action/integration/component"
)

// buildCommand has words of its own: what looks at definitions without building.
func buildCommand() commandline.Command {
	words := []commandline.Command{
		graphCommand(), keysCommand(), showCommand(), whyCommand(), logCommand(), shellCommand(), initCommand(), convertCommand(), schemaCommand(),
	}
	c := buildRunCommand()
	c.Words = words
	c.Raw = func(ctx context.Context, args []string) error {
		p := &commandline.Program{Name: "sbx-action", Commands: []commandline.Command{buildRunCommand()}}
		if len(args) > 0 && slices.ContainsFunc(words, func(c commandline.Command) bool { return c.Name == args[0] }) {
			p = &commandline.Program{Name: "sbx-action build", Commands: words}
			return p.Dispatch(ctx, args)
		}
		err := p.Dispatch(ctx, append([]string{"build"}, args...))
		if inner := errors.Unwrap(err); inner != nil {
			err = inner // which command it is, the caller says
		}
		return err
	}
	return c
}

// definitionsFlags are what all that read definitions have.
type definitionsFlags struct {
	dir, arch string
	warnings  bool
}

// An aboutFlags is what graph and show have: they look at an sbx.yaml, too.
type aboutFlags struct {
	definitionsFlags
	file string
}

func (f *aboutFlags) declare(flags *flag.FlagSet) {
	f.definitionsFlags.declare(flags)
	flags.StringVar(&f.file, "file", "", "`FILE` in the form of sbx.yaml (default: sbx.yaml, if it is there and no definitions\nare named)")
	flags.Lookup("definitions").DefValue = ""
	f.dir = ""
}

// project reads the sbx.yaml that is meant, or returns nil if it is definitions.
func (f *aboutFlags) project() (*component.Project, error) {
	of := buildFlags{definitionsFlags: f.definitionsFlags, file: f.file}
	definitions, _, err := of.place()
	if err != nil {
		return nil, err
	}
	if f.dir = of.dir; definitions {
		return nil, nil
	}
	return component.ReadFile(of.file)
}

func (f *definitionsFlags) declare(flags *flag.FlagSet) {
	flags.StringVar(&f.dir, "definitions", ".", "`DIR` with the file VERSION of a tree of Baserock definitions")
	flags.StringVar(&f.arch, "arch", "", "`ARCH` to build for, such as x86_64 (default: that of the system)")
	flags.BoolVar(&f.warnings, "warnings", false, "say what in the definitions is allowed but probably not meant")
}

// load reads the tree and finds the one element that args name.
func (f *definitionsFlags) load(args []string, what string) (*baserock.Tree, *baserock.Element, error) {
	if len(args) != 1 {
		return nil, nil, fmt.Errorf("want one %s, not %d arguments: flags come before it", what, len(args))
	}
	tree, err := baserock.Load(f.dir)
	if err != nil {
		return nil, nil, f.explain(err)
	}
	if f.warnings {
		for _, w := range tree.Warnings {
			fmt.Fprintf(os.Stderr, "sbx-action: warning: %s\n", commandline.Visible(w.Error()))
		}
	}
	e, err := tree.Find(args[0])
	if err != nil {
		return nil, nil, err
	}
	for _, of := range baserock.Order(e) {
		for _, d := range of.Doubts {
			fmt.Fprintf(os.Stderr, "sbx-action: warning: %s; this cannot be built\n", commandline.Visible(d.Error()))
		}
	}
	return tree, e, nil
}

func (f *definitionsFlags) explain(err error) error {
	if _, ok := errors.AsType[baserock.Problems](err); ok {
		return fmt.Errorf("the definitions in %s have problems:\n%w", f.dir, err)
	}
	return fmt.Errorf("--definitions: %w", err)
}

func graphCommand() commandline.Command {
	return commandline.Command{
		Name: "graph", Args: "[FLAGS] TARGET",
		Short: "print what a target is made of, and what each part needs",
		Long: `
Prints every element that TARGET, a chunk, stratum, system or cluster of
definitions, or a component or system of an sbx.yaml, needs or contains, each after
what it needs itself. Of an sbx.yaml it may be left out: then it is everything.

  sbx-action build graph --definitions . systems/minimal-system-x86_64-generic
  sbx-action build graph --format dot core | dot -Tsvg > core.svg
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			var f aboutFlags
			f.declare(flags)
			format := flags.String("format", "text", "`FORMAT`: text, dot (for Graphviz) or json")
			return func(_ context.Context, args []string) error {
				args, err := flagsAnywhere(flags, args)
				if err != nil {
					return err
				}
				write := map[string]func(io.Writer, *baserock.Element) error{
					"text": baserock.WriteText, "dot": baserock.WriteDot, "json": writeNodes,
				}[*format]
				if write == nil {
					return fmt.Errorf("unknown --format %q: there are text, dot and json", *format)
				}
				out := bufio.NewWriter(os.Stdout)
				project, err := f.project()
				if err != nil {
					return err
				}
				if project != nil {
					if len(args) > 1 {
						return fmt.Errorf("want one target, not %d", len(args))
					}
					return errors.Join(project.Graph(out, strings.Join(args, ""), *format), out.Flush())
				}
				_, e, err := f.load(args, "target")
				if err != nil {
					return err
				}
				return errors.Join(write(out, e), out.Flush())
			}
		},
	}
}

func writeNodes(w io.Writer, e *baserock.Element) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(map[string]any{"target": e.Path, "elements": baserock.Nodes(e)})
}

func keysCommand() commandline.Command {
	return commandline.Command{
		Name: "keys", Args: "[FLAGS] TARGET",
		Short: "print the keys by which another tool knows what a target is made of",
		Long: `
Prints the path and the key of everything that TARGET needs or contains, with a
tab between them, as YBD (artifact-version 8) computes them. sbx-action itself
finds results by the digest of what really is staged and run; 'sbx-action build
show' prints that.

A key depends on the tree of the source. Where sources are not at hand,
--tree-ids synthetic takes sha1("tree:" + repo + "@" + ref) for it; with a file,
each line is a repo, a ref and the id of a tree.
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			var f definitionsFlags
			f.declare(flags)
			format := flags.String("format", "ybd", "`FORMAT`: ybd")
			ids := flags.String("tree-ids", "synthetic", "`synthetic|FILE`: where the ids of the trees of sources come from")
			return func(_ context.Context, args []string) error {
				if *format != "ybd" {
					return fmt.Errorf("unknown --format %q: there is ybd", *format)
				}
				id, err := treeIDs(*ids)
				if err != nil {
					return err
				}
				tree, e, err := f.load(args, "target")
				if err != nil {
					return err
				}
				keys, err := tree.YBDKeys(e, f.arch, id)
				if err != nil {
					return err
				}
				out := bufio.NewWriter(os.Stdout)
				for _, k := range keys {
					fmt.Fprintf(out, "%s\t%s\n", k.Element.Path, k.Key)
				}
				return out.Flush()
			}
		},
	}
}

// treeIDs reads a file of ids.
func treeIDs(name string) (baserock.TreeID, error) {
	if name == "synthetic" {
		return baserock.SyntheticTreeID, nil
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("--tree-ids: %w: give a file, or \"synthetic\"", err)
	}
	known := map[[2]string]string{}
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) != 3 {
			return nil, fmt.Errorf("%s:%d: want a repo, a ref and the id of a tree", name, number)
		}
		known[[2]string{fields[0], fields[1]}] = fields[2]
	}
	return func(repo, ref string) (string, error) {
		if id, ok := known[[2]string{repo, ref}]; ok {
			return id, nil
		}
		return "", fmt.Errorf("%s has no line for %s %s", name, repo, ref)
	}, nil
}

func showCommand() commandline.Command {
	return commandline.Command{
		Name: "show", Args: "[FLAGS] ELEMENT",
		Short: "print the commands and the environment of a chunk or a component, after defaults",
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			var f aboutFlags
			f.declare(flags)
			return func(_ context.Context, args []string) error {
				args, err := flagsAnywhere(flags, args)
				if err != nil {
					return err
				}
				project, err := f.project()
				if err != nil {
					return err
				}
				if project != nil {
					if len(args) != 1 {
						return fmt.Errorf("want one component or system, not %d: there are %s", len(args), strings.Join(project.Names(), ", "))
					}
					return project.Show(os.Stdout, args[0])
				}
				tree, e, err := f.load(args, "element")
				if err != nil {
					return err
				}
				out := bufio.NewWriter(os.Stdout)
				return errors.Join(tree.Show(out, e, f.arch), out.Flush())
			}
		},
	}
}
