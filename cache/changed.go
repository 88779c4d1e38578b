package cache

import (
	"errors"
	"io/fs"
	"time"

	"github.com/sbx-action/sbx-action/internal/durable"
)

// changedSlack is how much later than it was stamped a blob may get its name, and than
// it was touched the kernel may say that it was.
const changedSlack = 20 * time.Millisecond

// changed says that somebody has changed the file of a blob, and did not read it
// since, whatever its size and its modification time are: perhaps its content is
// another. The store changes its files only together with their access time, and all
// that others do by reading makes that later.
func (s *Store) changed(fi *durable.FileInfo) bool {
	return fi.ChangedAt.Sub(fi.ATime) > changedSlack && !s.vague.Load()
}

// used marks a file as used now whose content was found good. Where changed says after
// that what it said before, the file system keeps other times than it is told, and is
// not asked any more. An error means that the file is gone.
func (s *Store) used(path string, changed bool) error {
	if s.opts.ReadOnly {
		return nil
	}
	if err := s.disk.Touch(path, s.now()); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil // another's file
	}
	if !changed {
		return nil
	}
	fi, err := durable.Stat(path)
	if err == nil && s.changed(&fi) {
		s.vague.Store(true)
	}
	return nil
}
