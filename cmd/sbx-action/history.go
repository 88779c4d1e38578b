package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/compare"
	"github.com/sbx-action/sbx-action/history"
)

func historyCommand() command {
	return command{
		Name: "history", Args: "[FLAGS] [OUTPUT|DIGEST…]",
		Short: "list what ran: when, hit or miss, how long, what it saved",
		Long: `
Lists the runs that the store remembers, of the things given or of all, the
latest last, and their sum. A line has the time; hit, run (and cached), unkept
(ran, and its result was not cached) or broken (we could not say what the command
does); how long all of it took; what a hit saved: how long the command took when
it ran; the first digits of the action's hash; and the outputs.

How far back it goes is a matter of space: about 32 MiB are kept, and less of a
store that 'sbx-action cache trim' keeps small.

  sbx-action history -n 20
  sbx-action history --since 1h
  sbx-action history --json build/main.o
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			f := &historyFlags{}
			f.declare(flags)
			flags.Var(&f.limit, "n", "`N`: list only the last N (default: all)")
			flags.Var(&f.since, "since", "`DURATION`: list only what ran within that time")
			flags.BoolVar(&f.json, "json", false, "print one line of JSON for each run")
			return anywhere(flags, f.history)
		},
	}
}

type historyFlags struct {
	bookFlags
	since span
}

func (f *historyFlags) history(ctx context.Context, args []string) error {
	book, err := f.open()
	if err != nil {
		return err
	}
	defer book.Store.Close()
	runs := book.Runs
	if len(args) > 0 {
		wanted := map[*history.Run]bool{}
		for _, name := range args {
			t, err := findRun(ctx, book, name)
			if err != nil {
				return err
			}
			for _, r := range t.Runs {
				wanted[r] = true
			}
		}
		runs = nil
		for _, r := range book.Runs {
			if wanted[r] {
				runs = append(runs, r)
			}
		}
	}
	if f.since > 0 {
		after := time.Now().Add(-time.Duration(f.since))
		for len(runs) > 0 && runs[0].Time.Before(after) {
			runs = runs[1:]
		}
	}
	if f.limit > 0 && len(runs) > int(f.limit) {
		runs = runs[len(runs)-int(f.limit):]
	}
	w := bufio.NewWriter(os.Stdout)
	var sum historySum
	if !f.json {
		fmt.Fprintf(w, "%-19s  %-10s %9s %9s  %-8s  %s\n", "time", "verdict", "took", "saved", "action", "outputs")
	}
	for _, r := range runs {
		sum.add(r)
		if err := f.line(ctx, w, book, r); err != nil {
			return err
		}
	}
	if !f.json {
		fmt.Fprintln(w, sum)
	}
	return w.Flush()
}

// A historySum is what is said of a list of runs.
type historySum struct {
	runs, hits  int
	spent, save time.Duration
}

func (s *historySum) add(r *history.Run) {
	s.runs++
	s.spent += r.Took
	if r.Verdict == history.Hit {
		s.hits++
		s.save += r.Cost
	}
}

func (s historySum) String() string {
	rate := 0.0
	if s.runs > 0 {
		rate = 100 * float64(s.hits) / float64(s.runs)
	}
	return fmt.Sprintf("%s, %s (%.0f %%); they took %s, and the hits saved %s",
		plural(s.runs, "run"), plural(s.hits, "hit"), rate, roundTime(s.spent), roundTime(s.save))
}

// A jsonRun is what history --json prints. Durations are in seconds.
type jsonRun struct {
	Time      string   `json:"time"`
	Verdict   string   `json:"verdict"`
	Action    string   `json:"action"` // the hash of its digest
	Seconds   float64  `json:"seconds"`
	Cost      float64  `json:"command_seconds"`
	Saved     float64  `json:"saved_seconds"`
	ExitCode  int      `json:"exit_code"`
	Miss      string   `json:"miss,omitempty"`
	NotStored string   `json:"not_stored,omitempty"`
	Workspace string   `json:"workspace"`
	Outputs   []string `json:"outputs"`
	Command   []string `json:"command,omitempty"`
	Label     string   `json:"label,omitempty"`
	Tool      string   `json:"tool,omitempty"`
}

func (f *historyFlags) line(ctx context.Context, w *bufio.Writer, book *history.Book, r *history.Run) error {
	var saved time.Duration
	if r.Verdict == history.Hit {
		saved = r.Cost
	}
	outputs := book.Outputs(ctx, r)
	_, c, _ := book.Origin(ctx, r)
	if f.json {
		j := jsonRun{
			Time: r.Time.Format(time.RFC3339Nano), Verdict: r.Verdict.String(), Action: r.Key.Hash(), Seconds: r.Took.Seconds(),
			Cost: r.Cost.Seconds(), Saved: saved.Seconds(), ExitCode: r.ExitCode, Miss: r.Miss, NotStored: r.Unkept,
			Workspace: r.Workspace, Outputs: append([]string{}, outputs...), Label: r.Label, Tool: r.Tool,
		}
		if c != nil {
			j.Command = c.Arguments
		}
		if err := w.Flush(); err != nil {
			return err
		}
		return printLineJSON(j)
	}
	verdict := r.Verdict.String()
	if r.ExitCode != 0 {
		verdict = fmt.Sprintf("%s %d", verdict, r.ExitCode)
	}
	_, err := fmt.Fprintf(w, "%s  %-10s %9s %9s  %.8s  %s\n", r.Time.Local().Format("2006-01-02 15:04:05"), verdict,
		roundTime(r.Took), savedText(r, saved), r.Key.Hash(), whatRan(r, outputs, c != nil, func() []string { return c.Arguments }))
	return err
}

func savedText(r *history.Run, saved time.Duration) string {
	if r.Verdict != history.Hit {
		return ""
	}
	return roundTime(saved)
}

// whatRan is the label, the outputs, or the command, on one line.
func whatRan(r *history.Run, outputs []string, known bool, command func() []string) string {
	if r.Label != "" {
		return compare.Legible(r.Label)
	}
	if len(outputs) == 0 && known {
		line := shellLine(command())
		if runes := []rune(line); len(runes) > 100 {
			line = string(runes[:99]) + "…"
		}
		return line
	}
	if len(outputs) == 0 {
		return "(not known any more)"
	}
	here, err := history.Here()
	var names []string
	for i, o := range outputs {
		if i == 4 {
			names = append(names, fmt.Sprintf("and %d more", len(outputs)-i))
			break
		}
		if rel, rerr := filepath.Rel(here, o); err == nil && rerr == nil && !strings.HasPrefix(rel, "../") {
			o = rel
		}
		names = append(names, compare.Legible(o))
	}
	return strings.Join(names, " ")
}

// roundTime is a duration with about three digits.
func roundTime(d time.Duration) string {
	switch {
	case d >= 10*time.Minute:
		d = d.Round(time.Second)
	case d >= 10*time.Second:
		d = d.Round(100 * time.Millisecond)
	case d >= time.Second:
		d = d.Round(10 * time.Millisecond)
	case d >= 10*time.Millisecond:
		d = d.Round(100 * time.Microsecond)
	default:
		d = d.Round(10 * time.Microsecond)
	}
	return d.String()
}
