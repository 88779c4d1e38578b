package cachetest

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/sbx-action/sbx-action/action"
)

// onDisk returns where the blob d is, if the store has files.
func onDisk(s Store, d action.Digest) (string, bool) {
	l, ok := s.(action.Layers)
	if !ok {
		return "", false
	}
	return l.BlobDir() + l.BlobPath(d), true
}

// testLoss stores a result, spoils each of its blobs in turn, and wants a miss
// that says so, and a hit once the blob is put again.
func testLoss(t *testing.T, s Store, f action.Function, spoil func(path string) error) {
	if _, ok := s.(action.Layers); !ok {
		return // it has no files that could be lost
	}
	res, blobs := example(t, s, f, "lost")
	key := action.Sum(f, []byte("action"))
	if err := s.PutResult(t.Context(), key, res); err != nil {
		t.Fatal(err)
	}
	for _, d := range blobs {
		path, _ := onDisk(s, d)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Result(t.Context(), key); err != nil {
			t.Fatalf("control: %v", err)
		}
		if err := spoil(path); err != nil {
			t.Fatal(err)
		}
		_, err = s.Result(t.Context(), key)
		checkMiss(t, err, key.String(), d.String())
		if s.Has(t.Context(), d) {
			t.Errorf("Has(%v) = true", d)
		}
		if _, err := s.Open(t.Context(), d); err == nil {
			t.Errorf("Open(%v) opens it", d)
		}
		put(t, s, f, data)
		checkBlob(t, s, d, data)
	}
	if _, err := s.Result(t.Context(), key); err != nil {
		t.Errorf("after all was put again: %v", err)
	}
}

func testBlobThatIsLost(t *testing.T, s Store, f action.Function) {
	testLoss(t, s, f, os.Remove)
}

func testBlobOfWrongSize(t *testing.T, s Store, f action.Function) {
	testLoss(t, s, f, func(path string) error {
		return errors.Join(os.Chmod(path, 0o600), os.Truncate(path, 1))
	})
}

func testNotes(t *testing.T, s Store, f action.Function) {
	n, ok := s.(action.Notes)
	if !ok {
		return
	}
	key, other := action.Sum(f, []byte("key")), action.Sum(f, []byte("other"))
	_, err := n.Note(t.Context(), key)
	checkMiss(t, err, key.String())
	for _, want := range [][]byte{[]byte("first"), {}, content("long", 1<<20)} {
		if err := n.PutNote(t.Context(), key, want); err != nil {
			t.Fatal(err)
		}
		if got, err := n.Note(t.Context(), key); err != nil || !bytes.Equal(got, want) {
			t.Errorf("Note = %.20q, %v; want %.20q", got, err, want)
		}
	}
	_, err = n.Note(t.Context(), other)
	checkMiss(t, err)

	// Readers see one of the notes, whole.
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for range 50 {
				if err := n.PutNote(t.Context(), key, bytes.Repeat([]byte{byte(g)}, 5000*(g+1))); err != nil {
					t.Errorf("PutNote: %v", err)
				}
				got, err := n.Note(t.Context(), key)
				if errors.Is(err, action.ErrMiss) {
					t.Errorf("Note while it is replaced: %v", err)
				} else if len(got) != 1<<20 && (len(got) == 0 || len(got) != 5000*(int(got[0])+1)) {
					t.Errorf("Note of %d bytes while it is replaced", len(got))
				}
			}
		})
	}
	all.Wait()
}

func testLayers(t *testing.T, s Store, f action.Function) {
	l, ok := s.(action.Layers)
	if !ok {
		return
	}
	d := put(t, s, f, []byte("a blob of a layer"))
	if data, err := os.ReadFile(l.BlobDir() + l.BlobPath(d)); err != nil || string(data) != "a blob of a layer" {
		t.Errorf("the blob where a layer finds it: %q, %v", data, err)
	}
	_, err := l.Layer(t.Context(), "one")
	checkMiss(t, err, "one")
	for _, name := range []string{"", ".", "..", "a/b", ".x", "a\x00", strings.Repeat("a", 300)} {
		if _, err := l.PutLayer(t.Context(), name, nil, func(string) error { return nil }); err == nil {
			t.Errorf("PutLayer accepted the name %q", name)
		}
		if _, err := l.Layer(t.Context(), name); err == nil {
			t.Errorf("Layer accepted the name %q", name)
		}
	}

	broken := errors.New("cannot build")
	_, err = l.PutLayer(t.Context(), "one", nil, func(path string) error {
		return errors.Join(os.Mkdir(path, 0o755), broken)
	})
	if !errors.Is(err, broken) {
		t.Errorf("PutLayer = %v, want what build returned", err)
	}
	if _, err := l.PutLayer(t.Context(), "one", nil, func(string) error { return nil }); err == nil {
		t.Error("PutLayer accepted a build that made nothing")
	}
	_, err = l.Layer(t.Context(), "one")
	checkMiss(t, err)

	testLayerRace(t, l, d)
}

// testLayerRace lets several make the same layers. Each must get a whole one.
func testLayerRace(t *testing.T, l action.Layers, d action.Digest) {
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for _, name := range []string{"one", "two", "three"} {
				path, err := l.PutLayer(t.Context(), name, []action.Digest{d}, func(path string) error {
					if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
						t.Errorf("build is called with %s, which exists: %v", path, err)
					}
					return errors.Join(os.Mkdir(path, 0o755),
						os.WriteFile(path+"/name", []byte(name), 0o444), os.Chmod(path, 0o555))
				})
				if err != nil {
					t.Errorf("PutLayer: %v", err)
					return
				}
				got, err := os.ReadFile(path + "/name")
				if err != nil || string(got) != name {
					t.Errorf("layer %s holds %q, %v", name, got, err)
				}
				if again, err := l.Layer(t.Context(), name); err != nil || again != path {
					t.Errorf("Layer(%s) = %q, %v; want %q", name, again, err, path)
				}
			}
		})
	}
	all.Wait()
}
