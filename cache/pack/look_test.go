package pack

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
)

func blobs(t *testing.T, from, n int) (list []cache.Checked) {
	t.Helper()
	for i := range n {
		data := bytes.Repeat(fmt.Appendf(nil, "blob %d;", from+i), 20)
		b, err := cache.Check(action.Sum(action.SHA256, data), data)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, b)
	}
	return list
}

func TestVerify(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pack")
	look := func(damaged int) *Report {
		t.Helper()
		r, err := Verify(t.Context(), dir)
		if err != nil || len(r.Damaged) != damaged {
			t.Errorf("%+v, %v, want %d damaged", r, err, damaged)
		}
		return r
	}
	if files, n, err := Usage(dir); files != 0 || n != 0 || err != nil {
		t.Errorf("of no pack: %d files, %d bytes, %v", files, n, err)
	}
	look(0)
	p := open(t, dir, Options{FileBytes: 8 << 10, Boot: "one"})
	for i := range 10 {
		if err := p.Put(blobs(t, 10*i, 10)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.PutRecord(action.Sum(action.SHA256, []byte("key")), []byte("value")); err != nil {
		t.Fatal(err)
	}
	r := look(0) // beside it
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	look(0)
	files, n, err := Usage(dir)
	if err != nil || files < 3 || files != r.Files || n <= r.Bytes || r.Bytes < 100*140 {
		t.Errorf("%d files, %d bytes, %v; of which were read %+v", files, n, err, r)
	}

	change := func(name string, f func([]byte) []byte) (undo func()) {
		t.Helper()
		path := filepath.Join(dir, name)
		was, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f(bytes.Clone(was)), 0o600); err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := os.WriteFile(path, was, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	undo := change("1.pack", func(b []byte) []byte { b[header+3] ^= 1; return b })
	if r := look(1); len(r.Damaged) == 1 && r.Damaged[0] != (Damage{"1.pack", 0}) {
		t.Errorf("%+v, want the first of the first file", r)
	}
	undo()
	undo = change("1.pack", func(b []byte) []byte { return b[:len(b)-1] }) // its index names what was there
	look(1)
	undo()
	undo = change("1.pack", func(b []byte) []byte { return append(b, make([]byte, 500)...) }) // a crash's
	look(0)
	undo()
	if err := os.Remove(filepath.Join(dir, "1.index")); err != nil {
		t.Fatal(err)
	}
	change("1.pack", func(b []byte) []byte { return b[:len(b)-1] }) // a crash's, too
	look(0)
}

// TestVerifyBesideWriters: what is written meanwhile, or goes elsewhere, is not
// damaged.
func TestVerifyBesideWriters(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pack")
	p := open(t, dir, Options{FileBytes: 16 << 10, MaxBytes: 128 << 10})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := p.Put(blobs(t, 1_000_000*w+10*i, 10)); err != nil && err != ErrFull {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 50 {
		if r, err := Verify(t.Context(), dir); err != nil || len(r.Damaged) > 0 {
			t.Errorf("%+v, %v", r, err)
		}
		if _, _, err := Usage(dir); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
}
