package staging

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

func newStager(tb testing.TB, m mode) (*Stager, *testStore) {
	tb.Helper()
	s := newTestStore(tb)
	return &Stager{Blobs: s, Layers: s, Notes: s, Capabilities: m.caps}, s
}

// want is what the action "dump" prints of a tree: of the files and links, and
// of every directory, which may be implied.
func (t spec) want(m mode) string {
	id := 65000
	if m.caps.Owner != 65000 {
		id = 0 // the child of an ordinary user is root in its namespace
	}
	lines := map[string]string{"": ""}
	for path, content := range t {
		path = "/" + path
		if !strings.HasSuffix(path, "/") {
			lines[path] = content
		}
		for i := range path {
			if path[i] == '/' {
				lines[path[:i]] = "dir"
			}
		}
	}
	lines[""] = "dir"
	var b strings.Builder
	for _, path := range slices.SortedFunc(maps.Keys(lines), walkOrder) {
		content := lines[path]
		target, isLink := strings.CutPrefix(content, "-> ")
		head := fmt.Sprintf("%d:%d %d", id, id, int64(MTime)*1e9)
		switch {
		case content == "dir" && (t[strings.TrimPrefix(path, "/")] != "dir"):
			fmt.Fprintf(&b, "%q 40755 %s\n", path, head)
		case isLink:
			fmt.Fprintf(&b, "%q 120777 %s -> %s\n", path, head, target)
		case strings.HasPrefix(content, "#!"):
			fmt.Fprintf(&b, "%q 100755 %s 1 links %d %s\n", path, head, len(content), action.Sum(action.SHA256, []byte(content)).Hash())
		default:
			fmt.Fprintf(&b, "%q 100644 %s 1 links %d %s\n", path, head, len(content), action.Sum(action.SHA256, []byte(content)).Hash())
		}
	}
	return b.String()
}

// walkOrder is the order of filepath.WalkDir: by name, parents first.
func walkOrder(a, b string) int {
	return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
}

// stage stages a tree and returns the root with its number of layers.
func stage(tb testing.TB, s *Stager, d action.Digest, r Rootfs) (root backends.Root, layers int) {
	tb.Helper()
	root, err := s.Stage(context.Background(), Input{Tree: d}, r)
	if err != nil {
		tb.Fatal(err)
	}
	return root, len(root.Lowers)
}

func differences(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	var b strings.Builder
	for _, line := range g {
		if !slices.Contains(w, line) {
			fmt.Fprintf(&b, "unexpected %s\n", line)
		}
	}
	for _, line := range w {
		if !slices.Contains(g, line) {
			fmt.Fprintf(&b, "missing    %s\n", line)
		}
	}
	return b.String()
}

// awkward is a small tree with what names, links and files can be.
var awkward = spec{
	"a/b/c/d.txt": "deep", "a/b/run": "#!/bin/sh\n", "a/empty": "", "empty dir/": "", "a/link": "-> b/c",
	"dangling": "-> /no/such/file", "two\nlines": "x", "sp ace/ ": "y", "-rf": "z", "ünïcode/ß": "ü", "+": "p",
	strings.Repeat("n", 255): "long", "far": "-> " + strings.Repeat("t", 4000), "big": strings.Repeat("0123456789abcdef", 5000),
	"same1": "same", "same2": "same", "...": "dots", "a.b/c": "", "a/b.c": "",
}

func TestStage(t *testing.T) {
	for _, m := range modes() {
		for _, how := range []string{"copied", "layer"} {
			t.Run(m.name+" "+how, func(t *testing.T) {
				s, store := newStager(t, m)
				if how == "layer" {
					s.small = bounds{1, 1}
				}
				d := awkward.add(t, store, action.BLAKE3)
				root, layers := stage(t, s, d, Rootfs{})
				if want := how == "layer" && m.kind != noLayer; want != (layers > 0) {
					t.Fatalf("%d layers", layers)
				}
				if diff := differences(inRoot(t, m, root, "dump"), awkward.want(m)); diff != "" {
					t.Error(diff)
				}
				again, _ := stage(t, s, d, Rootfs{})
				if !slices.Equal(again.Lowers, root.Lowers) || store.put > 1 {
					t.Errorf("staged again from %v, made %d layers", again.Lowers, store.put)
				}
			})
		}
	}
}

// TestStoreUntouched lets root of the sandbox do its worst to every file.
func TestStoreUntouched(t *testing.T) {
	for _, m := range modes() {
		for _, small := range []bounds{{}, {1, 1}} {
			s, store := newStager(t, m)
			s.small = small
			root, _ := stage(t, s, awkward.add(t, store, action.SHA256), Rootfs{})
			before := snapshot(t, store.dir)
			out := inRoot(t, m, root, "abuse", "dump")
			if !strings.HasPrefix(out, "abused 2") || !strings.Contains(out, ".renamed") {
				t.Errorf("%s: the control: the abuse did not work: %.100s", m.name, out)
			}
			if diff := differences(snapshot(t, store.dir), before); diff != "" {
				t.Errorf("%s, %v: the store has changed:\n%s", m.name, small, diff)
			}
		}
	}
}

// randomSpec makes a tree of about n files.
func randomSpec(r *rand.Rand, n int) spec {
	t := spec{}
	dirs := []string{""}
	for i := range n {
		dir := dirs[r.IntN(len(dirs))]
		switch r.IntN(8) {
		case 0:
			dirs = append(dirs, fmt.Sprintf("%sd%d/", dir, i))
			t[dirs[len(dirs)-1]] = ""
		case 1:
			t[fmt.Sprintf("%sl%d", dir, i)] = fmt.Sprintf("-> target%d", r.IntN(5))
		case 2:
			t[fmt.Sprintf("%sx%d", dir, i)] = fmt.Sprintf("#! program %d", r.IntN(9))
		default:
			t[fmt.Sprintf("%sf%d", dir, i)] = strings.Repeat("x", r.IntN(100))
		}
	}
	return t
}

// TestRefs holds what a layer says it needs against what it is made of.
func TestRefs(t *testing.T) {
	for _, m := range modes() {
		if m.kind == noLayer {
			continue
		}
		s, store := newStager(t, m)
		s.small = bounds{1, 1}
		tree := spec{"a/x": "1", "a/y": "2", "b/z": "3", "b/empty": "", "l": "-> x"}
		first := tree.add(t, store, action.SHA256)
		stage(t, s, first, Rootfs{})
		tree["b/z"] = "4"
		second := tree.add(t, store, action.SHA256)
		stage(t, s, second, Rootfs{})
		sum := func(text string) action.Digest { return action.Sum(action.SHA256, []byte(text)) }
		a := spec{"x": "1", "y": "2"}.add(t, store, action.SHA256)
		b := spec{"z": "3", "empty": ""}.add(t, store, action.SHA256)
		b2 := spec{"z": "4", "empty": ""}.add(t, store, action.SHA256)
		for name, want := range map[string][]action.Digest{
			layerName("full", m.kind, s.workPlace(), first):   {first, a, b, sum("1"), sum("2"), sum("3")},
			layerName("delta", m.kind, s.workPlace(), second): {second, b2, sum("4")},
		} {
			got := store.refs[name]
			byHash := func(a, b action.Digest) int { return strings.Compare(a.Hash(), b.Hash()) }
			slices.SortFunc(got, byHash)
			slices.SortFunc(want, byHash)
			if !slices.Equal(got, want) {
				t.Errorf("%s: refs %v, want %v", name, got, want)
			}
		}
	}
}

// A brokenLayers cannot store layers.
type brokenLayers struct{ *testStore }

func (brokenLayers) PutLayer(context.Context, string, []action.Digest, func(string) error) (string, error) {
	return "", errors.New("read-only")
}

// TestNoLayers stages when layers cannot be stored, or not be trusted.
func TestNoLayers(t *testing.T) {
	for _, m := range modes() {
		s, store := newStager(t, m)
		s.small = bounds{1, 1}
		d := awkward.add(t, store, action.BLAKE3)
		s.Layers = brokenLayers{store}
		root, layers := stage(t, s, d, Rootfs{})
		if diff := differences(inRoot(t, m, root, "dump"), awkward.want(m)); diff != "" || layers > 0 {
			t.Errorf("%s, %d layers: %s", m.name, layers, diff)
		}
		if m.kind == noLayer {
			continue
		}
		s.Layers = store
		root, _ = stage(t, s, d, Rootfs{})
		header := root.Lowers[0].Image
		if header == "" {
			header = strings.TrimSuffix(root.Lowers[0].Dir, "tree") + "header"
		}
		f, err := os.OpenFile(header, os.O_WRONLY, 0)
		if errors.Is(err, os.ErrPermission) {
			err = os.Chmod(header, 0o644)
			f, _ = os.OpenFile(header, os.O_WRONLY, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("damage"), 0); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if p, err := s.knownLayers(t.Context(), m.kind, s.workPlace(), d); err == nil {
			t.Errorf("%s: a damaged layer is used: %v", m.name, p)
		}
	}
}

// TestStageTogether stages near trees at the same time.
func TestStageTogether(t *testing.T) {
	m := modes()[0]
	s, store := newStager(t, m)
	s.small = bounds{1, 1}
	trees := make([]spec, 6)
	digests := make([]action.Digest, len(trees))
	roots := make([]backends.Root, len(trees))
	tree := randomSpec(rand.New(rand.NewPCG(3, 3)), 200)
	var wg sync.WaitGroup
	for i := range trees {
		tree["changes"] = fmt.Sprint(i / 2) // each tree twice
		trees[i] = maps.Clone(tree)
		digests[i] = tree.add(t, store, action.BLAKE3)
	}
	for i := range trees {
		wg.Go(func() {
			var err error
			if roots[i], err = s.Stage(context.Background(), Input{Tree: digests[i]}, Rootfs{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i := range trees {
		if diff := differences(inRoot(t, m, roots[i], "dump"), trees[i].want(m)); diff != "" {
			t.Errorf("tree %d: %s", i, diff)
		}
	}
}

func TestMissingBlob(t *testing.T) {
	for _, m := range modes() {
		for _, small := range []bounds{{}, {1, 1}} {
			s, store := newStager(t, m)
			s.small = small
			d := awkward.add(t, store, action.BLAKE3)
			lost := action.Sum(action.BLAKE3, []byte("deep"))
			if err := os.Remove(store.blob(lost)); err != nil {
				t.Fatal(err)
			}
			_, err := s.Stage(t.Context(), Input{Tree: d}, Rootfs{})
			if !errors.Is(err, action.ErrMiss) || !strings.Contains(err.Error(), "a/b/c/d.txt") || !strings.Contains(err.Error(), lost.Hash()) {
				t.Errorf("%s: %v; want one that wraps ErrMiss, with path and digest", m.name, err)
			}
			if store.put > 0 {
				t.Errorf("%s: a layer was made", m.name)
			}
		}
	}
}

// TestDamagedBlob stages a tree of which the store has one file as it should be in all
// but its content.
func TestDamagedBlob(t *testing.T) {
	for _, m := range modes() {
		s, store := newStager(t, m)
		d := awkward.add(t, store, action.BLAKE3)
		damaged := store.blob(action.Sum(action.BLAKE3, []byte("deep")))
		if err := errors.Join(os.Chmod(damaged, 0o600), os.WriteFile(damaged, []byte("dEEp"), 0)); err != nil {
			t.Fatal(err)
		}
		_, err := s.Stage(t.Context(), Input{Tree: d}, Rootfs{})
		if !errors.Is(err, action.ErrMiss) || !strings.Contains(err.Error(), "a/b/c/d.txt") || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: %v; want one that wraps ErrMiss, and names the path", m.name, err)
		}
	}
}

// TestHostile stages trees that stand for too much.
func TestHostile(t *testing.T) {
	m := modes()[0]
	s, store := newStager(t, m)
	put := func(d action.Directory) action.Digest {
		digest, err := store.PutBytes(t.Context(), action.SHA256, d.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		return digest
	}
	file, _ := store.PutBytes(t.Context(), action.SHA256, []byte("x"))
	bomb := put(action.Directory{Files: []action.FileNode{{Name: "f", Digest: file}}})
	for range 60 {
		bomb = put(action.Directory{Directories: []action.DirectoryNode{{Name: "a", Digest: bomb}, {Name: "b", Digest: bomb}}})
	}
	deep := put(action.Directory{})
	for range 3 * maxDepth {
		deep = put(action.Directory{Directories: []action.DirectoryNode{{Name: "d", Digest: deep}}})
	}
	long := put(action.Directory{Files: []action.FileNode{{Name: strings.Repeat("n", 256), Digest: file}}})
	short := put(action.Directory{Files: []action.FileNode{{Name: "f", Digest: file}}})
	bad, _ := store.PutBytes(t.Context(), action.SHA256, []byte("not a directory"))
	for name, d := range map[string]action.Digest{"bomb": bomb, "deep": deep, "bad": bad} {
		if _, err := s.Stage(t.Context(), Input{Tree: d}, Rootfs{}); err == nil {
			t.Errorf("%s: Stage accepts it", name)
		}
	}
	// The limits of Linux show when the files are made.
	for _, small := range []bounds{{}, {0, 1}} {
		s.small = small
		root, err := s.Stage(t.Context(), Input{Tree: long}, Rootfs{})
		if err == nil {
			err = fillScratch(t, root)
		}
		if err == nil || !strings.Contains(err.Error(), "nnnn") {
			t.Errorf("a name of 256 bytes: %v", err)
		}
	}
	// A scratch that has a link where a directory should be.
	s.small = bounds{}
	root, err := s.Stage(t.Context(), Input{Tree: short}, Rootfs{})
	if err != nil {
		t.Fatal(err)
	}
	dir, outside := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, dir+"/build"); err != nil {
		t.Fatal(err)
	}
	f, _ := os.Open(dir)
	defer f.Close()
	if err := root.Fill(f); err == nil {
		t.Error("Fill follows a link")
	}
	if list, _ := os.ReadDir(outside); len(list) > 0 {
		t.Errorf("Fill wrote %v outside", list)
	}
}

func fillScratch(t *testing.T, root backends.Root) error {
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	return root.Fill(dir)
}

func TestLayerHeader(t *testing.T) {
	h := &layerHeader{files: 100_000, data: true}
	for i := range maxLayers - 1 {
		h.below = append(h.below, action.Sum(action.BLAKE3, []byte{byte(i)}))
	}
	text := h.marshal()
	if len(text) > 1024 {
		t.Errorf("a header of %d bytes", len(text))
	}
	got, err := parseLayerHeader(append(text, 0, 0, 0))
	if err != nil || string(got.marshal()) != string(text) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"", "sbx layer 2\nfiles 1\ndata 0\n", "sbx layer 1\nfiles 1\ndata 0", "sbx layer 1\nfiles 01\ndata 0\n", "sbx layer 1\nfiles 1\ndata 0\nbelow x\n", string(text[:len(text)-5])} {
		if _, err := parseLayerHeader([]byte(bad)); err == nil {
			t.Errorf("accepts %q", bad)
		}
	}
}
