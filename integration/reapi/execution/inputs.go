package execution

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/integration/reapi"
	"github.com/sbx-action/sbx-action/staging"
)

// directories reads Directory messages, and remembers the last ones.
type directories struct {
	store *cache.Store

	mu      sync.Mutex
	memo    map[action.Digest]*action.Directory
	own     map[action.Digest]bool // whether a tree has node properties
	entries int
}

// memoMax bounds the memo, in entries of directories.
const memoMax = 200_000

func newDirectories(store *cache.Store) *directories {
	return &directories{store: store, memo: map[action.Digest]*action.Directory{}, own: map[action.Digest]bool{}}
}

// A malformed error is about bytes that a client has sent.
type malformed struct{ error }

func (m malformed) Unwrap() error { return m.error }

func isMalformed(err error) bool {
	_, ok := errors.AsType[malformed](err)
	return ok || errors.Is(err, staging.ErrTree) || strings.Contains(err.Error(), "malformed ")
}

func (s *directories) get(ctx context.Context, d action.Digest) (*action.Directory, error) {
	s.mu.Lock()
	m := s.memo[d]
	s.mu.Unlock()
	if m != nil {
		return m, nil
	}
	if d.Size() > maxMessage {
		return nil, malformed{fmt.Errorf("directory %v is larger than %d bytes", d, maxMessage)}
	}
	file, err := s.store.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data := make([]byte, d.Size())
	if _, err := io.ReadFull(file, data); err != nil {
		return nil, err
	}
	if m, err = action.ParseDirectory(data, d.Function()); err != nil {
		return nil, malformed{fmt.Errorf("directory %v: %w", d, err)}
	}
	n := len(m.Files) + len(m.Directories) + len(m.Symlinks) + 1
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries+n > memoMax {
		clear(s.memo)
		clear(s.own)
		s.entries = 0
	}
	s.memo[d] = m
	s.entries += n
	return m, nil
}

// maxDepth is how deep directories may be nested: deeper than any path is long.
const maxDepth = 1024

// properties says whether anything in the tree root, which is depth directories
// deep in another, has node properties.
func (s *directories) properties(ctx context.Context, root action.Digest, depth int) (bool, error) {
	if depth > maxDepth {
		return false, malformed{fmt.Errorf("directories are nested deeper than %d", maxDepth)}
	}
	s.mu.Lock()
	has, known := s.own[root]
	s.mu.Unlock()
	if known {
		return has, nil
	}
	m, err := s.get(ctx, root)
	if err != nil {
		return false, err
	}
	has = m.Properties != nil ||
		slices.ContainsFunc(m.Files, func(n action.FileNode) bool { return n.Properties != nil }) ||
		slices.ContainsFunc(m.Symlinks, func(n action.SymlinkNode) bool { return n.Properties != nil })
	for i := 0; i < len(m.Directories) && !has; i++ {
		if has, err = s.properties(ctx, m.Directories[i].Digest, depth+1); err != nil {
			return false, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.own[root] = has
	return has, nil
}

// finder returns a function that finds what the tree root has at a path.
func (s *directories) finder(ctx context.Context, root action.Digest) (func(string) (staging.Entry, bool), error) {
	if _, err := s.get(ctx, root); err != nil {
		return nil, err
	}
	return func(p string) (staging.Entry, bool) {
		at := root
		parts := strings.Split(p, "/")
		for i, name := range parts {
			m, err := s.get(ctx, at)
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
			if slices.ContainsFunc(m.Symlinks, func(n action.SymlinkNode) bool { return n.Name == name }) {
				return staging.Entry{Kind: staging.KindLink}, i == len(parts)-1
			}
			if slices.ContainsFunc(m.Files, func(n action.FileNode) bool { return n.Name == name }) {
				return staging.Entry{Kind: staging.KindFile}, i == len(parts)-1
			}
			return staging.Entry{}, false
		}
		return staging.Entry{}, false
	}, nil
}

// missing returns what of the tree root is not in the store, each once: all of
// it, so that a client needs one more try and not many.
func (e *Engine) missing(ctx context.Context, root action.Digest) ([]action.Digest, error) {
	var lost []action.Digest
	seen := map[action.Digest]bool{root: true}
	queue := []action.Digest{root}
	for len(queue) > 0 && len(lost) < reapi.MissingMax {
		d := queue[0]
		queue = queue[1:]
		if !e.opts.Store.Has(ctx, d) { // the memo may have what the store has not
			lost = append(lost, d)
			continue
		}
		m, err := e.dirs.get(ctx, d)
		if err != nil {
			return nil, err
		}
		for i := range m.Directories {
			if below := m.Directories[i].Digest; !seen[below] {
				seen[below] = true
				queue = append(queue, below)
			}
		}
		for i := range m.Files {
			if f := m.Files[i].Digest; !seen[f] {
				seen[f] = true
				if !e.opts.Store.Has(ctx, f) {
					lost = append(lost, f)
				}
			}
		}
	}
	return lost, ctx.Err()
}
