package remote

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Transient says whether err is one that may pass: the server was not there,
// or had too much to do, or said nothing.
func Transient(err error) bool {
	if errors.Is(err, errStalled) {
		return true
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.ResourceExhausted, codes.Aborted, codes.DeadlineExceeded, codes.Internal:
		return true
	}
	return false
}

// call makes a call that only asks, again if what went wrong may pass.
func (c *Client) call(ctx context.Context, do func(context.Context) error) error {
	return c.again(ctx, func() (bool, error) {
		ctx, cancel := context.WithTimeout(ctx, c.opts.timeout())
		defer cancel()
		return false, do(ctx)
	})
}

// again calls do until it succeeds, or fails for good, or too often. An attempt
// that made progress does not count.
func (c *Client) again(ctx context.Context, do func() (progress bool, err error)) error {
	for n := 1; ; {
		progress, err := do()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if progress {
			n = 1
		}
		if n >= c.opts.Attempts || !Transient(err) {
			return err
		}
		if err := pause(ctx, n); err != nil {
			return err
		}
		n++
	}
}

// pause waits before attempt n+1: 0.1 s at first, 5 s at most, and never quite
// as long as others who failed at the same time.
func pause(ctx context.Context, n int) error {
	d := min(100*time.Millisecond<<min(n-1, 10), 5*time.Second)
	timer := time.NewTimer(d/2 + rand.N(d))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

var errStalled = errors.New("no progress")

// A watchdog ends a transfer that makes no progress.
type watchdog struct {
	cancel context.CancelCauseFunc
	timer  *time.Timer
	stall  time.Duration
}

// watched returns a context that ends when the watchdog is not patted for
// Options.Stall. The caller stops the watchdog.
func (c *Client) watched(ctx context.Context) (context.Context, *watchdog) {
	ctx, cancel := context.WithCancelCause(ctx)
	stall := c.opts.stall()
	return ctx, &watchdog{cancel, time.AfterFunc(stall, func() {
		cancel(fmt.Errorf("%v: %w for %v", c.addr, errStalled, stall))
	}), stall}
}

func (w *watchdog) pat() { w.timer.Reset(w.stall) }

func (w *watchdog) stop() {
	w.timer.Stop()
	w.cancel(nil)
}

// cause is err, or what really ended ctx.
func cause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		if why := context.Cause(ctx); why != nil && !errors.Is(why, context.Canceled) {
			return why
		}
	}
	return err
}
