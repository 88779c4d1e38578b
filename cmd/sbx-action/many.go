package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/progress"
	"github.com/sbx-action/sbx-action/schedule"
)

// fileCommands are the commands around action files and settings.
func fileCommands() []command {
	return []command{graphCommand(), configCommand(), completionCommand(), manCommand()}
}

// many is the flags of run that are for the actions of a file.
type many struct {
	file      string
	jobs      count
	keepGoing bool
	budget    size
	trace     string
	show      choice
	progress  choice
	color     choice
}

func (m *many) declare(flags *flag.FlagSet) {
	m.show = choice{"ran", []string{"ran", "all", "failed", "none"}}
	m.progress = choice{"auto", []string{"auto", "plain", "none"}}
	m.color = choice{"auto", []string{"auto", "always", "never"}}
	flags.Var((*given)(&m.file), "f", "`FILE` with actions, of which the TARGETs are run, or all")
	flags.Var(&m.jobs, "jobs", "`N`: most actions that run at a time (default: the processors; under\nmake -jN, as many as that allows)")
	flags.Var(&m.jobs, "j", "`N`: the same as --jobs")
	flags.BoolVar(&m.keepGoing, "keep-going", false, "after a failure go on with what does not need it")
	flags.BoolVar(&m.keepGoing, "k", false, "the same as --keep-going")
	flags.Var(&m.budget, "memory-budget", "`SIZE`: most memory for the actions that run at a time, by what their file\nsays they need, or what they needed before (default: nine tenths of this machine's)")
	flags.Var((*given)(&m.trace), "trace", "`FILE` for what took how long, for ui.perfetto.dev or chrome://tracing")
	flags.Var(&m.show, "show", "`WHICH` actions' own output is shown: ran, all (hits too), failed or none")
	flags.Var(&m.progress, "progress", "`HOW`: auto (drawn, on a terminal), plain or none")
	flags.Var(&m.color, "color", "`WHEN`: auto (on a terminal, unless NO_COLOR is set), always or never")
}

// manyOnly are the flags above that mean nothing without -f.
var manyOnly = []string{"jobs", "j", "keep-going", "k", "memory-budget", "trace"}

// fileOnly are flags that belong into the file.
var fileOnly = []string{"i", "o", "env", "cwd", "stdin"}

// check refuses flags that have no meaning for one action.
func (f *runFlags) checkSingle() error {
	return f.given(manyOnly, "%s is for the actions of a file: name it with -f FILE")
}

// checkMany refuses flags that have no meaning for many.
func (f *runFlags) checkMany() error {
	return f.given(fileOnly, "%s belongs to an action: write it into the file")
}

// given returns an error if one of the flags was on the command line.
func (f *runFlags) given(names []string, format string) (err error) {
	f.set.Visit(func(fl *flag.Flag) {
		if err == nil && f.cli[fl.Name] && slices.Contains(names, fl.Name) {
			err = fmt.Errorf(format, dashed(fl.Name))
		}
	})
	return err
}

// dashed is a flag as users write it.
func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// A choice is one of a few words.
type choice struct {
	word  string
	words []string
}

func (c *choice) String() string { return c.word }

func (c *choice) Set(s string) error {
	if !slices.Contains(c.words, s) {
		return fmt.Errorf("want one of %s", strings.Join(c.words, ", "))
	}
	c.word = s
	return nil
}

// screen returns what progress wants to know of standard error: its size if it is
// a terminal on which things can be drawn, and whether colours are wanted.
func (m *many) screen() (size func() (int, int), color bool) {
	size = progress.Terminal(os.Stderr)
	terminal := size != nil && os.Getenv("TERM") != "dumb"
	color = m.color.word == "always" || m.color.word == "auto" && terminal && os.Getenv("NO_COLOR") == ""
	if !terminal || m.progress.word != "auto" {
		size = nil
	}
	return size, color
}

// defaultBudget is nine tenths of the memory of this machine, or of the control
// group that we are in; 0 if that is not known.
func defaultBudget() int64 { return schedule.Memory() / 10 * 9 }
