package remote

import (
	"context"
	"sync"
	"time"

	"github.com/sbx-action/sbx-action/action"
)

// A flightKey names a transfer: of a blob, to or from an instance; down also by
// the store that it goes to.
type flightKey struct {
	instance string
	digest   action.Digest
	to       any // nil: up
}

// A flight is a transfer that others wait for.
type flight struct {
	done chan struct{}
	err  error // set before done is closed
}

// board divides digests into those that the caller must transfer, and ends
// with land, and flights of others that it waits for. What has come to the server
// after asked, when the caller asked for it, needs nobody any more.
func (c *Client) board(digests []action.Digest, to any, asked time.Time) (mine []action.Digest, others []*flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range digests {
		if since, ok := c.present[instanceDigest{c.instance, d}]; to == nil && ok && !since.Before(asked) {
			continue
		}
		key := flightKey{c.instance, d, to}
		if f := c.flights[key]; f != nil {
			others = append(others, f)
			continue
		}
		c.flights[key] = &flight{done: make(chan struct{})}
		mine = append(mine, d)
	}
	return mine, others
}

// land ends the flight of d.
func (c *Client) land(d action.Digest, to any, err error) {
	key := flightKey{c.instance, d, to}
	c.mu.Lock()
	f := c.flights[key]
	delete(c.flights, key)
	c.mu.Unlock()
	f.err = err
	close(f.done)
}

// wait waits for the flights of others. again says that one failed, perhaps
// only because whoever flew it gave up.
func wait(ctx context.Context, flights []*flight) (again bool, err error) {
	for _, f := range flights {
		select {
		case <-f.done:
			again = again || f.err != nil
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
	return again, nil
}

// each calls do for every element of list, as many at a time as the client has
// slots, until the first error. It returns when all calls have.
func each[T any](ctx context.Context, slots chan struct{}, list []T, do func(context.Context, T) error) error {
	if len(list) == 0 {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, x := range list {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := do(ctx, x); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// batches divides digests into groups whose blobs fit into one message, and
// those that are too large for any.
func batches(digests []action.Digest, l *limits) (groups [][]action.Digest, large []action.Digest) {
	var group []action.Digest
	var total int64
	for _, d := range digests {
		size := d.Size() + digestRoom
		if l.alone(d) {
			large = append(large, d)
			continue
		}
		if total+size > l.batch {
			groups, group, total = append(groups, group), nil, 0
		}
		group, total = append(group, d), total+size
	}
	if len(group) > 0 {
		groups = append(groups, group)
	}
	return groups, large
}

// alone says that a blob does not go into a batch.
func (l *limits) alone(d action.Digest) bool { return d.Size()+digestRoom > l.single }

// digestRoom is what a blob takes in a message besides its content.
const digestRoom = 160
