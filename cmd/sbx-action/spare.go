package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
)

// useSpare puts a temporary store in the place of one that cannot be written,
// because it is read-only, full or somebody else's: a cache costs time, not
// builds. What the store has is still found in it.
func (p *parts) useSpare() error {
	dir, err := os.MkdirTemp("", "sbx-store-")
	if err != nil {
		return fmt.Errorf("a temporary store: %w", err)
	}
	if p.spare, err = cache.Open(dir, cache.Options{}); err != nil {
		return err
	}
	p.blobs = spareBlobs{p.spare, p.store}
	p.runner.Blobs, p.runner.Locks = p.blobs, nil
	// Layers refer to the blobs of one store. Without them, trees are copied.
	p.miss.blobs, p.miss.layers, p.miss.notes = p.blobs, nil, nil
	return nil
}

func (p *parts) closeSpare() error {
	if p.spare == nil {
		return nil
	}
	return errors.Join(p.spare.Close(), os.RemoveAll(p.spare.Dir()))
}

// spareBlobs are the blobs of a temporary store and of one that is only read.
type spareBlobs struct {
	*cache.Store // the temporary one
	old          *cache.Store
}

var _ action.Blobs = spareBlobs{}

// Open implements [action.Blobs].
func (s spareBlobs) Open(ctx context.Context, d action.Digest) (*os.File, error) {
	f, err := s.Store.Open(ctx, d)
	if err == nil {
		return f, nil
	}
	return s.old.Open(ctx, d)
}

// Has implements [action.Blobs].
func (s spareBlobs) Has(ctx context.Context, d action.Digest) bool {
	return s.Store.Has(ctx, d) || s.old.Has(ctx, d)
}
