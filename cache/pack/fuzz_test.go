package pack

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
)

// FuzzFiles: whatever is in a pack file and its index, a pack opens, and gives out
// nothing under a digest or key that is not that of it. A blob is stored beside it.
func FuzzFiles(f *testing.F) {
	good := cache.Checked{}
	for _, boot := range []string{"", "boot"} {
		dir := f.TempDir()
		p, err := Open(dir, Options{Boot: boot, Spill: new(elsewhere).spill})
		if err != nil {
			f.Fatal(err)
		}
		data := []byte("some content")
		if good, err = cache.Check(action.Sum(action.SHA256, data), data); err != nil {
			f.Fatal(err)
		}
		if err := p.Put([]cache.Checked{good}); err != nil {
			f.Fatal(err)
		}
		if err := p.PutRecord(key(1), []byte("a record")); err != nil {
			f.Fatal(err)
		}
		if err := p.Close(); err != nil {
			f.Fatal(err)
		}
		pack, err := os.ReadFile(filepath.Join(dir, "1.pack"))
		if err != nil {
			f.Fatal(err)
		}
		index, err := os.ReadFile(filepath.Join(dir, "1.index"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(pack, index)
		f.Add(pack[:len(pack)-1], []byte{})
	}
	f.Fuzz(func(t *testing.T, pack, index []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "1.pack"), pack, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "1.index"), index, 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := Open(dir, Options{Boot: "boot", Spill: new(elsewhere).spill})
		if err != nil {
			t.Fatal(err)
		}
		if data, ok := p.Get(good.Digest()); ok && action.Sum(action.SHA256, data) != good.Digest() {
			t.Errorf("a blob that is not what was asked for: %q", data)
		}
		if data, ok := p.Record(key(1)); ok && len(data) == 0 {
			t.Error("an empty record")
		}
		if err := p.Put([]cache.Checked{good}); err != nil {
			t.Fatal(err)
		}
		want(t, p, good, true)
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
