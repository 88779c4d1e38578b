package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cmd/wiring"
	"github.com/sbx-action/sbx-action/integration/reapi/share"
	"github.com/sbx-action/sbx-action/staging"
)

// A remote is what this process has to do with the remote.
type remote struct {
	flags *wiring.Remote
	link  *share.Link
	store action.Blobs
	log   *slog.Logger
	quiet bool // for a compiler, of which a configure script may read what is said

	mu    sync.Mutex
	asked map[action.Digest]bool // guarded by mu: not asked for again
	off   time.Time              // guarded by mu: it was not to be had; not asked before
	told  bool                   // guarded by mu: the user was
}

// shareWith opens the remote that the flags or the environment name, if they do,
// and puts it between the runner and the store.
func (p *parts) shareWith(f *wiring.Remote, log *slog.Logger) error {
	if err := f.Settle(); err != nil || f.Address == "" {
		return err
	}
	socket, err := share.SocketPath()
	if err != nil {
		return fmt.Errorf("--remote: %w", err)
	}
	target, err := f.Target(p.store.Dir())
	if err != nil {
		return err
	}
	r := &remote{flags: f, store: p.blobs, log: log, asked: map[action.Digest]bool{}}
	r.link = &share.Link{Target: target, Socket: socket, Start: startAgent, Busy: func(s string) {
		log.Debug("remote", "doing", s)
	}}
	p.remote = r
	if p.runner == nil { // cc has runners of its own
		r.quiet = true
		return nil
	}
	p.runner.Witness = &sharedWitness{p.witness, r}
	p.runner.Cache = &sharedCache{p.store, r}
	if f.Executes() {
		p.runner.Elsewhere = &share.Cluster{
			Link: r.link, Store: r.store, Racing: f.Exec == "race", Platform: f.Platform,
			Here:   func(_ *action.Request, why error) { say("this runs here: %v", why) },
			Failed: func(ctx context.Context, err error) { r.failed(ctx, "execute", err) },
		}
	}
	return nil
}

func (r *remote) reads() bool  { return r.flags.Mode != "write" }
func (r *remote) writes() bool { return r.flags.Mode != "read" }

// pause is for how long a process that lives does without a remote that was not
// to be had, before it asks the agent again.
const pause = 10 * time.Second

// first says whether the remote is to be asked for key: it is up, and was not
// asked before.
func (r *remote) first(key action.Digest) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asked[key] || time.Now().Before(r.off) {
		return false
	}
	r.asked[key] = true
	return true
}

// silent says whether there is a remote, and it was not to be had.
func (r *remote) silent() bool {
	if r == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.off.IsZero()
}

// failed says what there is to say about what went wrong with the remote, in one
// line, and remembers if it is not to be had.
func (r *remote) failed(ctx context.Context, what string, err error) {
	switch down, ok := errors.AsType[*share.DownError](err); {
	case ctx.Err() != nil:
	case ok:
		r.mu.Lock()
		r.off = time.Now().Add(pause)
		first := !r.told
		r.told = r.told || down.Say
		r.mu.Unlock()
		if down.Say && first && !r.quiet {
			say("going on without the remote %s: %v", r.flags.Address, err)
			return
		}
		r.log.DebugContext(ctx, "remote", "what", what, "down", err)
	case errors.Is(err, action.ErrMiss):
		r.log.DebugContext(ctx, "remote", "what", what, "miss", err)
	case r.quiet:
		r.log.DebugContext(ctx, "remote", "what", what, "err", err)
	default:
		say("going on without the remote %s: %s: %v", r.flags.Address, what, err)
	}
}

// A sharedWitness also knows what runs on other machines saw of their hosts.
type sharedWitness struct {
	*staging.HostWitness
	remote *remote
}

// Recall implements [action.Witness].
func (w *sharedWitness) Recall(ctx context.Context, a *action.Action) (*action.Action, error) {
	sealed, err := w.HostWitness.Recall(ctx, a)
	if err == nil || !errors.Is(err, action.ErrMiss) || !w.remote.more(ctx, a) {
		return sealed, err
	}
	return w.HostWitness.Recall(ctx, a)
}

// more adds what the remote knows of an unsealed action to the store's note of
// it, and says whether that was something.
func (r *remote) more(ctx context.Context, a *action.Action) bool {
	key := a.Digest(a.InputRoot.Function())
	if !r.reads() || !r.first(key) {
		return false
	}
	err := r.link.Note(ctx, key)
	if err != nil {
		r.failed(ctx, "look for what others saw", err)
	}
	return err == nil
}

// A sharedCache also has the results of other machines.
type sharedCache struct {
	action.Cache
	remote *remote
}

// Result implements [action.Cache].
func (c *sharedCache) Result(ctx context.Context, key action.Digest) (*action.Result, error) {
	res, err := c.Cache.Result(ctx, key)
	if err == nil || !errors.Is(err, action.ErrMiss) || !c.remote.reads() || !c.remote.first(key) {
		return res, err
	}
	if rerr := c.remote.link.Result(ctx, key); rerr != nil {
		c.remote.failed(ctx, "look for a result", rerr)
		return nil, err
	}
	return c.Cache.Result(ctx, key)
}

// PutResult implements [action.Cache]. The agent sends the result when it can:
// nobody waits for it.
func (c *sharedCache) PutResult(ctx context.Context, key action.Digest, res *action.Result) error {
	err := c.Cache.PutResult(ctx, key, res)
	if err != nil || !c.remote.writes() || res.ExitCode != 0 {
		return err
	}
	if why := res.Shareable(); why != nil {
		c.remote.log.DebugContext(ctx, "a result is not shared", "key", key, "why", why)
		return nil
	}
	if rerr := c.remote.link.Put(ctx, key); rerr != nil {
		c.remote.failed(ctx, "share a result", rerr)
	}
	return nil
}
