package staging

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

// edit changes a tree in n places: contents, kinds, names, whole directories.
func (t spec) edit(r *rand.Rand, n int) spec {
	next := maps.Clone(t)
	for i := range n {
		paths := slices.Sorted(maps.Keys(next))
		p := paths[r.IntN(len(paths))]
		inside := func(q string) bool { return q == p || strings.HasPrefix(q, strings.TrimSuffix(p, "/")+"/") }
		switch r.IntN(6) {
		case 0: // it goes, with everything below it
			maps.DeleteFunc(next, func(q, _ string) bool { return inside(q) })
		case 1: // it becomes a file, or a directory
			maps.DeleteFunc(next, func(q, _ string) bool { return inside(q) })
			if name, ok := strings.CutSuffix(p, "/"); ok {
				next[name] = "was a directory"
			} else {
				next[p+"/new/file"] = "was a file"
			}
		case 2: // a new neighbour
			next[p[:strings.LastIndexByte(strings.TrimSuffix(p, "/"), '/')+1]+fmt.Sprintf("new%d", i)] = "-> somewhere"
		default:
			if !strings.HasSuffix(p, "/") {
				next[p] = fmt.Sprintf("#! edit %d %d", i, r.Uint64())
			}
		}
	}
	maps.DeleteFunc(next, func(q, _ string) bool { return strings.HasPrefix(q, "keep/") })
	next["keep"] = "never empty"
	return next
}

// TestDelta edits a tree again and again, and holds each root that comes from
// layers of differences against the tree.
func TestDelta(t *testing.T) {
	for _, m := range modes() {
		if m.kind == noLayer {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(7, uint64(m.kind)))
			s, store := newStager(t, m)
			s.small = bounds{1, 1}
			tree := randomSpec(r, 300)
			most := 0
			for round := range 14 {
				d := tree.add(t, store, action.BLAKE3)
				root, layers := stage(t, s, d, Rootfs{})
				most = max(most, layers)
				if layers > maxLayers {
					t.Fatalf("round %d: %d layers", round, layers)
				}
				if diff := differences(inRoot(t, m, root, "dump"), tree.want(m)); diff != "" {
					t.Fatalf("round %d, %d layers:\n%s", round, layers, diff)
				}
				again, _ := stage(t, s, d, Rootfs{})
				if !slices.Equal(again.Lowers, root.Lowers) || again.Data != root.Data {
					t.Fatalf("round %d: from the cache %v, %q; made %v, %q", round, again.Lowers, again.Data, root.Lowers, root.Data)
				}
				tree = tree.edit(r, 1+r.IntN(6))
			}
			if most != maxLayers {
				t.Errorf("the control: at most %d layers were used, want %d", most, maxLayers)
			}
		})
	}
}

// TestDeltaBaseLost removes the layer below a delta.
func TestDeltaBaseLost(t *testing.T) {
	m := modes()[0]
	s, store := newStager(t, m)
	s.small = bounds{1, 1}
	tree := randomSpec(rand.New(rand.NewPCG(1, 1)), 200)
	first, _ := stage(t, s, tree.add(t, store, action.SHA256), Rootfs{})
	tree["more"] = "file"
	d := tree.add(t, store, action.SHA256)
	if _, layers := stage(t, s, d, Rootfs{}); layers != 2 {
		t.Fatalf("%d layers, want a delta", layers)
	}
	path := first.Lowers[0].Image + strings.TrimSuffix(first.Lowers[0].Dir, "/tree")
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	root, _ := stage(t, s, d, Rootfs{})
	if diff := differences(inRoot(t, m, root, "dump"), tree.want(m)); diff != "" {
		t.Error(diff)
	}
}

// TestDeltaOfAnotherBase stages a tree of which there is a delta layer, whose base is
// gone, where another tree is near.
func TestDeltaOfAnotherBase(t *testing.T) {
	for _, m := range modes() {
		if m.kind == noLayer {
			continue
		}
		s, store := newStager(t, m)
		s.small = bounds{1, 1}
		tree := randomSpec(rand.New(rand.NewPCG(3, 3)), 200)
		stage := func(hint string, change ...string) (spec, action.Digest, backends.Root) {
			t.Helper()
			changed := maps.Clone(tree)
			for _, name := range change {
				changed[name] = "changed"
			}
			d := changed.add(t, store, action.BLAKE3)
			root, err := s.Stage(t.Context(), Input{Tree: d, Hint: action.Sum(action.SHA256, []byte(hint))}, Rootfs{})
			if err != nil {
				t.Fatal(err)
			}
			return changed, d, root
		}
		_, base, _ := stage("one")
		stage("one", "new")
		stage("two", "other") // of another hint, so all of it is a layer
		if err := os.RemoveAll(filepath.Join(store.dir, "layer", layerName("full", m.kind, s.workPlace(), base))); err != nil {
			t.Fatal(err)
		}
		want, d, root := stage("two", "new")
		if diff := differences(inRoot(t, m, root, "dump"), want.want(m)); diff != "" {
			t.Errorf("%s: %s", m.name, diff)
		}
		if _, err := s.knownLayers(t.Context(), m.kind, s.workPlace(), d); err != nil {
			t.Errorf("%s: the next time: %v", m.name, err)
		}
	}
}
