package history

import (
	"fmt"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
)

// BenchmarkOpen reads a history of 20,000 runs and 20,000 hits, and finds the
// last run of one output.
func BenchmarkOpen(b *testing.B) {
	s, err := cache.Open(b.TempDir(), cache.Options{})
	if err != nil {
		b.Fatal(err)
	}
	for n := range 20_000 {
		req := request(fmt.Sprintf("obj/%d.o", n%3000), "gcc", "-O2", "-Iinclude", "-c", fmt.Sprintf("src/%d.c", n%3000), fmt.Sprint("-DN=", n))
		for i, out := range []action.Outcome{{Miss: action.ErrMiss, Result: result(0)}, {Cached: true, Result: result(0)}} {
			out.Key = req.Action.Digest(fn)
			r := Of(req, &out, nil)
			r.Time, r.Workspace = time.Unix(int64(n), int64(i)), "/home/user/project"
			if err := Add(b.Context(), s, r); err != nil {
				b.Fatal(err)
			}
		}
	}
	for b.Loop() {
		book, err := Open(s)
		if err != nil {
			b.Fatal(err)
		}
		if t, err := book.Find(b.Context(), "obj/7.o", "/home/user/project"); err != nil || len(t.Runs) == 0 {
			b.Fatal(t, err)
		}
	}
	b.ReportMetric(float64(s.HistorySize()), "bytes")
}

// BenchmarkHit adds what a hit adds.
func BenchmarkHit(b *testing.B) {
	s, err := cache.Open(b.TempDir(), cache.Options{})
	if err != nil {
		b.Fatal(err)
	}
	req := request("obj/1.o", "gcc")
	out := &action.Outcome{Key: req.Action.Digest(fn), Cached: true, Result: result(0)}
	for b.Loop() {
		r := Of(req, out, nil)
		r.Time, r.Workspace = time.Now(), "/home/user/project"
		if err := Add(b.Context(), s, r); err != nil {
			b.Fatal(err)
		}
	}
}
