package wiring

import (
	"context"
	"sync"

	"github.com/sbx-action/sbx-action/backends"
)

// A Lazy is a backend that is opened when something first needs it, because a hit
// needs none. Any number of goroutines may use it at once.
type Lazy struct {
	Choice string // what Name says before it is open

	// Open opens it, and gives begin, if that is not nil, each backend that is tried:
	// see [Choice.Begin]. It is called once.
	Open func(begin func(backends.Backend)) (backends.Backend, error)

	once    sync.Once
	backend backends.Backend
	err     error
}

// Opened returns the backend itself, or why there is none.
func (l *Lazy) Opened() (backends.Backend, error) {
	l.once.Do(func() { l.backend, l.err = l.Open(nil) })
	return l.backend, l.err
}

// Begin opens it, and calls begin with the backend as early as that is known, also
// before it is known whether it works.
func (l *Lazy) Begin(begin func(backends.Backend)) {
	opened := true
	l.once.Do(func() {
		opened = false
		l.backend, l.err = l.Open(begin)
	})
	if opened && l.backend != nil {
		begin(l.backend)
	}
}

// Name implements [backends.Backend].
func (l *Lazy) Name() string {
	if l.backend == nil {
		return l.Choice
	}
	return l.backend.Name()
}

// Capabilities implements [backends.Backend].
func (l *Lazy) Capabilities() backends.Capabilities {
	b, err := l.Opened()
	if err != nil {
		return backends.Capabilities{Reason: err.Error()}
	}
	return b.Capabilities()
}

// Run implements [backends.Backend].
func (l *Lazy) Run(ctx context.Context, spec *backends.Spec) (*backends.Status, error) {
	b, err := l.Opened()
	if err != nil {
		return nil, err
	}
	return b.Run(ctx, spec)
}

// Close implements [backends.Backend]. What was never opened needs none.
func (l *Lazy) Close() error {
	if l.backend == nil {
		return nil
	}
	return l.backend.Close()
}
