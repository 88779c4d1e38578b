package pack_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/cache/pack"
)

// with is a store that has a pack of so many bytes.
func with(t *testing.T, dir string, max int64) (*cache.Store, func()) {
	t.Helper()
	s, err := cache.Open(dir, cache.Options{Warn: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	if f, err := s.Open(t.Context(), action.Sum(action.SHA256, nil)); err != nil { // makes the store
		t.Fatal(err)
	} else {
		f.Close()
	}
	p, err := pack.Open(filepath.Join(dir, "serve"), pack.Options{
		Boot: "this", FileBytes: max / 10, MaxBytes: max, Spill: s.Unpacked, SpillRecord: s.UnpackedRecord,
		Warn: func(err error) { t.Error(err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.SetPacked(p)
	closed := false
	stop := func() {
		if closed {
			return
		}
		closed = true
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return s, stop
}

func small(t *testing.T, n int) cache.Checked {
	t.Helper()
	data := fmt.Appendf(nil, "%d %s", n, strings.Repeat("z", n*13%1000))
	c, err := cache.Check(action.Sum(action.SHA256, data), data)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func hasFile(s *cache.Store, d action.Digest) bool {
	_, err := os.Lstat(s.BlobDir() + s.BlobPath(d))
	return err == nil
}

// TestStore: what is packed has no file until somebody needs it.
func TestStore(t *testing.T) {
	ctx := t.Context()
	s, _ := with(t, filepath.Join(t.TempDir(), "cache"), 1<<20)
	for n, use := range []func(d action.Digest) bool{
		func(d action.Digest) bool { return s.Has(ctx, d) },
		func(d action.Digest) bool {
			f, err := s.Open(ctx, d)
			if err != nil {
				return false
			}
			defer f.Close()
			data, err := io.ReadAll(f)
			return err == nil && bytes.Equal(data, small(t, 1).Data())
		},
		func(d action.Digest) bool { return s.PutAs(ctx, d, small(t, 2).Data()) == nil },
		func(d action.Digest) bool {
			return s.PutResult(ctx, action.Sum(action.SHA256, []byte("key")), &action.Result{Stdout: d}) == nil
		},
	} {
		c := small(t, n)
		if !s.Pack(ctx, c) || !s.Holds(ctx, c.Digest()) {
			t.Fatalf("%d: it is not packed", n)
		}
		data, err := s.Read(ctx, c.Digest())
		found, ferr := s.FindBlob(ctx, action.SHA256, c.Digest().Hash())
		if err != nil || !bytes.Equal(data, c.Data()) || ferr != nil || found != c.Digest() {
			t.Errorf("%d: read %d bytes, %v; found %v, %v", n, len(data), err, found, ferr)
		}
		if hasFile(s, c.Digest()) {
			t.Errorf("%d: it has a file", n)
		}
		if !use(c.Digest()) || !hasFile(s, c.Digest()) {
			t.Errorf("%d: it has no file", n)
		}
	}
	big := make([]byte, pack.MaxSize+1)
	c, err := cache.Check(action.Sum(action.SHA256, big), big)
	if err != nil || s.Pack(ctx, c) || s.Pack(ctx, small(t, 77), c) {
		t.Error("a large blob is packed")
	}
	if err := s.PutChecked(ctx, c); err != nil || !hasFile(s, c.Digest()) {
		t.Error("a large blob has no file", err)
	}
	// A damaged file does not hide what is packed.
	c = small(t, 0)
	path := s.BlobDir() + s.BlobPath(c.Digest())
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if !s.Has(ctx, c.Digest()) || !hasFile(s, c.Digest()) {
		t.Error("a file that was removed does not come back")
	}
}

// TestHolds: what another process adds to the store, or removes from it, is seen at
// once by one that has a pack.
func TestHolds(t *testing.T) {
	ctx := t.Context()
	dir := filepath.Join(t.TempDir(), "cache")
	s, _ := with(t, dir, 1<<20)
	other, err := cache.Open(dir, cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	packed := small(t, 0)
	if !s.Pack(ctx, packed) || !s.Holds(ctx, packed.Digest()) {
		t.Error("what is packed is not there")
	}
	if s.Holds(ctx, action.Digest{}) || !s.Holds(ctx, action.Sum(action.SHA512, nil)) {
		t.Error("the zero digest is there, or the empty blob is not")
	}
	for n := 1; n < 50; n++ {
		c := small(t, n)
		d := c.Digest()
		if s.Holds(ctx, d) {
			t.Fatalf("%v is there before it is stored", d)
		}
		if err := other.PutAs(ctx, d, c.Data()); err != nil {
			t.Fatal(err)
		}
		if !s.Holds(ctx, d) {
			t.Fatalf("%v is not there, and another has stored it", d)
		}
		path := s.BlobDir() + s.BlobPath(d)
		if n%2 == 0 { // of another size: damaged
			if err := errors.Join(os.Remove(path), os.WriteFile(path, append(c.Data(), 0), 0o444)); err != nil {
				t.Fatal(err)
			}
		} else if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if s.Holds(ctx, d) {
			t.Fatalf("%v is there, and another has removed or damaged it", d)
		}
	}
}

// TestStoreResults: of the results under a key the last is found, wherever it and
// the others are, also after a restart.
func TestStoreResults(t *testing.T) {
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "cache")
	s, stop := with(t, dir, 1<<20)
	key := action.Sum(action.SHA256, []byte("a key"))
	result := func(n, files int) *action.Result {
		res := &action.Result{ExitCode: int32(n)}
		if !s.Pack(ctx, small(t, n)) {
			t.Fatal("not packed")
		}
		for i := range files {
			res.Files = append(res.Files, action.OutputFile{Path: fmt.Sprintf("out/%05d", i), Digest: small(t, n).Digest()})
		}
		return res
	}
	for n, files := range []int{1, 2, 500, 1, 500, 500, 2} { // 500 do not fit into a pack
		if err := s.PutPackedResult(ctx, key, result(n, files)); err != nil {
			t.Fatal(err)
		}
		for again := range 2 {
			res, err := s.PackedResult(ctx, key)
			if err != nil || int(res.ExitCode) != n || len(res.Files) != files {
				t.Errorf("put %d, restarted %v: %v", n, again == 1, err)
			}
			stop()
			s, stop = with(t, dir, 1<<20)
		}
	}
	absent := small(t, 999)
	if err := s.PutPackedResult(ctx, key, &action.Result{Stdout: absent.Digest()}); err == nil {
		t.Error("a result is stored though what it names is not there")
	}
}

// TestStoreNotes: of the notes under a key the last is found, wherever it and the
// others are, also after a restart, and in a file by who has no pack once there is no
// room for it.
func TestStoreNotes(t *testing.T) {
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "cache")
	s, stop := with(t, dir, 200_000)
	key := action.Sum(action.SHA256, []byte("a key"))
	want := func(what string, n action.Notes, text string) {
		t.Helper()
		if got, err := n.Note(ctx, key); err != nil || string(got) != text {
			t.Errorf("%s: %d bytes, %v", what, len(got), err)
		}
	}
	if err := s.PutNote(ctx, key, []byte("of before")); err != nil {
		t.Fatal(err)
	}
	want("without a packed one", cache.PackedNotes{Store: s}, "of before")
	last := ""
	for n, size := range []int{0, 10, 5000, 0, 5000, 5000, 20} { // 5000 do not fit into a pack
		last = strings.Repeat(strconv.Itoa(n), size)
		if err := (cache.PackedNotes{Store: s}).PutNote(ctx, key, []byte(last)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			want(fmt.Sprint("put ", n), cache.PackedNotes{Store: s}, last)
			stop()
			s, stop = with(t, dir, 200_000)
		}
	}
	want("control: the file", s, strings.Repeat("5", 5000))
	res := action.Sum(action.SHA256, []byte("the key of a result"))
	if err := s.PutPackedResult(ctx, res, &action.Result{ExitCode: 7}); err != nil {
		t.Fatal(err)
	}
	if _, err := (cache.PackedNotes{Store: s}).Note(ctx, res); !errors.Is(err, action.ErrMiss) {
		t.Errorf("a result as a note: %v", err)
	}
	if _, err := s.PackedResult(ctx, key); !errors.Is(err, action.ErrMiss) {
		t.Errorf("a note as a result: %v", err)
	}
	for n := 0; ; n++ { // until the oldest have gone into files
		if err := s.PutChecked(ctx, small(t, n)); err != nil {
			t.Fatal(err)
		}
		note, err := s.Note(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := s.Result(ctx, res); err == nil && string(note) == last && r.ExitCode == 7 {
			break
		}
		if n == 100_000 {
			t.Fatal("they do not become files")
		}
	}
	want("moved", cache.PackedNotes{Store: s}, last)
}

// TestStoreMoves: while blobs move from the pack into files, nobody misses one.
func TestStoreMoves(t *testing.T) {
	ctx := t.Context()
	s, _ := with(t, filepath.Join(t.TempDir(), "cache"), 200_000)
	var all sync.WaitGroup
	for g := range 3 {
		all.Go(func() {
			for n := g * 1000; n < g*1000+700; n++ {
				if err := s.PutChecked(ctx, small(t, n)); err != nil {
					t.Error(err)
				}
				for back := n; back >= max(g*1000, n-200); back -= 37 {
					c := small(t, back)
					if !s.Holds(ctx, c.Digest()) {
						t.Errorf("%d is not held", back)
					}
					if data, err := s.Read(ctx, c.Digest()); err != nil || !bytes.Equal(data, c.Data()) {
						t.Errorf("%d: %v", back, err)
					}
				}
			}
		})
	}
	all.Wait()
	files := 0
	for n := range 3000 {
		if hasFile(s, small(t, n).Digest()) {
			files++
		}
	}
	if files == 0 {
		t.Error("nothing moved: the test proves nothing")
	}
}
