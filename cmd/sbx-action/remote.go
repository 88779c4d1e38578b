package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/integration/reapi/share"
	"github.com/sbx-action/sbx-action/staging"
)

// remoteFlags name a remote cache, or a cluster.
type remoteFlags struct {
	address, mode, exec string
	timeout             span
	platform            list
}

func (f *remoteFlags) declare(flags *flag.FlagSet) {
	flags.StringVar(&f.address, "remote", "", "`ADDRESS` of a cache that is shared, grpc://HOST:PORT/INSTANCE or grpcs://…: misses\nare looked for there, results are sent there (default: $SBX_REMOTE)")
	flags.StringVar(&f.mode, "remote-mode", "", "`MODE`: read, write, or both (default: $SBX_REMOTE_MODE, else both)")
	flags.StringVar(&f.exec, "remote-exec", "", "`HOW` misses are executed by the remote, a cluster: first, and here if it fails,\nor race, there and here at once; off is the default (or $SBX_REMOTE_EXEC)")
	flags.Var(&f.platform, "remote-platform", "`NAME=VALUE` that the cluster's workers want, in the place of what this program\nsays of the platform; may be repeated")
	flags.Var(&f.timeout, "remote-timeout", "`DURATION` in which the remote must answer, or else it is done without (default:\n$SBX_REMOTE_TIMEOUT, else 2s)")
}

// settle adds what the environment says, and checks everything.
func (f *remoteFlags) settle() error {
	for _, v := range []struct {
		to   *string
		name string
	}{{&f.address, "SBX_REMOTE"}, {&f.mode, "SBX_REMOTE_MODE"}, {&f.exec, "SBX_REMOTE_EXEC"}} {
		if *v.to == "" {
			*v.to = os.Getenv(v.name)
		}
	}
	if f.address == "" || f.address == "off" {
		if f.exec != "" && f.exec != "off" {
			return fmt.Errorf("--remote-exec %s: where? Give --remote grpc://HOST:PORT/INSTANCE", f.exec)
		}
		f.address = ""
		return nil
	}
	if err := share.CheckAddress(f.address); err != nil {
		return fmt.Errorf("--remote: %w", err)
	}
	if f.mode == "" {
		f.mode = "both"
	}
	if !slices.Contains([]string{"read", "write", "both"}, f.mode) {
		return fmt.Errorf("--remote-mode %q: there are read, write and both", f.mode)
	}
	if !slices.Contains([]string{"", "off", "first", "race"}, f.exec) {
		return fmt.Errorf("--remote-exec %q: there are off, first and race", f.exec)
	}
	if f.timeout == 0 {
		f.timeout = span(2 * time.Second)
		if v := os.Getenv("SBX_REMOTE_TIMEOUT"); v != "" {
			if err := f.timeout.Set(v); err != nil {
				return fmt.Errorf("SBX_REMOTE_TIMEOUT: %w", err)
			}
		}
	}
	for _, p := range f.platform {
		if name, _, ok := strings.Cut(p, "="); !ok || name == "" {
			return fmt.Errorf("--remote-platform %q: want NAME=VALUE", p)
		}
	}
	return nil
}

// A remote is what this process has to do with the remote.
type remote struct {
	flags *remoteFlags
	link  *share.Link
	store action.Blobs
	log   *slog.Logger

	mu    sync.Mutex
	asked map[action.Digest]bool // guarded by mu: not asked for again
	off   time.Time              // guarded by mu: it was not to be had; not asked before
	told  bool                   // guarded by mu: the user was
}

// shareWith opens the remote that the flags or the environment name, if they do,
// and puts it between the runner and the store.
func (p *parts) shareWith(f *remoteFlags, log *slog.Logger) error {
	if err := f.settle(); err != nil || f.address == "" {
		return err
	}
	socket, err := share.SocketPath()
	if err != nil {
		return fmt.Errorf("--remote: %w", err)
	}
	target := share.Target{Store: p.store.Dir(), Address: f.address, Timeout: time.Duration(f.timeout)}
	for _, file := range []struct {
		to   *string
		name string
	}{
		{&target.CA, "SBX_REMOTE_CA"}, {&target.Cert, "SBX_REMOTE_CERT"}, {&target.Key, "SBX_REMOTE_KEY"}, {&target.Headers, "SBX_REMOTE_HEADERS"},
	} {
		if v := os.Getenv(file.name); v != "" { // the agent has another directory
			if *file.to, err = filepath.Abs(v); err != nil {
				return fmt.Errorf("%s: %w", file.name, err)
			}
		}
	}
	r := &remote{flags: f, store: p.blobs, log: log, asked: map[action.Digest]bool{}}
	r.link = &share.Link{Target: target, Socket: socket, Start: startAgent, Busy: func(s string) {
		log.Debug("remote", "doing", s)
	}}
	p.remote = r
	if p.runner == nil { // cc has runners of its own
		return nil
	}
	p.runner.Witness = &sharedWitness{p.witness, r}
	p.runner.Cache = &sharedCache{p.store, r}
	if f.exec == "first" || f.exec == "race" {
		p.runner.Elsewhere = &cluster{r}
	}
	return nil
}

func (r *remote) reads() bool  { return r.flags.mode != "write" }
func (r *remote) writes() bool { return r.flags.mode != "read" }

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
		if down.Say && first {
			say("going on without the remote %s: %v", r.flags.address, err)
			return
		}
		r.log.DebugContext(ctx, "remote", "what", what, "down", err)
	case errors.Is(err, action.ErrMiss):
		r.log.DebugContext(ctx, "remote", "what", what, "miss", err)
	default:
		say("going on without the remote %s: %s: %v", r.flags.address, what, err)
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

// A cluster executes actions.
type cluster struct{ remote *remote }

// Race implements [action.Elsewhere].
func (c *cluster) Race() bool { return c.remote.flags.exec == "race" }

// Execute implements [action.Elsewhere].
func (c *cluster) Execute(ctx context.Context, req *action.Request) (*action.Away, error) {
	if why := c.local(req); why != nil {
		say("this runs here: %v", why)
		return nil, why
	}
	a := c.foreign(req)
	f := req.Action.InputRoot.Function()
	key := a.Digest(f)
	for _, m := range [][]byte{a.Marshal(), req.Command.Marshal()} {
		if _, err := c.remote.store.PutBytes(ctx, f, m); err != nil {
			return nil, err
		}
	}
	e, err := c.remote.link.Execute(ctx, key, req.SkipLookup)
	if err != nil {
		c.remote.failed(ctx, "execute", err)
		return nil, err
	}
	return &action.Away{Result: e.Result, Cached: e.Cached, Same: key == req.Action.Digest(f)}, nil
}

// local says why an action cannot be executed elsewhere, or nil.
func (c *cluster) local(req *action.Request) error {
	switch {
	case req.Stdin != nil:
		return errors.New("the remote execution API has no standard input")
	case req.Network != backends.NetworkNone:
		return errors.New("with --network it needs this machine's")
	}
	for _, o := range req.Command.OutputPaths {
		if strings.ContainsAny(o, "*?[{") {
			return fmt.Errorf("the output %q is a pattern, which the remote execution API does not have", o)
		}
	}
	return nil
}

// foreign is the action as a cluster is to execute it. Its platform does not
// name a view of the host: the cluster's is another.
func (c *cluster) foreign(req *action.Request) *action.Action {
	a := *req.Action
	a.Timeout = req.Limits.Wall
	if len(c.remote.flags.platform) > 0 {
		a.Platform = nil
		for _, p := range c.remote.flags.platform {
			name, value, _ := strings.Cut(p, "=")
			a.Platform = append(a.Platform, action.Property{Name: name, Value: value})
		}
	} else {
		a.Platform = slices.DeleteFunc(slices.Clone(a.Platform), func(p action.Property) bool {
			return p.Name == staging.RootfsProperty && strings.HasPrefix(p.Value, "host")
		})
	}
	slices.SortFunc(a.Platform, func(x, y action.Property) int {
		if n := strings.Compare(x.Name, y.Name); n != 0 {
			return n
		}
		return strings.Compare(x.Value, y.Value)
	})
	a.Platform = slices.Compact(a.Platform)
	return &a
}
