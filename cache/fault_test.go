package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/durable"
)

var errInjected = errors.New("injected")

// A breaker lets the n-th change of a disk fail: either the change is lost, or
// it is made and reported as failed.
type breaker struct {
	n         int
	persisted bool
	err       error
	hit       string // what was broken
}

func (b *breaker) fault(op durable.Op, path string, do func() error) error {
	b.n--
	if b.n != 0 {
		return do()
	}
	b.hit = fmt.Sprintf("%s %s", op, filepath.Base(path))
	if b.persisted {
		if err := do(); err != nil {
			return err
		}
	}
	return b.err
}

// steps are what the fault tests do to a store that already holds something.
// Each returns the first error; what it has put is checked afterwards.
type steps struct {
	big, changed []byte
	src          *os.File
	key, old     action.Digest
	done         []action.Digest // put without an error
	result       bool            // st.key was put without an error
}

func newSteps(t *testing.T) *steps {
	t.Helper()
	st := &steps{
		big:     bytes.Repeat([]byte("big"), smallBlob/3+10),
		changed: []byte("damaged, then written again"),
		key:     action.Sum(action.BLAKE3, []byte("key")),
		old:     action.Sum(action.BLAKE3, []byte("old")),
	}
	path := filepath.Join(t.TempDir(), "src")
	if err := os.WriteFile(path, st.big, 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if st.src, err = os.Open(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.src.Close() })
	return st
}

// before fills the store while nothing is broken.
func (st *steps) before(t *testing.T, s *Store) {
	t.Helper()
	ctx := t.Context()
	d, err := s.PutBytes(ctx, action.BLAKE3, st.changed)
	if err == nil {
		err = os.Remove(s.shard("blob", d))
	}
	if err == nil { // damage that a Put has to get over
		err = os.WriteFile(s.shard("blob", d), []byte("dam"), 0o600)
	}
	var e action.Digest
	if err == nil {
		e, err = s.PutBytes(ctx, action.BLAKE3, []byte("old output"))
	}
	if err == nil {
		err = s.PutResult(ctx, st.old, &action.Result{Files: []action.OutputFile{{Path: "x", Digest: e}}})
	}
	if err == nil {
		err = s.PutNote(ctx, st.key, []byte("old note"))
	}
	if err != nil {
		t.Fatal(err)
	}
	// Old enough to be trimmed.
	for _, path := range []string{s.shard("blob", e), s.shard("result", st.old)} {
		if err := os.Chtimes(path, time.Now().Add(-48*time.Hour), time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
}

func (st *steps) run(ctx context.Context, s *Store) error {
	var blobs []action.Digest
	for _, put := range []func() (action.Digest, error){
		func() (action.Digest, error) { return s.PutBytes(ctx, action.BLAKE3, []byte("small")) },
		func() (action.Digest, error) { return s.PutBytes(ctx, action.BLAKE3, st.changed) },
		func() (action.Digest, error) { return s.PutFile(ctx, action.BLAKE3, st.src) },
		func() (action.Digest, error) {
			d := action.Sum(action.BLAKE3, st.big[1:])
			return d, s.Put(ctx, d, bytes.NewReader(st.big[1:]))
		},
	} {
		d, err := put()
		if err != nil {
			return err
		}
		blobs = append(blobs, d)
		st.done = append(st.done, d)
	}
	res := &action.Result{Stdout: blobs[2]}
	for i, d := range blobs {
		res.Files = append(res.Files, action.OutputFile{Path: fmt.Sprint(i), Digest: d})
	}
	for i := range 2 { // the second time in place of the first
		res.ExitCode = int32(i)
		if err := s.PutResult(ctx, st.key, res); err != nil {
			return err
		}
		st.result = true
	}
	if err := s.PutNote(ctx, st.key, []byte("new note")); err != nil {
		return err
	}
	_, err := s.PutLayer(ctx, "layer", blobs, func(path string) error {
		return errors.Join(os.Mkdir(path, 0o755), os.WriteFile(path+"/file", []byte("whole"), 0o644))
	})
	if err != nil {
		return err
	}
	if err := s.Sync(ctx); err != nil {
		return err
	}
	_, err = s.Trim(ctx, Policy{MaxAge: 24 * time.Hour})
	return err
}

// check wants every promise to hold in a store that was opened anew.
func (st *steps) check(t *testing.T, s *Store) {
	t.Helper()
	ctx := t.Context()
	for _, data := range [][]byte{[]byte("small"), st.changed, st.big, st.big[1:]} {
		d := action.Sum(action.BLAKE3, data)
		f, err := s.Open(ctx, d)
		if errors.Is(err, action.ErrMiss) {
			continue
		}
		if err != nil {
			t.Errorf("Open: %v", err)
			continue
		}
		if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, data) {
			t.Errorf("Open(%v) gives other bytes: %d, %v", d, len(got), err)
		}
		f.Close()
	}
	for _, d := range st.done {
		if !s.Has(ctx, d) {
			t.Errorf("%v was put, and is not there", d)
		}
	}
	if _, err := s.Result(ctx, st.key); err != nil && st.result {
		t.Errorf("the result was put, and is not there: %v", err)
	}
	for _, key := range []action.Digest{st.key, st.old} {
		res, err := s.Result(ctx, key)
		if err != nil && !errors.Is(err, action.ErrMiss) {
			t.Errorf("Result: %v", err)
		}
		if err == nil {
			for _, f := range res.Files {
				if !s.Has(ctx, f.Digest) {
					t.Errorf("result names %v, which is not there", f.Digest)
				}
			}
		}
	}
	if note, err := s.Note(ctx, st.key); err != nil || (string(note) != "old note" && string(note) != "new note") {
		t.Errorf("Note = %q, %v", note, err)
	}
	if path, err := s.Layer(ctx, "layer"); err == nil {
		if data, err := os.ReadFile(path + "/file"); err != nil || string(data) != "whole" {
			t.Errorf("layer holds %q, %v", data, err)
		}
	} else if !errors.Is(err, action.ErrMiss) {
		t.Errorf("Layer: %v", err)
	}
}

func openIn(t *testing.T, dir string, opts Options) *Store {
	t.Helper()
	s, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// TestFaults breaks every change of the disk that the steps make, in both
// ways, with and without files without names, and wants the promises to hold
// afterwards and the steps to succeed when nothing is broken any more.
func TestFaults(t *testing.T) {
	for _, named := range []bool{false, true} {
		if testing.Short() && named {
			continue
		}
		for _, tt := range []breaker{
			{persisted: true, err: errInjected},
			{err: errInjected},
			{err: syscall.ENOSPC},
			{err: syscall.ENOENT}, // the store is made again where it seems to be gone
		} {
			t.Run(fmt.Sprintf("named=%v/persisted=%v/%v", named, tt.persisted, tt.err), func(t *testing.T) {
				n := 1
				for ; breakOne(t, &breaker{n: n, persisted: tt.persisted, err: tt.err}, named); n++ {
				}
				if n < 40 {
					t.Errorf("only %d changes were broken: the test is broken itself", n-1)
				}
			})
		}
	}
}

// breakOne returns false when there were fewer changes than b waits for.
func breakOne(t *testing.T, b *breaker, named bool) bool {
	t.Helper()
	dir := TempStoreDir(t)
	st := newSteps(t)
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	s.noTemp.Store(named)
	n := b.n
	b.n = -1
	st.before(t, s)
	b.n = n
	s.disk.Fault = b.fault
	runErr := st.run(t.Context(), s)
	if b.hit == "" {
		if runErr != nil {
			t.Fatalf("nothing broken: %v", runErr)
		}
		return false
	}
	// As after a restart: nothing in memory counts, the kernel has freed the
	// locks.
	s.flight.close()
	if s.tmp.lock != nil {
		s.tmp.lock.Close()
	}
	again := openIn(t, dir, Options{})
	again.noTemp.Store(named)
	st.check(t, again)
	report, err := again.Verify(t.Context(), nil)
	if err != nil {
		t.Errorf("Verify: %v", err)
	}
	for _, d := range report.Damaged {
		if !strings.Contains(d.Name, action.Sum(action.BLAKE3, st.changed).Hash()) { // we did that
			t.Errorf("damaged: %+v", d)
		}
	}
	if err := st.run(t.Context(), again); err != nil {
		t.Errorf("when nothing is broken any more: %v", err)
	}
	st.check(t, again)
	if _, err := again.Result(t.Context(), st.key); err != nil {
		t.Errorf("when nothing is broken any more: %v", err)
	}
	// What has no lock yet may be in the making, for a minute.
	again.now = func() time.Time { return time.Now().Add(2 * time.Minute) }
	if err := again.sweep(); err != nil {
		t.Errorf("sweep: %v", err)
	}
	if names, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(names) > 1 {
		t.Errorf("tmp holds %v, %v after a trim; want our own directory", names, err)
	}
	if t.Failed() {
		t.Fatalf("change %d: %s; the steps returned %v", n, b.hit, runErr)
	}
	return true
}
