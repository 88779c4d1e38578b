package staging

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/sbx-action/sbx-action/action"
)

// TestSavedLooksAtWhatChangedOnly saves a tree, stages it, changes one file,
// and counts the blobs that saving the next tree asks for.
func TestSavedLooksAtWhatChangedOnly(t *testing.T) {
	work := t.TempDir()
	for i := range 1200 {
		dir := filepath.Join(work, "d"+strconv.Itoa(i%40))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), []byte(strconv.Itoa(i)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	store := newTestStore(t)
	asked := &askCounter{Blobs: store}
	s := &Stager{
		Blobs: store, Layers: store, Notes: store, Capabilities: modes()[0].caps,
	}
	save := func() action.Digest {
		t.Helper()
		snap, err := Scan(t.Context(), ScanConfig{Workspace: work, Inputs: []string{"."}, Function: action.BLAKE3})
		if err != nil {
			t.Fatal(err)
		}
		asked.n.Store(0)
		if err := snap.Save(t.Context(), asked, s.Saved(t.Context(), Input{Tree: snap.Root})); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Stage(t.Context(), Input{Tree: snap.Root}, Rootfs{}); err != nil {
			t.Fatal(err)
		}
		return snap.Root
	}
	save()
	if asked.n.Load() < 1200 {
		t.Fatalf("control: the first Save asked for %d blobs", asked.n.Load())
	}
	save()
	if asked.n.Load() != 0 {
		t.Errorf("the same tree again: asked for %d blobs", asked.n.Load())
	}
	if err := os.WriteFile(filepath.Join(work, "d7", "new"), []byte("new"), 0o644); err != nil {
		t.Fatal(err)
	}
	root := save()
	if asked.n.Load() == 0 || asked.n.Load() > 40 { // the 31 files of d7, d7 itself, the root
		t.Errorf("one file more: asked for %d blobs", asked.n.Load())
	}
	if _, err := newTreeLoader(store).fits(t.Context(), root, bounds{files: 1 << 20, bytes: 1 << 40}); err != nil {
		t.Errorf("the store lacks a directory: %v", err)
	}
}

// An askCounter counts the questions about blobs.
type askCounter struct {
	action.Blobs
	n atomic.Int64
}

func (a *askCounter) Has(ctx context.Context, d action.Digest) bool {
	a.n.Add(1)
	return a.Blobs.Has(ctx, d)
}
