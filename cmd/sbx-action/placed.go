package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/sbx-action/sbx-action/action"
)

// placedTree is what staging.ScanConfig.Tree asks for. The root of an output
// directory is in the store as part of a Tree only, from which save takes it out:
// a hit needs its digest and nothing more.
func (j *job) placedTree(ctx context.Context, d action.Digest) (action.Digest, error) {
	t, err := openTree(ctx, j.parts.store, d)
	if errors.Is(err, action.ErrMiss) {
		return d, nil // a hit does not need it, and a miss says so
	}
	if err != nil {
		return action.Digest{}, fmt.Errorf("it is no directory of the store, which --json and 'sbx-action show' name: %w", err)
	}
	if t.root != d {
		j.placed = append(j.placed, t)
	}
	return t.root, nil
}

// savePlaced stores the directories of which the Trees among the inputs consist.
func (j *job) savePlaced(ctx context.Context) error {
	for _, t := range j.placed {
		for d, m := range t.known {
			if j.parts.blobs.Has(ctx, d) {
				continue
			}
			if _, err := j.parts.blobs.PutBytes(ctx, d.Function(), m.Marshal()); err != nil {
				return err
			}
		}
	}
	return nil
}
