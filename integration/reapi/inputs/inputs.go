// Package inputs reads the directories of input roots in a store, for those who
// stage them.
package inputs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/staging"
)

// Directories reads Directory messages, and remembers the last ones. Its methods
// may be called by any number of goroutines.
type Directories struct {
	store   *cache.Store
	memoMax int // bounds the memo, in entries of directories

	mu      sync.Mutex
	memo    map[action.Digest]*action.Directory
	own     map[action.Digest]bool // whether a tree has node properties
	entries int
}

// maxDirectory is the size of the largest Directory message.
const maxDirectory = 64 << 20

// New returns one that reads from store.
func New(store *cache.Store) *Directories {
	return &Directories{store: store, memoMax: 200_000, memo: map[action.Digest]*action.Directory{}, own: map[action.Digest]bool{}}
}

// A malformed error is about bytes that a client has sent.
type malformed struct{ error }

func (m malformed) Unwrap() error { return m.error }

// IsMalformed says whether an error of reading or of staging a tree, or of starting a
// command in it, is the fault of who made the tree: the working directory of the command
// may be a file there, or a link to nowhere.
func IsMalformed(err error) bool {
	_, ok := errors.AsType[malformed](err)
	return ok || errors.Is(err, staging.ErrTree) || strings.Contains(err.Error(), "malformed ") || strings.Contains(err.Error(), "enter the working directory")
}

// Get returns the directory d, which the caller must not change. Of one that is
// not there the error wraps [action.ErrMiss].
func (s *Directories) Get(ctx context.Context, d action.Digest) (*action.Directory, error) {
	s.mu.Lock()
	m := s.memo[d]
	s.mu.Unlock()
	if m != nil {
		return m, nil
	}
	if d.Size() > maxDirectory {
		return nil, malformed{fmt.Errorf("directory %v is larger than %d bytes", d, maxDirectory)}
	}
	data, err := s.store.Read(ctx, d)
	if err != nil {
		return nil, err
	}
	if m, err = action.ParseDirectory(data, d.Function()); err != nil {
		return nil, malformed{fmt.Errorf("directory %v: %w", d, err)}
	}
	if err := tooLong(m); err != nil {
		return nil, malformed{fmt.Errorf("directory %v: %w", d, err)}
	}
	n := len(m.Files) + len(m.Directories) + len(m.Symlinks) + 1
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries+n > s.memoMax {
		clear(s.memo)
		clear(s.own)
		s.entries = 0
	}
	s.memo[d] = m
	s.entries += n
	return m, nil
}

// The longest name and the longest target of a link, in bytes: Linux's NAME_MAX and
// PATH_MAX without the NUL.
const (
	maxName   = 255
	maxTarget = 4095
)

// tooLong says what in m no file system can have, or nil.
func tooLong(m *action.Directory) error {
	name := func(name string) error {
		if len(name) > maxName {
			return fmt.Errorf("the name %.20q… has %d bytes: no file system here takes more than %d", name, len(name), maxName)
		}
		return nil
	}
	for i := range m.Files {
		if err := name(m.Files[i].Name); err != nil {
			return err
		}
	}
	for i := range m.Directories {
		if err := name(m.Directories[i].Name); err != nil {
			return err
		}
	}
	for i := range m.Symlinks {
		if err := name(m.Symlinks[i].Name); err != nil {
			return err
		}
		if n := len(m.Symlinks[i].Target); n > maxTarget {
			return fmt.Errorf("the link %q has a target of %d bytes: no file system here takes more than %d", m.Symlinks[i].Name, n, maxTarget)
		}
	}
	return nil
}

// maxDepth is how deep directories may be nested: deeper than any path is long.
const maxDepth = 1024

// Properties says whether anything in the tree root has node properties.
func (s *Directories) Properties(ctx context.Context, root action.Digest) (bool, error) {
	return s.properties(ctx, root, 0, map[action.Digest]bool{})
}

// properties is Properties for a tree that is depth directories deep in another. Those
// in without have none: the memo may forget that meanwhile, and very many paths can lead
// to the same directory.
func (s *Directories) properties(ctx context.Context, root action.Digest, depth int, without map[action.Digest]bool) (bool, error) {
	if without[root] {
		return false, nil
	}
	if depth > maxDepth {
		return false, malformed{fmt.Errorf("directories are nested deeper than %d", maxDepth)}
	}
	s.mu.Lock()
	has, known := s.own[root]
	s.mu.Unlock()
	if known {
		return has, nil
	}
	m, err := s.Get(ctx, root)
	if err != nil {
		return false, err
	}
	has = m.Properties != nil ||
		slices.ContainsFunc(m.Files, func(n action.FileNode) bool { return n.Properties != nil }) ||
		slices.ContainsFunc(m.Symlinks, func(n action.SymlinkNode) bool { return n.Properties != nil })
	for i := 0; i < len(m.Directories) && !has; i++ {
		if has, err = s.properties(ctx, m.Directories[i].Digest, depth+1, without); err != nil {
			return false, err
		}
	}
	without[root] = !has
	s.mu.Lock()
	defer s.mu.Unlock()
	s.own[root] = has
	return has, nil
}

// Finder returns a function that finds what the tree root has at a path.
func (s *Directories) Finder(ctx context.Context, root action.Digest) (func(string) (staging.Entry, bool), error) {
	if _, err := s.Get(ctx, root); err != nil {
		return nil, err
	}
	return func(p string) (staging.Entry, bool) {
		at := root
		parts := strings.Split(p, "/")
		for i, name := range parts {
			m, err := s.Get(ctx, at)
			if err != nil {
				return staging.Entry{}, false // staging will say so
			}
			if k, ok := slices.BinarySearchFunc(m.Directories, name, func(n action.DirectoryNode, s string) int { return strings.Compare(n.Name, s) }); ok {
				at = m.Directories[k].Digest
				if i == len(parts)-1 {
					return staging.Entry{Kind: staging.KindDirectory, Digest: at}, true
				}
				continue
			}
			if _, ok := slices.BinarySearchFunc(m.Symlinks, name, func(n action.SymlinkNode, s string) int { return strings.Compare(n.Name, s) }); ok {
				return staging.Entry{Kind: staging.KindLink}, i == len(parts)-1
			}
			if _, ok := slices.BinarySearchFunc(m.Files, name, func(n action.FileNode, s string) int { return strings.Compare(n.Name, s) }); ok {
				return staging.Entry{Kind: staging.KindFile}, i == len(parts)-1
			}
			return staging.Entry{}, false
		}
		return staging.Entry{}, false
	}, nil
}
