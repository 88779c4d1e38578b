package component

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/staging"
)

// memory is Blobs and Notes in memory.
type memory struct {
	t     testing.TB
	mu    sync.Mutex
	blobs map[action.Digest][]byte
	notes map[action.Digest][]byte
}

func newMemory(t testing.TB) *memory {
	return &memory{t: t, blobs: map[action.Digest][]byte{}, notes: map[action.Digest][]byte{}}
}

func (m *memory) Open(_ context.Context, d action.Digest) (*os.File, error) {
	m.mu.Lock()
	data, ok := m.blobs[d]
	m.mu.Unlock()
	if !ok && !d.IsEmpty() {
		return nil, fmt.Errorf("%v: %w", d, action.ErrMiss)
	}
	f, err := os.CreateTemp(m.t.TempDir(), "")
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(data); err != nil {
		return nil, err
	}
	_, err = f.Seek(0, io.SeekStart)
	return f, err
}

func (m *memory) Put(_ context.Context, d action.Digest, r io.Reader) error {
	data, err := io.ReadAll(r)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.blobs[d] = data
	return err
}

func (m *memory) PutBytes(_ context.Context, f action.Function, data []byte) (action.Digest, error) {
	d := action.Sum(f, data)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.blobs[d] = bytes.Clone(data)
	return d, nil
}

func (m *memory) PutFile(ctx context.Context, f action.Function, src *os.File) (action.Digest, error) {
	data, err := io.ReadAll(src)
	if err != nil {
		return action.Digest{}, err
	}
	return m.PutBytes(ctx, f, data)
}

func (m *memory) Has(_ context.Context, d action.Digest) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.blobs[d]
	return ok || d.IsEmpty()
}

func (m *memory) Note(_ context.Context, key action.Digest) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n, ok := m.notes[key]; ok {
		return n, nil
	}
	return nil, action.ErrMiss
}

func (m *memory) PutNote(_ context.Context, key action.Digest, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.notes[key] = bytes.Clone(data)
	return nil
}

// files makes a tree: "text", "-> target" for a link, "4755 text" for a mode, and
// "" for a directory.
func files(t *testing.T, m *memory, list map[string]string) *tree {
	t.Helper()
	tr := newTree(m, action.BLAKE3, action.Digest{})
	for p, content := range list {
		n := &node{}
		switch {
		case strings.HasPrefix(content, "-> "):
			n.link = &action.SymlinkNode{Target: content[3:]}
		case content == "":
			if _, err := tr.directory(t.Context(), p, true); err != nil {
				t.Fatal(err)
			}
			continue
		default:
			d, _ := m.PutBytes(t.Context(), action.BLAKE3, []byte(content))
			n.file = &action.FileNode{Digest: d}
			if mode := uint32(0o4755); strings.HasPrefix(content, "4755 ") {
				n.file.Executable, n.file.Properties = true, &action.NodeProperties{UnixMode: &mode}
			}
		}
		if err := tr.put(t.Context(), p, n); err != nil {
			t.Fatal(err)
		}
	}
	return again(t, m, tr)
}

// again seals a tree and loads it anew.
func again(t *testing.T, m *memory, tr *tree) *tree {
	t.Helper()
	var s sealer
	d := tr.seal(&s)
	if err := s.save(t.Context(), m, action.BLAKE3); err != nil {
		t.Fatal(err)
	}
	return newTree(m, action.BLAKE3, d)
}

// listing is what is in a tree.
func listing(t *testing.T, m *memory, tr *tree) []string {
	t.Helper()
	var list []string
	err := tr.visit(t.Context(), func(p string, n *node) error {
		switch {
		case n.file != nil:
			data, err := readBlob(t.Context(), m, n.file.Digest)
			list = append(list, p+" "+string(data))
			return err
		case n.link != nil:
			list = append(list, p+" -> "+n.link.Target)
		case len(n.dir.names) == 0 && n.dir.loaded, n.dir.digest.IsEmpty():
			list = append(list, p+"/")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestOverlay(t *testing.T) {
	m := newMemory(t)
	base := files(t, m, map[string]string{
		"bin": "-> usr/bin", "lib": "-> /usr/lib", "usr/bin/sh": "shell", "usr/lib/a": "a", "usr/share/x/deep": "same",
		"etc/conf": "old", "loop": "-> loop", "opt": "a file",
	})
	over := files(t, m, map[string]string{
		"bin/tool": "4755 tool", "lib/b": "b", "etc/conf": "new", "usr/share/x/deep": "same", "usr/share/y": "y",
		"abs": "-> /usr/bin/sh", "usr/bin/abs": "-> /", "usr/lib/rel": "-> ../bin", "opt/now/a": "dir", "empty": "",
	})
	tr := newTree(m, action.BLAKE3, base.seal(&sealer{}))
	tr.owners, tr.origin = staging.Owners{}, map[string]string{"etc/conf": "first"}
	met, err := tr.overlay(t.Context(), over, "second")
	if err != nil {
		t.Fatal(err)
	}
	if want := []meeting{{"etc/conf", "first"}, {"opt", ""}}; !slices.Equal(met, want) {
		t.Errorf("met %v, want %v", met, want)
	}
	want := []string{
		"abs -> usr/bin/sh", "bin -> usr/bin", "empty/", "etc/conf new", "lib -> /usr/lib", "loop -> loop", "opt/now/a dir",
		"usr/bin/abs -> ../..", "usr/bin/sh shell", "usr/bin/tool 4755 tool", "usr/lib/a a", "usr/lib/b b", "usr/lib/rel -> ../bin",
		"usr/share/x/deep same", "usr/share/y y",
	}
	if got := listing(t, m, again(t, m, tr)); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if o := tr.owners["usr/bin/tool"]; o.Mode != 0o4755 || o.Type != staging.TypeFile {
		t.Errorf("the mode of what went through a link: %+v", o)
	}
	if tr.origin["usr/bin/tool"] != "second" || tr.origin["etc/conf"] != "second" || tr.origin["usr/bin/sh"] != "" {
		t.Errorf("origins %v", tr.origin)
	}
	// Modes are beside the tree, so that equal files are equal trees.
	plain := newTree(m, action.BLAKE3, base.seal(&sealer{}))
	stripped := files(t, m, map[string]string{"bin/tool": "tool"})
	_, err = plain.overlay(t.Context(), stripped, "x")
	if err != nil || strings.Contains(fmt.Sprint(listing(t, m, plain)), "4755") {
		t.Error(err)
	}
}

// TestOverlayTwice lays a tree over a tree that has it already: nothing changes,
// not even a digest.
func TestOverlayTwice(t *testing.T) {
	m := newMemory(t)
	list := map[string]string{"usr/bin/sh": "shell", "usr/lib/a": "a", "l": "-> usr"}
	tr := newTree(m, action.BLAKE3, files(t, m, list).seal(&sealer{}))
	before := tr.seal(&sealer{})
	met, err := tr.overlay(t.Context(), files(t, m, map[string]string{"usr/lib/a": "a"}), "x")
	if err != nil || len(met) > 0 {
		t.Errorf("%v, %v", met, err)
	}
	if after := tr.seal(&sealer{}); after != before {
		t.Errorf("%v became %v", before, after)
	}
}

func TestWalk(t *testing.T) {
	m := newMemory(t)
	tr := files(t, m, map[string]string{"a/b/c": "x", "up": "-> a/../a/b", "out": "-> ../../../../a", "loop": "-> loop2", "loop2": "-> loop"})
	for p, want := range map[string]string{"a/b": "a/b", "up": "a/b", "out/b": "a/b", "a/../../..": ""} {
		d, at, err := tr.walk(t.Context(), p, false)
		if err != nil || d == nil || at != want {
			t.Errorf("%s: %q, %v, want %q", p, at, err, want)
		}
	}
	if d, _, err := tr.walk(t.Context(), "a/nothing", false); d != nil || err != nil {
		t.Errorf("what is not there: %v, %v", d, err)
	}
	if _, _, err := tr.walk(t.Context(), "loop/x", false); err == nil {
		t.Error("a loop of links leads somewhere")
	}
	if _, _, err := tr.walk(t.Context(), "a/b/c/d", true); err == nil {
		t.Error("a file is a directory")
	}
}

func TestRelativeTo(t *testing.T) {
	for _, c := range []struct{ dir, target, want string }{
		{".", "/usr/bin/sh", "usr/bin/sh"}, {"usr/bin", "/usr/lib", "../../usr/lib"}, {"a", "/", ".."}, {".", "/", "."}, {"a/b", "/../x", "../../x"},
	} {
		if got := relativeTo(c.dir, c.target); got != c.want {
			t.Errorf("%s in %s: %s, want %s", c.target, c.dir, got, c.want)
		}
	}
}
