package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/staging"
)

// A lostError says that the store has lost inputs, or has them damaged, which the
// command may have been shown that way: layers take them from there without us.
type lostError struct {
	name  string // of one of them
	blobs []action.Digest
}

func (e *lostError) Error() string {
	return fmt.Sprintf("the store had lost %q or damaged it, and the command may have seen that: run it again, and it is stored anew", e.name)
}

// intact returns a lostError if an input that the command looked at is not in the
// store any more as it was put there. What it did not look at costs nothing.
func (j *job) intact(ctx context.Context, made backends.Root, status *backends.Status) error {
	if made.Data == "" { // its files are its own, and were checked when they were copied
		return nil
	}
	var used map[string]staging.Use // nil: we do not know
	if status.Complete {
		used = j.snapshot.Uses(status.Lookups)
	}
	return j.lost(ctx, used)
}

// lost returns a lostError about files among the inputs that the store does not
// have, of those that used names, or of all if it is nil.
func (j *job) lost(ctx context.Context, used map[string]staging.Use) error {
	lost := &lostError{}
	look := func(name string, e staging.Entry) error {
		if e.Kind == staging.KindFile && !j.parts.blobs.Has(ctx, e.Digest) {
			if lost.name == "" || name < lost.name {
				lost.name = name
			}
			lost.blobs = append(lost.blobs, e.Digest)
		}
		return ctx.Err()
	}
	if used == nil {
		if err := j.snapshot.Walk(look); err != nil {
			return err
		}
	}
	for name := range used {
		if e, ok := j.snapshot.Find(name); ok {
			if err := look(name, e); err != nil {
				return err
			}
		}
	}
	if len(lost.blobs) == 0 {
		return nil
	}
	return lost
}

// heal makes the next run of the job store anew what err says that the store has
// lost, and reports whether err is about that.
func (j *job) heal(ctx context.Context, out *action.Outcome, err error) (*lostError, bool) {
	var lost *lostError
	if !errors.As(err, &lost) {
		if out.Cached || out.Started || !errors.Is(err, action.ErrMiss) || !errors.As(j.lost(ctx, nil), &lost) {
			return nil, false
		}
	}
	if err := j.parts.store.ForgetLayers(lost.blobs); err != nil {
		j.parts.runner.Log.WarnContext(ctx, "layers with damaged files stay", "err", err)
	}
	return lost, true
}
