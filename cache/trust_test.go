package cache

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/action"
)

// boot opens the store as another boot of the machine would, with the clock
// ahead by later.
func boot(t *testing.T, dir, id string, later time.Duration, opts Options) *Store {
	t.Helper()
	s := openIn(t, dir, opts)
	s.bootID = func() string { return id }
	s.now = func() time.Time { return time.Now().Add(later) }
	return s
}

// spoil changes a byte of the file path and keeps its size and times, as a
// power cut that came before the contents reached the disk. It looks as if the file
// had been used just now.
func spoil(t *testing.T, path string) {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err == nil {
		data[len(data)/2] ^= 1
		err = errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, data, 0), os.Chmod(path, 0o444),
			os.Chtimes(path, time.Now().Add(time.Second), fi.ModTime()))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// stored is a store with a result that names a file and a tree.
type stored struct {
	dir              string
	key, file, inner action.Digest
	data             []byte
}

func storeOnBoot(t *testing.T, id string) *stored {
	t.Helper()
	ctx := t.Context()
	st := &stored{dir: TempStoreDir(t), data: bytes.Repeat([]byte("contents"), 1000)}
	s := boot(t, st.dir, id, 0, Options{})
	var err, err2, err3 error
	st.file, err = s.PutBytes(ctx, action.BLAKE3, st.data)
	st.inner, err2 = s.PutBytes(ctx, action.BLAKE3, []byte("in a tree"))
	tree := &action.Tree{Root: action.Directory{Files: []action.FileNode{{Name: "f", Digest: st.inner}}}}
	d, err3 := s.PutBytes(ctx, action.BLAKE3, tree.Marshal())
	st.key = action.Sum(action.BLAKE3, []byte("key"))
	err4 := s.PutResult(ctx, st.key, &action.Result{
		Files:       []action.OutputFile{{Path: "f", Digest: st.file}},
		Directories: []action.OutputDirectory{{Path: "d", Tree: d}},
	})
	if err := errors.Join(err, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	return st
}

func TestPowerCut(t *testing.T) {
	ctx := t.Context()
	for _, readOnly := range []bool{false, true} {
		st := storeOnBoot(t, "one")
		s := boot(t, st.dir, "one", 0, Options{})
		spoil(t, s.shard("blob", st.file))
		spoil(t, s.shard("blob", st.inner))

		// Control: during the same boot nothing is read, so nothing is seen.
		if _, err := s.Result(ctx, st.key); err != nil {
			t.Fatalf("control: %v", err)
		}
		s = boot(t, st.dir, "two", 0, Options{ReadOnly: readOnly})
		for range 2 {
			if _, err := s.Result(ctx, st.key); !errors.Is(err, action.ErrMiss) || !strings.Contains(err.Error(), "damaged") {
				t.Errorf("Result = %v; want a miss for damage", err)
			}
			if _, err := s.Open(ctx, st.file); !errors.Is(err, action.ErrMiss) {
				t.Errorf("Open = %v; want a miss", err)
			}
			if s.Has(ctx, st.inner) {
				t.Error("Has = true")
			}
		}
		if readOnly {
			continue
		}
		// The next run heals it.
		if _, err := s.PutBytes(ctx, action.BLAKE3, st.data); err != nil {
			t.Fatal(err)
		}
		if err := s.Put(ctx, st.inner, strings.NewReader("in a tree")); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Result(ctx, st.key); err != nil {
			t.Errorf("after all was put again: %v", err)
		}
	}
}

// TestVerifiedOnce: what another boot wrote is read once, and not again.
func TestVerifiedOnce(t *testing.T) {
	ctx := t.Context()
	for _, readOnly := range []bool{false, true} {
		st := storeOnBoot(t, "one")
		s := boot(t, st.dir, "two", 0, Options{ReadOnly: readOnly})
		if _, err := s.Result(ctx, st.key); err != nil {
			t.Fatalf("Result after a reboot that lost nothing: %v", err)
		}
		spoil(t, s.shard("blob", st.file))
		if _, err := s.Result(ctx, st.key); err != nil {
			t.Errorf("read-only %v: it was read again: %v", readOnly, err)
		}
		if other := boot(t, st.dir, "two", 0, Options{}); !readOnly && !other.Has(ctx, st.file) {
			t.Error("another process reads it again")
		}
	}
}

func TestSynced(t *testing.T) {
	ctx := t.Context()
	st := storeOnBoot(t, "one")
	s := boot(t, st.dir, "one", 10*time.Second, Options{}) // Sync spares a second
	if err := s.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	// spoil changes the file's ctime, so only the mark can be looked at.
	s = boot(t, st.dir, "two", 20*time.Second, Options{})
	fi := statFile(t, s.shard("blob", st.file))
	if !s.trusted(&fi) {
		t.Error("a blob that was synced is not trusted after a reboot")
	}
	if s := boot(t, st.dir, "", 0, Options{}); s.trusted(&fi) != true {
		t.Error("a synced blob is not trusted where boots cannot be told apart")
	}

	// A clock that goes back takes the mark away, before anything is written
	// that would be taken for synced.
	s = boot(t, st.dir, "one", -time.Hour, Options{})
	if _, err := s.PutBytes(ctx, action.BLAKE3, []byte("written while the clock was back")); err != nil {
		t.Fatal(err)
	}
	if s := boot(t, st.dir, "two", 20*time.Second, Options{}); s.trusted(&fi) {
		t.Error("the mark outlives a clock that went back")
	}

	// A mark that is damaged says nothing.
	s = boot(t, st.dir, "one", 10*time.Second, Options{})
	if err := s.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	if s := boot(t, st.dir, "two", 20*time.Second, Options{}); !s.trusted(&fi) {
		t.Fatal("control: the second Sync does not count")
	}
	if err := os.Truncate(filepath.Join(st.dir, syncedName), 50); err != nil {
		t.Fatal(err)
	}
	if s := boot(t, st.dir, "two", 20*time.Second, Options{}); s.trusted(&fi) {
		t.Error("a damaged mark counts")
	}
}

func TestSyncedKeepsFewBoots(t *testing.T) {
	st := storeOnBoot(t, "0")
	for i := range 3 * syncedBoots {
		s := boot(t, st.dir, string(rune('a'+i)), 0, Options{})
		if err := s.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.synced.load(s, 0)
		if n := len(s.synced.order); n != min(i+1, syncedBoots) {
			t.Fatalf("after %d boots: %d are known", i+1, n)
		}
	}
}

func TestLayerAfterPowerCut(t *testing.T) {
	ctx := t.Context()
	st := storeOnBoot(t, "one")
	s := boot(t, st.dir, "one", 0, Options{})
	build := func(path string) error { return os.WriteFile(path, []byte("layer"), 0o644) }
	for _, name := range []string{"synced", "lost"} {
		if _, err := s.PutLayer(ctx, name, []action.Digest{st.file}, build); err != nil {
			t.Fatal(err)
		}
		if name == "synced" {
			if err := boot(t, st.dir, "one", 10*time.Second, Options{}).Sync(ctx); err != nil {
				t.Fatal(err)
			}
			// The other one was written later.
			s.now = func() time.Time { return time.Now().Add(20 * time.Second) }
		}
	}
	// Its time says when; we cannot turn the kernel's clock.
	s = boot(t, st.dir, "two", time.Minute, Options{})
	s.synced.load(s, 0)
	lost := filepath.Join(s.layerDir("lost"), "refs")
	if err := os.Chtimes(lost, time.Time{}, time.Unix(time.Now().Unix(), 12345)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Layer(ctx, "lost"); !errors.Is(err, action.ErrMiss) {
		t.Errorf("a layer that may not have reached the disk: %v", err)
	}
	if _, err := s.Layer(ctx, "synced"); err != nil {
		t.Errorf("a layer that was synced: %v", err)
	}
	fi := statFile(t, filepath.Join(s.layerDir("synced"), "refs"))
	if int64(fi.MTime.Nanosecond()) != s.stamp() {
		t.Error("it is checked again each time")
	}

	// A layer is no good without its blobs.
	s = boot(t, st.dir, "two", 2*time.Minute, Options{})
	if err := s.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.shard("blob", st.file)); err != nil {
		t.Fatal(err)
	}
	s = boot(t, st.dir, "three", 3*time.Minute, Options{})
	if _, err := s.Layer(ctx, "synced"); !errors.Is(err, action.ErrMiss) {
		t.Errorf("a layer whose blob is gone: %v", err)
	}
	if _, err := s.PutBytes(ctx, action.BLAKE3, st.data); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"synced", "lost"} {
		if _, err := s.PutLayer(ctx, name, []action.Digest{st.file}, build); err != nil {
			t.Errorf("make %s again: %v", name, err)
		}
	}
}

// TestLayerIdle: what nobody used for an hour may have been cleaned away in part, and
// is looked at again; what is in use is not, because that costs for each blob.
func TestLayerIdle(t *testing.T) {
	ctx := t.Context()
	st := storeOnBoot(t, "one")
	s := boot(t, st.dir, "one", 0, Options{})
	build := func(path string) error { return os.WriteFile(path, []byte("layer"), 0o644) }
	if _, err := s.PutLayer(ctx, "l", []action.Digest{st.file}, build); err != nil {
		t.Fatal(err)
	}
	refs := filepath.Join(s.layerDir("l"), "refs")
	age(t, refs, 2*layerIdle)
	if _, err := s.Layer(ctx, "l"); err != nil {
		t.Fatalf("control: %v", err)
	}
	if err := os.Remove(s.shard("blob", st.file)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Layer(ctx, "l"); err != nil {
		t.Errorf("in use: %v", err)
	}
	age(t, refs, 2*layerIdle)
	if _, err := s.Layer(ctx, "l"); !errors.Is(err, action.ErrMiss) {
		t.Errorf("idle, and its blob is gone: %v", err)
	}
	if _, err := s.PutBytes(ctx, action.BLAKE3, st.data); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutLayer(ctx, "l", []action.Digest{st.file}, build); err != nil {
		t.Errorf("make it again: %v", err)
	}
}

func TestForgetLayers(t *testing.T) {
	ctx := t.Context()
	st := storeOnBoot(t, "one")
	s := boot(t, st.dir, "one", 0, Options{})
	for name, ref := range map[string]action.Digest{"good": st.inner, "bad": st.file} {
		if _, err := s.PutLayer(ctx, name, []action.Digest{ref}, func(p string) error { return os.Mkdir(p, 0o755) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.ForgetLayers([]action.Digest{st.file}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Layer(ctx, "bad"); !errors.Is(err, action.ErrMiss) {
		t.Errorf("a layer that needs the blob: %v", err)
	}
	if _, err := s.Layer(ctx, "good"); err != nil {
		t.Errorf("a layer that does not: %v", err)
	}
}

func TestVerifyFindsDamage(t *testing.T) {
	ctx := t.Context()
	st := storeOnBoot(t, "one")
	s := boot(t, st.dir, "one", 0, Options{})
	other := action.Sum(action.BLAKE3, []byte("other"))
	if err := s.PutResult(ctx, other, &action.Result{ExitCode: 1}); err != nil {
		t.Fatal(err)
	}
	for _, d := range []action.Digest{st.key, other} {
		if err := s.PutNote(ctx, d, []byte("note")); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"good", "bad"} {
		ref := map[string]action.Digest{"good": st.inner, "bad": st.file}[name]
		if _, err := s.PutLayer(ctx, name, []action.Digest{ref}, func(p string) error { return os.Mkdir(p, 0o755) }); err != nil {
			t.Fatal(err)
		}
	}
	report, err := s.Verify(ctx, nil)
	if err != nil || len(report.Damaged) > 0 {
		t.Fatalf("control: Verify = %+v, %v", report, err)
	}
	spoil(t, s.shard("blob", st.file))
	spoil(t, s.shard("result", other))
	spoil(t, s.shard("note", st.key))

	ro := boot(t, st.dir, "one", 0, Options{ReadOnly: true})
	var calls, files int64
	for _, v := range []*Store{ro, s} {
		report, err := v.Verify(ctx, func(n, _ int64) { calls++; files = n })
		if err != nil {
			t.Fatal(err)
		}
		got := map[Kind]int{}
		for _, d := range report.Damaged {
			got[d.Kind]++
			if d.Removed == (v == ro) {
				t.Errorf("read-only %v: %+v", v == ro, d)
			}
		}
		want := map[Kind]int{KindBlob: 1, KindResult: 1, KindNote: 1}
		if v == s { // it is removed now, so what names it is incomplete
			want = map[Kind]int{KindBlob: 1, KindResult: 2, KindNote: 1, KindLayer: 1}
		}
		for _, k := range []Kind{KindBlob, KindResult, KindNote, KindLayer} {
			if got[k] != want[k] {
				t.Errorf("read-only %v: %d damaged of kind %v, want %d: %+v", v == ro, got[k], k, want[k], report.Damaged)
			}
		}
		if total := report.Checked.Total(); files != total.N || calls == 0 {
			t.Errorf("progress said %d, want %d", files, total.N)
		}
	}
	report, err = s.Verify(ctx, nil)
	if err != nil || len(report.Damaged) > 0 {
		t.Errorf("Verify after it healed: %+v, %v", report, err)
	}
	if _, err := s.Layer(ctx, "good"); err != nil {
		t.Errorf("the good layer: %v", err)
	}
}

// TestVerifyLeavesNoTrace: what is only verified is not used.
func TestVerifyLeavesNoTrace(t *testing.T) {
	st := storeOnBoot(t, "one")
	s := boot(t, st.dir, "one", 0, Options{})
	old := time.Now().Add(-100 * time.Hour).Truncate(time.Second)
	for _, path := range []string{s.shard("blob", st.file), s.shard("result", st.key)} {
		if err := os.Chtimes(path, old, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Verify(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{s.shard("blob", st.file), s.shard("result", st.key)} {
		if fi := statFile(t, path); !fi.ATime.Equal(old) {
			t.Errorf("%s was last used %v, want %v", path, fi.ATime, old)
		}
	}
}

func TestRecords(t *testing.T) {
	data := appendRecord(nil, resultMagic, "name", []byte("payload"))
	if got, err := parseRecord(data, resultMagic, "name"); err != nil || string(got) != "payload" {
		t.Fatalf("control: %q, %v", got, err)
	}
	for i := range data {
		bad := bytes.Clone(data)
		bad[i] ^= 0x40
		if _, err := parseRecord(bad, resultMagic, "name"); !errors.Is(err, errRecord) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		if _, err := parseRecord(data[:i], resultMagic, "name"); !errors.Is(err, errRecord) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
	if _, err := parseRecord(data, resultMagic, "other"); !errors.Is(err, errRecord) {
		t.Errorf("a record that was moved: %v", err)
	}
}

// TestConstantMemory streams what does not fit.
func TestConstantMemory(t *testing.T) {
	const size = 64 << 20
	s := openIn(t, TempStoreDir(t), Options{})
	zeros := func() io.Reader { return io.LimitReader(zeroReader{}, size) }
	d, err := hashReader(t.Context(), action.BLAKE3, 0, zeros())
	if err != nil {
		t.Fatal(err)
	}
	src, err := os.Create(filepath.Join(t.TempDir(), "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	if err := src.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for name, put := range map[string]func() error{
		"Put": func() error { return s.Put(t.Context(), d, zeros()) },
		"PutFile": func() error {
			got, err := s.PutFile(t.Context(), action.BLAKE3, src)
			if err == nil && got != d {
				t.Errorf("PutFile = %v, want %v", got, d)
			}
			return err
		},
	} {
		os.Remove(s.shard("blob", d))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := put(); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
			t.Errorf("%s of %d bytes allocates %d", name, size, n)
		}
		if !s.Has(t.Context(), d) {
			t.Errorf("after %s it is not there", name)
		}
	}
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestEmptyBlobFirst opens the blob that is always there in a store that holds
// nothing yet, which makes the store: it must be one.
func TestEmptyBlobFirst(t *testing.T) {
	for _, f := range action.Functions() {
		s := openIn(t, TempStoreDir(t), Options{})
		r, err := s.Open(t.Context(), action.Sum(f, nil))
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		if d, err := s.PutBytes(t.Context(), f, []byte("x")); err != nil || !s.Has(t.Context(), d) {
			t.Errorf("%v: put after the empty blob was read: %v", f, err)
		}
	}
}
