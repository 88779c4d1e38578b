package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/cache"
)

// errStore is wrapped by errors of stores that cannot be used at all. A compiler's call
// says nothing of them, so --stats and doctor do.
var errStore = errors.New("the cache cannot be used")

// storeProblem says why nothing can be found in the store in dir, or, where it is
// wrapped by a [cache.ErrUnwritable], why nothing can be added. It leaves nothing behind.
func storeProblem(dir string) error {
	store, err := cache.Open(dir, cache.Options{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("%w: %w", errStore, err)
	}
	defer store.Close()
	at := store.Dir()
	if _, err := os.Lstat(at); err == nil {
		for _, name := range []string{"", "blob", "note", "result", "locks"} {
			path := filepath.Join(at, name)
			err := unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS)
			if err != nil && (name == "" || !errors.Is(err, fs.ErrNotExist)) {
				return fmt.Errorf("%w: %s: %w", cache.ErrUnwritable, path, err)
			}
		}
		return nil
	}
	for at != "/" {
		if _, err := os.Lstat(at); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		at = filepath.Dir(at)
	}
	try, err := os.MkdirTemp(at, ".sbx-action-")
	if err != nil {
		if cause, ok := errors.AsType[*fs.PathError](err); ok { // which has a name that nobody knows
			err = fmt.Errorf("make a directory in %s: %w", at, cause.Err)
		}
		return fmt.Errorf("%w: the directory %s cannot be made: choose another with --cache or SBX_CACHE: %w", errStore, store.Dir(), err)
	}
	return os.Remove(try)
}

// storeNote is what --stats says of a store in dir, or "".
func storeNote(dir string) string {
	err := storeProblem(dir)
	switch {
	case errors.Is(err, fs.ErrPermission) && !errors.Is(err, errStore):
		return fmt.Sprintf("nothing is added here: %v: choose another store with --cache or SBX_CACHE, or let whoever owns this one share it ('sbx-action cache --help')", err)
	case errors.Is(err, cache.ErrUnwritable) && !errors.Is(err, errStore):
		return fmt.Sprintf("nothing is added here: %v", err)
	case err != nil:
		return fmt.Sprintf("every call only executes the compiler: %v", err)
	case !filepath.IsAbs(dir):
		return fmt.Sprintf("each directory in which a call begins has a cache of its own: the name %q is relative", dir)
	}
	return ""
}
