package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/sbx-action/sbx-action/action"
)

func explainCommand() command {
	return command{
		Name: "explain", Settings: true, Args: "[FLAGS] -- COMMAND [ARGUMENT…]",
		Short: "print what is in the key of an action, and what is not",
		Long: `
Takes the flags of run, and runs nothing: it prints the action's digest, all
that the digest is made of, what the last run saw of the host's root file
system, whether the cache has a result, and what is not in the key. With --tree
it also lists every input with its digest.
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			var f runFlags
			f.declare(flags)
			tree := flags.Bool("tree", false, "list every input with its digest")
			return func(ctx context.Context, args []string) error { return f.explain(ctx, args, *tree) }
		},
	}
}

func (f *runFlags) explain(ctx context.Context, args []string, tree bool) error {
	if err := f.check(args); err != nil {
		return err
	}
	job, err := f.describe(ctx, args)
	if err != nil {
		return err
	}
	defer job.Close()
	sealed, miss := job.parts.witness.Recall(ctx, job.action)
	if miss != nil {
		sealed = job.action
	}
	if err := action.Explain(os.Stdout, sealed, job.command); err != nil {
		return err
	}
	if tree {
		fmt.Println("inputs:")
		if err := job.printInputs(); err != nil {
			return err
		}
	}
	seen, err := job.parts.witness.Seen(ctx, job.action, sealed)
	if err != nil {
		return err
	}
	if seen != nil {
		fmt.Printf("seen of the host by the last run; its digest is in the platform's rootfs:\n%s", seen)
	}
	if miss == nil {
		_, miss = job.parts.store.Result(ctx, sealed.Digest(f.digest.Function))
	}
	if miss == nil {
		fmt.Println("the cache has a result")
		return nil
	}
	fmt.Printf("the cache has no result: %v\n", miss)
	return nil
}
