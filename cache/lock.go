package cache

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/durable"
)

// The file "locks" has two parts. Its first bytes are slots of 8 bytes: a
// running action holds the lock of one, which says in nanoseconds when it
// began, so that trim spares what was used since. A slot without a lock means
// nothing. At holderOffset is for each slot what its action has locked: the
// offset and the process, 8 bytes each. Besides there is nothing but locks: one
// byte for each key, at an offset taken from its digest and, while that of a
// process that is stopped holds this, one of the next few; one for trim and one
// for the index.
const (
	locksName    = "locks"
	slotSize     = 8
	slots        = 4096
	trimOffset   = slots * slotSize
	indexOffset  = trimOffset + 1
	fitOffset    = trimOffset + 2
	holderOffset = 1 << 16
	holderSize   = 16
	keyOffset    = 1 << 20
	keyOffsets   = 4 // of a key
)

// flight is what this Store holds of the file "locks". All its locks belong to
// one open file, so they do not exclude each other: the maps do.
type flight struct {
	mu   sync.Mutex
	file *os.File
	keys map[int64]chan struct{} // closed at release; by offset
	used map[int]time.Time       // slots, and when their actions began
}

// Lock waits until no other run of the action key is in flight, in any process
// that uses this directory, or ctx is done. Until unlock is called, or this
// process ends, others wait, and trim removes nothing that was used since Lock
// was called. For a process that is stopped (Ctrl-Z) nobody waits: one of those
// who would have waited goes on in its place.
//
// The error wraps [errors.ErrUnsupported] where the directory knows no locks,
// and [ErrReadOnly] where it cannot be written: then the caller goes on
// without, and equal actions may run twice.
func (s *Store) Lock(ctx context.Context, key action.Digest) (unlock func(), err error) {
	began := s.now() // before it looks at anything in the store
	if err := s.writable("lock " + key.String()); err != nil {
		return nil, err
	}
	if s.opts.Lean { // see oldest, and what prepare does with it
		began = began.Add(s.touchAfter())
	}
	sum := key.Bytes()
	first := keyOffset + int64(binary.LittleEndian.Uint64(sum[:])>>3)
	for off := first; ; off++ {
		unlock, err = s.lockAt(ctx, key, off, began)
		if !errors.Is(err, errStopped) || off == first+keyOffsets-1 {
			return unlock, err
		}
	}
}

// Stay lets [Store.Fit] spare what was used since now, and what anybody who looks at
// something from now on may find, until the store is closed: for a process that relies
// on things in it for longer than one action is in flight. Where that cannot be said,
// it need not be: who trims has no right to, either.
func (s *Store) Stay() {
	began := s.now()
	if _, err := durable.Stat(filepath.Join(s.dir, versionName)); err != nil || s.opts.ReadOnly {
		return // a store that does not exist yet has nothing to trim
	}
	if file, err := s.flight.open(s); err == nil {
		s.flight.takeSlot(file, 0, began)
	}
}

func (s *Store) lockAt(ctx context.Context, key action.Digest, off int64, began time.Time) (unlock func(), err error) {
	if err := s.flight.waitHere(ctx, off); err != nil {
		return nil, err
	}
	slot, err := s.flight.lock(ctx, s, off, began)
	if err != nil {
		s.flight.releaseHere(off)
		return nil, fmt.Errorf("lock %v: %w", key, err)
	}
	return sync.OnceFunc(func() { s.warn(s.flight.unlock(off, slot)) }), nil
}

// waitHere waits until nobody else in this process holds off.
func (f *flight) waitHere(ctx context.Context, off int64) error {
	for {
		f.mu.Lock()
		held, ok := f.keys[off]
		if !ok {
			if f.keys == nil {
				f.keys = map[int64]chan struct{}{}
			}
			f.keys[off] = make(chan struct{})
		}
		f.mu.Unlock()
		if !ok {
			return nil
		}
		select {
		case <-held:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (f *flight) releaseHere(off int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.keys[off])
	delete(f.keys, off)
}

// openLocks opens the file "locks", and makes it where it is missing.
func (s *Store) openLocks() (file *os.File, err error) {
	if _, err := durable.Stat(filepath.Join(s.dir, versionName)); errors.Is(err, fs.ErrNotExist) {
		if err := s.prepare(s.dir); err != nil {
			return nil, err
		}
	}
	path := filepath.Join(s.dir, locksName)
	if file, err = durable.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW, 0); errors.Is(err, fs.ErrNotExist) {
		if file, err = durable.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600); err == nil {
			s.share(path, 0o660)
		}
	}
	return file, s.explain(err)
}

// open opens the file, or opens it again if it was removed.
func (f *flight) open(s *Store) (*os.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file != nil {
		if fi, err := durable.FStat(int(f.file.Fd()), locksName); err == nil && fi.NLink > 0 {
			return f.file, nil
		}
		_ = f.file.Close() // its locks excluded nobody any more
		f.file = nil
	}
	var err error
	if f.file, err = s.openLocks(); err != nil {
		f.file = nil
	}
	return f.file, err
}

var errStopped = errors.New("the process that runs an equal action is stopped")

// lock takes the byte off from other processes, and a slot. The kernel offers
// no wait that ends with a context, so it polls: an action takes long compared
// with the longest pause. It gives up at the second look that finds the holder
// stopped.
func (f *flight) lock(ctx context.Context, s *Store, off int64, began time.Time) (slot int, err error) {
	const looks = 16 // polls from one look at the holder to the next
	pause, stops := 200*time.Microsecond, 0
	for polls := 1; ; polls++ {
		file, err := f.open(s)
		if err != nil {
			return 0, err
		}
		ok, err := durable.TryLock(file, off, 1)
		if err != nil {
			return 0, err
		}
		if ok {
			return f.takeSlot(file, off, began), nil
		}
		if polls%looks == 0 {
			if !stoppedHolder(file, off) {
				stops = 0
			} else if stops++; stops == 2 {
				return 0, errStopped
			}
		}
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-time.After(pause):
		}
		pause = min(2*pause, 10*time.Millisecond)
	}
}

// stoppedHolder says whether the process that holds the lock at off is stopped. Of
// one that is not known, or is in another namespace of processes, it says no.
func stoppedHolder(file *os.File, off int64) bool {
	buf := make([]byte, slots*holderSize)
	n, _ := file.ReadAt(buf, holderOffset) // as much as there is
	for i := 0; i+holderSize <= n; i += holderSize {
		if int64(binary.LittleEndian.Uint64(buf[i:])) != off {
			continue
		}
		slot := int64(i / holderSize)
		if live, err := durable.Locked(file, slot*slotSize, slotSize); live && err == nil {
			return stopped(int(binary.LittleEndian.Uint64(buf[i+8:])))
		}
	}
	return false
}

// takeSlot returns a slot that is ours, and says when we began and what we hold, or
// -1 if it finds none: then the hour that trim always spares must do.
func (f *flight) takeSlot(file *os.File, off int64, began time.Time) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	first := os.Getpid() * 61
	for i := range 64 {
		n := (first + i) % slots
		if _, ours := f.used[n]; ours {
			continue
		}
		if ok, err := durable.TryLock(file, int64(n)*slotSize, slotSize); !ok || err != nil {
			continue
		}
		b := binary.LittleEndian.AppendUint64(nil, uint64(began.UnixNano()))
		if _, err := file.WriteAt(b, int64(n)*slotSize); err != nil {
			_ = durable.Unlock(file, int64(n)*slotSize, slotSize)
			return -1
		}
		b = binary.LittleEndian.AppendUint64(nil, uint64(off))
		b = binary.LittleEndian.AppendUint64(b, uint64(os.Getpid()))
		_, _ = file.WriteAt(b, holderOffset+int64(n)*holderSize) // else others wait for us, whatever happens
		if f.used == nil {
			f.used = map[int]time.Time{}
		}
		f.used[n] = began
		return n
	}
	return -1
}

func (f *flight) unlock(off int64, slot int) error {
	f.mu.Lock()
	var err error
	if slot >= 0 {
		delete(f.used, slot)
	}
	if f.file != nil {
		if slot >= 0 {
			err = durable.Unlock(f.file, int64(slot)*slotSize, slotSize)
		}
		err = errors.Join(err, durable.Unlock(f.file, off, 1))
	}
	f.mu.Unlock()
	f.releaseHere(off)
	return err
}

func (f *flight) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		return nil
	}
	err := f.file.Close()
	f.file = nil
	return err
}

// oldest returns when the oldest action that is in flight anywhere began; zero if
// there is none.
func (f *flight) oldest(s *Store) (oldest time.Time, err error) {
	older := func(began time.Time) bool { return oldest.IsZero() || began.Before(oldest) }
	f.mu.Lock()
	for _, began := range f.used {
		if older(began) {
			oldest = began
		}
	}
	f.mu.Unlock()
	file, err := f.open(s)
	if err != nil {
		return oldest, err
	}
	buf := make([]byte, slots*slotSize)
	n, _ := file.ReadAt(buf, 0) // as much as there is
	for i := 0; i+slotSize <= n; i += slotSize {
		began := time.Unix(0, int64(binary.LittleEndian.Uint64(buf[i:])))
		if older(began) && began.Unix() > 0 {
			live, err := durable.Locked(file, int64(i), slotSize)
			if err != nil {
				return oldest, err
			}
			if live {
				oldest = began
			}
		}
	}
	return oldest, nil
}
