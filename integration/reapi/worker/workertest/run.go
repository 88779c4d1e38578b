package workertest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

// Run runs a slot or a bot in the background. What it returns drains it, and
// waits for its end; the end of the test kills it.
func Run(t *testing.T, run func(ctx, drain context.Context) error) (drain func() error) {
	t.Helper()
	draining, begin := context.WithCancel(context.Background())
	ctx, kill := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx, draining) }()
	var once sync.Once
	drain = func() (err error) {
		once.Do(func() {
			begin()
			select {
			case err = <-done:
			case <-time.After(2 * time.Minute):
				err = errors.New("it does not end")
			}
			kill()
		})
		return err
	}
	t.Cleanup(func() {
		kill()
		_ = drain()
	})
	return drain
}

// Eventually waits until ok, and fails the test if that does not happen.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: that does not happen", what)
		}
	}
}
