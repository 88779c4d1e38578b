package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/durable"
)

// ErrBusy is wrapped by the error of [Store.Trim] while another process trims.
var ErrBusy = errors.New("another process trims the cache")

// A Policy says how much a store may hold. A zero field is no limit.
type Policy struct {
	MaxSize  int64         // bytes on the disk
	MaxCount int64         // blobs, results, notes and layers together
	MaxAge   time.Duration // since the last use
	Spare    time.Duration // for how long after its last use nothing is removed; zero: [Spare]

	// LowWater is the part of MaxSize and MaxCount down to which Trim
	// removes once one of them is exceeded, so that it has to do so less
	// often. Zero means 0.9; 1 removes no more than it must.
	LowWater float64

	fit bool // for Fit: what was used in the last minutes is sorted by that, too
}

// historyPart is how much of MaxSize the history may take. It tells of things for
// historyTimes as long as MaxAge keeps them, so that it can say that they were
// trimmed, and for historyAge at least.
const (
	historyPart  = 64
	historyTimes = 4
	historyAge   = 90 * 24 * time.Hour
)

// historyLimits are how many bytes the history may have, and since when it may
// tell.
func (p *Policy) historyLimits(now time.Time) (limit int64, cutoff time.Time) {
	if p.MaxAge > 0 {
		cutoff = now.Add(-max(historyTimes*p.MaxAge, historyAge))
	}
	if p.MaxSize > 0 {
		limit = max(p.MaxSize/historyPart, 64<<10)
	}
	return limit, cutoff
}

// Spare is for how long after its last use nothing is trimmed, unless a [Policy]
// says otherwise: one with less is for a store all of whose users hold a lock
// ([Store.Lock]) for as long as they rely on what is in it.
const Spare = time.Hour

// A TrimReport says what [Store.Trim] did.
type TrimReport struct {
	Before, Removed, After Usage
	// Spared is what the policy would have removed as well, had it not been
	// used just now. If it is not zero and After exceeds MaxSize, the limit
	// is smaller than what the builds of an hour need.
	Spared Count
}

// Trim removes what was not used for longest until p is kept. It spares what
// was used within the last hour or since the oldest action that is in flight
// began, and the blobs of every layer that it keeps. Builds may run meanwhile.
// It also removes what processes that have died left behind.
func (s *Store) Trim(ctx context.Context, p Policy) (*TrimReport, error) {
	if err := s.writable("trim the cache"); err != nil {
		return nil, err
	}
	if _, err := durable.Stat(filepath.Join(s.dir, versionName)); errors.Is(err, fs.ErrNotExist) {
		return &TrimReport{}, nil
	}
	unlock, err := s.lockOnly(trimOffset)
	if err != nil {
		return nil, err
	}
	defer unlock()
	s.warn(s.logbook.flush(s))
	s.warn(s.sweep())

	began, size := s.now(), s.readSize()
	list, db, err := s.entries(ctx)
	defer s.closeIndex(db)
	if err != nil {
		return nil, fmt.Errorf("trim the cache: %w", err)
	}
	t := &trimmer{s: s, list: list, policy: p}
	if p.fit {
		t.date(began)
	}
	if err := t.prepare(ctx); err != nil {
		return nil, fmt.Errorf("trim the cache: %w", err)
	}
	err = t.run(ctx)
	t.tell(db)
	if p.fit {
		t.fitted(size, began)
	}
	s.counted(size, t.left.Bytes-t.layerBytes(), db)
	s.warn(s.tellRemoved(t.gone, Trimmed, nil))
	s.warn(s.shrinkHistory(p.historyLimits(s.now())))
	if err != nil {
		return t.report(), fmt.Errorf("trim the cache: %w", err)
	}
	return t.report(), nil
}

// lockOnly takes the lock at off of the file "locks", or returns ErrBusy.
func (s *Store) lockOnly(off int64) (unlock func(), err error) {
	f, err := s.openLocks()
	if err != nil {
		return nil, err
	}
	ok, err := durable.TryLock(f, off, 1)
	if errors.Is(err, errors.ErrUnsupported) {
		ok, err = true, nil // two that trim remove more than they should, not wrongly
	}
	if err != nil || !ok {
		_ = f.Close()
		return nil, cmp.Or(err, error(ErrBusy))
	}
	return func() { _ = f.Close() }, nil
}

type trimmer struct {
	s       *Store
	policy  Policy
	list    []entry // after prepare, what goes first comes first
	horizon int64   // what was used since then stays; seconds
	draft   string  // where what is removed goes first; "" where that is not to be had

	before, removed Usage
	spared          Count
	left, goal      Count
	grace           int64   // seconds that blobs may seem older than what names them
	cutoff          int64   // what was last used before goes in any case; seconds
	later           []entry // see pass
	gone, renewed   []entry // for the index
}

// resultsFirst is how much older a result counts than it is, so that it goes
// before every blob that it names: a hit marks these, but leaves alone the
// times that are right to within touchAfter.
const resultsFirst = int64(2 * touchAfter / time.Second)

// rank is the time by which e is sorted.
func (e *entry) rank() int64 {
	if e.kind == KindResult && !e.exact {
		return e.used - resultsFirst
	}
	return max(e.used, e.via)
}

func (t *trimmer) sort(list []entry) {
	slices.SortFunc(list, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(a.kind, b.kind))
	})
}

type blobKey struct {
	f    action.Function
	hash [32]byte
}

// prepare sorts the list: what goes first comes first.
func (t *trimmer) prepare(ctx context.Context) error {
	now := t.s.now()
	oldest, err := t.s.flight.oldest(t.s)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	t.horizon = now.Add(-cmp.Or(t.policy.Spare, Spare)).Unix()
	if !oldest.IsZero() || !t.policy.fit {
		if oldest.IsZero() || oldest.After(now) && !t.policy.fit {
			oldest = now
		}
		t.horizon = min(t.horizon, oldest.Add(-t.s.touchAfter()).Unix())
	}
	t.grace = int64(t.s.touchAfter() / time.Second)

	layers := map[blobKey]int64{}
	if t.policy.fit {
		t.refer(ctx, layers)
		if t.horizon > now.Add(-recent).Unix() {
			t.grace = 0 // what the results that stay name is known
		}
	}
	for i := range t.list {
		e := &t.list[i]
		t.before.of(e.kind).add(1, e.bytes)
		if e.kind != KindLayer {
			continue
		}
		l, err := readLayer(e.times(e.path(t.s)), e.name)
		if err != nil {
			continue // of no use to anybody; it goes by its age
		}
		for _, d := range l.refs {
			k := blobKey{d.Function(), d.Bytes()}
			layers[k] = max(layers[k], e.used)
		}
	}
	// A blob counts as used when its layer was. Then it also comes after the
	// layer in the order, and no list of blobs to keep is needed.
	for i := range t.list {
		if e := &t.list[i]; e.kind == KindBlob {
			e.via = layers[blobKey{e.f, e.hash}]
		}
	}
	t.sort(t.list)
	t.draft, err = t.s.tmp.name(t.s)
	if err != nil {
		t.draft = "" // a full disk has no place for a directory
	}
	return nil
}

// run removes from the front of the list until the policy is kept.
func (t *trimmer) run(ctx context.Context) error {
	t.left = t.before.Total()
	low := t.policy.LowWater
	if low <= 0 || low > 1 {
		low = 0.9
	}
	t.goal = Count{N: 1 << 62, Bytes: 1 << 62}
	if limit := t.policy.MaxSize; limit > 0 && t.left.Bytes > limit {
		t.goal.Bytes = int64(low * float64(limit))
	}
	if limit := t.policy.MaxCount; limit > 0 && t.left.N > limit {
		t.goal.N = int64(low * float64(limit))
	}
	t.cutoff = -1 << 62
	if t.policy.MaxAge > 0 {
		t.cutoff = t.s.now().Add(-t.policy.MaxAge).Unix()
	}
	for list := t.list; len(list) > 0; {
		t.later = nil
		if err := t.pass(ctx, list); err != nil {
			return err
		}
		list = t.later
		t.sort(list)
	}
	return nil
}

// pass removes from the front of list. It leaves in t.later what was used
// later than the list says.
func (t *trimmer) pass(ctx context.Context, list []entry) error {
	for i := range list {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		e := &list[i]
		tooMuch := t.left.Bytes > t.goal.Bytes || t.left.N > t.goal.N
		if !tooMuch && e.rank() >= t.cutoff {
			return nil // so is everything that follows
		}
		if e.isEmptyBlob() {
			continue
		}
		what, err := t.remove(e)
		if err != nil {
			return err
		}
		switch what {
		case wentAway:
			t.left.add(-1, -e.bytes)
			t.removed.of(e.kind).add(1, e.bytes)
			t.gone = append(t.gone, *e)
		case usedLater:
			t.later = append(t.later, *e)
			t.renewed = append(t.renewed, *e)
		case inUse:
			t.spared.add(1, e.bytes)
		}
	}
	return nil
}

// isEmptyBlob says that e is the blob that is always present.
func (e *entry) isEmptyBlob() bool {
	return e.kind == KindBlob && e.hash == action.Sum(e.f, nil).Bytes()
}

type removal int

const (
	wentAway  removal = iota
	usedLater         // than e says; e is corrected
	inUse             // too recently to go
)

// spares says that what was last used then must stay.
func (t *trimmer) spares(kind Kind, used int64) bool {
	if kind == KindResult {
		return used > t.horizon
	}
	// What a result names may say that it was used a little earlier.
	return used > t.horizon-t.grace
}

// remove removes e unless it was used meanwhile. Whoever marks a file as used
// between our look at it and its removal would be betrayed by an unlink. So
// the file is moved out of sight, looked at again, and moved back if need be.
func (t *trimmer) remove(e *entry) (removal, error) {
	s, path := t.s, e.path(t.s)
	fi, err := durable.Stat(e.times(path))
	if err != nil && !absent(err) {
		return inUse, s.explain(err)
	}
	if err == nil {
		s.fixFuture(e.times(path), &fi)
		listed := e.used
		e.used = s.lastUse(&fi)
		if e.used > listed {
			return usedLater, nil
		}
		if t.spares(e.kind, max(e.used, e.via)) {
			return inUse, nil
		}
		if e.kind != KindLayer {
			e.bytes = fi.Blocks
		}
	}
	if t.draft == "" {
		return wentAway, s.explain(s.disk.RemoveAll(path))
	}
	if err := s.disk.Rename(path, t.draft); errors.Is(err, fs.ErrNotExist) {
		// It is gone, or else the place where we wanted it is.
		return wentAway, s.explain(s.disk.RemoveAll(path))
	} else if e.kind == KindLayer && int(fi.UID) != os.Geteuid() && errors.Is(err, fs.ErrPermission) {
		return inUse, nil // only who has made a layer can move it
	} else if err != nil {
		return inUse, s.explain(err)
	}
	again, err := durable.Stat(e.times(t.draft))
	if err == nil && again.ATime.After(fi.ATime) && t.spares(e.kind, s.lastUse(&again)) {
		return inUse, s.explain(s.disk.Rename(t.draft, path))
	}
	return wentAway, s.explain(s.disk.RemoveAll(t.draft))
}

// tell tells the index.
func (t *trimmer) tell(db *index) {
	if db == nil || len(t.gone)+len(t.renewed) == 0 {
		return
	}
	t.s.warn(db.update(t.renewed, t.gone))
}

// layerBytes is what the layers take that are left.
func (t *trimmer) layerBytes() int64 { return t.before.Layers.Bytes - t.removed.Layers.Bytes }

func (t *trimmer) report() *TrimReport {
	r := &TrimReport{Before: t.before, Removed: t.removed, After: t.before, Spared: t.spared}
	for _, k := range []Kind{KindResult, KindNote, KindLayer, KindBlob} {
		c := t.removed.of(k)
		r.After.of(k).add(-c.N, -c.Bytes)
	}
	return r
}

// Stat returns what the store holds.
func (s *Store) Stat(ctx context.Context) (*Usage, error) {
	s.warn(s.logbook.flush(s))
	size := s.readSize()
	list, db, err := s.entries(ctx)
	defer s.closeIndex(db)
	if err != nil {
		return nil, fmt.Errorf("cache usage: %w", err)
	}
	u := &Usage{}
	for i := range list {
		u.of(list[i].kind).add(1, list[i].bytes)
	}
	s.counted(size, u.Total().Bytes-u.Layers.Bytes, db)
	return u, nil
}
