package action

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/backends"
)

// draining is a backend that says when there is something to read.
type draining struct{ *plain }

func (draining) Drains() bool { return true }

// TestDrains: what a command writes arrives, whether or not the backend has let
// anybody read it while the command ran.
func TestDrains(t *testing.T) {
	const small, large = 1000, 2 * spoolMax
	for name, c := range map[string]struct {
		size  int
		begin []int // with which streams, before anything is written
	}{"nobody": {small, nil}, "one": {small, []int{1}}, "both": {small, []int{0, 1}}, "much": {large, []int{0, 1}}} {
		out, errs := strings.Repeat("o", c.size), strings.Repeat("e", c.size)
		r, _, p := setup(t, nil)
		p.run = func(spec *backends.Spec) (*backends.Status, error) {
			if len(spec.Drains) != 2 {
				t.Fatalf("%s: %d streams to drain", name, len(spec.Drains))
			}
			for _, i := range c.begin {
				spec.Drains[i].Begin()
			}
			return says(0, out, errs)(spec)
		}
		r.Backend = draining{p}
		for i := range 2 {
			var stdout, stderr bytes.Buffer
			got, err := r.Run(t.Context(), request(&stdout, &stderr))
			if err != nil || got.Cached != (i == 1) {
				t.Fatalf("%s: %+v, %v", name, got, err)
			}
			if stdout.String() != out || stderr.String() != errs {
				t.Errorf("%s, run %d: %d and %d bytes, want %d", name, i, stdout.Len(), stderr.Len(), c.size)
			}
		}
	}
	failed := errors.New("no sandbox")
	r, _, p := setup(t, func(*backends.Spec) (*backends.Status, error) { return nil, failed })
	r.Backend = draining{p}
	if _, err := r.Run(t.Context(), request(nil, nil)); !errors.Is(err, failed) {
		t.Errorf("a run that failed: %v", err)
	}
}

// TestCertain: who turns out not to be certain has done nothing.
func TestCertain(t *testing.T) {
	r, m, p := setup(t, says(0, "out", "err"))
	no := errors.New("not certain")
	for _, hit := range []bool{false, true} {
		runs, results := p.runs, len(m.results)
		var stdout, stderr bytes.Buffer
		req := request(&stdout, &stderr)
		req.Certain = func() error { return no }
		req.Save = func(context.Context) error { t.Error("it stored its inputs"); return nil }
		if _, err := r.Run(t.Context(), req); !errors.Is(err, no) {
			t.Errorf("hit %v: %v", hit, err)
		}
		if stdout.Len()+stderr.Len() > 0 || p.runs != runs || len(m.results) != results {
			t.Errorf("hit %v: it wrote %q and %q, ran %d times, stored %d results", hit, &stdout, &stderr, p.runs-runs, len(m.results)-results)
		}
		asked := 0
		req = request(&stdout, &stderr)
		req.Certain = func() error { asked++; return nil }
		if out, err := r.Run(t.Context(), req); err != nil || out.Cached != hit || asked != 1 {
			t.Errorf("hit %v: %+v, %v, asked %d times", hit, out, err, asked)
		}
	}
}
