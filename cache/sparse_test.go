package cache_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
)

// TestSparse stores a file with holes: the bytes are the same, and its blob takes no
// more on the disk than the file does.
func TestSparse(t *testing.T) {
	s, err := cache.Open(cache.TempStoreDir(t), cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for name, c := range map[string]struct {
		size int64
		at   []int64 // where there is something
	}{
		"nothing":   {size: 8 << 20},
		"odd":       {size: 8<<20 + 12345},
		"begin":     {size: 8 << 20, at: []int64{0}},
		"end":       {size: 8<<20 + 3, at: []int64{8 << 20}},
		"across":    {size: 32 << 20, at: []int64{64<<10 - 2, 5<<20 + 1, 31 << 20}},
		"with data": {size: 8 << 20, at: []int64{1 << 20, 1<<20 + 64<<10, 1<<20 + 128<<10}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f")
			f, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := f.Truncate(c.size); err != nil {
				t.Fatal(err)
			}
			for _, at := range c.at {
				if _, err := f.WriteAt([]byte("xyz"), at); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			d, err := s.PutFile(t.Context(), action.BLAKE3, f)
			if err != nil {
				t.Fatal(err)
			}
			if sum := action.Sum(action.BLAKE3, want); d != sum {
				t.Errorf("digest %v, want %v", d, sum)
			}
			blob, err := s.Open(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			defer blob.Close()
			got, err := io.ReadAll(blob)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Error("the blob has other bytes")
			}
			if of, on := cache.OnDisk(t, path), cache.OnDisk(t, blob.Name()); on > of+1<<20 {
				t.Errorf("the blob takes %d bytes on the disk, the file %d", on, of)
			}
		})
	}
}
