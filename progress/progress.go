// Package progress shows what a run of many jobs is doing.
//
// On a terminal a few lines at its foot say what runs, what was found in the
// cache, how long it has taken and what is left; they are drawn again ten times
// a second, and what commands print goes above them. Elsewhere, where nobody
// looks at what is drawn over, there is one plain line for each job that ran. At
// the end both say in a summary how many were hits and which took longest.
//
// The package knows nothing of what jobs are. It writes nothing that a terminal
// could take for a command but its own few sequences: names and texts are
// cleaned of control characters.
package progress

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Job is one line of the view.
type Job struct {
	Name   string
	Expect time.Duration // 0: not known
}

// Options say where and how a View is shown.
type Options struct {
	// To is where it is shown. Only the View may write to it, see [View.Print].
	To io.Writer

	// Size returns the columns and rows of the terminal To. Nil: To is no
	// terminal, the view is plain lines.
	Size func() (columns, rows int)

	// Color allows colours.
	Color bool

	// Verbose also shows a line for each hit and each skipped job.
	Verbose bool

	// Quiet leaves out all but failures: there is no summary either.
	Quiet bool

	// Unit is what jobs are called in the summary: "actions".
	Unit string

	// Jobs are the jobs, in the order of their numbers.
	Jobs []Job

	// AtOnce is how many run at a time, to say how long it will take.
	AtOnce int

	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// An End is what became of a job.
type End uint8

// The ends of a job.
const (
	Hit     End = iota // it had been done before
	Ran                // it was done
	Failed             // it was tried
	Skipped            // it needs one that failed
	Stopped            // it was given up
)

func (e End) String() string { return [...]string{"hit", "run", "FAILED", "skipped", "stopped"}[e] }

// state is what the view knows of a job.
type state struct {
	begun bool
	phase string
	since time.Time // when the phase began
	ended bool
	end   End
	took  time.Duration
}

// A View is being shown from [New] to [View.Close]. Any number of goroutines may
// call it.
type View struct {
	o     Options
	start time.Time
	stop  chan struct{}
	drawn sync.WaitGroup // the goroutine that draws

	mu     sync.Mutex // guards all below, and writing
	jobs   []state
	order  []int // running jobs, in the order in which they began
	counts [Stopped + 1]int
	foot   []int // how wide the lines at the foot are
	closed bool
}

// New begins to show.
func New(o Options) *View {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Unit == "" {
		o.Unit = "jobs"
	}
	v := &View{o: o, start: o.Now(), stop: make(chan struct{}), jobs: make([]state, len(o.Jobs))}
	if o.Size != nil && !o.Quiet {
		v.drawn.Go(v.redraw)
	}
	return v
}

// every is how often the foot is drawn. What ends sooner is never drawn.
const every = 100 * time.Millisecond

func (v *View) redraw() {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			v.mu.Lock()
			v.draw()
			v.mu.Unlock()
		case <-v.stop:
			return
		}
	}
}

// Phase says what a job does now: "look up", "wait", "run". The first one says
// that it has begun.
func (v *View) Phase(job int, phase string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := &v.jobs[job]
	if !s.begun {
		s.begun = true
		v.order = append(v.order, job)
	}
	s.phase, s.since = phase, v.o.Now()
}

// Finish says how a job ended, and how long it took, without waiting. A reason
// is for Failed and Skipped; of others it says what there is to know.
func (v *View) Finish(job int, end End, took time.Duration, reason string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := &v.jobs[job]
	if s.ended {
		return
	}
	s.ended, s.end, s.took = true, end, took
	v.counts[end]++
	v.order = slices.DeleteFunc(v.order, func(j int) bool { return j == job })
	if line := v.line(job, reason); line != "" {
		v.above(func() { fmt.Fprintln(v.o.To, line) })
	}
}

// line is what is said when a job has ended.
func (v *View) line(job int, reason string) string {
	s := v.jobs[job]
	switch {
	case s.end == Stopped, v.o.Quiet && s.end != Failed:
		return ""
	case s.end == Hit && !v.o.Verbose:
		return ""
	case s.end == Skipped && !v.o.Verbose:
		return ""
	case s.end == Ran && v.o.Size != nil && !v.o.Verbose:
		return "" // it was seen at the foot
	}
	total := fmt.Sprint(len(v.jobs))
	line := fmt.Sprintf("[%*d/%s] %-4s %s", len(total), v.ended(), total, v.paint(s.end, s.end.String()), Clean(v.o.Jobs[job].Name))
	if s.end != Skipped && s.end != Hit {
		line += " " + Duration(s.took)
	}
	if reason != "" {
		line += ": " + Clean(reason)
	}
	return line
}

func (v *View) ended() (n int) {
	for _, c := range v.counts {
		n += c
	}
	return n
}

// Print calls f, which may write to where the view is shown or to another file
// of the same terminal: the foot is away meanwhile. What it writes must end with
// the end of a line.
func (v *View) Print(f func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.above(f)
}

func (v *View) above(f func()) {
	v.erase()
	f()
}

// Close takes the foot away, and says what there was to do and how it went.
func (v *View) Close() {
	v.mu.Lock()
	if v.closed {
		v.mu.Unlock()
		return
	}
	v.closed = true
	v.erase()
	v.mu.Unlock()
	close(v.stop)
	v.drawn.Wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.erase()
	if v.o.Quiet {
		return
	}
	for _, line := range v.summary() {
		fmt.Fprintln(v.o.To, line)
	}
}

// summary is the last word.
func (v *View) summary() []string {
	took := Duration(v.o.Now().Sub(v.start))
	if len(v.jobs) == 0 {
		return []string{fmt.Sprintf("nothing to do (%s)", took)}
	}
	unit := v.o.Unit
	if len(v.jobs) == 1 {
		unit = strings.TrimSuffix(unit, "s")
	}
	first := fmt.Sprintf("%d %s: ", len(v.jobs), unit)
	var parts []string
	for _, c := range []struct {
		end  End
		name string
	}{{Hit, "hit"}, {Ran, "run"}, {Failed, "failed"}, {Skipped, "skipped"}} {
		if n := v.counts[c.end]; n > 0 {
			parts = append(parts, v.paint(c.end, fmt.Sprintf("%d %s", n, c.name)))
		}
	}
	if left := len(v.jobs) - v.ended() + v.counts[Stopped]; left > 0 {
		parts = append(parts, fmt.Sprintf("%d not done", left))
	}
	first += strings.Join(parts, ", ") + " in " + took
	if tried := v.counts[Hit] + v.counts[Ran] + v.counts[Failed]; tried > 0 {
		first += fmt.Sprintf(" (hit rate %d%%)", 100*v.counts[Hit]/tried)
	}
	lines := []string{first}
	if slowest := v.slowest(3); slowest != "" {
		lines = append(lines, "slowest: "+slowest)
	}
	return lines
}

// slowest names the jobs that took longest, of those that ran.
func (v *View) slowest(n int) string {
	var ran []int
	for i, s := range v.jobs {
		if s.ended && (s.end == Ran || s.end == Failed) {
			ran = append(ran, i)
		}
	}
	if len(ran) < 2 {
		return ""
	}
	slices.SortStableFunc(ran, func(a, b int) int { return cmp.Compare(v.jobs[b].took, v.jobs[a].took) })
	var words []string
	for _, i := range ran[:min(n, len(ran))] {
		words = append(words, fmt.Sprintf("%s %s", cut(Clean(v.o.Jobs[i].Name), 40), Duration(v.jobs[i].took)))
	}
	return strings.Join(words, ", ")
}

// Duration writes a duration as people read it: 12 ms, 3.4 s, 2 min 5 s.
func Duration(d time.Duration) string {
	switch {
	case d < 0:
		return "0 ms"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 59950*time.Millisecond:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Hour:
		s := int64(d.Round(time.Second).Seconds())
		return fmt.Sprintf("%d min %d s", s/60, s%60)
	}
	m := int64(d.Round(time.Minute).Minutes())
	return fmt.Sprintf("%d h %d min", m/60, m%60)
}
