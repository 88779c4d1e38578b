package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi/share"
	"github.com/sbx-action/sbx-action/integration/reapi/share/agent"
)

// A buildRemote is a remote cache: components that others have built come from
// there, and what is built here goes there. It is reached as 'run' reaches it,
// but for the agent, which is of this process, and ends with it.
type buildRemote struct {
	action.Cache
	link        *share.Link
	read, write bool
	say         func(string, ...any)
	down        atomic.Bool // it was not to be had: the build goes on without
	close       func()
}

// openRemote returns nil if no remote is wanted.
func (f *buildFlags) openRemote(p *buildParts, say func(string, ...any)) (*buildRemote, error) {
	for _, v := range []struct {
		to   *string
		name string
	}{{&f.remote, "SBX_REMOTE"}, {&f.remoteMode, "SBX_REMOTE_MODE"}} {
		if *v.to == "" {
			*v.to = os.Getenv(v.name)
		}
	}
	if f.remote == "" || f.remote == "off" {
		return nil, nil
	}
	if f.remoteMode == "" {
		f.remoteMode = "both"
	}
	if !slices.Contains([]string{"read", "write", "both"}, f.remoteMode) {
		return nil, fmt.Errorf("--remote-mode %q: there are read, write and both", f.remoteMode)
	}
	if err := share.CheckAddress(f.remote); err != nil {
		return nil, fmt.Errorf("--remote: %w", err)
	}
	target := share.Target{Store: p.store.Dir(), Address: f.remote, Timeout: 2 * time.Second}
	for _, file := range []struct {
		to   *string
		name string
	}{
		{&target.CA, "SBX_REMOTE_CA"}, {&target.Cert, "SBX_REMOTE_CERT"}, {&target.Key, "SBX_REMOTE_KEY"}, {&target.Headers, "SBX_REMOTE_HEADERS"},
	} {
		if v := os.Getenv(file.name); v != "" {
			var err error
			if *file.to, err = filepath.Abs(v); err != nil {
				return nil, fmt.Errorf("%s: %w", file.name, err)
			}
		}
	}
	r := &buildRemote{Cache: p.store, read: f.remoteMode != "write", write: f.remoteMode != "read", say: say}
	return r, r.start(p, target)
}

// start starts the agent.
func (r *buildRemote) start(p *buildParts, target share.Target) error {
	dir, err := os.MkdirTemp("", "sbx-build-") // nobody else can enter it
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
	return r.Cache.Result(ctx, key)
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
