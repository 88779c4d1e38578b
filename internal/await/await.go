// Package await waits for what a signal cannot end: the other side of a FIFO, or a
// file system that does not answer.
package await

import "context"

// Done calls do and returns what it does, or the cause of ctx as soon as that ends.
// Then do goes on, for a program that is about to end; what it returns is lost, so it
// must hold nothing that has to be given back, and share nothing.
func Done[T any](ctx context.Context, do func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := do()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}
