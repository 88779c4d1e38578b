package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	rexec "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/integration/reapi/remote"
	"github.com/sbx-action/sbx-action/integration/reapi/share"
	"github.com/sbx-action/sbx-action/staging"
)

// slowest is the rate, in bytes a second, below which a remote is slower than to
// do without: building something locally is worth that much.
const slowest = 1 << 20

// An upstream is a remote, for one store.
type upstream struct {
	target  share.Target
	opts    Options
	client  *remote.Client
	store   *cache.Store
	breaker breaker // of storage and action cache
	execs   breaker // of execution: a cluster without workers may still have a cache
	queue   *queue
	poke    func()

	cancel context.CancelFunc
	wg     sync.WaitGroup

	hits, misses, sent, refused atomic.Int64
	told                        atomic.Int64 // how many of refused somebody who flushed was told of
	why                         atomic.Value // string: of the last that was refused
}

// senders is how many results are sent at a time.
const senders = 4

func newUpstream(t share.Target, o Options, poke func()) (*upstream, error) {
	address, err := remote.ParseAddress(t.Address)
	if err != nil {
		return nil, err
	}
	options, err := o.Connect(t)
	if err != nil {
		return nil, err
	}
	options.Timeout, options.Stall, options.Attempts = t.Timeout, max(t.Timeout, 10*time.Second), 1
	options.Sender = t.Store // so that what one agent began to upload, the next goes on with
	client, err := remote.Dial(address, options)
	if err != nil {
		return nil, err
	}
	store, err := cache.Open(t.Store, cache.Options{Warn: func(err error) { o.Log.Warn("cache", "err", err) }})
	if err != nil {
		client.Close()
		return nil, err
	}
	name := action.Sum(action.SHA256, []byte(t.Address)).Hash()[:16]
	q, err := openQueue(filepath.Join(t.Store, "remote", name))
	if err != nil {
		client.Close()
		store.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	u := &upstream{target: t, opts: o, client: client, store: store, queue: q, poke: poke, cancel: cancel}
	for range senders {
		u.wg.Go(func() { u.send(ctx) })
	}
	return u, nil
}

func (u *upstream) close() {
	u.cancel()
	u.wg.Wait()
	u.client.Close()
	u.store.Close()
}

// ask asks the remote something on behalf of a user who waits.
func (u *upstream) ask(ctx context.Context, f action.Function, do func(context.Context) error) error {
	return u.through(ctx, &u.breaker, f, do)
}

// through asks the remote something that a breaker is for.
func (u *upstream) through(ctx context.Context, b *breaker, f action.Function, do func(context.Context) error) error {
	if err := b.enter(); err != nil {
		return err
	}
	err := u.client.Check(ctx, f)
	if err == nil {
		err = do(ctx)
	}
	switch {
	case err == nil, errors.Is(err, action.ErrMiss):
		b.worked()
		return err
	case ctx.Err() != nil && context.Cause(ctx) == context.Canceled: // the user is gone
		b.abandoned()
		return err
	}
	if s := (errSlow{}); errors.As(err, &s) || remote.Transient(err) || permanent(err) || errors.Is(err, remote.ErrFunction) {
		return b.failed(plain(err))
	}
	b.worked()
	return err
}

// permanent says that the remote will say the same next time.
func permanent(err error) bool {
	switch status.Code(err) {
	case codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented:
		return true
	}
	return false
}

// plain is err as a user wants to read it.
func plain(err error) error {
	if s, ok := errors.AsType[interface {
		error
		GRPCStatus() *status.Status
	}](err); ok {
		switch st := s.GRPCStatus(); st.Code() {
		case codes.DeadlineExceeded:
			return errors.New("no answer in time")
		default:
			return fmt.Errorf("%s: %s", st.Code(), st.Message())
		}
	}
	return err
}

// errSlow says that a remote is too slow to be of use.
type errSlow struct{ bytes int64 }

func (e errSlow) Error() string { return fmt.Sprintf("too slow for %d bytes", e.bytes) }

// result gets a result and all its blobs into the store.
func (u *upstream) result(ctx context.Context, key action.Digest) error {
	err := u.ask(ctx, key.Function(), func(ctx context.Context) error {
		res, err := u.client.Result(ctx, key)
		if err != nil {
			return err
		}
		return u.take(ctx, key, res)
	})
	if err == nil {
		u.hits.Add(1)
	} else if errors.Is(err, action.ErrMiss) {
		u.misses.Add(1)
	}
	return err
}

// take stores a result, blobs first.
func (u *upstream) take(ctx context.Context, key action.Digest, res *action.Result) error {
	if err := u.fetch(ctx, res); err != nil {
		return err
	}
	if err := u.store.PutResult(ctx, key, res); err != nil {
		return fmt.Errorf("keep a result of %s: %w", u.target.Address, err)
	}
	return nil
}

// fetch gets the blobs of a result, within a time that is worth it.
func (u *upstream) fetch(ctx context.Context, res *action.Result) error {
	var total int64
	blobs, trees, dirs := remote.Names(res)
	for _, list := range [][]action.Digest{blobs, trees, dirs} {
		for _, d := range list {
			total += d.Size()
		}
	}
	limit := u.target.Timeout + time.Duration(total/slowest)*time.Second
	bounded, cancel := context.WithTimeoutCause(ctx, limit, errSlow{total})
	defer cancel()
	err := u.client.DownloadResult(bounded, u.store, res)
	if bounded.Err() != nil && ctx.Err() == nil {
		return errSlow{total}
	}
	if _, bad := errors.AsType[*remote.MalformedError](err); bad {
		return fmt.Errorf("%w: %w", err, action.ErrMiss)
	}
	return err
}

// put queues a result.
func (u *upstream) put(key action.Digest) error {
	return u.queue.add(key)
}

// send sends what is queued until ctx is done.
func (u *upstream) send(ctx context.Context) {
	for {
		d, ok := u.queue.take()
		if !ok {
			select {
			case <-u.queue.more:
				u.queue.poke() // for the others; the first that finds nothing ends it
				if d, ok = u.queue.take(); !ok {
					select {
					case <-u.queue.more:
					default:
					}
					continue
				}
			case <-ctx.Done():
				return
			}
		}
		if !u.sendSoon(ctx, d) {
			return
		}
		u.poke()
	}
}

// sendSoon sends one, when the remote answers. It says false when ctx is done.
func (u *upstream) sendSoon(ctx context.Context, d action.Digest) bool {
	for {
		if wait := u.breaker.wait(); wait > 0 {
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				u.queue.back(d)
				return false
			}
		}
		err := u.sendOne(ctx, d)
		switch {
		case ctx.Err() != nil:
			u.queue.back(d)
			return false
		case err == nil:
			u.breaker.worked()
			u.sent.Add(1)
		case remote.Transient(err):
			_ = u.breaker.failed(plain(err)) // whoever asks next is told
			continue
		default:
			u.refused.Add(1)
			u.why.Store(plain(err).Error())
			u.opts.Log.Warn("a result was not sent", "remote", u.target.Address, "key", d, "err", err)
		}
		if err := u.queue.done(d); err != nil {
			u.opts.Log.Warn("results to send", "err", err)
		}
		return true
	}
}

// sendOne sends one result, with everything that it names, what it is the result
// of, and what is known of it.
func (u *upstream) sendOne(ctx context.Context, key action.Digest) error {
	res, err := u.store.Result(ctx, key)
	if err != nil {
		return err
	}
	if err := shareable(res); err != nil {
		return err
	}
	if err := u.client.Check(ctx, key.Function()); err != nil {
		return err
	}
	if ok, err := u.client.Writable(ctx); err != nil {
		return err
	} else if !ok {
		return errors.New("it takes no results: use --remote-mode read")
	}
	act, command, err := res.Origin(key.Function())
	if err != nil {
		return err
	}
	for _, m := range [][]byte{act.Marshal(), command.Marshal()} {
		if _, err := u.store.PutBytes(ctx, key.Function(), m); err != nil {
			return err
		}
	}
	if err := u.client.UploadResult(ctx, u.store, res); err != nil {
		return err
	}
	if err := u.client.Upload(ctx, u.store, []action.Digest{act.Command, key}); err != nil {
		return err
	}
	m, err := remote.ToResult(res)
	if err != nil {
		return err
	}
	if err := u.client.PutResult(ctx, key, m); err != nil {
		if status.Code(err) == codes.FailedPrecondition { // it has lost something that it had
			u.client.Forget()
		}
		return err
	}
	return u.sendNote(ctx, act)
}

// flush waits until nothing is left to send, or nothing more can be. It tells
// what was not sent since the last time.
func (u *upstream) flush(ctx context.Context) error {
	for u.queue.len() > 0 {
		if !u.breaker.closed() {
			return fmt.Errorf("%d results wait: it %v", u.queue.len(), &u.breaker)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if now := u.refused.Load(); now > u.told.Load() {
		n := now - u.told.Swap(now)
		return fmt.Errorf("%d results were not sent: %v", n, u.why.Load())
	}
	return nil
}

func (u *upstream) info() string {
	text := fmt.Sprintf("%s for %s: %v; %d hits, %d misses, %d results sent, %d waiting, %d not sent",
		u.target.Address, u.target.Store, &u.breaker, u.hits.Load(), u.misses.Load(), u.sent.Load(), u.queue.len(), u.refused.Load())
	if !u.execs.closed() {
		text += fmt.Sprintf("; execution %v", &u.execs)
	}
	if why, ok := u.why.Load().(string); ok {
		text += " (" + why + ")"
	}
	return text + "\n"
}

// execute executes an action on the cluster, unless it has a result.
func (u *upstream) execute(ctx context.Context, key action.Digest, anyway bool, say func(string)) (fields []string, err error) {
	err = u.through(ctx, &u.execs, key.Function(), func(ctx context.Context) error {
		res, cached, err := u.executed(ctx, key, anyway, say)
		if err != nil {
			return err
		}
		say("fetching the outputs")
		if err := u.fetch(ctx, res); err != nil {
			return err
		}
		fields = []string{string(res.Marshal()), ""}
		if cached {
			fields[1] = "1"
		}
		return nil
	})
	return fields, err
}

// executed returns the cluster's result. Not every cluster looks into its action
// cache when it is asked to execute, so we do.
func (u *upstream) executed(ctx context.Context, key action.Digest, anyway bool, say func(string)) (res *action.Result, cached bool, err error) {
	if !anyway {
		res, err := u.client.Result(ctx, key)
		if err == nil && res.ExitCode == 0 {
			return res, true, nil
		}
		if err != nil && !errors.Is(err, action.ErrMiss) {
			return nil, false, err
		}
	}
	say("sending the inputs")
	if err := u.offer(ctx, key); err != nil {
		return nil, false, err
	}
	e, err := u.client.Execute(ctx, key, anyway, func(s rexec.ExecutionStage_Value) { say(s.String()) })
	if err == nil && e.Status != nil {
		err = &refusedError{e.Status}
	}
	if err != nil {
		return nil, false, err
	}
	return e.Result, e.Cached, nil
}

// A refusedError is an answer of the cluster about the action, not about itself.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return "the cluster: " + plain(e.err).Error() }

// offer sends an action and everything that it names.
func (u *upstream) offer(ctx context.Context, key action.Digest) error {
	data, err := remote.ReadMessage(ctx, u.store, key)
	if err != nil {
		return err
	}
	act, err := action.ParseAction(data, key.Function())
	if err != nil {
		return err
	}
	if err := u.client.UploadTree(ctx, u.store, act.InputRoot); err != nil {
		return err
	}
	for _, p := range act.Platform {
		if p.Name != staging.RootfsProperty {
			continue
		}
		if tree, err := action.ParseDigest(p.Value); err == nil {
			if err := u.client.UploadTree(ctx, u.store, tree); err != nil {
				return err
			}
		}
	}
	return u.client.Upload(ctx, u.store, []action.Digest{act.Command, key})
}
