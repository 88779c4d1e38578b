package cache

import (
	"context"
	"errors"
	"fmt"

	"github.com/sbx-action/sbx-action/action"
)

const (
	noteMagic = "sbN1"
	// noteMax keeps notes what they are meant to be.
	noteMax = 64 << 20
)

// Note returns the note under key and marks it as used, or an error wrapping
// [action.ErrMiss].
func (s *Store) Note(_ context.Context, key action.Digest) ([]byte, error) {
	path := s.shard("note", key)
	data, fi, err := readRecord(path, noteMagic, recordName(key))
	if err != nil {
		return nil, s.missing(key, "note", err)
	}
	_ = s.touch(path, &fi) // we have it, whoever removes it now
	return data, nil
}

// PutNote stores data as the note under key, in place of an earlier one.
func (s *Store) PutNote(_ context.Context, key action.Digest, data []byte) error {
	if err := s.writable("put note " + key.String()); err != nil {
		return err
	}
	if key.IsZero() {
		return errors.New("put note: it has no digest")
	}
	if len(data) > noteMax {
		return fmt.Errorf("put note %v: it has %d bytes, at most %d are allowed", key, len(data), noteMax)
	}
	if err := s.writeRecord(KindNote, key, noteMagic, data); err != nil {
		return fmt.Errorf("put note %v: %w", key, err)
	}
	return nil
}
