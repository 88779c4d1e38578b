package reproduce

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

// A Trial is one run of the action under other conditions.
type Trial struct {
	Result   *action.Result
	TimedOut bool
	Unvaried bool // the time of some process could not be varied
}

// A Checker checks one action.
type Checker struct {
	Base    Base
	Command *action.Command
	Blobs   action.Blobs
	Rounds  int

	// Own says which variables of the environment the action has chosen.
	Own func(name string) bool

	// Run runs the action with another environment, under these conditions.
	Run func(context.Context, *backends.Vary, *action.Command) (*Trial, error)

	// Say tells whoever waits what is done.
	Say func(format string, args ...any)
}

// A Report is what came out.
type Report struct {
	Runs        int // of all kinds
	Rounds      int // with everything varied
	Varied      Set // what was varied
	Unvaried    bool
	Differences []Difference
}

// A Difference is one output that was not always the same.
type Difference struct {
	Output string // a path below the workspace, or "standard output" and the like
	Where  string // "differs at byte 12 of 40, in member a.o"
	Causes []Set  // each is enough; empty if none was found
	Chance bool   // it differs although nothing is varied
}

// String is the difference in a line: "out.txt differs at byte 0 of 5: when the
// time differs".
func (d *Difference) String() string {
	return d.Output + " " + d.Where + ": " + d.Why()
}

// Why is the reason.
func (d *Difference) Why() string {
	var why []string
	for _, c := range d.Causes {
		why = append(why, c.String())
	}
	switch {
	case d.Chance:
		return "from run to run, although nothing is varied (random numbers, measured time, or a race)"
	case len(why) > 0:
		return strings.Join(why, ", and ")
	}
	return "for no reason that could be found"
}

// Check runs the action again, and compares with what it gave before.
func (c *Checker) Check(ctx context.Context, reference *action.Result) (*Report, error) {
	s := &search{Checker: c, report: &Report{Rounds: c.Rounds}, ctx: ctx, seen: map[Set]map[string]item{}, causes: map[string][]Set{}, chance: map[string]bool{}}
	_, given := c.Base.environment(c.Command, c.Own, All, 1)
	s.varied = All &^ given
	s.report.Varied = s.varied
	was, err := items(ctx, c.Blobs, reference)
	if err != nil {
		return nil, err
	}
	for s.round = 1; s.round <= c.Rounds; s.round++ {
		now, err := s.run(s.varied, mode{})
		if err != nil {
			return nil, err
		}
		if list := differing(was, now); len(list) > 0 {
			s.report.Rounds = s.round
			if err := s.explain(was, list); err != nil {
				return nil, err
			}
			return s.report, s.write(was, now, list)
		}
	}
	return s.report, nil
}

// A search looks for the reason of what differs.
type search struct {
	*Checker
	ctx    context.Context
	report *Report
	round  int
	varied Set

	mode    mode                    // the clock stands still, if the command bears it
	control map[string]item         // with nothing varied
	seen    map[Set]map[string]item // the last run with these varied
	causes  map[string][]Set
	chance  map[string]bool
}

func (s *search) run(varied Set, m mode) (map[string]item, error) {
	cmd := *s.Command
	cmd.Environment, _ = s.Base.environment(s.Command, s.Own, varied, s.round)
	t, err := s.Run(s.ctx, s.Base.conditions(varied, s.round, m), &cmd)
	if err != nil {
		return nil, fmt.Errorf("run again with another %s: %w", strings.Join(varied.Names(), ", "), err)
	}
	s.report.Runs++
	s.report.Unvaried = s.report.Unvaried || t.Unvaried
	got, err := items(s.ctx, s.Blobs, t.Result)
	if err == nil && t.TimedOut {
		got[exitItem] = item{kind: exitKind, number: timedOut}
	}
	s.seen[varied] = got
	return got, err
}

// explain finds the causes of the differences in list.
func (s *search) explain(was map[string]item, list []string) error {
	s.Say("the outputs differ in another environment; looking for the reason")
	unstable, err := s.controls(was)
	if err != nil {
		return err
	}
	if err := s.race(unstable); err != nil {
		return err
	}
	all, err := s.run(s.varied, s.mode)
	if err != nil {
		return err
	}
	differ := without(differing(s.control, all), unstable)
	if len(differ) > 0 {
		if err := s.halve(s.varied, differ); err != nil {
			return err
		}
		if err := s.confirm(); err != nil {
			return err
		}
		if err := s.sift(); err != nil {
			return err
		}
	}
	rest := without(without(list, unstable), differ)
	if err := s.running(rest); err != nil {
		return err
	}
	return s.orders(slices.DeleteFunc(rest, func(name string) bool { return s.causes[name] != nil }))
}

func without(list, others []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(others, s) })
}

// controls runs twice with nothing varied and a clock that stands still, and
// returns what differs all the same. A command that does not bear such a clock
// gets one that runs.
func (s *search) controls(was map[string]item) (unstable []string, err error) {
	s.mode.frozen = true
	if s.control, err = s.run(0, s.mode); err != nil {
		return nil, err
	}
	if s.control[exitItem] != was[exitItem] {
		s.mode.frozen = false
		if s.control, err = s.run(0, mode{}); err != nil {
			return nil, err
		}
	}
	again, err := s.run(0, s.mode)
	if err != nil {
		return nil, err
	}
	return differing(s.control, again), nil
}

// race finds out which of the outputs that nothing makes differ are always the
// same when one thing runs after the other.
func (s *search) race(unstable []string) error {
	if len(unstable) == 0 {
		return nil
	}
	serial := s.mode
	serial.inTurn = true
	one, err := s.run(of(Parallelism), serial)
	if err != nil {
		return err
	}
	two, err := s.run(of(Parallelism), serial)
	if err != nil {
		return err
	}
	still := differing(one, two)
	for _, name := range unstable {
		if slices.Contains(still, name) {
			s.chance[name] = true
		} else {
			s.causes[name] = []Set{of(Parallelism)}
		}
	}
	return nil
}

// halve finds, for each of the outputs, which differ when all of set is varied,
// the smallest parts of set for which that is so.
func (s *search) halve(set Set, outputs []string) error {
	if set.len() == 1 {
		s.blame(set, outputs)
		return nil
	}
	var found []string
	a, b := set.halves()
	for _, half := range []Set{a, b} {
		now, err := s.run(half, s.mode)
		if err != nil {
			return err
		}
		differ := common(differing(s.control, now), outputs)
		if len(differ) == 0 {
			continue
		}
		found = append(found, differ...)
		if err := s.halve(half, differ); err != nil {
			return err
		}
	}
	if rest := without(outputs, found); len(rest) > 0 {
		return s.together(set, rest)
	}
	return nil
}

// together finds a smallest part of set, of which no half is enough, that makes
// the outputs differ.
func (s *search) together(set Set, outputs []string) error {
	for f := range factors {
		if !set.has(f) || set.len() == 1 {
			continue
		}
		now, err := s.run(set&^of(f), s.mode)
		if err != nil {
			return err
		}
		differ := common(differing(s.control, now), outputs)
		if len(differ) == len(outputs) {
			set &^= of(f)
		} else if len(differ) > 0 { // they have different reasons
			if err := s.together(set&^of(f), differ); err != nil {
				return err
			}
			outputs = without(outputs, differ)
		}
	}
	s.blame(set, outputs)
	return nil
}

func (s *search) blame(set Set, outputs []string) {
	for _, name := range outputs {
		s.causes[name] = append(s.causes[name], set)
	}
}

// confirm makes sure that what seems to have a reason does not differ by chance,
// and was only the same twice by chance, too.
func (s *search) confirm() error {
	first := s.control
	again, err := s.run(0, s.mode)
	if err != nil {
		return err
	}
	unstable := differing(first, again)
	blamed := map[Set]bool{}
	for _, sets := range s.causes {
		for _, set := range sets {
			blamed[set] = true
		}
	}
	for set := range blamed {
		if set.has(Layout) { // random in each run
			continue
		}
		before := s.seen[set]
		now, err := s.run(set, s.mode)
		if err != nil {
			return err
		}
		for _, name := range differing(before, now) {
			if slices.Contains(s.causes[name], set) {
				unstable = append(unstable, name)
			}
		}
	}
	slices.Sort(unstable)
	unstable = slices.DeleteFunc(slices.Compact(unstable), func(name string) bool { return s.causes[name] == nil })
	for _, name := range unstable {
		delete(s.causes, name)
	}
	return s.race(unstable)
}

// sift is for outputs that differ with the parallelism, and for other reasons, too.
// What races comes in another order by chance as well, on a busy machine, and twice.
// A reason that is none when one thing runs after the other was such a chance.
func (s *search) sift() error {
	raced := map[Set][]string{}
	for name, sets := range s.causes {
		if !slices.Contains(sets, of(Parallelism)) {
			continue
		}
		for _, set := range sets {
			if !set.has(Parallelism) {
				raced[set] = append(raced[set], name)
			}
		}
	}
	if len(raced) == 0 {
		return nil
	}
	serial := s.mode
	serial.inTurn = true
	control, err := s.run(of(Parallelism), serial)
	if err != nil {
		return err
	}
	for set, names := range raced {
		now, err := s.run(of(Parallelism)|set, serial)
		if err != nil {
			return err
		}
		for _, name := range without(names, differing(control, now)) {
			s.causes[name] = slices.DeleteFunc(s.causes[name], func(c Set) bool { return c == set })
		}
	}
	return nil
}

func common(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return !slices.Contains(b, s) })
}

// running is for outputs that do not differ when the clock stands still. If
// they do when it runs, time it is.
func (s *search) running(outputs []string) error {
	if len(outputs) == 0 {
		return nil
	}
	var runs [2]map[string]item
	for i := range runs {
		var err error
		if runs[i], err = s.run(0, mode{}); err != nil {
			return err
		}
	}
	s.blame(of(Time), common(differing(runs[0], runs[1]), outputs))
	return nil
}

// otherOrders is how many more orders of directory entries are tried. Two entries
// come in the same order in two of them every other time, so that this many
// leave one case in 250.
const otherOrders = 8

// orders is for outputs that differ from what they were in the file system's own
// order of directory entries, and were the same in the two orders by hash that
// were compared: with few entries these can be one.
func (s *search) orders(outputs []string) error {
	if !s.varied.has(Order) {
		return nil
	}
	m := s.mode
	for m.order = 1; m.order <= otherOrders && len(outputs) > 0; m.order++ {
		now, err := s.run(of(Order), m)
		if err != nil {
			return err
		}
		differ := common(differing(s.control, now), outputs)
		s.blame(of(Order), differ)
		outputs = without(outputs, differ)
	}
	return nil
}

// write writes the differences into the report.
func (s *search) write(was, now map[string]item, list []string) error {
	for _, name := range list {
		w, err := where(s.ctx, s.Blobs, was[name], now[name])
		if err != nil {
			return fmt.Errorf("compare %s: %w", title(s.Command.WorkingDirectory, name), err)
		}
		s.report.Differences = append(s.report.Differences, Difference{
			Output: title(s.Command.WorkingDirectory, name), Where: w, Causes: s.causes[name], Chance: s.chance[name],
		})
	}
	return nil
}
