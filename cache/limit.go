package cache

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/durable"
)

// # A store that stays within a size
//
// Nobody counts. The file "size" says how much there was when somebody last looked
// at everything (trim or stat), and the log says what was written since, so their
// sum is about what there is now ([Store.Size]). Who has written something throws
// dice, without a system call, so that one look is taken for each hundredth of the
// limit that is written, by whomever ([Store.Outgrows]). Who finds that the limit is
// exceeded has [Store.Fit] called by another process, which does not hold up a build.
//
// So there is no counter that could be wrong, or that processes would have to wait
// for. What is too large in the sum (a note that was replaced is in the log twice) is
// set right by the trim that finds it so; what is too small (a killed process tells
// the log nothing) by looking at everything once a day.
//
// "size" is a record. Its payload is six numbers of 8 bytes, little-endian: see
// [Size]. Whoever is about to take the log writes first that the size is not known
// (-1): killed then, the next to look has it found out.
const (
	sizeName  = "size"
	sizeMagic = "sbZ1"

	looksPerLimit = 100
	leastLook     = 64 << 10 // bytes

	// fitSpare is for how long after it was written or marked a trim for the limit leaves
	// alone what no action in flight needs: as long as a hit takes. One that takes longer,
	// or has not marked anything because that was done minutes ago, is a miss at worst.
	fitSpare = time.Second

	// A trim is followed by a rest that is restTimes as long, but no less than restLeast:
	// where it could not reach the limit, restUnable. Then the same process looks again.
	restLeast  = time.Second
	restTimes  = 20
	restUnable = 3 * time.Second
	restMost   = time.Minute // one that lasts longer is of a clock that went back

	// fitTries is how often in a row Fit fails to reach the limit before it gives up.
	fitTries = 3

	// recount is how old "size" may be.
	recount = 24 * time.Hour
)

// A Size is about how much a store holds, and what was done to keep it within a limit.
type Size struct {
	Bytes int64 // on the disk: about as much as Usage.Total will say
	Known bool  // else Bytes says nothing

	Counted time.Time // when somebody looked at everything; zero: all of it is from the log

	// Of the last [Store.Fit] that removed something; zero: there was none.
	Trimmed time.Time
	// Reach is for how long what it removed had not been used: the least of it. A short
	// one says that the limit has no room for the work of that time.
	Reach time.Duration
	// Limit is what it was to reach. Where what was left alone exceeded it, Unable is set.
	Limit  int64
	Unable bool

	rest time.Time // when the next trim for the limit should be
}

func (z *Size) payload() []byte {
	unix := func(t time.Time) int64 {
		if t.IsZero() {
			return 0
		}
		return t.Unix()
	}
	limit := z.Limit
	if z.Unable {
		limit = -limit
	}
	var b []byte
	for _, n := range []int64{z.Bytes, unix(z.Counted), unix(z.Trimmed), int64(z.Reach / time.Second), limit, unix(z.rest)} {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	return b
}

func parseSize(b []byte) (*Size, error) {
	if len(b) != 6*8 {
		return nil, fmt.Errorf("%w: %d bytes", errRecord, len(b))
	}
	var n [6]int64
	for i := range n {
		n[i] = int64(binary.LittleEndian.Uint64(b[8*i:]))
	}
	unix := func(n int64) (t time.Time) {
		if n != 0 {
			t = time.Unix(n, 0)
		}
		return t
	}
	z := &Size{
		Bytes: n[0], Known: n[0] >= 0, Counted: unix(n[1]), Trimmed: unix(n[2]),
		Reach: time.Duration(n[3]) * time.Second, Limit: max(n[4], -n[4]), Unable: n[4] < 0, rest: unix(n[5]),
	}
	return z, nil
}

// readSize returns what the file says; Known is not set where there is none.
func (s *Store) readSize() *Size {
	data, _, err := readRecord(filepath.Join(s.dir, sizeName), sizeMagic, sizeName)
	if errors.Is(err, fs.ErrNotExist) {
		return &Size{}
	}
	if err == nil {
		if z, err := parseSize(data); err == nil {
			return z
		}
	}
	return &Size{Bytes: noSize}
}

// noSize says that nobody knows how much there is until somebody looks at everything.
const noSize = -1

// forgetSize is called before the log is taken: killed then, nobody knows the size,
// neither by this file, nor by a log that has begun anew.
func (s *Store) forgetSize() error {
	z := s.readSize()
	z.Bytes = noSize
	return s.storeSize(z)
}

// writeSize leaves what the file said, that the size is not known, where it cannot be
// written.
func (s *Store) writeSize(z *Size) { s.warnUnlessFull(s.storeSize(z)) }

// warnUnlessFull is for what only helps to find things fast: a full disk is told of by
// whoever has something to write.
func (s *Store) warnUnlessFull(err error) {
	if !durable.IsFull(err) {
		s.warn(err)
	}
}

func (s *Store) storeSize(z *Size) error {
	var tmp tempDir // is swept when we are killed
	draft, err := tmp.name(s)
	if err != nil {
		return err
	}
	path := filepath.Join(s.dir, sizeName)
	err = s.replace(path, draft, appendRecord(nil, sizeMagic, sizeName, z.payload()), 0o644)
	return s.explain(errors.Join(err, tmp.close(s)))
}

// counted notes that there were so many bytes, without layers, when somebody looked
// at everything. Before is what the file said before that. Without an index the log
// was not taken, and tells of some of them again.
func (s *Store) counted(before *Size, bytes int64, db *index) {
	if s.opts.ReadOnly {
		return
	}
	z := *before
	z.Bytes, z.Known, z.Counted = bytes, true, s.now()
	if db == nil {
		inLog, err := s.logBytes()
		if err != nil {
			return
		}
		z.Bytes = max(z.Bytes-inLog, 0)
	}
	s.writeSize(&z)
}

// logBytes is the sum of what the log tells of.
func (s *Store) logBytes() (n int64, err error) {
	data, err := durable.ReadRecords(filepath.Join(s.dir, logName))
	parseLog(data, s.now(), func(e *entry) { n += e.bytes })
	return n, s.explain(ignoreMissing(err))
}

// Size returns about how much the store holds. It reads the log, and the names of the
// layers.
func (s *Store) Size() (*Size, error) {
	s.warn(s.logbook.flush(s))
	z := s.readSize()
	if !z.Known {
		if z.Bytes == noSize {
			return z, nil
		}
		// Before anybody has looked at everything, all that there is is in the log.
		if _, err := durable.Stat(filepath.Join(s.dir, indexName)); !errors.Is(err, fs.ErrNotExist) {
			return z, s.explain(err)
		}
	}
	if z.Counted.After(s.now().Add(time.Minute)) {
		z.Counted = time.Time{} // the clock went back: it is of no known age
	}
	inLog, err := s.logBytes()
	if err != nil {
		return &Size{}, err
	}
	z.Known = true
	z.Bytes += inLog
	layers, err := s.layers()
	for i := range layers {
		z.Bytes += layers[i].bytes
	}
	return z, err
}

// Outgrows says whether what this store has written since it was last asked may have
// made it larger than a limit (0: none), so that [Store.Fit] should be called, by a
// process that has time. It mostly does not look at all, and says no, without a system
// call; where nothing was written it does not even ask for the limit.
func (s *Store) Outgrows(most func() int64) bool {
	n := s.logbook.grew()
	if s.full.Swap(false) {
		n = 1 << 62 // what could not be written tells no size
	}
	if n == 0 || s.opts.ReadOnly {
		return false
	}
	limit := most()
	if limit <= 0 {
		return false
	}
	if every := max(limit/looksPerLimit, leastLook); n < every && s.dice(every) >= n {
		return false
	}
	return s.due(limit) != nil && !s.fitting()
}

// due returns what there is if that is to be trimmed for the limit, or found out; else nil.
func (s *Store) due(limit int64) *Size {
	z, err := s.Size()
	old := !z.Counted.IsZero() && s.now().Sub(z.Counted) > recount
	if err == nil && (!z.Known || z.Bytes > limit || old) {
		return z
	}
	return nil
}

// fitting says whether a process trims, for the limit or else, or could not be kept from it.
func (s *Store) fitting() bool {
	f, err := s.openLocks()
	if err != nil {
		return true // and neither could we
	}
	defer f.Close()
	for _, off := range []int64{fitOffset, trimOffset} {
		if busy, err := durable.Locked(f, off, 1); busy && err == nil {
			return true
		}
	}
	return false
}

// FitOptions say how [Store.Fit] trims.
type FitOptions struct {
	// Keep, where not nil, is called before it trims, and marks as used what is to stay.
	Keep func(context.Context) error
	// Rest, where not nil, waits for as long as it is told, so that of the time of a build
	// little goes into trimming, and others that rest leave it to us. Else there is one try.
	Rest func(context.Context, time.Duration)
}

// Fit trims the store to nine tenths of limit if it is larger than that, as [Store.Trim]
// does but for what it spares: what was used within the last seconds, and what an action
// in flight may need. Of a store that has, or had, a server it spares what trim does.
// It does so again if the store has meanwhile become larger than the limit, so that what
// is written last is followed by a trim, too. Where another process trims it does nothing,
// or returns ErrBusy if it is not to rest.
func (s *Store) Fit(ctx context.Context, limit int64, o FitOptions) (*TrimReport, error) {
	total := &TrimReport{}
	if err := s.writable("trim the cache"); err != nil {
		return nil, err
	}
	if limit <= 0 || s.due(limit) == nil {
		return total, nil
	}
	if o.Rest != nil {
		unlock, err := s.lockOnly(fitOffset)
		if errors.Is(err, ErrBusy) {
			return total, nil
		}
		if err != nil {
			return nil, err
		}
		defer unlock()
	}
	for tries := fitTries; tries > 0; tries-- {
		z := s.due(limit)
		if z == nil {
			break
		}
		if rest := z.rest.Sub(s.now()); o.Rest != nil && rest > 0 && rest <= restMost {
			o.Rest(ctx, rest)
		}
		r, err := s.fitOnce(ctx, limit, o.Keep)
		if errors.Is(err, ErrBusy) && o.Rest != nil {
			break
		}
		if r != nil {
			total.include(r)
			if z.Known && r.After.Total().Bytes <= limit {
				tries = fitTries + 1 // it could, and what is to be trimmed next is new
			}
		}
		if err != nil {
			return total, err
		}
		if o.Rest == nil {
			break
		}
	}
	return total, nil
}

// include makes r the report of what it tells of, and of what next does, which came after.
func (r *TrimReport) include(next *TrimReport) {
	removed := r.Removed
	for _, k := range []Kind{KindResult, KindNote, KindLayer, KindBlob} {
		c := next.Removed.of(k)
		removed.of(k).add(c.N, c.Bytes)
	}
	if r.Before.Total().N == 0 {
		r.Before = next.Before
	}
	r.Removed, r.After, r.Spared = removed, next.After, next.Spared
}

func (s *Store) fitOnce(ctx context.Context, limit int64, keep func(context.Context) error) (*TrimReport, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if keep != nil {
		if err := keep(ctx); ctx.Err() != nil {
			return nil, err
		} else if err != nil {
			s.warn(err) // what is not whole cannot be kept
		}
	}
	p := Policy{MaxSize: limit, Spare: fitSpare, fit: true}
	if _, err := durable.Stat(filepath.Join(s.dir, "serve")); err == nil {
		p.Spare = Spare
	}
	return s.Trim(ctx, p)
}

// fitted notes how a trim for the limit went, which began at the time began.
func (t *trimmer) fitted(z *Size, began time.Time) {
	now := t.s.now()
	took := max(now.Sub(began), 0)
	rest := min(max(restTimes*took, restLeast), restMost)
	after := t.report().After.Total().Bytes
	z.Unable = after > t.policy.MaxSize
	if z.Unable {
		rest = max(rest, restUnable)
	}
	z.rest, z.Limit = now.Add(rest), t.policy.MaxSize
	if len(t.gone) > 0 {
		z.Trimmed, z.Reach = now, 1<<62
		for i := range t.gone {
			e := &t.gone[i]
			z.Reach = min(z.Reach, now.Sub(time.Unix(max(e.used, e.via), 0)))
		}
		z.Reach = max(z.Reach, 0)
	}
}

// recent is for how long before now trim for the limit looks at which blobs a result
// names, so that the two can have the order in which they were used. Older ones need
// not be looked at: see resultsFirst.
const recent = 2 * touchAfter

// date looks at when what is new since the last trim was used: the log does not say, and
// what it tells of counts as used when it was read.
func (t *trimmer) date(began time.Time) {
	for i := range t.list {
		e := &t.list[i]
		if e.kind == KindLayer || e.used < began.Unix() {
			continue
		}
		if fi, err := durable.Stat(e.path(t.s)); err == nil {
			e.used = min(e.used, t.s.lastUse(&fi))
		}
	}
}

// refer lets what recent results name count as used when the result was.
func (t *trimmer) refer(ctx context.Context, used map[blobKey]int64) {
	since := t.s.now().Add(-recent).Unix()
	for i := range t.list {
		e := &t.list[i]
		if e.kind != KindResult || e.used <= since || ctx.Err() != nil {
			continue
		}
		key, err := action.Shortened(e.f, e.hash, 0)
		if err != nil {
			continue
		}
		res, _, err := t.s.readResult(e.path(t.s), key)
		if err != nil {
			continue // of no use to anybody
		}
		var lack error
		for d := range t.s.names(ctx, res, inspect, &lack) {
			k := blobKey{d.Function(), d.Bytes()}
			used[k] = max(used[k], e.used)
		}
		e.exact = true
	}
}

// throw is the dice of [Store.Outgrows].
func throw(n int64) int64 { return rand.Int64N(n) }
