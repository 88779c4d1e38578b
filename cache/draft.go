package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sbx-action/sbx-action/internal/durable"
)

// draft begins a file that will be published on the same file system as the
// directory dir, which is made where it is missing.
func (s *Store) draft(dir string) (*durable.Temp, error) {
	if !s.noTemp.Load() {
		var t *durable.Temp
		err := s.inDir(dir, func() (err error) {
			if t = s.spares.take(dir); t != nil {
				return nil
			}
			t, err = s.disk.Temp(dir)
			return err
		})
		if err == nil {
			return t, nil
		}
		if !errors.Is(err, errors.ErrUnsupported) {
			return nil, s.explain(err)
		}
		s.noTemp.Store(true)
	}
	path, err := s.tmp.name(s)
	if err != nil {
		return nil, err
	}
	t, err := s.disk.NamedTemp(path)
	return t, s.explain(err)
}

// A tempDir is a directory below tmp/ for what this Store has to write under a
// name: layers, and drafts where the file system has none without names. Its
// file "lock" is locked for as long as its owner lives, so that others can
// sweep what the dead have left, whatever its age.
type tempDir struct {
	mu   sync.Mutex
	path string // "" until needed
	lock *os.File
	next int
}

const (
	tempLock = "lock"
	// deadPrefix begins the names, in tmp/, of what nobody owns any more.
	deadPrefix = "dead-"
	// sweepBlind is the age from which a directory is swept where locks are
	// not to be had and nobody can say whether its owner lives.
	sweepBlind = 7 * 24 * time.Hour
)

// name returns a path in the directory that does not exist yet.
func (t *tempDir) name(s *Store) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.path != "" {
		if _, err := durable.Stat(t.path); err != nil {
			t.path = "" // the store was removed while we run
			_ = t.lock.Close()
		}
	}
	for t.path == "" {
		if err := t.make(s); err != nil {
			return "", s.explain(err)
		}
	}
	t.next++
	return filepath.Join(t.path, strconv.Itoa(t.next)), nil
}

// make makes and locks the directory. If a sweeper is faster than the lock,
// path stays empty and the caller tries again.
func (t *tempDir) make(s *Store) error {
	if s.opts.ReadOnly {
		return ErrReadOnly
	}
	parent := filepath.Join(s.dir, "tmp")
	path := filepath.Join(parent, durable.RandomName())
	if err := s.inDir(parent, func() error { return s.disk.Mkdir(path, 0o700) }); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(path, tempLock), os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	ok, err := durable.TryLock(f, 0, 1)
	if errors.Is(err, errors.ErrUnsupported) {
		ok, err = true, nil // see sweepBlind
	}
	if ok && err == nil {
		var fi durable.FileInfo
		fi, err = durable.FStat(int(f.Fd()), f.Name())
		ok = fi.NLink > 0
	}
	if !ok || err != nil {
		_ = f.Close()
		return err
	}
	t.path, t.lock = path, f
	return nil
}

func (t *tempDir) close(s *Store) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.path == "" {
		return nil
	}
	err := s.disk.RemoveAll(t.path)
	_ = t.lock.Close() // last: until then it is ours to remove
	err = s.removeHeld(t.path, err)
	t.path = ""
	return err
}

// removeHeld removes a directory of drafts for which RemoveAll has returned err because
// its lock was open, and is closed now. Where somebody else has a file of it open, it
// is for the next sweep.
func (s *Store) removeHeld(path string, err error) error {
	if errors.Is(err, durable.ErrHeld) {
		err = s.disk.RemoveAll(path)
	}
	if errors.Is(err, durable.ErrHeld) {
		return nil
	}
	return err
}

// inTheWay says whether something else has the name that a file was to get.
func inTheWay(err error) bool { return errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.EISDIR) }

// supplant gives the finished draft t the name path, in place of whatever has it: also
// of a directory, which nothing of ours is there.
func (s *Store) supplant(t *durable.Temp, path string) error {
	err := t.Replace(path)
	if errors.Is(err, syscall.EISDIR) {
		if err := s.bury(path); err != nil {
			return err
		}
		err = t.Replace(path)
	}
	return err
}

// bury moves what is at path to where the next sweep removes it, in no time
// however large it is.
func (s *Store) bury(path string) error {
	to := filepath.Join(s.dir, "tmp", deadPrefix+durable.RandomName())
	err := s.inDir(filepath.Dir(to), func() error {
		err := s.disk.Rename(path, to)
		if errors.Is(err, fs.ErrNotExist) {
			if _, gone := durable.Stat(path); errors.Is(gone, fs.ErrNotExist) {
				return nil
			}
		}
		return err
	})
	return s.explain(err)
}

// topDraft is the name of a draft of the file called name, which is directly in the store.
func topDraft(name string) string {
	return fmt.Sprintf("%s.%d-%d", name, os.Getpid(), drafts.Add(1))
}

// isTopDraft says whether topDraft has made the name, in any process.
func isTopDraft(name string) bool {
	process, n, ok := strings.Cut(name[strings.LastIndexByte(name, '.')+1:], "-")
	_, err1 := strconv.ParseUint(process, 10, 32)
	_, err2 := strconv.ParseUint(n, 10, 64)
	return ok && err1 == nil && err2 == nil
}

// sweepTop removes the drafts that processes that have died left beside what they were
// to replace. Another user's are for that user to remove.
func (s *Store) sweepTop() {
	names, _ := os.ReadDir(s.dir) // tmp/ comes next, and is not to be listed either
	for _, e := range names {
		path := filepath.Join(s.dir, e.Name())
		if fi, err := durable.Stat(path); err == nil && isTopDraft(e.Name()) && s.now().Sub(fi.ChangedAt) > draftMax {
			_ = s.disk.Remove(path)
		}
	}
}

// sweep removes what processes that have died left in tmp/, and in the store itself.
func (s *Store) sweep() error {
	s.sweepTop()
	parent := filepath.Join(s.dir, "tmp")
	names, err := os.ReadDir(parent)
	if absent(err) {
		return nil
	}
	if err != nil {
		return s.explain(err)
	}
	var errs []error
	for _, e := range names {
		errs = append(errs, s.sweepOne(filepath.Join(parent, e.Name())))
	}
	return errors.Join(errs...)
}

func (s *Store) sweepOne(path string) error {
	fi, err := durable.Stat(path)
	if err != nil {
		return nil // its owner has removed it
	}
	anothers := int(fi.UID) != os.Geteuid()
	if len(filepath.Base(path)) > len(deadPrefix) && filepath.Base(path)[:len(deadPrefix)] == deadPrefix {
		err := s.disk.RemoveAll(path)
		if anothers && errors.Is(err, fs.ErrPermission) {
			return nil // it is for that user to sweep
		}
		return err
	}
	f, err := os.OpenFile(filepath.Join(path, tempLock), os.O_RDWR, 0)
	if anothers && errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		// Without a lock: it is being made or removed this instant, or its
		// owner died then.
		if age := s.now().Sub(fi.ChangedAt); age < time.Minute && age > -time.Minute {
			return nil
		}
		return s.disk.RemoveAll(path)
	}
	ok, err := durable.TryLock(f, 0, 1)
	if errors.Is(err, errors.ErrUnsupported) {
		ok, err = s.now().Sub(fi.ChangedAt) > sweepBlind, nil
	}
	if err == nil && ok {
		err = s.disk.RemoveAll(path)
	}
	_ = f.Close()
	return s.removeHeld(path, err)
}
