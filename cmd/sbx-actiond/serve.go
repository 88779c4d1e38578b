package main

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"github.com/sbx-action/sbx-action/cmd/commandline"
)

func serveCommand() commandline.Command {
	return commandline.Command{
		Name: "serve", Args: "[FLAGS]",
		Short: "serve a cache and remote execution",
		Long:  `Serves the store and the sandboxes of this machine over the Remote Execution API.`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			return func(ctx context.Context, args []string) error {
				if len(args) > 0 {
					return fmt.Errorf("unexpected argument %q", args[0])
				}
				return errors.New("not in this version yet")
			}
		},
	}
}
