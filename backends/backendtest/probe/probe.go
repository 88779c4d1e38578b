// Package probe is the program that the promises of package promise run inside
// a sandbox, and outside of it as a control.
//
// It is started as "PROGRAM NAME ARGUMENT…" and does one small thing: it either
// tells what it sees (one fact per line), or it attempts something that a
// sandbox must defeat. An attempt always exits 0 and says "yes" when it had its
// way and "no" with the reason when it had not, so that a probe that crashed, or
// that was never started, is not taken for a sandbox that holds.
//
// Attempts harm nothing when they succeed: they also run outside, sometimes as
// root. They name their targets as arguments, change only what they are given,
// and set host-wide values only to what they already are.
//
// The package uses raw system calls where the Go library would hide what the
// kernel says, and none of net, os/exec and regexp, so that a program can link
// it without starting slower.
package probe

import (
	"fmt"
	"os"
	"sort"
	"strings"
)

// A command is one thing that the probe can do. It returns the exit status.
type command func(args []string) int

// Main runs the probe that args names and returns the exit status: 98 when
// there is no such probe, 99 when it could not do its work, else the probe's.
func Main(args []string) (code int) {
	all := commands()
	if len(args) == 0 || all[args[0]] == nil {
		names := make([]string, 0, len(all))
		for name := range all {
			names = append(names, name)
		}
		sort.Strings(names)
		fmt.Fprintf(os.Stderr, "probe: no such probe; there are: %s\n", strings.Join(names, " "))
		return 98
	}
	defer func() {
		if r := recover(); r != nil {
			fmt.Fprintf(os.Stderr, "probe %s: %v\n", args[0], r)
			code = 99
		}
	}()
	return all[args[0]](args[1:])
}

// answer says whether an attempt succeeded.
func answer(err error) int {
	if err != nil {
		fmt.Printf("no: %v\n", err)
		return 0
	}
	fmt.Println("yes")
	return 0
}

// must ends the probe with status 99 when something failed that has nothing to
// do with what is being probed.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
