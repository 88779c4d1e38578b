// Package why says why an action ran and was not taken from the cache: what
// differs from the nearest earlier run of the same thing, or what became of its
// result.
package why

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/compare"
	"github.com/sbx-action/sbx-action/history"
	"github.com/sbx-action/sbx-action/staging"
)

// A Reason is why a run was no hit.
type Reason string

// The reasons.
const (
	WasHit     Reason = "hit"            // it was one
	First      Reason = "never run"      // nothing like it is remembered
	Differs    Reason = "differs"        // Answer.Changes say from Answer.Earlier
	HostMoved  Reason = "host changed"   // the same action, but the host shows something else
	Trimmed    Reason = "trimmed"        // the result was removed by a trim
	Damaged    Reason = "result damaged" // or it lacked a blob
	Removed    Reason = "result removed" // by nobody whom we know
	NotCached  Reason = "not cached"     // the earlier run left no result
	NotAsked   Reason = "not asked"      // this run did not want what is in the cache
	Unreadable Reason = "unreadable"     // the cache could not be read
)

// An Answer says why a run was no hit.
type Answer struct {
	Run     *history.Run
	Reason  Reason
	Text    string       // the reason in a sentence; nothing in it can steer a terminal
	Earlier *history.Run // what Run is compared with; may be nil
	Changes []compare.Change
	More    int // changes that are not listed
}

// A Teller answers. It is for one goroutine.
type Teller struct {
	Book *history.Book

	// Limit is how many changes an Answer lists.
	Limit int
}

// near is how many earlier actions are compared to find the nearest.
const near = 8

// Why says why r was no hit.
func (t *Teller) Why(ctx context.Context, r *history.Run) *Answer {
	a := &Answer{Run: r}
	switch {
	case r.Verdict == history.Hit:
		a.Reason, a.Text = WasHit, "it was a hit"
		if r.Lookup == history.Pruned {
			a.Text = "it was a hit of --prune: nothing differs that was read"
		}
		return a
	case r.Lookup == history.NotAsked:
		a.Reason, a.Text = NotAsked, "the cache was not asked"
		if r.Miss != "" {
			a.Text += ": " + compare.Sentence(r.Miss)
		}
		return a
	case r.Lookup == history.Unreadable:
		a.Reason, a.Text = Unreadable, "the cache could not be read: "+compare.Sentence(r.Miss)
		return a
	case r.Lookup == history.Damaged:
		a.Reason, a.Text = Damaged, "result damaged: "+compare.Sentence(r.Miss)
		return a
	case r.Lookup == history.Found: // and then it could not be used
		a.Reason, a.Text = Damaged, "there was a result, and it could not be used: "+compare.Sentence(r.Unkept)
		return a
	}
	like := t.Book.Like(ctx, r)
	same, others := split(like, r)
	if len(same) > 0 && t.ofSame(ctx, a, same) {
		return a
	}
	if t.nearest(ctx, a, others); a.Earlier != nil {
		return a
	}
	a.Reason = First
	a.Text = "never run before: nothing with the same outputs or the same command is remembered"
	return a
}

// split parts the runs that are of the same action as r, but for the host,
// from the others; the latest first.
func split(like []*history.Run, r *history.Run) (same, others []*history.Run) {
	for _, x := range slices.Backward(like) {
		if x.Unsealed == r.Unsealed {
			same = append(same, x)
		} else {
			others = append(others, x)
		}
	}
	return same, others
}

// ofSame answers from earlier runs of the same action, the latest first. It
// says false if they explain nothing.
func (t *Teller) ofSame(ctx context.Context, a *Answer, same []*history.Run) bool {
	r := a.Run
	if r.Lookup == history.Failed {
		a.Earlier, a.Reason = same[0], NotCached
		a.Text = compare.Sentence(r.Miss)
		return true
	}
	var kept []*history.Run // with a result that should be there
	for _, x := range same {
		if x.Verdict == history.Kept || x.Lookup == history.Found {
			kept = append(kept, x)
		}
	}
	if len(kept) == 0 && same[0].Verdict == history.Hit {
		a.Earlier, a.Reason = same[0], NotCached
		a.Text = fmt.Sprintf("not cached: the same action was a hit of --prune %s, and such a hit leaves no result of its own", at(same[0].Time))
		return true
	}
	if len(kept) == 0 {
		a.Earlier, a.Reason = same[0], NotCached
		a.Text = fmt.Sprintf("not cached: the same action ran %s, and its result was not kept: %s", at(same[0].Time), compare.Sentence(same[0].Unkept))
		return true
	}
	for _, x := range kept {
		if x.Key == r.Key && r.Verdict == history.Kept {
			a.Earlier = x
			t.lost(a, x)
			return true
		}
	}
	if x, ok := t.lostNote(kept[0], r); ok {
		a.Earlier, a.Reason, a.Text = kept[0], Trimmed, x
		return true
	}
	// The same action, and what it saw of the host is not what it was. A run
	// that was not kept does not say what it saw: its miss does.
	a.Earlier, a.Reason = kept[0], HostMoved
	a.Text = fmt.Sprintf("the root file system changed since the same action ran %s: %s", at(kept[0].Time), compare.Sentence(r.Miss))
	t.nearestOf(ctx, a, kept)
	return true
}

// lost says what became of the result of x, which has the key of a.Run.
func (t *Teller) lost(a *Answer, x *history.Run) {
	rem, ok := t.Book.Removed(cache.KindResult, x.Key)
	if !ok || rem.Time.Before(x.Time) {
		rem, ok = t.Book.Removed(cache.KindNote, x.Unsealed)
	}
	switch {
	case !ok || rem.Time.Before(x.Time) || rem.Time.After(a.Run.Time.Add(a.Run.Took)):
		a.Reason = Removed
		a.Text = fmt.Sprintf("the same action ran %s; its result was removed since, and not by a trim: %s", at(x.Time), compare.Sentence(a.Run.Miss))
	case rem.Cause == cache.Damaged:
		a.Reason = Damaged
		a.Text = fmt.Sprintf("result damaged: 'cache verify' removed it %s: %s", at(rem.Time), compare.Sentence(rem.Reason))
	default:
		a.Reason = Trimmed
		a.Text = fmt.Sprintf("trimmed %s: the same action ran %s", at(rem.Time), at(x.Time))
	}
}

// lostNote says that the note of what x saw of the host was trimmed.
func (t *Teller) lostNote(x, r *history.Run) (string, bool) {
	rem, ok := t.Book.Removed(cache.KindNote, x.Unsealed)
	if !ok || rem.Time.Before(x.Time) || rem.Time.After(r.Time.Add(r.Took)) {
		return "", false
	}
	return fmt.Sprintf("trimmed %s: the same action ran %s", at(rem.Time), at(x.Time)), true
}

// nearest compares a.Run with the latest few others, and keeps the comparison
// with the fewest changes; of equals, with the latest run. Runs that left a
// result come before those that did not.
func (t *Teller) nearest(ctx context.Context, a *Answer, others []*history.Run) {
	var kept, rest []*history.Run
	seen := map[action.Digest]bool{}
	for _, x := range others {
		switch {
		case seen[x.Unsealed]:
			continue
		case x.Verdict == history.Kept, x.Verdict == history.Hit:
			kept = append(kept, x)
		default:
			rest = append(rest, x)
		}
		seen[x.Unsealed] = true
	}
	if len(kept) == 0 {
		kept = rest
	}
	t.nearestOf(ctx, a, kept)
	if a.Earlier == nil {
		return
	}
	a.Reason = Differs
	a.Text = "it differs from the nearest earlier run, of " + of(a.Earlier.Time, a.Run.Time)
	if e := a.Earlier; e.Verdict == history.NotKept || e.Verdict == history.Broken {
		a.Text += ", which was not kept: " + compare.Sentence(e.Unkept)
	}
}

func (t *Teller) nearestOf(ctx context.Context, a *Answer, list []*history.Run) {
	best := -1
	for _, x := range list[:min(len(list), near)] {
		c, err := t.Compare(ctx, x, a.Run)
		if err != nil {
			continue
		}
		if n := len(c.Changes) + c.More; n > 0 && (best < 0 || n < best) {
			best = n
			a.Earlier, a.Changes, a.More = x, c.Changes, c.More
		}
	}
}

// Compare says how the action of r differs from that of x.
func (t *Teller) Compare(ctx context.Context, x, r *history.Run) (*compare.Comparison, error) {
	c := &compare.Comparison{Blobs: t.Book.Store, Limit: max(t.Limit, 1), Contents: true}
	a, err := t.side(ctx, x)
	if err != nil {
		return nil, err
	}
	b, err := t.side(ctx, r)
	if err != nil {
		return nil, err
	}
	c.Actions(ctx, a, b)
	return c, nil
}

// side is the action of r as it is compared.
func (t *Teller) side(ctx context.Context, r *history.Run) (*compare.Side, error) {
	a, command, err := t.Book.Origin(ctx, r)
	if a == nil {
		return nil, err
	}
	side := Side(ctx, t.Book.Store, a, command)
	if r.Tool == history.ToolCC {
		side.Facts = bytes.ReplaceAll(side.Facts, []byte(`"`+staging.BaseRoot), []byte(`"`+r.Workspace))
	}
	return side, nil
}

// Side is an action as package compare wants it, with what the store knows of
// what a run of it saw of the host.
func Side(ctx context.Context, s *cache.Store, a *action.Action, c *action.Command) *compare.Side {
	w := &staging.HostWitness{Notes: s}
	facts, err := w.Seen(ctx, staging.Unsealed(a), a)
	if err != nil {
		facts = nil
	}
	return &compare.Side{Action: a, Command: c, Facts: facts}
}

// of is when something was, without the date if that was the day of ref.
func of(t, ref time.Time) string {
	t, ref = t.Local(), ref.Local()
	if t.YearDay() == ref.YearDay() && t.Year() == ref.Year() {
		return t.Format("15:04:05")
	}
	return t.Format("2006-01-02 15:04:05")
}

// at is when something was, in local time.
func at(t time.Time) string { return "on " + t.Local().Format("2006-01-02 at 15:04:05") }
