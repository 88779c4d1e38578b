package inputs

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
)

// TestPropertiesOfMoreThanIsRemembered asks about a tree of few directories, to each of
// which lead very many paths, and which are more than fit into the memo: each is read
// once, or this test does not end.
func TestPropertiesOfMoreThanIsRemembered(t *testing.T) {
	store, err := cache.Open(filepath.Join(t.TempDir(), "cache"), cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	put := func(m *action.Directory) action.Digest {
		d, err := store.PutBytes(t.Context(), action.SHA256, m.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for _, has := range []bool{false, true} {
		leaf := &action.Directory{}
		if has {
			leaf.Properties = &action.NodeProperties{}
		}
		below := []action.Digest{put(leaf)}
		for level := range 60 {
			var here []action.Digest
			for i := range 2 {
				m := &action.Directory{Symlinks: []action.SymlinkNode{{Name: fmt.Sprint(level), Target: fmt.Sprint(i)}}}
				for k, d := range below {
					m.Directories = append(m.Directories, action.DirectoryNode{Name: fmt.Sprintf("d%d", k), Digest: d})
				}
				here = append(here, put(m))
			}
			below = here
		}
		s := New(store)
		s.memoMax = 90 // of 120 directories with 3 entries each
		if got, err := s.Properties(t.Context(), below[0]); err != nil || got != has {
			t.Errorf("%v, %v; want %v", got, err, has)
		}
	}
}
