package component

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/sbx-action/sbx-action/progress"
	"github.com/sbx-action/sbx-action/schedule"
)

// Shown is a [View] that people read.
type Shown struct {
	To      io.Writer
	Size    func() (columns, rows int) // of the terminal; nil: it is none
	Color   bool
	Verbose bool // a line also for what comes from the cache

	mu    sync.Mutex
	list  []*Component
	index map[*Component]int
	took  map[*Component]time.Duration // of what ran
	hit   map[*Component]bool
	note  map[*Component]string
	view  *progress.View // nil before Begin and after End
}

// Begin implements [View].
func (v *Shown) Begin(list []*Component, jobs []schedule.Job, atOnce int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.list, v.index, v.took, v.hit = list, map[*Component]int{}, map[*Component]time.Duration{}, map[*Component]bool{}
	v.note = map[*Component]string{}
	show := make([]progress.Job, len(list))
	for i, c := range list {
		v.index[c] = i
		show[i] = progress.Job{Name: c.Name, Expect: jobs[i].Expect}
	}
	v.view = progress.New(progress.Options{
		To: v.To, Size: v.Size, Color: v.Color && v.Size != nil, Verbose: v.Verbose, Unit: "components", Jobs: show, AtOnce: atOnce,
	})
}

// Observe implements [View].
func (v *Shown) Observe(e schedule.Event) {
	if e.Job < 0 {
		v.Say("warning: %v", e.NoTokens)
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	c := v.list[e.Job]
	switch e.State {
	case schedule.Started:
		v.view.Phase(e.Job, "look up")
	case schedule.Waiting:
		v.view.Phase(e.Job, "wait")
	case schedule.Admitted:
		v.view.Phase(e.Job, "stage")
	case schedule.Done:
		end := progress.Ran
		if v.hit[c] {
			end = progress.Hit
		}
		v.view.Finish(e.Job, end, v.took[c], v.note[c])
	case schedule.Failed:
		v.view.Finish(e.Job, progress.Failed, v.took[c], oneLine(e.Err))
	case schedule.Skipped:
		v.view.Finish(e.Job, progress.Skipped, 0, oneLine(e.Err))
	case schedule.Stopped:
		v.view.Finish(e.Job, progress.Stopped, 0, "")
	}
}

func oneLine(err error) string {
	if err == nil {
		return ""
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

// Start implements [View].
func (v *Shown) Start(c *Component, log *Log) {
	v.mu.Lock()
	view, i := v.view, v.index[c]
	v.mu.Unlock()
	log.OnStep = func(step string) { view.Phase(i, step) }
}

// Done implements [View].
func (v *Shown) Done(c *Component, b *Built, _ time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.hit[c], v.took[c] = b.Cached, time.Duration(b.Seconds*float64(time.Second))
	if b.Away {
		v.note[c] = "by the cluster"
	}
	if b.Warm && !b.Cached {
		v.note[c] = "with its caches"
	}
}

// Failed implements [View].
func (v *Shown) Failed(c *Component, err error, took time.Duration, log string) {
	v.mu.Lock()
	if v.took != nil {
		v.took[c] = took
	}
	v.mu.Unlock()
	f, ok := err.(*FailedError)
	if !ok || f.Tail == "" && f.Hint == "" {
		return // what there is to say, Observe says
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: the end of its log:", c.Name)
	for line := range strings.Lines(f.Tail) {
		b.WriteString("\n  | " + strings.TrimSuffix(line, "\n"))
	}
	if f.Hint != "" {
		b.WriteString("\n  " + f.Hint)
	}
	v.Say("%s\n  the whole log is %s", b.String(), log)
}

// End implements [View].
func (v *Shown) End() {
	v.mu.Lock()
	view := v.view
	v.view = nil
	v.mu.Unlock()
	view.Close()
}

// Say writes a line.
func (v *Shown) Say(format string, args ...any) {
	v.mu.Lock()
	view := v.view
	v.mu.Unlock()
	lines := strings.Split(fmt.Sprintf(format, args...), "\n")
	for i := range lines {
		lines[i] = progress.Clean(lines[i])
	}
	write := func() { fmt.Fprintln(v.To, strings.Join(lines, "\n")) }
	if view == nil {
		write()
		return
	}
	view.Print(write)
}
