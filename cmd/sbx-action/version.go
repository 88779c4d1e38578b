package main

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is set by the linker for a release.
var version = ""

func versionCommand() command {
	return command{
		name: "version", short: "print the version",
		long: "Prints the version of the program, of its store, and of Go.",
		setup: func(*flag.FlagSet) func(context.Context, []string) error {
			return func(_ context.Context, args []string) error {
				if len(args) > 0 {
					return fmt.Errorf("unexpected argument %q", args[0])
				}
				v := version
				if info, ok := debug.ReadBuildInfo(); ok && v == "" {
					v = info.Main.Version
				}
				_, err := fmt.Printf("sbx-action %s (%s, %s/%s)\n", v, runtime.Version(), runtime.GOOS, runtime.GOARCH)
				return err
			}
		},
	}
}
