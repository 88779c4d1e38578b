package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/sbx-action/sbx-action/cmd/commandline"
)

func manCommand() command {
	return command{
		Name: "man", Args: "[--dir DIR] [COMMAND]",
		Short: "print a manual page, or write all of them",
		Long: `
Prints the manual page of COMMAND, or of sbx-action, in the language of man(7).
It is made of the same table as --help; sbx-actiond is asked for its part of it.

  sbx-action man run | man -l -
  sbx-action man --dir /usr/local/share/man/man1
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			var dir string
			flags.Var((*given)(&dir), "dir", "`DIR` into which all pages are written, sbx-action.1 and one for each command")
			return func(ctx context.Context, args []string) error {
				switch {
				case len(args) > 1, dir != "" && len(args) > 0:
					return errors.New("want one COMMAND, or --dir DIR")
				case dir != "":
					return writeManPages(ctx, dir)
				case len(args) == 0:
					return program().ManPage(os.Stdout, nil)
				}
				c, ok := whole(ctx).Lookup(args[0])
				if !ok {
					return fmt.Errorf("unknown command %q: 'sbx-action help' lists them", args[0])
				}
				return program().ManPage(os.Stdout, &c)
			}
		},
	}
}

func writeManPages(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	p := whole(ctx)
	write := func(name string, c *command) error {
		var page bytes.Buffer
		if err := p.ManPage(&page, c); err != nil {
			return err
		}
		return commandline.WriteWhole(filepath.Join(dir, name+".1"), func(w io.Writer) error {
			_, err := w.Write(page.Bytes())
			return err
		})
	}
	if err := write("sbx-action", nil); err != nil {
		return err
	}
	for _, c := range p.Commands {
		if err := write("sbx-action-"+c.Name, &c); err != nil {
			return err
		}
	}
	return nil
}
