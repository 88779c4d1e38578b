package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sbx-action/sbx-action/integration/bwrap"
	"github.com/sbx-action/sbx-action/integration/cc"
)

// A personality is the command line of somebody else's program. It is had by
// that name, which can be a link to us, or as a command of ours, and knows
// nothing of our settings: its callers expect that program, and nothing else.
type personality struct {
	name, short string
	main        func(args []string) int // args[0] is the name
}

func personalities() []personality {
	return []personality{
		{"bwrap", "make a sandbox as bubblewrap does, with its options", bwrap.Main},
		{"linux-user-chroot", "run a program in another root, as linux-user-chroot does", bwrap.MainUserChroot},
		{"buildbox-run", "", func(args []string) int {
			err := delegate("buildbox-run", args[1:])
			fmt.Fprintf(os.Stderr, "sbx-action: %v\n", err)
			return exitOurs
		}},
	}
}

// runPersonality ends the program if args ask for a personality. It comes before
// everything else that looks at them, because all that follows the name is that
// program's.
func runPersonality(args []string) {
	name := filepath.Base(args[0])
	for _, p := range personalities() {
		if name == p.name {
			os.Exit(p.main(args))
		}
		if len(args) > 1 && name == "sbx-action" && args[1] == p.name {
			os.Exit(p.main(args[1:]))
		}
	}
}

// checkLink ends the program if it was called by a name that stands for nothing:
// no personality, no compiler, and no program of that name on PATH to be cached.
func checkLink(name string) {
	if cc.Knows(name) {
		return
	}
	self, err := os.Stat("/proc/self/exe")
	if err != nil {
		return
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		info, err := os.Stat(filepath.Join(dir, name))
		if err == nil && !info.IsDir() && !os.SameFile(info, self) {
			return
		}
	}
	var names strings.Builder
	for _, p := range personalities() {
		names.WriteString(p.name + ", ")
	}
	fmt.Fprintf(os.Stderr, "sbx-action: %s: called by this name, it stands for a program of that name, and there is none on PATH; the other names it knows are %scompilers (see 'sbx-action cc --help') and sbx-action\n", name, names.String())
	os.Exit(127) // as a shell has it for a program that is not there
}

// personalityCommands are for those who look at the table of commands.
func personalityCommands() (list []command) {
	for _, p := range personalities() {
		if p.short == "" { // delegates has it
			continue
		}
		list = append(list, command{Name: p.name, Short: p.short, Raw: func(_ context.Context, args []string) error {
			if code := p.main(append([]string{p.name}, args...)); code != 0 {
				return exitCode(code)
			}
			return nil
		}})
	}
	return list
}
