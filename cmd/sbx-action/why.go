package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/compare"
	"github.com/sbx-action/sbx-action/history"
	"github.com/sbx-action/sbx-action/why"
)

// bookFlags are the flags of the commands that look at what the store holds and
// change nothing in it.
type bookFlags struct {
	wiringFlags
	json  bool
	limit count
}

func (f *bookFlags) declare(flags *flag.FlagSet) { f.declareCache(flags) }

func (f *bookFlags) declareLimit(flags *flag.FlagSet) {
	f.limit = 50
	flags.Var(&f.limit, "n", "`N`: list no more than that many changes")
	flags.BoolVar(&f.json, "json", false, "print one line of JSON")
}

// open opens the store for reading, and its history.
func (f *bookFlags) open() (*history.Book, error) {
	store, err := f.openStore(cache.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	return history.Open(store)
}

// anywhere lets flags stand between and after the arguments, too: those who ask
// mostly think of the flag last.
// A name that begins with "-" is written "./-x".
func anywhere(flags *flag.FlagSet, run func(context.Context, []string) error) func(context.Context, []string) error {
	return func(ctx context.Context, args []string) error {
		var words []string
		for len(args) > 0 {
			words = append(words, args[0])
			if err := commandline.ParseFlags(flags, args[1:]); err != nil {
				return err
			}
			args = flags.Args()
		}
		return run(ctx, words)
	}
}

// find is what a user means by name.
func find(ctx context.Context, b *history.Book, name string) (*history.Thing, error) {
	dir, err := history.Here()
	if err != nil {
		return nil, err
	}
	return b.Find(ctx, name, dir)
}

// findRun is find for what must be an action.
func findRun(ctx context.Context, b *history.Book, name string) (*history.Thing, error) {
	t, err := find(ctx, b, name)
	if err == nil && t.Run == nil {
		err = fmt.Errorf("%s names a blob and not an action: see 'sbx-action show %s'", name, name)
	}
	return t, err
}

func whyCommand() command {
	return command{
		Name: "why", Args: "[FLAGS] OUTPUT|DIGEST…",
		Short: "say why something ran, and was not taken from the cache",
		Long: `
Says why the command that makes OUTPUT, or the action with DIGEST, ran the last
time that it did: what differs from the nearest earlier run of the same thing
(the same outputs, or the same command), down to the file and the number of its
lines, the argument, the variable, the entry of the root file system; or what
became of the earlier result: trimmed, damaged, or never cached, and for what
reason. DIGEST may be the first six digits of a hash or more; THING~N is the Nth
run of another action before.

Exits with 1 if it was never run.

  sbx-action why build/main.o
  sbx-action why --json build/main.o
  sbx-action why build/main.o~1
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			var f bookFlags
			f.declare(flags)
			f.declareLimit(flags)
			return anywhere(flags, f.why)
		},
	}
}

func (f *bookFlags) why(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("say of what: an output, or the digest of an action")
	}
	book, err := f.open()
	if err != nil {
		return err
	}
	defer book.Store.Close()
	var unknown bool
	for _, name := range args {
		t, err := find(ctx, book, name)
		if missing, ok := errors.AsType[*history.NotFoundError](err); ok {
			unknown = true
			if err := f.printUnknown(missing); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if t.Run == nil {
			return fmt.Errorf("%s names a blob and not an action: see 'sbx-action show %s'", name, name)
		}
		teller := &why.Teller{Book: book, Limit: int(f.limit)}
		if err := f.printWhy(t, teller.Why(ctx, t.Run)); err != nil {
			return err
		}
	}
	if unknown {
		return exitCode(1)
	}
	return nil
}

// A jsonWhy is what why --json prints for each thing.
type jsonWhy struct {
	Name     string       `json:"name"`
	Reason   string       `json:"reason"`
	Text     string       `json:"text"`
	Action   string       `json:"action,omitempty"`  // the hash of its digest
	Time     string       `json:"time,omitempty"`    // when it ran
	Earlier  string       `json:"earlier,omitempty"` // the hash of the action that it is compared with
	Changes  []jsonChange `json:"changes,omitempty"`
	More     int          `json:"more_changes,omitempty"`
	Hits     int          `json:"hits_since,omitempty"`
	Unkept   string       `json:"not_stored,omitempty"`
	ExitCode int          `json:"exit_code"`
}

type jsonChange struct {
	Part   string `json:"part"`
	Kind   string `json:"kind"`
	Name   string `json:"name,omitempty"`
	Old    string `json:"old,omitempty"`
	New    string `json:"new,omitempty"`
	Detail string `json:"detail,omitempty"`
}

func jsonChanges(list []compare.Change) (all []jsonChange) {
	for _, c := range list {
		all = append(all, jsonChange{string(c.Part), c.Kind.String(), c.Name, c.Old, c.New, c.Detail})
	}
	return all
}

func printLineJSON(v any) error {
	line, err := json.Marshal(v)
	if err == nil {
		_, err = os.Stdout.Write(append(line, '\n'))
	}
	return err
}

func (f *bookFlags) printUnknown(e *history.NotFoundError) error {
	if f.json {
		return printLineJSON(jsonWhy{Name: e.Name, Reason: string(why.First), Text: e.Reason})
	}
	_, err := fmt.Printf("%s: %s\n", compare.Legible(e.Name), e.Reason)
	return err
}

func (f *bookFlags) printWhy(t *history.Thing, a *why.Answer) error {
	r := a.Run
	last, hits := t.LastHit()
	if f.json {
		j := jsonWhy{
			Name: t.Name, Reason: string(a.Reason), Text: a.Text, Action: r.Key.Hash(), Time: r.Time.Format(time.RFC3339Nano),
			Changes: jsonChanges(a.Changes), More: a.More, Hits: hits, Unkept: r.Unkept, ExitCode: r.ExitCode,
		}
		if a.Earlier != nil {
			j.Earlier = a.Earlier.Key.Hash()
		}
		return printLineJSON(j)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s %s: %s\n", compare.Legible(t.Name), ranVerb(r), when(r.Time), a.Text)
	writeChanges(&b, a.Changes, a.More)
	switch {
	case r.Verdict == history.Kept && r.Unkept != "":
		fmt.Fprintf(&b, "  its result is in the store, but did not reach the workspace: %s\n", compare.Sentence(r.Unkept))
	case hits > 0:
		fmt.Fprintf(&b, "  since then it was a hit: %s, the last %s\n", plural(hits, "time"), when(last.Time))
	case r.Verdict == history.NotKept || r.Verdict == history.Broken:
		fmt.Fprintf(&b, "  the next run will be no hit either, for this one was not cached: %s\n", compare.Sentence(r.Unkept))
	}
	_, err := os.Stdout.WriteString(b.String())
	return err
}

func ranVerb(r *history.Run) string {
	switch {
	case r.Verdict == history.Hit:
		return "was asked for"
	case r.Verdict == history.Broken:
		return "was to run"
	case r.ExitCode != 0:
		return fmt.Sprintf("ran and failed with %d", r.ExitCode)
	}
	return "ran"
}

func writeChanges(b *strings.Builder, list []compare.Change, more int) {
	for _, c := range list {
		fmt.Fprintf(b, "  %v\n", c)
	}
	if more > 0 {
		fmt.Fprintf(b, "  and %s; -n lists more\n", plural(more, "more change"))
	}
}

func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// when is a time for people: without the date, if it is today's.
func when(t time.Time) string {
	t = t.Local()
	now := time.Now()
	if t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return "at " + t.Format("15:04:05")
	}
	return "on " + t.Format("2006-01-02 at 15:04:05")
}

func diffCommand() command {
	return command{
		Name: "diff", Args: "[FLAGS] [A] B",
		Short: "say how two actions, or two trees, differ",
		Long: `
Says how B differs from A: each an output, an action or a tree of the store, by
its digest or the first digits of its hash; THING~N is the Nth run of another
action before. Without A, it is B~1. With --outputs, what they made is compared,
and not what they were made of.

Exits with 1 if they differ.

  sbx-action diff build/main.o~2 build/main.o
  sbx-action diff --outputs 41f7a2 8c30be
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			var f bookFlags
			f.declare(flags)
			f.declareLimit(flags)
			outputs := flags.Bool("outputs", false, "compare what they made")
			return anywhere(flags, func(ctx context.Context, args []string) error { return f.diff(ctx, args, *outputs) })
		},
	}
}

func (f *bookFlags) diff(ctx context.Context, args []string, outputs bool) error {
	switch len(args) {
	case 1:
		args = []string{args[0] + "~1", args[0]}
	case 2:
	default:
		return fmt.Errorf("want one or two outputs or digests, have %d", len(args))
	}
	book, err := f.open()
	if err != nil {
		return err
	}
	defer book.Store.Close()
	var sides [2]*history.Thing
	for i, name := range args {
		if sides[i], err = find(ctx, book, name); err != nil {
			return err
		}
	}
	c := &compare.Comparison{Blobs: book.Store, Limit: int(f.limit), Contents: true}
	if err := compareThings(ctx, book, c, sides, outputs); err != nil {
		return err
	}
	if f.json {
		err = printLineJSON(map[string]any{"changes": jsonChanges(c.Changes), "more_changes": c.More})
	} else {
		var b strings.Builder
		writeChanges(&b, c.Changes, c.More)
		_, err = os.Stdout.WriteString(strings.ReplaceAll("\n"+b.String(), "\n  ", "\n")[1:])
	}
	if err == nil && len(c.Changes) > 0 {
		return exitCode(1)
	}
	return err
}

// compareThings adds to c how the second differs from the first.
func compareThings(ctx context.Context, book *history.Book, c *compare.Comparison, sides [2]*history.Thing, outputs bool) error {
	a, b := sides[0], sides[1]
	switch {
	case a.Run != nil && b.Run != nil && outputs:
		x, err := book.Result(a.Run)
		if err != nil {
			return fmt.Errorf("%s has no result: %w", a.Name, err)
		}
		y, err := book.Result(b.Run)
		if err != nil {
			return fmt.Errorf("%s has no result: %w", b.Name, err)
		}
		c.Results(ctx, x, y)
		return nil
	case a.Run != nil && b.Run != nil:
		d, err := (&why.Teller{Book: book, Limit: c.Limit}).Compare(ctx, a.Run, b.Run)
		if err == nil {
			*c = *d
		}
		return err
	case a.Run != nil || b.Run != nil:
		return fmt.Errorf("one of %s and %s is an action and the other is not: want two of a kind", a.Name, b.Name)
	}
	x, err := openTree(ctx, book.Store, a.Blob)
	if err != nil {
		return fmt.Errorf("%s is no tree: %w", a.Name, err)
	}
	y, err := openTree(ctx, book.Store, b.Blob)
	if err != nil {
		return fmt.Errorf("%s is no tree: %w", b.Name, err)
	}
	c.Known = x.known
	maps.Copy(c.Known, y.known)
	c.Trees(ctx, compare.Tree, x.root, y.root)
	return nil
}
