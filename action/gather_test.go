package action

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sbx-action/sbx-action/backends"
)

// An endless stager collects until it is told to stop.
type endless struct{ plain }

func (*endless) Collect(ctx context.Context, _ *backends.Status, _ *Command) (*Result, []Missing, error) {
	<-ctx.Done()
	return nil, nil, ctx.Err()
}

func TestCollectIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, req := &Runner{Stager: &endless{}}, request(nil, nil)
		req.Limits.Wall = 3 * time.Second
		root, err := os.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		out := &Outcome{Status: &backends.Status{Root: root}, Result: &Result{}}
		began := time.Now()
		err = r.gather(t.Context(), req, out)
		if took := time.Since(began); took != 3*time.Second+collectSlack {
			t.Errorf("it took %v", took)
		}
		if !errors.Is(err, errLate) || !strings.Contains(err.Error(), "10m3s") {
			t.Errorf("%v; want one that names the time", err)
		}

		// Who is told to stop says so, and not that it was late; without a timeout there
		// is no other end.
		for _, wall := range []time.Duration{0, time.Hour} {
			req.Limits.Wall = wall
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if err := r.gather(ctx, req, out); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errLate) {
				t.Errorf("wall %v: %v", wall, err)
			}
			cancel()
		}
	})
}
