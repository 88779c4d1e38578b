package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/cmd/wiring"
	"github.com/sbx-action/sbx-action/integration/cc"
	"github.com/sbx-action/sbx-action/staging"
)

// ccParts is what sessions work with.
func (j *ccJob) ccParts() *cc.Parts {
	blind := j.blindness(j.parts.store.Dir()).read
	j.parts.miss.cold = func() bool { return blind() != "" }
	parts := &cc.Parts{
		Cache: j.parts.store, Blobs: j.parts.blobs, Notes: j.parts.store, Locks: j.parts.store, Hash: j.parts.hasher,
		Function: action.BLAKE3, Backend: unlimited{j.parts.miss}, Log: j.parts.miss.log, Empty: filepath.Join(wiring.StatDir(j.parts.store.Dir()), "empty"),
		Find: j.self.Find, Blind: blind, Large: largeBelow,
	}
	if j.parts.remote != nil {
		parts.Large = ""
		parts.Cache, parts.More = &sharedCache{j.parts.store, j.parts.remote}, j.parts.remote.more
	}
	return parts
}

// sessionOf runs the call with the variables that it has. Where somebody looks at a
// terminal, diagnostics have colours; what has no diagnostics is the same for everybody.
func (j *ccJob) sessionOf(ctx context.Context) (*cc.Session, *cc.Done, error) {
	want := j.want
	s, done, err := j.sessionAt(ctx, j.place())
	if errors.Is(err, cc.ErrBound) {
		if j.verbose {
			say("cc: once more, with the project at its own place: %v", err)
		}
		j.want = want
		if j.stdin != nil {
			_, _ = j.stdin.Seek(0, io.SeekStart)
		}
		return j.sessionAt(ctx, cc.Here)
	}
	return s, done, err
}

// place is where the call is to see its project.
func (j *ccJob) place() cc.Place {
	if j.path != "fixed" || len(j.want.Limits) > 0 {
		return cc.Here
	}
	why := j.call.Bound(j.want.Root, j.want.Env)
	if why == "" {
		return cc.Fixed
	}
	if j.verbose {
		say("cc: the project is at its own place, because of %s", why)
	}
	return cc.Here
}

func (j *ccJob) sessionAt(ctx context.Context, place cc.Place) (*cc.Session, *cc.Done, error) {
	parts := j.ccParts()
	j.want.Place = place
	options := cc.Options{Recache: j.recache, ReadOnly: j.readOnly}
	if want, ok := j.aside(); ok {
		if s, ok := cc.NewSession(parts, j.call, want); ok {
			if done, ok, err := s.Aside(ctx, options); ok {
				return s, done, err
			}
			j.passing = false
			if j.stdin != nil {
				_, _ = j.stdin.Seek(0, io.SeekStart)
			}
		}
	}
	if j.call.Colours(cc.IsTerminal(2), os.Getenv) {
		if s, done := j.find(ctx, parts, j.want); done != nil && len(done.Stderr) == 0 && !j.recache {
			return s, done, nil
		}
		path, err := j.self.Find(j.args[0], os.Getenv("PATH"))
		j.urls = true
		j.want = j.want.Coloured(os.LookupEnv, err == nil && j.call.Links(path, os.LookupEnv))
	}
	here, ok := cc.NewSession(parts, j.call, j.want)
	if !ok {
		return nil, nil, nil
	}
	if !j.movable() {
		done, err := here.Run(ctx, options)
		return here, done, err
	}
	if !j.recache {
		if s, done := j.find(ctx, parts, j.want); done != nil {
			return s, done, nil
		}
	}
	// It may not depend on where the project is. If it turns out that it does, the
	// result is kept for this place, or made here if that has two names.
	want := j.want
	want.Place = cc.Anywhere
	s, _ := cc.NewSession(parts, j.call, want)
	done, err := s.Run(ctx, options)
	if err == nil && j.call.ByLink(want.Env) && s.Tells(done) {
		if j.stdin != nil {
			_, _ = j.stdin.Seek(0, io.SeekStart)
		}
		done, err = here.Run(ctx, options)
		return here, done, err
	}
	if err == nil && !j.readOnly {
		s.KeepHere(ctx, here, done)
	}
	return s, done, err
}

// aside says how the call is made if it is in a directory, or has names, that were made
// for it alone.
func (j *ccJob) aside() (cc.Want, bool) {
	want := j.want
	if want.Place != cc.Here || len(want.Limits) > 0 {
		return want, false
	}
	want.Place = cc.Aside
	if dir := j.call.Aside(want.Env); dir != "" {
		want.Root, j.passing = dir, true
		return want, true
	}
	if j.call.Colours(cc.IsTerminal(2), os.Getenv) {
		return want, false
	}
	want.Names = j.call.Renamed(want.Env, want.Stdin)
	j.passing = want.Names != nil && want.Names.Brief()
	return want, want.Names != nil
}

func (j *ccJob) movable() bool {
	return j.want.Place == cc.Here && len(j.want.Limits) == 0 && j.call.Movable(j.want.Root, j.want.Env)
}

// find looks for a result of the call, wherever the project is, or here.
func (j *ccJob) find(ctx context.Context, parts *cc.Parts, want cc.Want) (*cc.Session, *cc.Done) {
	places := []cc.Place{want.Place}
	if j.movable() {
		places = []cc.Place{cc.Anywhere, cc.Here}
	}
	for _, p := range places {
		want.Place = p
		s, ok := cc.NewSession(parts, j.call, want)
		if !ok {
			return nil, nil
		}
		if done, ok := s.Find(ctx); ok {
			return s, done
		}
	}
	return nil, nil
}

// verified runs the compiler for a hit where --verify wants it, and says if it makes
// something else, which then is returned.
func (j *ccJob) verified(ctx context.Context, s *cc.Session, hit *cc.Done) (*cc.Done, error) {
	if !hit.Cached || j.verify <= 0 || !cc.Sampled(int64(j.verify)) {
		return hit, nil
	}
	fresh, err := s.Again().Run(ctx, cc.Options{Recache: true, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	what := s.Differs(hit, fresh)
	if what == "" {
		j.record(cc.Event{Outcome: cc.Verified})
		return hit, nil
	}
	j.record(cc.Event{Outcome: cc.Differed, Reason: cc.Reason(what)})
	say("cc --verify: %s: the compiler made another one than is in the cache; yours is the new one, and 'sbx-action cc --recache' replaces the other: %q", what, j.args)
	return fresh, nil
}

// openCC opens the store and wires what is needed beside it.
func (w *wiringFlags) openCC(f action.Function, readOnly bool) (*parts, error) {
	if err := wiring.CheckBackend(w.backend); err != nil {
		return nil, err
	}
	store, err := w.openStore(cache.Options{ReadOnly: readOnly, Lean: true})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errStore, err)
	}
	p := &parts{store: store, blobs: &spareBlobs{store: store}, hasher: staging.NewFileHasher(statDir(store), f)}
	p.hasher.Keep(serving.recalled())
	p.miss = newMissPath(missPath{
		choice: w.backend, once: true, blobs: p.blobs, function: f,
		log: commandline.Log(os.Stderr, "sbx-action", slog.LevelError, w.verbose),
	})
	if !readOnly {
		p.max = w
		if err := p.shareWith(&w.remote, p.miss.log); err != nil {
			return nil, errors.Join(err, p.Close())
		}
	}
	return p, nil
}
