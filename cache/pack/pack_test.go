package pack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
)

// elsewhere is a store that a pack gives to.
type elsewhere struct {
	mu    sync.Mutex
	blobs map[action.Digest][]byte
	fail  error
}

func (e *elsewhere) spill(_ context.Context, d action.Digest, data []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fail != nil {
		return e.fail
	}
	if e.blobs == nil {
		e.blobs = map[action.Digest][]byte{}
	}
	e.blobs[d] = bytes.Clone(data)
	return nil
}

func (e *elsewhere) get(d action.Digest) ([]byte, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	data, ok := e.blobs[d]
	return data, ok
}

func open(t *testing.T, dir string, o Options) *Pack {
	t.Helper()
	if o.Spill == nil {
		o.Spill = new(elsewhere).spill
	}
	if o.Warn == nil {
		o.Warn = func(err error) { t.Log(err) }
	}
	p, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// blob is the n-th blob of a test, of the n-th function, with a size of its own.
func blob(t *testing.T, n int) cache.Checked {
	t.Helper()
	all := action.Functions()
	data := fmt.Appendf(nil, "%d %s", n, strings.Repeat("x", n*37%3000))
	b, err := cache.Check(action.Sum(all[n%len(all)], data), data)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func fill(t *testing.T, p *Pack, from, to int) {
	t.Helper()
	for n := from; n < to; n += 7 { // in batches
		var list []cache.Checked
		for i := n; i < min(n+7, to); i++ {
			list = append(list, blob(t, i))
		}
		if err := p.Put(list); err != nil {
			t.Fatal(err)
		}
	}
}

func want(t *testing.T, p *Pack, b cache.Checked, want bool) {
	t.Helper()
	d := b.Digest()
	if got := p.Has(d); got != want {
		t.Errorf("Has(%v) = %v, want %v", d, got, want)
	}
	if size, ok := p.Size(d.Function(), d.Bytes()); ok != want || ok && size != d.Size() {
		t.Errorf("Size(%v) = %d, %v", d, size, ok)
	}
	if data, ok := p.Get(d); ok != want || ok && !bytes.Equal(data, b.Data()) {
		t.Errorf("Get(%v) = %d bytes, %v", d, len(data), ok)
	}
}

func TestPack(t *testing.T) {
	p := open(t, filepath.Join(t.TempDir(), "not", "there"), Options{Boot: "one", FileBytes: 50_000})
	want(t, p, blob(t, 1), false)
	fill(t, p, 0, 300)
	fill(t, p, 0, 300) // again: nothing is added
	if p.blobs != 300 || len(p.files) < 3 {
		t.Errorf("%d blobs in %d files", p.blobs, len(p.files))
	}
	for n := range 300 {
		want(t, p, blob(t, n), true)
	}
	want(t, p, blob(t, 300), false)
	// The right hash with the wrong size is another blob.
	d := blob(t, 5).Digest()
	wrong, err := action.ParseHash(d.Function(), d.Hash(), d.Size()+1)
	if _, ok := p.Get(wrong); ok || p.Has(wrong) || err != nil {
		t.Errorf("a digest with a wrong size is found, %v", err)
	}
	big := make([]byte, MaxSize+1)
	c, _ := cache.Check(action.Sum(action.SHA256, big), big)
	if err := p.Put([]cache.Checked{blob(t, 301), c}); err == nil {
		t.Error("a large blob is taken")
	}
	want(t, p, blob(t, 301), false) // all or none
}

// TestRestart: what Put has returned for is there after SIGKILL, on this boot and
// on another, with indexes or without, and after a proper end.
func TestRestart(t *testing.T) {
	for _, c := range []struct {
		name, boot    string
		kill, noIndex bool
	}{
		{"close", "one", false, false},
		{"kill", "one", true, false},
		{"other boot", "two", false, false},
		{"no boot", "", true, false},
		{"no indexes", "one", true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			p := open(t, dir, Options{Boot: "one", FileBytes: 50_000})
			fill(t, p, 0, 300)
			if !c.kill {
				if err := p.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if c.noIndex {
				list, err := filepath.Glob(dir + "/*.index")
				if err != nil || len(list) < 2 {
					t.Fatal(list, err)
				}
				for _, f := range list {
					if err := os.Remove(f); err != nil {
						t.Fatal(err)
					}
				}
			}
			for range 2 {
				p = open(t, dir, Options{Boot: c.boot, FileBytes: 50_000})
				for n := range 300 {
					want(t, p, blob(t, n), true)
				}
				if p.blobs != 300 {
					t.Errorf("%d blobs", p.blobs)
				}
				if err := p.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestDamage: whatever is done to the files, a blob that is given out is right,
// one that cannot be is missing, and can be stored again.
func TestDamage(t *testing.T) {
	damages := map[string]func(path string, data []byte) error{
		"empty": func(path string, _ []byte) error { return os.Truncate(path, 0) },
		"half":  func(path string, data []byte) error { return os.Truncate(path, int64(len(data)/2)) },
		"zeros": func(path string, data []byte) error { return os.WriteFile(path, make([]byte, len(data)), 0) },
		"garbage": func(path string, data []byte) error {
			return os.WriteFile(path, bytes.Repeat([]byte("P?"), len(data)/2), 0)
		},
		"gone": func(path string, _ []byte) error { return os.Remove(path) },
		"flipped": func(path string, data []byte) error {
			for i := 0; i < len(data); i += 997 {
				data[i] ^= 0x10
			}
			return os.WriteFile(path, data, 0)
		},
		"a hole": func(path string, data []byte) error {
			clear(data[len(data)/3 : len(data)/2])
			return os.WriteFile(path, data, 0)
		},
	}
	for name, damage := range damages {
		for _, which := range []string{"pack", "index"} {
			for _, boot := range []string{"one", "two"} {
				t.Run(name+" "+which+" "+boot, func(t *testing.T) {
					dir := t.TempDir()
					p := open(t, dir, Options{Boot: "one", FileBytes: 50_000})
					fill(t, p, 0, 300)
					if err := p.Close(); err != nil {
						t.Fatal(err)
					}
					list, err := filepath.Glob(dir + "/*." + which)
					if err != nil || len(list) < 3 {
						t.Fatal(list, err)
					}
					for _, f := range list[1:] {
						data, err := os.ReadFile(f)
						if err := errors.Join(err, damage(f, data)); err != nil {
							t.Fatal(err)
						}
					}
					p = open(t, dir, Options{Boot: boot, FileBytes: 50_000, Warn: func(error) {}})
					lost := 0
					for n := range 300 {
						b := blob(t, n)
						data, ok := p.Get(b.Digest())
						if ok && !bytes.Equal(data, b.Data()) {
							t.Fatalf("blob %d is wrong", n)
						}
						if !ok {
							lost++
							if p.Has(b.Digest()) {
								t.Errorf("blob %d is not there, and Has says it is", n)
							}
						}
					}
					if which == "pack" && lost == 0 {
						t.Error("nothing is lost: the test proves nothing")
					}
					if which == "index" && boot == "two" && lost > 0 {
						t.Errorf("%d are lost, though only indexes are", lost)
					}
					fill(t, p, 0, 300)
					for n := range 300 {
						want(t, p, blob(t, n), true)
					}
				})
			}
		}
	}
}

// TestSpill: what there is no room for is elsewhere before it is gone here, also
// if it took several attempts.
func TestSpill(t *testing.T) {
	to := &elsewhere{fail: errors.New("the disk is full")}
	dir := t.TempDir()
	o := Options{Boot: "one", FileBytes: 20_000, MaxBytes: 200_000, Spill: to.spill, Warn: func(error) {}}
	p := open(t, dir, o)
	full := 0
	for n := range 400 {
		if err := p.Put([]cache.Checked{blob(t, n)}); errors.Is(err, ErrFull) {
			full = n
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if full == 0 || p.bytes > o.MaxBytes {
		t.Fatalf("full after %d blobs, %d bytes", full, p.bytes)
	}
	for n := range full { // nothing went while it could not be stored
		want(t, p, blob(t, n), true)
	}
	to.mu.Lock()
	to.fail = nil
	to.mu.Unlock()
	next := full
	for n := next; n < full+300; n++ {
		for errors.Is(p.Put([]cache.Checked{blob(t, n)}), ErrFull) {
			runtime.Gosched()
		}
		next = n + 1
	}
	for n := range next {
		b := blob(t, n)
		data, ok := p.Get(b.Digest())
		if !ok {
			data, ok = to.get(b.Digest())
		}
		if !ok || !bytes.Equal(data, b.Data()) {
			t.Errorf("blob %d of %d is lost", n, next)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p = open(t, dir, o)
	there := 0
	for n := range next {
		if p.Has(blob(t, n).Digest()) {
			there++
		} else if _, ok := to.get(blob(t, n).Digest()); !ok {
			t.Errorf("blob %d is lost after a restart", n)
		}
	}
	list, err := filepath.Glob(dir + "/*.pack")
	if err != nil || len(list) > 12 || there == 0 {
		t.Errorf("%d files, %d blobs, %v", len(list), there, err)
	}
}

// TestTag: two blobs that are found by the same tag do not stand for each other,
// and the one that is stored last is there.
func TestTag(t *testing.T) {
	p := open(t, t.TempDir(), Options{})
	a, b := blob(t, 1), blob(t, 1+len(action.Functions()))
	fill(t, p, 1, 2)
	tag := tagOf(blobMark, b.Digest().Function(), b.Digest().Bytes())
	p.places[tag] = p.places[tagOf(blobMark, a.Digest().Function(), a.Digest().Bytes())]&^(1<<13-1) | place(b.Digest().Size())
	if _, ok := p.Get(b.Digest()); ok {
		t.Error("another blob is given out")
	}
	if err := p.Put([]cache.Checked{b}); err != nil {
		t.Fatal(err)
	}
	want(t, p, b, true)
}

func TestManyAtATime(t *testing.T) {
	to := &elsewhere{}
	p := open(t, t.TempDir(), Options{FileBytes: 20_000, MaxBytes: 400_000, Spill: to.spill})
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for n := range 300 {
				b := blob(t, n+g*100)
				if err := p.Put([]cache.Checked{b}); errors.Is(err, ErrFull) {
					_ = to.spill(t.Context(), b.Digest(), b.Data())
				} else if err != nil {
					t.Error(err)
				}
				data, ok := p.Get(b.Digest())
				if !ok {
					data, ok = to.get(b.Digest())
				}
				if !ok || !bytes.Equal(data, b.Data()) {
					t.Errorf("blob %d is lost", n)
				}
			}
		})
	}
	all.Wait()
}

// TestRemoved: a store that is removed under a server is made again.
func TestRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	p := open(t, dir, Options{FileBytes: 50_000})
	fill(t, p, 0, 10)
	if err := os.RemoveAll(filepath.Dir(dir)); err != nil {
		t.Fatal(err)
	}
	fill(t, p, 10, 300)
	for n := range 300 {
		want(t, p, blob(t, n), true)
	}
}
