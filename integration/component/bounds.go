package component

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sbx-action/sbx-action/backends"
)

// # Bounds
//
// A component that says no limit has one all the same, so that one that eats all
// memory fails alone:
//
//   - Memory: [Bounds.Memory], where the backend can hold a limit of a whole
//     process tree (control groups). Elsewhere its processes are those that the
//     kernel ends first when memory is short, see script.go.
//   - What it writes, in memory: [Bounds.Scratch].
//   - What it writes to a [Builder.ScratchDir]: as much as is free there, but for a
//     reserve. Nothing but a look twenty times a second holds that: a directory
//     has no limit. Of several that build there, the one that has most is stopped.
//
// None of them is in a key: what a limit ended is no result.

// Bounds are limits of components that do not say their own. Zero is none.
type Bounds struct{ Memory, Scratch int64 }

// DefaultBounds are those of components that may have so much memory together, and
// of which so many are built at a time. Each has its part, or 4 GiB if that is more:
// most need little. Half of it is for what it writes.
func DefaultBounds(together int64, jobs int) Bounds {
	each := max(together/int64(max(jobs, 1)), min(together, 4<<30))
	return Bounds{Memory: each, Scratch: each / 2}
}

// UsableMemory is what of so much memory components may have together: an eighth,
// and at least 256 MiB or half of it, is for others, and for us.
func UsableMemory(memory int64) int64 {
	return memory - max(memory/8, min(memory/2, 256<<20))
}

// A boundError says that a component was stopped because it wrote too much.
type boundError struct{ text string }

func (e *boundError) Error() string { return e.text }

// A bounded backend runs one component with bounds.
type bounded struct {
	backends.Backend
	bounds Bounds
	disk   *diskGuard
	name   string

	limits backends.Limits // of the last run
	short  bool            // meanwhile the kernel killed for want of memory, someone
}

// Run implements [backends.Backend].
func (b *bounded) Run(ctx context.Context, spec *backends.Spec) (*backends.Status, error) {
	s := *spec
	can := b.Capabilities()
	if s.Limits.Memory == 0 && can.MemoryLimit == backends.Exact {
		s.Limits.Memory = b.bounds.Memory
	}
	if s.Limits.Scratch == 0 && s.Root.ScratchDir == "" && can.ScratchLimit {
		s.Limits.Scratch = b.bounds.Scratch
	}
	s.Env = append(slices.Clone(s.Env), hereVariable+"=1")
	b.limits = s.Limits
	if dir := s.Root.ScratchDir; dir != "" {
		most := s.Limits.Scratch
		s.Limits.Scratch = 0 // no backend can hold it there
		var done func()
		ctx, done = b.disk.watch(ctx, b.name, dir, most)
		defer done()
	}
	before := kernelKills()
	st, err := b.Backend.Run(ctx, &s)
	b.short = kernelKills() > before
	if stopped, ok := errors.AsType[*boundError](context.Cause(ctx)); ok {
		if st != nil && st.Root != nil {
			st.Root.Close()
		}
		return nil, stopped
	}
	return st, err
}

// kernelKills is how often the kernel has killed a process because memory was
// short, since it began.
func kernelKills() int64 {
	data, err := os.ReadFile("/proc/vmstat")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), "\noom_kill ")
	digits, _, _ := strings.Cut(rest, "\n")
	n, _ := strconv.ParseInt(digits, 10, 64)
	return n
}

// shortage is a hint about a command that failed while the kernel killed for want
// of memory.
const shortage = "meanwhile the kernel killed a process because memory was short: give the component fewer jobs (max-jobs), build fewer at a time (--jobs), or put what they write on a disk (--scratch-dir DIR)"

// roomHint is about a command that found no room.
func roomHint(l backends.Limits, scratchDir string) string {
	if scratchDir != "" {
		return "what it writes is in " + scratchDir + ", but for /tmp, which is in memory: one of them is full"
	}
	size := ""
	if n := l.InMemory(); n > 0 { // where a control group counts, memory ends it before it is full
		size = ", and may be " + humanSize(n)
	}
	return "what a build writes is in memory" + size + ": --scratch-dir DIR puts it on a disk, and a component's limits say how much it may be, {disk: 4GiB}, or --component-disk SIZE, for all"
}

// humanSize writes a number of bytes with one digit after the point.
func humanSize(n int64) string {
	for _, u := range []struct {
		name string
		size int64
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.size), u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}

// A diskGuard watches the scratches of components that are on a disk. The zero
// value is ready.
type diskGuard struct {
	mu      sync.Mutex
	watched map[string]*watchedDir // guarded by mu; by directory
}

type watchedDir struct {
	component string
	stop      context.CancelCauseFunc
	stopped   bool
}

// How often the guard looks at what is free, and how much of its time it may
// spend with finding out what a directory has.
const (
	guardInterval = 50 * time.Millisecond
	guardShare    = 20
)

// reserve is what has to stay free on a disk: 1 GiB, of a small one a twentieth,
// and of one that is nearly full a quarter of what is left.
func reserve(size, free int64) int64 { return min(1<<30, size/20, free/4) }

// watch stops a component that writes more than most to dir, if most is not 0, or
// that has the most of those that have filled the disk. done ends that; what it
// returns is the context to run with.
func (g *diskGuard) watch(ctx context.Context, name, dir string, most int64) (_ context.Context, done func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	g.mu.Lock()
	if g.watched == nil {
		g.watched = map[string]*watchedDir{}
	}
	g.watched[dir] = &watchedDir{component: name, stop: cancel}
	g.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		g.look(ctx, dir, most)
	}()
	return ctx, func() {
		cancel(nil)
		<-ended
	}
}

// forget is called when dir has been removed.
func (g *diskGuard) forget(dir string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.watched, dir)
}

// look looks until the context ends.
func (g *diskGuard) look(ctx context.Context, dir string, most int64) {
	size, free := diskSpace(dir)
	keep := reserve(size, free)
	tick := time.NewTicker(guardInterval)
	defer tick.Stop()
	var measure time.Time // when to do it again
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if size, free = diskSpace(dir); size > 0 && free < keep {
			g.full(keep)
		}
		if most == 0 || time.Now().Before(measure) {
			continue
		}
		began := time.Now()
		if has := diskUsage(dir); has > most {
			g.stop(dir, fmt.Sprintf("it was stopped because it wrote %s, more than its limit of %s: give it more with limits: {disk: SIZE}, or all with --component-disk SIZE", humanSize(has), humanSize(most)))
		}
		measure = time.Now().Add(guardShare * time.Since(began))
	}
}

func (g *diskGuard) stop(dir, why string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if w := g.watched[dir]; w != nil && !w.stopped {
		w.stopped = true
		w.stop(&boundError{why})
	}
}

// full stops the one that has most. Until what it has is gone, nobody else is.
func (g *diskGuard) full(keep int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var largest string
	most := int64(-1)
	for dir, w := range g.watched {
		if w.stopped {
			return
		}
		if has := diskUsage(dir); has > most {
			largest, most = dir, has
		}
	}
	w := g.watched[largest]
	if w == nil {
		return
	}
	w.stopped = true
	w.stop(&boundError{fmt.Sprintf("it was stopped because the disk of --scratch-dir %s is full but for a reserve of %s, and it has %s there, more than the others: give another --scratch-dir, build fewer at a time (--jobs), or bound it with limits: {disk: SIZE}", filepath.Dir(largest), humanSize(keep), humanSize(most))})
}

// diskUsage is what the files below dir take, in bytes, as far as it can be seen.
func diskUsage(dir string) (sum int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // it is gone, or shut
		}
		if info, err := d.Info(); err == nil {
			sum += allocated(info)
		}
		return nil
	})
	return sum
}

// scratchPrefix begins the names of directories below a ScratchDir. Whoever uses
// one has it locked.
const scratchPrefix = "sbx-build-"

// newScratch makes a directory for what one component writes, below the
// ScratchDir, and removes those of processes that are dead.
func (b *Builder) newScratch() (dir string, remove func(), err error) {
	if b.ScratchDir == "" {
		return "", func() {}, nil
	}
	left, _ := filepath.Glob(filepath.Join(b.ScratchDir, scratchPrefix+"*"))
	for _, l := range left {
		if unlock, err := lockDir(l); err == nil {
			if err := removeAll(l); err != nil {
				b.Say("what a build has left in %s cannot be removed: %v", l, err)
			}
			unlock()
		}
	}
	var unlock func()
	for range 10 { // others may take one that is not locked yet for one that is left
		if dir, err = os.MkdirTemp(b.ScratchDir, scratchPrefix); err != nil {
			break
		}
		if unlock, err = lockDir(dir); err == nil {
			break
		}
	}
	if err != nil {
		return "", nil, fmt.Errorf("--scratch-dir: %w", err)
	}
	return dir, func() {
		if err := removeAll(dir); err != nil {
			b.Say("warning: %s: %v", dir, err)
		}
		unlock()
		b.disk.forget(dir)
	}, nil
}
