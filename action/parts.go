package action

import (
	"context"
	"errors"
	"time"

	"github.com/sbx-action/sbx-action/backends"
)

// A Stager makes root file systems and reads outputs from them.
type Stager interface {
	// Stage returns the root for an action: its input root on its root file
	// system, with the directories in which c's outputs will be.
	Stage(ctx context.Context, a *Action, c *Command) (backends.Root, error)

	// Collect stores what c declares as outputs and finds below left.Root, and
	// names the declared outputs that it does not find.
	Collect(ctx context.Context, left *backends.Status, c *Command) (*Result, []Missing, error)
}

// A Missing is a declared output that the command did not make.
type Missing struct {
	Path string
	Near []string // what it made instead, the likeliest first
}

// A Witness completes the key of an action whose root file system has no
// digest of its own: with what a command saw of it.
type Witness interface {
	// Recall returns a sealed as it was after an earlier run, if everything
	// that the run saw of the root file system is as it was; else an error
	// wrapping [ErrMiss] that says what changed. An action whose root file
	// system is a tree comes back as it is.
	Recall(ctx context.Context, a *Action) (*Action, error)

	// Seal returns a with the digest of what the run, which began at start by
	// Clock, saw, and notes it for Recall. An error wrapping [ErrUnsealed] says
	// why the result must not be cached.
	Seal(ctx context.Context, a *Action, status *backends.Status, start time.Time) (*Action, error)

	// Clock reads the clock by which changes of the root file system are dated.
	Clock() time.Time
}

// ErrUnsealed says that what a command saw is not known, so that its result
// cannot be cached.
var ErrUnsealed = errors.New("not cacheable")

// A Locker lets equal actions in flight run once, across processes too. Lock
// waits until no other holder of key is left. It may fail, for example on a
// read-only store; then the action runs without.
type Locker interface {
	Lock(ctx context.Context, key Digest) (unlock func(), err error)
}

// A Pruner knows actions that stand for one action of which only a part of the
// input matters, as far as earlier runs tell. They are never run: their digests
// are more keys for the same result.
type Pruner interface {
	// Known returns the action for each earlier run of the same command on
	// inputs of the same names and kinds: with what that run looked at, as it
	// is now.
	Known(ctx context.Context) []*Action

	// Seen returns the action for a run that ended with status, and notes it
	// for Known. The error says why there is none.
	Seen(ctx context.Context, status *backends.Status) (*Action, error)
}

// A Warmer is a Backend that can begin to make a sandbox before it knows for
// what. Warm does not wait. Of spec, Network and Observe are known; the rest is
// not looked at.
type Warmer interface{ Warm(spec *backends.Spec) }
