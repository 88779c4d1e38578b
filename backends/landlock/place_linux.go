package landlock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// A place is the directory of the host that stands for a root.
type place struct {
	root string
	base string   // the temporary directory that has root, or empty: the caller's
	lock *os.File // of base: held as long as we live, so that others know
}

// places remembers which are still needed.
type places struct {
	mu    sync.Mutex
	swept bool
	kept  []keptPlace
}

type keptPlace struct {
	*place
	file *os.File // Status.Root
}

const pattern = "sbx-landlock-"

// make makes a place, in scratch if that is not empty, and removes those that
// nobody needs any more: of commands whose Status.Root has been closed, and of
// processes that were killed before they, or their helper, could do it.
func (s *places) make(scratch string, owner int) (*place, error) {
	s.mu.Lock()
	s.drop(func(k keptPlace) bool {
		_, err := k.file.Stat()
		return errors.Is(err, fs.ErrClosed)
	})
	if !s.swept {
		sweep()
		s.swept = true
	}
	s.mu.Unlock()
	if scratch != "" {
		return &place{root: scratch}, nil
	}
	p, err := newPlace()
	if err != nil {
		return nil, fmt.Errorf("make a directory for the command: %w", err)
	}
	p.root = filepath.Join(p.base, "root")
	err = os.Mkdir(p.root, 0o755)
	if err == nil && owner >= 0 {
		err = os.Chown(p.root, owner, owner)
	}
	if err != nil {
		return nil, errors.Join(err, p.remove())
	}
	return p, nil
}

// hostTemp is $TMPDIR, or /tmp if that is one of root's own, as the command is another
// user.
func hostTemp() string {
	dir := os.TempDir()
	for d := dir; os.Geteuid() == 0 && d != "/" && d != "."; d = filepath.Dir(d) {
		if info, err := os.Stat(d); err != nil || info.Mode()&0o001 == 0 {
			return "/tmp"
		}
	}
	return dir
}

// newPlace makes a temporary directory and locks it, before somebody else sweeps
// it away.
func newPlace() (*place, error) {
	for {
		base, err := os.MkdirTemp(hostTemp(), pattern)
		if err != nil {
			return nil, err
		}
		lock, err := lockDir(base)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EWOULDBLOCK) {
			continue // it has been swept away
		}
		if err != nil {
			return nil, errors.Join(err, os.Remove(base))
		}
		if err := os.Chmod(base, 0o755); err != nil { // the command is another user
			lock.Close()
			return nil, errors.Join(err, os.Remove(base))
		}
		return &place{base: base, lock: lock}, nil
	}
}

// lockDir locks a directory that exists when it returns.
func lockDir(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), dir)
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	if _, err := os.Lstat(dir); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// sweep removes the directories of ours that nobody holds.
func sweep() {
	dirs, _ := filepath.Glob(filepath.Join(hostTemp(), pattern+"*"))
	for _, dir := range dirs {
		var st unix.Stat_t
		if unix.Lstat(dir, &st) != nil || int(st.Uid) != os.Geteuid() || st.Mode&unix.S_IFMT != unix.S_IFDIR {
			continue
		}
		if lock, err := lockDir(dir); err == nil {
			removeAll(dir) //nolint:errcheck // the next one tries again
			lock.Close()
		}
	}
}

// keep notes that the place is needed until file is closed.
func (s *places) keep(p *place, file *os.File) {
	if p.base == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = append(s.kept, keptPlace{p, file})
}

func (s *places) drop(over func(keptPlace) bool) error {
	var left []keptPlace
	var errs []error
	for _, k := range s.kept {
		if over(k) {
			errs = append(errs, k.remove())
		} else {
			left = append(left, k)
		}
	}
	s.kept = left
	return errors.Join(errs...)
}

func (s *places) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.drop(func(keptPlace) bool { return true })
}

// remove removes the place, unless it is the caller's.
func (p *place) remove() error {
	if p.base == "" {
		return nil
	}
	defer p.lock.Close()
	return removeAll(p.base)
}

// removeAll also removes directories that their owner may not enter.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil {
		return nil
	}
	filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error { //nolint:errcheck // RemoveAll says
		if e != nil && e.IsDir() {
			os.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}
