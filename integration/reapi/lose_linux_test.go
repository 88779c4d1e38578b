package reapi_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/cache/pack"
)

// A leaky pack can lose blobs, which a real one only does with its disk.
type leaky struct {
	*pack.Pack
	lost sync.Map // digests
}

func (l *leaky) Has(d action.Digest) bool {
	_, lost := l.lost.Load(d)
	return !lost && l.Pack.Has(d)
}

func (l *leaky) Get(d action.Digest) ([]byte, bool) {
	if !l.Has(d) {
		return nil, false
	}
	return l.Pack.Get(d)
}

func (l *leaky) Size(f action.Function, hash [32]byte) (int64, bool) {
	size, ok := l.Pack.Size(f, hash)
	if d, err := action.Shortened(f, hash, size); err == nil {
		_, lost := l.lost.Load(d)
		ok = ok && !lost
	}
	return size, ok
}

func (l *leaky) Put(list []cache.Checked) error {
	for _, c := range list {
		l.lost.Delete(c.Digest())
	}
	return l.Pack.Put(list)
}

// lose takes a blob away that the store has, wherever it is.
func (s *server) lose(t *testing.T, d action.Digest) {
	t.Helper()
	if !s.store.Holds(t.Context(), d) {
		t.Fatalf("blob %v was never there", d)
	}
	short, err := action.Shortened(d.Function(), d.Bytes(), d.Size())
	if err != nil {
		t.Fatal(err)
	}
	s.packed.lost.Store(d, nil)
	s.packed.lost.Store(short, nil)
	if err := os.Remove(filepath.Join(s.store.BlobDir(), s.store.BlobPath(d))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if s.store.Holds(t.Context(), d) {
		t.Fatalf("blob %v is there still", d)
	}
}
