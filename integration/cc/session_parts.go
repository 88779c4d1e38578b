package cc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/staging"
)

// A session is the parts of the [action.Runner] that runs its call: what was observed
// (Recall, Seal), the root (Stage) and the outputs (Collect).

// Key is the digest of what is in the key without looking at any file.
func (s *Session) Key() action.Digest { return s.action.Digest(s.parts.Function) }

// Recall implements [action.Witness].
func (s *Session) Recall(ctx context.Context, a *action.Action) (*action.Action, error) {
	sealed, err := s.witness.Recall(ctx, a)
	if err != nil && errors.Is(err, action.ErrMiss) && s.parts.More != nil && s.parts.More(ctx, a) {
		return s.witness.Recall(ctx, a)
	}
	return sealed, err
}

// Clock implements [action.Witness].
func (s *Session) Clock() time.Time { return s.witness.Clock() }

// Seal implements [action.Witness].
func (s *Session) Seal(ctx context.Context, a *action.Action, status *backends.Status, start time.Time) (*action.Action, error) {
	if s.refused != nil {
		return nil, fmt.Errorf("%w: %w", s.refused, action.ErrUnsealed)
	}
	if s.clocked || s.saysTime() {
		return nil, fmt.Errorf("the call %w: %w", errClock, action.ErrUnsealed)
	}
	if s.saysDated() {
		return nil, fmt.Errorf("standard output: %s: %w", ReasonTimes, action.ErrUnsealed)
	}
	seen := *status
	if s.told != nil {
		if err := s.seeTold(ctx, &seen); err != nil {
			return nil, fmt.Errorf("%w: %w", err, action.ErrUnsealed)
		}
		status = &seen
	}
	if p := s.stranger(status.Lookups); p != "" {
		return nil, fmt.Errorf("%s: %w: %w", p, ErrForeign, action.ErrUnsealed)
	}
	if err := errors.Join(s.beyond(status), s.untimely(status.Lookups), s.unwritten(status.Lookups)); err != nil {
		return nil, fmt.Errorf("%w: %w", err, action.ErrUnsealed)
	}
	if why := s.binding(status.Lookups); why != "" && s.view.fixed() {
		return nil, fmt.Errorf("%s: %w: %w", why, ErrBound, action.ErrUnsealed)
	}
	seen.Lookups = s.inputs(status.Lookups)
	if err := s.suspect(ctx, seen.Lookups); err != nil {
		return nil, fmt.Errorf("%w: %w", err, action.ErrUnsealed)
	}
	s.start = start
	if s.view.stand == baseRoot {
		if s.dependsOnPlace(&seen); s.placed != "" {
			return nil, fmt.Errorf("%s %w: %w", s.placed, errPlace, action.ErrUnsealed)
		}
		for i := range seen.Lookups {
			seen.Lookups[i].Path = s.view.name(seen.Lookups[i].Path)
		}
	}
	if s.aside() && s.dependsOnName(status.Lookups) {
		return nil, fmt.Errorf("the result %w: %w", errPlace, action.ErrUnsealed)
	}
	s.follow(status.Lookups)
	return s.sealAs(ctx, a, status, &seen)
}

// seeTold sets, in the place of look-ups that were not observed, those that follow from
// what the compiler tells.
func (s *Session) seeTold(ctx context.Context, seen *backends.Status) (err error) {
	if seen.Code != 0 {
		return errors.New("it failed")
	}
	if seen.Lookups, err = s.lookupsTold(ctx); err != nil {
		return err
	}
	for _, l := range seen.Lookups {
		if l.Op == backends.Open && s.written[path.Clean(l.Path)] {
			return fmt.Errorf("%s, which is read, is an output, too", l.Path)
		}
	}
	seen.Complete = true
	return nil
}

// sealAs seals the action with the inputs among what was looked up, which seen has, under
// their names in the sandbox. It is an error if looking at them shows that the result
// must not be kept.
func (s *Session) sealAs(ctx context.Context, a *action.Action, status, seen *backends.Status) (*action.Action, error) {
	sealed, err := s.witness.Seal(ctx, a, seen, s.start)
	s.concealed.active, s.concealed.looked = false, err == nil
	if err == nil && s.concealed.found != "" && s.told == nil {
		err = fmt.Errorf("%s: %w: %w", s.concealed.found, errConcealed, action.ErrUnsealed)
	}
	if err == nil {
		err = s.asked(status.Lookups)
	}
	if err == nil {
		err = s.twins()
	}
	if err == nil && len(s.removed) > 0 { // which no result can say
		err = fmt.Errorf("%w: %w", errUndone, action.ErrUnsealed)
	}
	return sealed, err
}

// Stage implements [action.Stager].
func (s *Session) Stage(ctx context.Context, _ *action.Action, _ *action.Command) (backends.Root, error) {
	s.began, s.stamp = time.Now(), staging.Now()
	if err := s.wasEstranged(ctx); err != nil {
		return backends.Root{}, err
	}
	if s.told != nil {
		s.list()
		return backends.Root{}, nil
	}
	if err := errors.Join(s.known(ctx), s.wasBound(ctx), s.wasPlain(ctx)); err != nil {
		return backends.Root{}, err
	}
	if s.parts.Blind != nil {
		if why := s.parts.Blind(); why != "" {
			return backends.Root{}, fmt.Errorf("%s; %w", why, ErrBlind)
		}
	}
	if c := s.parts.Backend.Capabilities(); !c.OverBinds {
		return backends.Root{}, fmt.Errorf("no sandbox that shows files at their own places%s; %w", because(c.Reason), ErrIncapable)
	} else if !c.Observe {
		return backends.Root{}, fmt.Errorf("no seccomp notifications; %w", ErrIncapable)
	}
	if s.view.empty != "" {
		if err := os.MkdirAll(s.view.empty, 0o755); err != nil {
			return backends.Root{}, err
		}
	}
	mounts, err := mountPoints()
	if err != nil {
		return backends.Root{}, err
	}
	top, err := s.parts.Hash.List("/")
	if err != nil {
		return backends.Root{}, err
	}
	binds, links := s.view.root(top, mounts, s.fits)
	s.binds = binds
	root := backends.Root{Binds: binds, Fill: func(dir *os.File) error {
		for p, target := range links {
			if err := symlinkAt(dir, p[1:], target); err != nil {
				return err
			}
		}
		return nil
	}}
	if id, ok := ownerOf(s.call.Dir); ok && s.parts.Backend.Capabilities().Owner == backends.ID {
		root.As = &id
	}
	s.list()
	return root, nil
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	first, _, _ := strings.Cut(reason, "\n") // the others are not for us
	return ": " + first
}

// fits says whether a directory can be copied into a layer.
func (s *Session) fits(dir string) bool {
	return s.parts.Backend.Capabilities().Owner == backends.ID || ownedByUs(dir)
}

// Collect implements [action.Stager]: everything that was written is an output.
func (s *Session) Collect(ctx context.Context, left *backends.Status, _ *action.Command) (*action.Result, []action.Missing, error) {
	k := &collector{ctx: ctx, s: s, res: &action.Result{}}
	s.written, s.files, s.removed, s.opened, s.unproven = map[string]bool{}, map[string]bool{}, nil, left.Lookups, false
	s.aged = nil
	if s.told != nil {
		res, err := s.collectTold(ctx)
		return res, nil, err
	}
	for i, b := range s.binds {
		if !b.Over {
			continue
		}
		at := s.view.covered(b)
		k.fresh = b.Source == s.view.empty
		if err := k.layer(left.Root, fmt.Sprint(i), at); err != nil {
			return nil, nil, err
		}
	}
	slices.SortFunc(k.res.Files, func(a, b action.OutputFile) int { return strings.Compare(a.Path, b.Path) })
	slices.SortFunc(k.res.Symlinks, func(a, b action.OutputSymlink) int { return strings.Compare(a.Path, b.Path) })
	return k.res, nil, nil
}

// machines says whether p is a thing of the machine's, which no strict call is shown.
func machines(p string) bool {
	return slices.ContainsFunc([]string{"/dev", "/proc", "/sys"}, func(dir string) bool { _, is := under(p, dir); return is })
}

// Hints returns directories that a strict call was not shown, and in which there is
// something that it looked for in vain: at most ten.
func (s *Session) Hints(d *Done) []string {
	if d.Status == nil || s.view.limits == nil {
		return nil
	}
	var dirs []string
	for _, l := range d.Status.Lookups {
		p := filepath.Clean(l.Path)
		_, shown := s.view.host(p)
		info, err := os.Stat(p)
		if shown || err != nil || p == "/" || machines(p) {
			continue
		}
		dir := p
		if !info.IsDir() {
			dir = path.Dir(p)
		}
		// What only lies above something that is shown was not looked for.
		above := slices.ContainsFunc(slices.Concat(s.view.limits, s.view.dirs), func(d string) bool { _, ok := under(d, dir); return ok })
		if !slices.Contains(dirs, dir) && !(above && info.IsDir()) {
			dirs = append(dirs, dir)
		}
	}
	return dirs[:min(len(dirs), 10)]
}
