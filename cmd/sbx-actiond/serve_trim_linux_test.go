package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
)

// A trimming is a trimmer of a store of its own, and what it logs.
type trimming struct {
	*trimmer
	said bytes.Buffer
}

func newTrimming(t *testing.T) *trimming {
	t.Helper()
	store, err := cache.Open(filepath.Join(t.TempDir(), "cache"), cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	tr := &trimming{}
	tr.trimmer = &trimmer{
		store: store, log: slog.New(slog.NewTextHandler(&tr.said, nil)),
		packs: func() (int64, error) { return 0, nil },
		free:  func() (int64, error) { return 1 << 50, nil },
		since: func() (time.Time, bool) { return time.Time{}, false },
		keep:  func(context.Context) error { return nil },
	}
	tr.size.Store(-1)
	return tr
}

// put stores blobs of 8 KiB; the first was last used that many hours ago, the next
// ones an hour less each.
func (tr *trimming) put(t *testing.T, hours ...int) (list []action.Digest) {
	t.Helper()
	for _, h := range hours {
		d, err := tr.store.PutBytes(t.Context(), action.BLAKE3, bytes.Repeat([]byte{byte(h)}, 8192))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(tr.path(d), time.Now().Add(-time.Duration(h)*time.Hour), time.Time{}); err != nil {
			t.Fatal(err)
		}
		list = append(list, d)
	}
	return list
}

func (tr *trimming) path(d action.Digest) string {
	return tr.store.Dir() + "/blob" + cache.BlobPath(d)
}

func (tr *trimming) present(list []action.Digest) string {
	b := make([]byte, len(list))
	for i, d := range list {
		b[i] = '-'
		if _, err := os.Lstat(tr.path(d)); err == nil {
			b[i] = '+'
		}
	}
	return string(b)
}

func (tr *trimming) metrics() string {
	var b strings.Builder
	tr.write(&b)
	return b.String()
}

func TestTrimmerLimits(t *testing.T) {
	const blob = 8192
	for _, c := range []struct {
		name   string
		change func(*trimmer)
		want   string
		over   bool
	}{
		{"no limit that is exceeded", func(tr *trimmer) { tr.max, tr.minFree = 1<<30, 1<<20 }, "++++++", false},
		{"size", func(tr *trimmer) { tr.max = 5 * blob }, "--++++", false},
		{"packs count", func(tr *trimmer) {
			tr.max, tr.packs = 100*blob, func() (int64, error) { return 97 * blob, nil }
		}, "----++", false},
		{"free", func(tr *trimmer) {
			tr.minFree, tr.free = 100*blob, func() (int64, error) { return 99*blob + tr.bytes.Load(), nil }
		}, "--++++", false},
		{"what was used within the hour stays", func(tr *trimmer) { tr.max = 1 }, "-----+", true},
		{"and in that before the oldest operation", func(tr *trimmer) {
			tr.max, tr.since = 1, func() (time.Time, bool) { return time.Now().Add(-150 * time.Minute), true }
		}, "---+++", true},
		{"what has a name is marked first", func(tr *trimmer) {
			tr.max = 5 * blob
			tr.keep = func(ctx context.Context) error {
				tr.store.Has(ctx, action.Sum(action.BLAKE3, bytes.Repeat([]byte{6}, blob)))
				return errors.New("another is not whole")
			}
		}, "+--+++", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := newTrimming(t)
			list := tr.put(t, 6, 5, 4, 3, 2, 0)
			if err := tr.look(t.Context()); err != nil || tr.present(list) != "++++++" || tr.size.Load() < 6*blob {
				t.Fatalf("control: without limits: %v, %s, %s", err, tr.present(list), tr.metrics())
			}
			c.change(tr.trimmer)
			for range 2 { // the second time finds nothing more to do
				if err := tr.look(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			gone := strings.Count(c.want, "-")
			if got := tr.present(list); got != c.want || tr.files.Load() != int64(gone) || tr.bytes.Load() != int64(gone)*blob {
				t.Errorf("left are %s, want %s: %s", got, c.want, tr.metrics())
			}
			said := tr.said.String()
			if n := strings.Count(said, "larger than it should be"); (n == 1) != c.over || n > 1 {
				t.Errorf("that it is too large was said %d times: %s", n, said)
			}
			if m := tr.metrics(); !strings.Contains(m, fmt.Sprintf("\nsbx_store_evicted_files_total %d\n", gone)) || !strings.Contains(m, "\nsbx_store_size_bytes ") {
				t.Errorf("metrics: %s", m)
			}
		})
	}
}

// TestTrimmerDue says when the store is measured.
func TestTrimmerDue(t *testing.T) {
	tr := newTrimming(t)
	free := int64(1000)
	tr.max, tr.minFree, tr.rest, tr.freeThen = 1000, 100, 20*time.Second, free
	tr.free = func() (int64, error) { return free, nil }
	now := time.Now()
	want := func(what string, due bool) {
		t.Helper()
		if got := tr.due(now); got != due {
			t.Errorf("%s: due is %v, want %v", what, got, due)
		}
	}
	want("at the start", true)
	tr.looked = now
	free = 0
	want("while it rests", false)
	now = now.Add(tr.rest)
	want("with little free", true)
	free = 990
	want("when it has hardly grown", false)
	free = 900
	want("when it has grown", true)
	free = 1000
	want("when nothing has changed", false)
	now = now.Add(trimEvery)
	want("after some minutes", true)
}

// TestRoomFor has the trimmer make room for what was refused, within bounds.
func TestRoomFor(t *testing.T) {
	const blob = 8192
	tr := newTrimming(t)
	list := tr.put(t, 6, 5, 4, 3, 2, 0)
	free := int64(100 * blob)
	tr.minFree, tr.free = 98*blob, func() (int64, error) { return free + tr.bytes.Load(), nil }
	tr.rest, tr.looked = trimRest, time.Now()
	later := tr.looked.Add(trimRest)
	room := func(n int64) error { return roomFor(n, free, 1000*blob, tr.minFree, tr.trimmer) }
	if err := room(2 * blob); err != nil || tr.due(later) {
		t.Errorf("what there is room for: %v, due %v", err, tr.due(later))
	}
	for _, n := range []int64{903 * blob, math.MaxInt64} {
		if err := room(n); status.Code(err) != codes.ResourceExhausted || len(status.Convert(err).Details()) != 0 || tr.due(later) {
			t.Errorf("%d, which never fits: %v, due %v", n, err, tr.due(later))
		}
	}
	err := room(4 * blob)
	if status.Code(err) != codes.ResourceExhausted || len(status.Convert(err).Details()) != 1 || !tr.due(later) {
		t.Errorf("what there is no room for: %v, due %v", err, tr.due(later))
	}
	if err := tr.look(t.Context()); err != nil || tr.present(list) != "---+++" || tr.due(later) {
		t.Errorf("after that, to nine tenths: %v, left are %s, due %v", err, tr.present(list), tr.due(later))
	}
	_ = room(900 * blob)
	if got := tr.wanted.Load(); got != tr.minFree {
		t.Errorf("for a large one %d bytes are wanted", got)
	}
	if err := roomFor(blob, blob, 10*blob, 0, nil); err != nil {
		t.Errorf("without limits: %v", err)
	}
	if err := roomFor(blob+1, blob, 10*blob, 0, nil); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("without limits, on a full disk: %v", err)
	}
}

// TestTrimmerFails has an error told once, and another process's trim not at all.
func TestTrimmerFails(t *testing.T) {
	tr := newTrimming(t)
	tr.put(t, 3)
	tr.max = 1
	failing := make(chan struct{})
	tr.packs = func() (int64, error) {
		select {
		case <-failing:
		default:
			close(failing)
		}
		return 0, errors.New("nobody knows")
	}
	end := tr.start(t.Context())
	<-failing
	end()
	// It may have been stopped before it could say so, but then it says nothing.
	if n := strings.Count(tr.said.String(), "could not be trimmed"); n > 1 || int64(n) != tr.failures.Load() {
		t.Errorf("said %d times: %s", n, &tr.said)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	tr.packs = func() (int64, error) { return 0, nil }
	if err := tr.look(ctx); !errors.Is(err, context.Canceled) || tr.files.Load() != 0 {
		t.Errorf("when the server ends: %v, %s", err, tr.metrics())
	}
	if err := tr.look(t.Context()); err != nil || tr.files.Load() != 1 {
		t.Errorf("control: later: %v, %s", err, tr.metrics())
	}
}

// TestServeTrims starts a server on a store that is too large, asks under names that
// are its own and another's, and ends it.
func TestServeTrims(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	store, err := cache.Open(dir, cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var list []action.Digest
	for i := range 3 {
		data := make([]byte, 30<<20)
		data[0] = byte(i)
		d, err := store.PutBytes(t.Context(), action.BLAKE3, data)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, d)
		if err := os.Chtimes(dir+"/blob"+cache.BlobPath(d), time.Now().Add(-time.Duration(9-i)*time.Hour), time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	s := serving(t, dir, "--no-execution", "--max-size", "64M", "--min-free", "1K")
	get := func(host, path string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.http+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if host != "" {
			req.Host = host
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(text)
	}
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		_, text := get("", "/metrics")
		if strings.Contains(text, "\nsbx_store_trims_total 1\n") && strings.Contains(text, "\nsbx_store_evicted_files_total 2\n") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("it was not trimmed: %s", text)
		}
	}
	for i, want := range []int{404, 404, 200} { // to nine tenths of the limit
		if code, _ := get("", "/cas/"+list[i].Hash()); code != want {
			t.Errorf("blob %d: %d, want %d", i, code, want)
		}
	}
	if code, text := get("evil.example", "/cas/"+list[2].Hash()); code != 403 || len(text) > 1000 {
		t.Errorf("under another name: %d, %d bytes", code, len(text))
	}
	s.end(t)
	s = serving(t, dir, "--no-execution", "--allow-anyone")
	if code, _ := get("cache.example", "/cas/"+list[2].Hash()); code != 200 {
		t.Errorf("under another name, of a server for anyone: %d", code)
	}
	if _, text := get("", "/metrics"); strings.Contains(text, "sbx_store_trims_total") {
		t.Error("without limits there are metrics of them")
	}
	s.end(t)
}
