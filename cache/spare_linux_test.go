package cache

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/durable"
)

// TestExpect stores results in what was made in advance.
func TestExpect(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s := openIn(t, dir, Options{})
	made, blobs := 0, 0
	s.disk.Fault = func(op durable.Op, _ string, do func() error) error {
		if op == durable.OpCreate {
			made++
		}
		return do()
	}
	put := func(what string, n, want int) {
		t.Helper()
		before := made
		for range n {
			blobs++
			data := fmt.Appendf(nil, "%s %d", what, blobs)
			d, err := s.PutBytes(t.Context(), action.BLAKE3, data)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			got, err := os.ReadFile(s.shard(KindBlob.String(), d))
			if err != nil || string(got) != string(data) {
				t.Errorf("%s: it holds %q, %v", what, got, err)
			}
			if info, err := os.Stat(s.shard(KindBlob.String(), d)); err != nil || info.Mode() != 0o444 {
				t.Errorf("%s: %v, %v", what, info.Mode(), err)
			}
		}
		if what != "" && made-before != want {
			t.Errorf("%s: %d drafts were made for %d blobs, want %d", what, made-before, n, want)
		}
	}
	s.Expect(3)
	if made > 1 {
		t.Errorf("%d drafts in a directory that is no store yet", made)
	}
	for range 1000 { // until all directories are there
		put("", 1, 0)
	}
	if s.noTemp.Load() {
		return // a file system that wants names
	}
	before := made
	s.Expect(3)
	s.Expect(3)
	if made != before+3 {
		t.Errorf("%d drafts, want 3", made-before)
	}
	put("expected", 3, 0)
	put("not expected", 1, 1)
	s.Expect(2)
	s.spares.list[1].made = time.Now().Add(-time.Minute)
	put("one is too old", 2, 1)
	s.Expect(1)
	s.spares.list[0].dev++
	put("another file system", 1, 1)
	if err := s.Close(); err != nil || len(s.spares.list) > 0 {
		t.Errorf("closed: %v, %d drafts", err, len(s.spares.list))
	}
	put("after Close", 1, 1)
	s.Expect(1)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for i := range 2 { // where the store was
		data := fmt.Appendf(nil, "again %d", i)
		if d, err := s.PutBytes(t.Context(), action.BLAKE3, data); err != nil || !s.Has(t.Context(), d) {
			t.Errorf("the store was removed: %v", err)
		}
	}
	s.Close()
}
