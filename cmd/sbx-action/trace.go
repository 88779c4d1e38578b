package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/schedule"
)

// A tracer writes what took how long in the Trace Event Format, which
// ui.perfetto.dev and chrome://tracing show: an object with a list of complete
// events ("ph": "X"), times in microseconds since the start. Each lane of the
// schedule is a thread, so that what ran at one time is one below the other; an
// action is an event, and its stages are events within it.
//
// A nil tracer takes everything and writes nothing.
type tracer struct {
	name   string
	direct bool     // the file is written as it is, not replaced
	file   *os.File // its name is another until all is written
	zero   time.Time

	mu     sync.Mutex
	events []traceEvent
	lanes  map[int]bool
}

type traceEvent struct {
	Name  string         `json:"name"`
	Cat   string         `json:"cat,omitempty"`
	Phase string         `json:"ph"`
	TS    int64          `json:"ts"`
	Dur   *int64         `json:"dur,omitempty"`
	PID   int            `json:"pid"`
	TID   int            `json:"tid"`
	Args  map[string]any `json:"args,omitempty"`
}

// newTracer opens the file now, so that nobody waits an hour to hear that it
// cannot be written.
func newTracer(name string) (*tracer, error) {
	if name == "" {
		return nil, nil
	}
	var f *os.File
	info, err := os.Stat(name)
	direct := err == nil && !info.Mode().IsRegular() // a pipe, a device: not to be replaced
	if direct {
		f, err = os.OpenFile(name, os.O_WRONLY, 0)
	} else {
		f, err = os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	}
	if err != nil {
		return nil, fmt.Errorf("--trace: %w; name a file in a directory that is there and can be written", err)
	}
	return &tracer{name: name, direct: direct, file: f, zero: time.Now(), lanes: map[int]bool{}}, nil
}

// drop removes what was to become the file.
func (t *tracer) drop() error {
	if t == nil {
		return nil
	}
	err := t.file.Close()
	if t.direct {
		return err
	}
	return errors.Join(err, os.Remove(t.file.Name()))
}

// write writes the file.
func (t *tracer) write() error {
	if t == nil {
		return nil
	}
	w := bufio.NewWriter(t.file)
	t.events = append(t.events, traceEvent{Name: "process_name", Phase: "M", Args: map[string]any{"name": "sbx-action"}})
	for lane := range t.lanes {
		t.events = append(t.events, traceEvent{Name: "thread_name", Phase: "M", TID: lane, Args: map[string]any{"name": fmt.Sprintf("lane %d", lane)}})
	}
	err := json.NewEncoder(w).Encode(map[string]any{"displayTimeUnit": "ms", "traceEvents": t.events})
	if err == nil {
		err = w.Flush()
	}
	if t.direct {
		if err = errors.Join(err, t.file.Close()); err != nil {
			return fmt.Errorf("--trace: %w", err)
		}
		return nil
	}
	err = errors.Join(err, t.file.Chmod(0o644), t.file.Close())
	if err == nil {
		err = os.Rename(t.file.Name(), t.name)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("--trace: %w", err), os.Remove(t.file.Name()))
	}
	return nil
}

// A traceSpan is one action. A nil one takes everything.
type traceSpan struct {
	t    *tracer
	lane int
	name string

	began, waited, admit, release time.Time
}

func (t *tracer) begin(lane int, name string, now time.Time) *traceSpan {
	if t == nil {
		return nil
	}
	return &traceSpan{t: t, lane: lane, name: name, began: now}
}

// await waits until the schedule lets the action run. It returns what is to
// be called when it has run, and the time.
func (s *traceSpan) await(ctx context.Context, turn *schedule.Turn) (func(), time.Time, error) {
	s.waits(time.Now())
	release, err := turn.Admit(ctx)
	at := time.Now()
	s.admitted(at)
	if err != nil {
		return nil, at, err
	}
	return func() {
		s.released(time.Now())
		release()
	}, at, nil
}

func (s *traceSpan) waits(now time.Time) {
	if s != nil {
		s.waited = now
	}
}

func (s *traceSpan) admitted(now time.Time) {
	if s != nil {
		s.admit = now
	}
}

func (s *traceSpan) released(now time.Time) {
	if s != nil {
		s.release = now
	}
}

// end adds the action and its stages. Of the stages it is known how long they
// took, and that they followed each other; of those that a miss has, that they
// ended when the room was given back.
func (s *traceSpan) end(now time.Time, how string, out *action.Outcome, j *job) {
	if s == nil {
		return
	}
	t := s.t
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lanes[s.lane] = true
	args := map[string]any{"result": how}
	if out != nil {
		args["action"] = out.Key.String()
		if out.Miss != nil {
			args["miss"] = out.Miss.Error()
		}
	}
	s.add(s.name, "action", s.began, now, args)
	if j == nil || out == nil {
		return
	}
	s.add("scan", "stage", s.began, s.began.Add(j.scanned), nil)
	if s.waited.IsZero() { // a hit
		s.add("look up", "stage", s.began.Add(j.scanned), s.began.Add(j.scanned+out.Times.Lookup), nil)
		s.add("deliver", "stage", now.Add(-j.delivered), now, nil)
		return
	}
	s.add("look up", "stage", s.began.Add(j.scanned), s.waited, nil)
	s.add("wait", "stage", s.waited, s.admit, nil)
	s.add("deliver", "stage", later(now.Add(-j.delivered), s.release), now, nil)
	end := s.release
	for _, stage := range []struct {
		name string
		took time.Duration
	}{
		{"store", out.Times.Store},
		{"collect", out.Times.Collect},
		{"run", out.Times.Run},
		{"stage", out.Times.Stage},
		{"save", out.Times.Save},
	} {
		s.add(stage.name, "stage", later(end.Add(-stage.took), s.admit), end, nil)
		end = later(end.Add(-stage.took), s.admit)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (s *traceSpan) add(name, category string, from, to time.Time, args map[string]any) {
	dur := max(to.Sub(from).Microseconds(), 0)
	if dur == 0 && category == "stage" {
		return
	}
	s.t.events = append(s.t.events, traceEvent{
		Name: name, Cat: category, Phase: "X", TS: from.Sub(s.t.zero).Microseconds(), Dur: &dur, TID: s.lane, Args: args,
	})
}
