package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/staging"
)

// A lostError says that the store has lost inputs, or files of the root file system,
// or has them damaged, which the command may have been shown that way: layers take them from there without us.
type lostError struct {
	name  string // of one of them
	blobs []action.Digest
	root  string // the path of one in the root file system; "" if all of that is there
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
	if !status.Complete {
		return j.lost(ctx, nil, nil)
	}
	return j.lost(ctx, j.snapshot.Uses(status.Lookups), &staging.RootfsUse{Lookups: status.Lookups, Input: j.snapshot.Find})
}

// lost returns a lostError about files among the inputs that the store does not
// have, of those that used names, or of all if it is nil; and in the same way about
// what root led to in the root file system.
func (j *job) lost(ctx context.Context, used map[string]staging.Use, root *staging.RootfsUse) error {
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
	if err := j.lostRootfs(ctx, lost, root); err != nil {
		return err
	}
	if len(lost.blobs) == 0 {
		return nil
	}
	return lost
}

// lostRootfs adds to lost what is lost of the root file system.
func (j *job) lostRootfs(ctx context.Context, lost *lostError, use *staging.RootfsUse) error {
	gone, err := j.parts.rootfs.Lost(ctx, j.parts.blobs, use)
	if err != nil {
		return err
	}
	for name, d := range gone {
		if lost.root == "" || name < lost.root {
			lost.root = name
		}
		lost.blobs = append(lost.blobs, d)
	}
	if lost.name == "" {
		lost.name = lost.root
	}
	return nil
}

// heal makes the next run of the job store anew what err says that the store has
// lost, and reports whether err is about that.
func (j *job) heal(ctx context.Context, out *action.Outcome, err error) (*lostError, bool) {
	var lost *lostError
	if !errors.As(err, &lost) {
		if out.Cached || out.Started || !errors.Is(err, action.ErrMiss) || !errors.As(j.lost(ctx, nil, nil), &lost) {
			return nil, false
		}
	}
	if err := j.parts.store.ForgetLayers(lost.blobs); err != nil {
		j.parts.runner.Log.WarnContext(ctx, "layers with damaged files stay", "err", err)
	}
	return lost, true
}

// restore stores anew what heal has found lost, as far as it is not done anyway when
// the job runs: the files of the root file system.
func (j *job) restore(ctx context.Context, lost *lostError) error {
	if lost.root == "" {
		return nil
	}
	interruptible(ctx)
	if err := j.parts.restoreRootfs(ctx); err != nil {
		return fmt.Errorf("the store has lost %q of the root file system or damaged it: %w", lost.root, err)
	}
	return nil
}
