package staging

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sbx-action/sbx-action/action"
)

// A testStore is the smallest store on a disk: a file for each blob, layer and
// note. It counts the layers that it is asked to make.
type testStore struct {
	dir string

	mu   sync.Mutex
	refs map[string][]action.Digest // of layers
	put  int                        // layers that were made
}

func newTestStore(tb testing.TB) *testStore {
	tb.Helper()
	dir := tb.TempDir()
	for _, name := range []string{"blob", "layer", "note"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			tb.Fatal(err)
		}
	}
	return &testStore{dir: dir, refs: map[string][]action.Digest{}}
}

func (s *testStore) BlobDir() string                 { return filepath.Join(s.dir, "blob") }
func (s *testStore) BlobPath(d action.Digest) string { return "/" + d.Hash()[:2] + "/" + d.Hash() }
func (s *testStore) blob(d action.Digest) string     { return s.BlobDir() + s.BlobPath(d) }

func (s *testStore) Open(_ context.Context, d action.Digest) (*os.File, error) {
	f, err := os.Open(s.blob(d))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("blob %v: %w", d, action.ErrMiss)
	}
	return f, err
}

func (s *testStore) Has(_ context.Context, d action.Digest) bool {
	if d.IsEmpty() {
		return true
	}
	_, err := os.Stat(s.blob(d))
	return err == nil
}

func (s *testStore) Put(ctx context.Context, d action.Digest, r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if got, err := s.PutBytes(ctx, d.Function(), data); err != nil || got != d {
		return fmt.Errorf("got %v, want %v: %w", got, d, err)
	}
	return nil
}

func (s *testStore) PutBytes(ctx context.Context, f action.Function, data []byte) (action.Digest, error) {
	d := action.Sum(f, data)
	if !d.IsEmpty() && s.Has(ctx, d) {
		return d, nil
	}
	if err := os.MkdirAll(filepath.Dir(s.blob(d)), 0o755); err != nil {
		return d, err
	}
	tmp, err := os.CreateTemp(s.dir, "tmp")
	if err != nil {
		return d, err
	}
	defer tmp.Close()
	_, err = tmp.Write(data)
	return d, errors.Join(err, tmp.Chmod(0o444), os.Rename(tmp.Name(), s.blob(d)))
}

func (s *testStore) PutFile(ctx context.Context, f action.Function, src *os.File) (action.Digest, error) {
	if _, err := src.Seek(0, io.SeekStart); err != nil {
		return action.Digest{}, err
	}
	data, err := io.ReadAll(src)
	if err != nil {
		return action.Digest{}, err
	}
	return s.PutBytes(ctx, f, data)
}

func (s *testStore) Layer(_ context.Context, name string) (string, error) {
	path := filepath.Join(s.dir, "layer", name)
	if _, err := os.Lstat(path); err != nil {
		return "", fmt.Errorf("layer %s: %w", name, action.ErrMiss)
	}
	return path, nil
}

func (s *testStore) PutLayer(_ context.Context, name string, refs []action.Digest, build func(string) error) (string, error) {
	tmp, err := os.MkdirTemp(s.dir, "tmp")
	if err != nil {
		return "", err
	}
	if err := build(filepath.Join(tmp, "x")); err != nil {
		return "", errors.Join(err, os.RemoveAll(tmp))
	}
	path := filepath.Join(s.dir, "layer", name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := os.Lstat(path); err != nil { // else somebody was faster
		if err := os.Rename(filepath.Join(tmp, "x"), path); err != nil {
			return "", err
		}
	}
	s.refs[name] = refs
	s.put++
	return path, os.RemoveAll(tmp)
}

func (s *testStore) notePath(key action.Digest) string {
	return filepath.Join(s.dir, "note", key.Hash())
}

func (s *testStore) Note(_ context.Context, key action.Digest) ([]byte, error) {
	data, err := os.ReadFile(s.notePath(key))
	if err != nil {
		return nil, action.ErrMiss
	}
	return data, nil
}

func (s *testStore) PutNote(_ context.Context, key action.Digest, data []byte) error {
	return os.WriteFile(s.notePath(key), data, 0o644)
}

// A spec is a tree in a form that tests can read and edit: paths, where that
// of a directory ends in a slash, and what is there. A content that begins with
// "-> " is a link's target; one that begins with "#!" is executable.
type spec map[string]string

// add puts the tree of a spec into a store.
func (t spec) add(tb testing.TB, s action.Blobs, f action.Function) action.Digest {
	tb.Helper()
	d, err := t.build(s, f, "", slices.Sorted(maps.Keys(t)))
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// build puts the directory prefix, in which paths are, into a store.
func (t spec) build(s action.Blobs, f action.Function, prefix string, paths []string) (action.Digest, error) {
	below := map[string][]string{} // by directory
	m := action.Directory{}
	for _, p := range paths {
		name, rest, isDir := strings.Cut(p[len(prefix):], "/")
		if isDir {
			if below[name] = append(below[name], p); rest == "" {
				below[name] = below[name][:len(below[name])-1]
			}
			continue
		}
		content := t[p]
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			m.Symlinks = append(m.Symlinks, action.SymlinkNode{Name: name, Target: target})
			continue
		}
		d, err := s.PutBytes(context.Background(), f, []byte(content))
		if err != nil {
			return d, err
		}
		m.Files = append(m.Files, action.FileNode{Name: name, Digest: d, Executable: strings.HasPrefix(content, "#!")})
	}
	for _, name := range slices.Sorted(maps.Keys(below)) {
		d, err := t.build(s, f, prefix+name+"/", below[name])
		if err != nil {
			return d, err
		}
		m.Directories = append(m.Directories, action.DirectoryNode{Name: name, Digest: d})
	}
	if err := m.Check(); err != nil {
		return action.Digest{}, fmt.Errorf("bad spec at %q: %w", prefix, err)
	}
	return s.PutBytes(context.Background(), f, m.Marshal())
}
