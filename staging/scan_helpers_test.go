package staging

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"

	"github.com/sbx-action/sbx-action/action"
)

// scanBlobs is a store in memory.
type scanBlobs struct {
	mu   sync.Mutex
	data map[action.Digest][]byte
	puts int
}

func newScanBlobs() *scanBlobs { return &scanBlobs{data: map[action.Digest][]byte{}} }

func (b *scanBlobs) Open(context.Context, action.Digest) (*os.File, error) {
	return nil, action.ErrMiss
}

func (b *scanBlobs) Put(_ context.Context, d action.Digest, r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if action.Sum(d.Function(), data) != d {
		return errors.New("wrong content")
	}
	_, err = b.PutBytes(context.Background(), d.Function(), data)
	return err
}

func (b *scanBlobs) PutBytes(_ context.Context, f action.Function, data []byte) (action.Digest, error) {
	d := action.Sum(f, data)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.data[d] = bytes.Clone(data)
	b.puts++
	return d, nil
}

func (b *scanBlobs) PutFile(ctx context.Context, f action.Function, src *os.File) (action.Digest, error) {
	data, err := io.ReadAll(src)
	if err != nil {
		return action.Digest{}, err
	}
	return b.PutBytes(ctx, f, data)
}

func (b *scanBlobs) Has(_ context.Context, d action.Digest) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.data[d]
	return ok || d.IsEmpty()
}

// naiveTree is the tree of dir, by reading all of it.
func naiveTree(t *testing.T, dir string, f action.Function) action.Digest {
	t.Helper()
	var m action.Directory
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name() < list[j].Name() })
	for _, e := range list {
		name := filepath.Join(dir, e.Name())
		info, err := os.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		switch info.Mode().Type() {
		case os.ModeDir:
			m.Directories = append(m.Directories, action.DirectoryNode{Name: e.Name(), Digest: naiveTree(t, name, f)})
		case os.ModeSymlink:
			target, err := os.Readlink(name)
			if err != nil {
				t.Fatal(err)
			}
			m.Symlinks = append(m.Symlinks, action.SymlinkNode{Name: e.Name(), Target: target})
		default:
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			m.Files = append(m.Files, action.FileNode{Name: e.Name(), Digest: action.Sum(f, data), Executable: info.Mode()&0o111 != 0})
		}
	}
	if err := m.Check(); err != nil {
		t.Fatal(err)
	}
	return m.Digest(f)
}

// makeTree makes what is described in dir: "a/b" a file with its name as its
// content, "a/b=text", "a/" a directory, "a->b" a link, "a*" executable.
func makeTree(t testing.TB, dir string, names ...string) {
	t.Helper()
	for _, n := range names {
		name, target, link := strings.Cut(n, "->")
		name, text, hasText := strings.Cut(name, "=")
		exec := strings.HasSuffix(name, "*")
		name = strings.TrimSuffix(name, "*")
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o777); err != nil {
			t.Fatal(err)
		}
		var err error
		switch {
		case link:
			err = os.Symlink(target, full)
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(full, 0o777)
		default:
			if !hasText {
				text = name
			}
			mode := os.FileMode(0o644)
			if exec {
				mode = 0o755
			}
			err = os.WriteFile(full, []byte(text), mode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// contents lists a snapshot in the language of makeTree.
func contents(t *testing.T, s *Snapshot) []string {
	t.Helper()
	var out []string
	err := s.Walk(func(path string, e Entry) error {
		switch e.Kind {
		case KindDirectory:
			path += "/"
		case KindLink:
			path += "->" + e.Target
		case KindTree:
			path += "=" + e.Digest.String()
		case KindFile:
			if e.Executable {
				path += "*"
			}
		}
		out = append(out, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func mustScan(t testing.TB, cfg ScanConfig) *Snapshot {
	t.Helper()
	s, err := Scan(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if s.StatCacheErr != nil {
		t.Fatal(s.StatCacheErr)
	}
	return s
}

func countFDs(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
