package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cmd/wiring"
	"github.com/sbx-action/sbx-action/integration/component"
	"github.com/sbx-action/sbx-action/integration/reapi/share"
	"github.com/sbx-action/sbx-action/integration/reapi/share/agent"
)

// A buildRemote is a remote cache, and perhaps a cluster: components that others
// have built come from there, what is built here goes there, and what nobody has
// built can be built there. It is reached as 'run' reaches it, but for the agent,
// which is of this process, and ends with it.
type buildRemote struct {
	action.Cache
	link        *share.Link
	plain       func(context.Context, *action.Result) (*action.Result, error) // see component.Builder.Plain
	read, write bool
	say         func(string, ...any)
	down        atomic.Bool // it was not to be had: the build goes on without
	close       func()
}

// openRemote puts the remote that is wanted, if one is, between the runner of
// run and its cache. What it returns is closed when all is built.
func openRemote(f *wiring.Remote, p *buildParts, run *component.Run) (*buildRemote, error) {
	if err := f.Settle(); err != nil || f.Address == "" {
		return nil, err
	}
	target, err := f.Target(p.store.Dir())
	if err != nil {
		return nil, err
	}
	r := &buildRemote{Cache: p.store, plain: run.Plain, read: f.Mode != "write", write: f.Mode != "read", say: run.Say}
	if err := r.start(p, target); err != nil {
		return nil, err
	}
	run.Runner.Cache = r
	if f.Executes() {
		run.Runner.Elsewhere = &buildCluster{remote: r, Cluster: share.Cluster{
			Link: r.link, Store: p.store, Racing: f.Exec == "race", Platform: f.Platform,
			Here:   func(_ *action.Request, why error) { run.Say("a component is built here: %v", why) },
			Failed: r.failed,
		}}
	}
	return r, nil
}

// socketDir makes a directory that nobody else can enter, whose path is short
// enough for a socket's: 107 bytes (unix(7)), which a long TMPDIR exceeds.
func socketDir() (string, error) {
	dir, err := os.MkdirTemp("", "sbx-build-")
	if err == nil && len(dir) > 100 {
		os.Remove(dir)
		dir, err = os.MkdirTemp("/tmp", "sbx-build-")
	}
	return dir, err
}

// start starts the agent.
func (r *buildRemote) start(p *buildParts, target share.Target) error {
	dir, err := socketDir()
	if err != nil {
		return err
	}
	socket := filepath.Join(dir, "agent")
	l, err := net.Listen("unix", socket)
	if err != nil {
		return errors.Join(fmt.Errorf("listen: %w", err), os.RemoveAll(dir))
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = agent.New(agent.Options{Idle: 24 * time.Hour, Connect: connect, Log: p.log}).Serve(ctx, l) // its end is our doing
	}()
	r.link = &share.Link{Target: target, Socket: socket, Start: func(context.Context, string) error {
		return errors.New("the agent of this build has ended")
	}}
	r.close = func() {
		r.link.Close()
		cancel()
		<-served
		os.RemoveAll(dir)
	}
	return nil
}

// Result implements [action.Cache].
func (r *buildRemote) Result(ctx context.Context, key action.Digest) (*action.Result, error) {
	res, err := r.Cache.Result(ctx, key)
	if err == nil || !errors.Is(err, action.ErrMiss) || !r.read || r.down.Load() {
		return res, err
	}
	if rerr := r.link.Result(ctx, key); rerr != nil {
		r.failed(ctx, rerr)
		return nil, err
	}
	if res, err = r.Cache.Result(ctx, key); err != nil {
		return nil, err
	}
	plain, err := r.plain(ctx, res)
	if err == nil && plain != res {
		err = r.Cache.PutResult(ctx, key, plain)
	}
	return plain, err
}

// PutResult implements [action.Cache].
func (r *buildRemote) PutResult(ctx context.Context, key action.Digest, res *action.Result) error {
	err := r.Cache.PutResult(ctx, key, res)
	if err != nil || !r.write || r.down.Load() || res.ExitCode != 0 || res.Shareable() != nil {
		return err
	}
	if rerr := r.link.Put(ctx, key); rerr != nil {
		r.failed(ctx, rerr)
	}
	return nil
}

// failed says once that the remote is not to be had.
func (r *buildRemote) failed(ctx context.Context, err error) {
	if ctx.Err() != nil || errors.Is(err, action.ErrMiss) {
		return
	}
	if _, ok := errors.AsType[*share.DownError](err); !ok { // it is there, and said no to one thing
		r.say("going on without the remote %s: %v", r.link.Target.Address, err)
		return
	}
	if !r.down.Swap(true) {
		r.say("going on without the remote %s: %v", r.link.Target.Address, err)
	}
}

// Close waits until everything is sent.
func (r *buildRemote) Close(ctx context.Context) {
	if r.write && !r.down.Load() {
		if err := r.link.Flush(ctx); err != nil {
			r.failed(ctx, err)
		}
	}
	r.close()
}

// A buildCluster executes components.
type buildCluster struct {
	share.Cluster
	remote *buildRemote
}

var errRemoteDown = errors.New("the remote is not to be had")

// Execute implements [action.Elsewhere]. What fails there is built here before
// anybody believes it: workers have limits of their own, and here we see what a
// component does outside of its DESTDIR.
func (c *buildCluster) Execute(ctx context.Context, req *action.Request) (*action.Away, error) {
	if c.remote.down.Load() {
		return nil, errRemoteDown
	}
	away, err := c.Cluster.Execute(ctx, req)
	if err != nil {
		return nil, err
	}
	if code := away.Result.ExitCode; code != 0 {
		return nil, fmt.Errorf("it failed there with %d", code)
	}
	if away.Result, err = c.remote.plain(ctx, away.Result); err != nil {
		c.remote.say("a component is built here: what the cluster made of it: %v", err)
	}
	return away, err
}
