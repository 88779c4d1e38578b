package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
)

// spareBlobs are the blobs of the store, and of a temporary one that takes what
// the store cannot: because it is read-only, full or somebody else's. A cache
// costs time, not builds.
type spareBlobs struct {
	store *cache.Store

	mu    sync.Mutex
	spare *cache.Store // guarded by mu; nil: none was needed
	why   error        // guarded by mu: what the store said first
}

var _ action.Blobs = (*spareBlobs)(nil)

// temporary returns the temporary store; nil if there is none and make is false.
func (s *spareBlobs) temporary(make bool) (*cache.Store, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.spare != nil || !make {
		return s.spare, nil
	}
	dir, err := os.MkdirTemp("", "sbx-store-")
	if err == nil {
		s.spare, err = cache.Open(dir, cache.Options{})
	}
	if err != nil {
		return nil, fmt.Errorf("a temporary store: %w; set TMPDIR to a directory with space", err)
	}
	return s.spare, nil
}

// put puts something into the store, or else into the temporary one.
func put[T any](s *spareBlobs, to func(*cache.Store) (T, error)) (T, error) {
	v, err := to(s.store)
	if !errors.Is(err, cache.ErrUnwritable) {
		return v, err
	}
	s.mu.Lock()
	if s.why == nil {
		s.why = err
	}
	s.mu.Unlock()
	t, terr := s.temporary(true)
	if terr != nil {
		return v, errors.Join(err, terr)
	}
	return to(t)
}

// reason is what the store said first when it could not take something, or nil.
func (s *spareBlobs) reason() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}

// Put implements [action.Blobs]. What r holds is read before it is tried.
func (s *spareBlobs) Put(ctx context.Context, d action.Digest, r io.Reader) error {
	if s.store.Has(ctx, d) {
		return nil
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	got, err := s.PutBytes(ctx, d.Function(), data)
	if err == nil && got != d {
		err = fmt.Errorf("the content has digest %v, not %v", got, d)
	}
	return err
}

// PutBytes implements [action.Blobs].
func (s *spareBlobs) PutBytes(ctx context.Context, f action.Function, data []byte) (action.Digest, error) {
	return put(s, func(to *cache.Store) (action.Digest, error) { return to.PutBytes(ctx, f, data) })
}

// PutFile implements [action.Blobs].
func (s *spareBlobs) PutFile(ctx context.Context, f action.Function, src *os.File) (action.Digest, error) {
	return put(s, func(to *cache.Store) (action.Digest, error) { return to.PutFile(ctx, f, src) })
}

// Open implements [action.Blobs].
func (s *spareBlobs) Open(ctx context.Context, d action.Digest) (*os.File, error) {
	f, err := s.store.Open(ctx, d)
	if t, _ := s.temporary(false); err != nil && t != nil {
		return t.Open(ctx, d)
	}
	return f, err
}

// Doubt implements [action.Doubter]. The temporary store is nobody else's.
func (s *spareBlobs) Doubt(ctx context.Context, d action.Digest) error {
	return s.store.Doubt(ctx, d)
}

// Has implements [action.Blobs].
func (s *spareBlobs) Has(ctx context.Context, d action.Digest) bool {
	if s.store.Has(ctx, d) {
		return true
	}
	t, _ := s.temporary(false)
	return t != nil && t.Has(ctx, d)
}

// Close removes the temporary store.
func (s *spareBlobs) Close() error {
	t, _ := s.temporary(false)
	if t == nil {
		return nil
	}
	return errors.Join(t.Close(), os.RemoveAll(t.Dir()))
}

// withoutLayers makes the next run of the job do without what only a store that
// can be written has: layers, which refer to the blobs of one store, so that
// trees are copied instead; notes of them; and locks.
func (j *job) withoutLayers() {
	j.runner.Locks, j.stager.layers, j.stager.notes = nil, nil, nil
}
