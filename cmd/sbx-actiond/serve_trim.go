package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/cache/pack"
	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/cmd/wiring"
	"github.com/sbx-action/sbx-action/integration/reapi"
	"github.com/sbx-action/sbx-action/integration/reapi/metrics"
)

const (
	// leastMaxSize is the least that --max-size takes: less is a slip of the pen,
	// and no room for packs.
	leastMaxSize = 64 << 20
	// packPart is how much of --max-size packs may take.
	packPart = 4
)

// A trimmer keeps the store of a server below its limits. It looks at the free
// space of the file system, which costs nothing, every few seconds, and measures
// the store when that has fallen by a part of the limit, or some minutes have
// passed. It is not at a lower priority than the rest of the program: a thread
// that is not scheduled would hold up the garbage collector of all. Instead it
// rests for many times as long as it worked.
type trimmer struct {
	store        *cache.Store
	max, minFree int64 // bytes; 0: no limit
	log          *slog.Logger

	packs func() (int64, error)       // what packs take, in bytes
	free  func() (int64, error)       // what others than root can have of the disk
	since func() (time.Time, bool)    // when the oldest operation began that is not done
	keep  func(context.Context) error // marks as used what has a name

	// wanted is what a request had no room for, and was refused for: the next look
	// makes it. It is at most minFree, so that a request cannot empty the store.
	wanted atomic.Int64

	// What is counted; size is -1 until it is known.
	size, trims, failures, files, bytes atomic.Int64

	// Of the goroutine that trims alone.
	looked   time.Time     // when the last look ended; zero: never
	rest     time.Duration // until the next
	freeThen int64
	exceeded bool // and it was said
}

const (
	trimTick = 2 * time.Second
	// trimRest is how long it rests at least, and at most if the store is there
	// to be looked at; after an error it rests as long as that.
	trimRest     = 10 * time.Second
	trimEvery    = 5 * time.Minute
	trimAgain    = time.Minute // after a trim that was of little use
	restsAsLong  = 50          // times as it worked
	growthToLook = 50          // that part of the limit
)

// openTrimmer makes the trimmer that the flags ask for, if they do.
func (f *serveFlags) openTrimmer(p *serverParts) error {
	if f.maxSize == 0 && f.minFree == 0 {
		return nil
	}
	dir := p.store.Dir()
	free, total, err := diskSpace(dir)
	if err != nil {
		return fmt.Errorf("how much is free in %s: %w", dir, err)
	}
	if int64(f.minFree) >= total {
		return fmt.Errorf("--min-free %s: the file system of %s has %s in all", commandline.HumanSize(int64(f.minFree)), dir, commandline.HumanSize(total))
	}
	t := &trimmer{
		store: p.store, max: int64(f.maxSize), minFree: int64(f.minFree), log: p.log, freeThen: free,
		packs: func() (int64, error) {
			_, n, err := pack.Usage(filepath.Join(dir, "serve", "pack"))
			return n, err
		},
		free: func() (int64, error) { free, _, err := diskSpace(dir); return free, err },
		since: func() (time.Time, bool) {
			if p.engine == nil {
				return time.Time{}, false
			}
			return p.engine.Oldest()
		},
		keep: func(ctx context.Context) error { return wiring.Rootfs{Store: dir}.Keep(ctx, p.store) },
	}
	t.size.Store(-1)
	p.trimmer = t
	return nil
}

// room says why n bytes more, which the server would make of others, are not to be
// on the disk of the store, and lets the trimmer know.
func (f *serveFlags) room(p *serverParts, n int64) error {
	free, total, err := diskSpace(p.store.Dir())
	if err != nil {
		return fmt.Errorf("how much is free in %s: %w", p.store.Dir(), err)
	}
	return roomFor(n, free, total, int64(f.minFree), p.trimmer)
}

func roomFor(n, free, total, minFree int64, t *trimmer) error {
	switch {
	case n <= free-minFree:
		return nil
	case n > total-minFree:
		return status.Errorf(codes.ResourceExhausted, "%s more: the disk of the server has %s in all, of which %s stay free",
			commandline.HumanSize(n), commandline.HumanSize(total), commandline.HumanSize(minFree))
	}
	if t != nil {
		t.wanted.Store(min(n, minFree))
	}
	return reapi.Busy(codes.ResourceExhausted, trimRest, "%s more: the disk of the server has %s free, of which %s stay so: try again later, or send the blob as it is",
		commandline.HumanSize(n), commandline.HumanSize(free), commandline.HumanSize(minFree)).Err()
}

// packOptions bounds packs, if the store is bounded.
func (f *serveFlags) packOptions(o pack.Options) pack.Options {
	if f.maxSize > 0 {
		o.MaxBytes = min(1<<30, int64(f.maxSize)/packPart)
		o.FileBytes = min(16<<20, o.MaxBytes/8)
	}
	return o
}

// start trims until ctx is done, or end is called, which waits for it.
func (t *trimmer) start(ctx context.Context) (end func()) {
	if t == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.run(ctx)
	}()
	return func() { cancel(); <-done }
}

func (t *trimmer) run(ctx context.Context) {
	tick := time.NewTicker(trimTick)
	defer tick.Stop()
	for ctx.Err() == nil {
		if now := time.Now(); t.due(now) {
			err := t.look(ctx)
			t.rest = max(trimRest, restsAsLong*time.Since(now))
			if err != nil && ctx.Err() == nil {
				t.failures.Add(1)
				t.log.Warn("the store could not be trimmed", "err", err)
				t.rest = max(t.rest, trimEvery)
			}
			if t.exceeded { // what is left gets old slowly
				t.rest = max(t.rest, trimAgain)
			}
			t.looked = time.Now()
			if free, err := t.free(); err == nil {
				t.freeThen = free
			}
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// due says whether it is time to measure the store.
func (t *trimmer) due(now time.Time) bool {
	past := now.Sub(t.looked)
	switch {
	case t.looked.IsZero():
		return true
	case past < t.rest:
		return false
	case past >= trimEvery:
		return true
	}
	free, err := t.free()
	return err == nil && (free < t.minFree+t.wanted.Load() || t.max > 0 && t.freeThen-free > t.max/growthToLook)
}

// look measures the store, and trims it if it is larger than it may be.
func (t *trimmer) look(ctx context.Context) error {
	u, err := t.store.Stat(ctx)
	if err != nil {
		return err
	}
	packs, err := t.packs()
	if err != nil {
		return err
	}
	size := u.Total().Bytes + packs
	t.size.Store(size)
	limit, err := t.limit(size)
	if err != nil || limit == 0 {
		t.exceeded = false
		return err
	}
	if err := t.keep(ctx); err != nil && ctx.Err() == nil {
		t.log.Warn("trim the store", "err", err) // what is not whole cannot be kept
	}
	report, err := t.store.Trim(ctx, cache.Policy{MaxSize: max(limit-packs, 1), Spare: t.spare()})
	if report != nil {
		removed := report.Removed.Total()
		t.files.Add(removed.N)
		t.bytes.Add(removed.Bytes)
		size = report.After.Total().Bytes + packs
		t.size.Store(size)
		if removed.N > 0 {
			t.log.Info("the store was trimmed", "removed", removed.N, "bytes", removed.Bytes, "left", size)
		}
	}
	if errors.Is(err, cache.ErrBusy) {
		return nil // somebody does what we wanted to
	}
	if err != nil {
		return err
	}
	t.trims.Add(1)
	if over := size > limit; over != t.exceeded {
		t.exceeded = over
		if over {
			t.log.Warn("the store is larger than it should be: what is left was used within the last hour, or is needed by what runs", "bytes", size, "limit", limit)
		}
	}
	return nil
}

// limit is what the store, which has this size, may have; 0: it has no more.
func (t *trimmer) limit(size int64) (limit int64, err error) {
	if t.max > 0 && size > t.max {
		limit = t.max
	}
	if t.minFree == 0 {
		return limit, nil
	}
	free, err := t.free()
	need := t.minFree + t.wanted.Swap(0)
	if err != nil || free >= need {
		return limit, err
	}
	goal := max(size-(need-free), 1)
	if limit == 0 || goal < limit {
		limit = goal
	}
	return limit, nil
}

// spare is for how long after its last use nothing is removed: what a client has
// asked for in the hour before it began the oldest operation stays, too.
func (t *trimmer) spare() time.Duration {
	if began, ok := t.since(); ok {
		return cache.Spare + max(time.Since(began), 0)
	}
	return cache.Spare
}

// write writes what Prometheus collects.
func (t *trimmer) write(w io.Writer) {
	if t == nil {
		return
	}
	if n := t.size.Load(); n >= 0 {
		metrics.Value(w, "sbx_store_size_bytes", "gauge", "What the store takes, with packs, as it was last measured.", float64(n))
	}
	if t.max > 0 {
		metrics.Value(w, "sbx_store_max_size_bytes", "gauge", "What the store may take: --max-size.", float64(t.max))
	}
	metrics.Value(w, "sbx_store_trims_total", "counter", "How often the store was trimmed.", float64(t.trims.Load()))
	metrics.Value(w, "sbx_store_trim_failures_total", "counter", "How often that failed.", float64(t.failures.Load()))
	metrics.Value(w, "sbx_store_evicted_files_total", "counter", "Files that were removed.", float64(t.files.Load()))
	metrics.Value(w, "sbx_store_evicted_bytes_total", "counter", "What they took on the disk.", float64(t.bytes.Load()))
}

// diskSpace is what is free where dir is, for others than root, and what there is
// in all, in bytes.
func diskSpace(dir string) (free, total int64, err error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return 0, 0, err
	}
	return int64(fs.Bavail) * int64(fs.Bsize), int64(fs.Blocks) * int64(fs.Bsize), nil
}
