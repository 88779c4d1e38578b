package cache_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
)

// TestParts stores blobs that come in several slices, by a Writer and checked, in
// every digest function, and reads them.
func TestParts(t *testing.T) {
	s := newStore(t)
	random := rand.NewChaCha8([32]byte{})
	for _, f := range action.Functions() {
		for _, size := range []int{1, 1000, 300_000, 3 << 20} {
			data := make([]byte, size)
			_, _ = random.Read(data)
			for _, piece := range []int{size/2000 + 1, 16<<10 + 5, 2 << 20} {
				data[0]++
				d, parts := action.Sum(f, data), slices.Collect(slices.Chunk(data, piece))
				read := func(what string) {
					t.Helper()
					file, err := s.Open(t.Context(), d)
					if err != nil {
						t.Fatalf("%s, %v: %v", what, d, err)
					}
					defer file.Close()
					if got, err := io.ReadAll(file); err != nil || !bytes.Equal(got, data) {
						t.Fatalf("%s, %v: %v, or another", what, d, err)
					}
				}
				w := s.NewSizedWriter(t.Context(), f, int64(size))
				for half := range slices.Chunk(parts, (len(parts)+1)/2) {
					if _, err := w.WriteParts(half); err != nil {
						t.Fatal(err)
					}
				}
				if err := w.CommitAs(d); err != nil {
					t.Fatal(err)
				}
				read("written")

				if size > 1 {
					data[1]++
				}
				if err := s.PutParts(t.Context(), d, parts); size > 1 && !errors.Is(err, cache.ErrContent) {
					t.Errorf("other data under %v, which is there: %v", d, err)
				}
				absent := action.Sum(f, append(data, 1))
				if err := s.PutParts(t.Context(), absent, parts); !errors.Is(err, cache.ErrContent) || s.Has(t.Context(), absent) {
					t.Errorf("other data under %v: %v, or it is there now", absent, err)
				}
				d = action.Sum(f, data)
				for range 2 {
					if err := s.PutParts(t.Context(), d, parts); err != nil {
						t.Fatal(err)
					}
				}
				read("put")
			}
		}
	}
	if err := s.PutParts(t.Context(), action.Digest{}, [][]byte{{1}, {2}}); err == nil {
		t.Error("the zero digest was taken")
	}
	none := openStore(t, s.Dir(), cache.Options{ReadOnly: true})
	d := action.Sum(action.SHA256, []byte("ab"))
	if err := none.PutParts(t.Context(), d, [][]byte{[]byte("a"), []byte("b")}); !errors.Is(err, cache.ErrReadOnly) {
		t.Errorf("a store that is only read: %v", err)
	}
	if err := none.PutParts(t.Context(), d, [][]byte{[]byte("a"), []byte("c")}); !errors.Is(err, cache.ErrContent) {
		t.Errorf("other data, where the store is only read: %v", err)
	}
}
