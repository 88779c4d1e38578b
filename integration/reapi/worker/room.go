package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
)

// A room bounds what the store takes on the disk. What is about to be fetched
// is counted before it is; when that exceeds the bound, the store is trimmed;
// and when that does not help, because actions in flight need what is there,
// the task is refused.
type room struct {
	store *cache.Store
	max   int64 // 0: no bound
	log   *slog.Logger
	spare time.Duration // see spare
	keep  func(context.Context) error

	mu      sync.Mutex
	used    int64     // guarded by mu: as measured, and what was reserved since
	fresh   time.Time // guarded by mu: when it was measured
	counted bool      // guarded by mu
	trimmed time.Time // guarded by mu: when the last trim was over
}

var errRoom = errors.New("the input cache is full")

// spare is how long what nobody uses at present is kept in any case.
const spare = time.Minute

// reserve makes room for n bytes.
func (r *room) reserve(ctx context.Context, n int64) error {
	if r.max == 0 || n == 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.counted || time.Since(r.fresh) > 2*time.Minute {
		u, err := r.store.Stat(ctx)
		if err != nil {
			return err
		}
		r.used, r.fresh, r.counted = u.Total().Bytes, time.Now(), true
	}
	if r.used+n > r.max {
		if err := r.trim(ctx, n); err != nil {
			return err
		}
	}
	r.used += n
	return nil
}

// trim makes room for n bytes, and for more, so that it need not be done again
// at once.
func (r *room) trim(ctx context.Context, n int64) error {
	if r.keep != nil {
		if err := r.keep(ctx); err != nil {
			return err
		}
	}
	goal := max(r.max-n, 1)
	report, err := r.store.Trim(ctx, cache.Policy{MaxSize: goal, Spare: r.spare})
	if err != nil && !errors.Is(err, cache.ErrBusy) {
		return fmt.Errorf("make room in the input cache: %w", err)
	}
	r.trimmed = time.Now()
	if err == nil {
		r.used, r.fresh = report.After.Total().Bytes, time.Now()
		removed := report.Removed.Total()
		r.log.InfoContext(ctx, "the input cache was trimmed", "removed", removed.N, "bytes", removed.Bytes, "left", r.used)
	}
	if r.used+n > r.max {
		return fmt.Errorf("%w: these inputs need %d bytes, and of %d in all %d are in use", errRoom, n, r.max, r.used)
	}
	return nil
}

// trimmedSince says whether something may have been removed after t.
func (r *room) trimmedSince(t time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.trimmed.After(t)
}

func sizeOf(d action.Digest) string { return strconv.FormatInt(d.Size(), 10) }

// signalName is what Buildbarn calls a signal: its name without SIG.
func signalName(n int) string {
	if n == 0 {
		return ""
	}
	return strings.TrimPrefix(unix.SignalName(unix.Signal(n)), "SIG")
}
