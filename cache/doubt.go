package cache

import (
	"context"
	"errors"
	"io/fs"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/durable"
)

// Doubt implements [action.Doubter]: it reads the blob, and removes it if it is
// damaged, as [Store.Verify] does; a store that is read-only keeps it. Damage is mostly
// not alone: from then on every blob is read before this Store says that it has it.
func (s *Store) Doubt(ctx context.Context, d action.Digest) error {
	path := s.shard("blob", d)
	fi, found, err := s.lookup(d)
	if err != nil || !found {
		return err
	}
	if err = s.verify(ctx, d, path); err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil // it has been healed meanwhile, or trimmed
	}
	if !errors.Is(err, action.ErrMiss) {
		return err
	}
	s.verified.Delete(d)
	s.damaged.Store(true)
	if s.opts.ReadOnly {
		return nil
	}
	if now, err := durable.Stat(path); err != nil || now.Ino != fi.Ino {
		return nil
	}
	reason := reasonOf(err, d)
	if err := s.disk.RemoveAll(path); err != nil {
		return s.explain(err)
	}
	e := entry{kind: KindBlob, f: d.Function(), hash: d.Bytes(), bytes: fi.Size}
	return s.tellRemoved([]entry{e}, Damaged, func(*entry) string { return reason })
}
