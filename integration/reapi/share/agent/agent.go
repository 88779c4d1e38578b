// Package agent is the process that speaks to remotes for all light commands of
// a user: see package share, which says how they meet. It keeps connections,
// knows what a remote has, sends results when nobody waits for it, and notices
// once for everybody that a remote is not to be had.
package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi/remote"
	"github.com/sbx-action/sbx-action/integration/reapi/share"
)

// Options of an [Agent].
type Options struct {
	Idle time.Duration // after which it ends when nobody asks and nothing is left to send
	// Connect says how to connect to a target: certificates and headers.
	Connect func(share.Target) (remote.Options, error)
	Log     *slog.Logger
}

// An Agent serves one socket.
type Agent struct {
	opts Options

	mu       sync.Mutex
	remotes  map[share.Target]*upstream // guarded by mu
	conns    int                        // guarded by mu: clients that are connected
	last     time.Time                  // guarded by mu: when the last one was
	quitting bool                       // guarded by mu
	wake     chan struct{}              // told when conns, quitting or a queue changes
}

// New returns an agent.
func New(o Options) *Agent {
	return &Agent{opts: o, remotes: map[share.Target]*upstream{}, last: time.Now(), wake: make(chan struct{}, 1)}
}

// Serve serves l until ctx is done or there has been nothing to do for as long
// as Options say. It closes l.
func (a *Agent) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer func() {
		cancel()
		wg.Wait()
		a.close()
	}()
	closed := context.AfterFunc(ctx, func() { l.Close() })
	defer closed()
	wg.Go(func() {
		a.watch(ctx)
		l.Close()
	})
	for {
		conn, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		a.count(1)
		wg.Go(func() {
			defer a.count(-1)
			defer conn.Close()
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			if err := a.serve(ctx, conn); err != nil && ctx.Err() == nil && !errors.Is(err, io.EOF) {
				a.opts.Log.Debug("a client is gone", "err", err)
			}
		})
	}
}

func (a *Agent) count(n int) {
	a.mu.Lock()
	a.conns += n
	a.last = time.Now()
	a.mu.Unlock()
	a.poke()
}

func (a *Agent) poke() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// watch returns when the agent is to end.
func (a *Agent) watch(ctx context.Context) {
	for {
		a.mu.Lock()
		left := a.opts.Idle - time.Since(a.last)
		if a.quitting {
			left = 0
		}
		busy := a.conns > 0 && !a.quitting || a.sending()
		a.mu.Unlock()
		if !busy && left <= 0 {
			return
		}
		if left <= 0 {
			left = time.Second
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-a.wake:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// sending says whether something is left to send to a remote that answers. What
// is for one that does not is on the disk, and waits for the next agent.
func (a *Agent) sending() bool {
	for _, u := range a.remotes {
		if u.queue.len() > 0 && u.breaker.closed() {
			return true
		}
	}
	return false
}

func (a *Agent) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, u := range a.remotes {
		u.close()
	}
}

// serve serves one client.
func (a *Agent) serve(ctx context.Context, conn net.Conn) error {
	if err := sameUser(conn); err != nil {
		return err
	}
	kind, fields, err := share.ReadFrame(conn)
	if err != nil {
		return err
	}
	if kind != share.Hello {
		return share.WriteFrame(conn, share.Error, "want hello first")
	}
	target, err := share.ParseTarget(fields)
	var u *upstream
	if err == nil && target.Address != "" {
		u, err = a.upstream(target)
	}
	if err != nil {
		return share.WriteFrame(conn, share.Error, err.Error())
	}
	if err := share.WriteFrame(conn, share.Welcome); err != nil {
		return err
	}
	for {
		kind, fields, err := share.ReadFrame(conn)
		if err != nil {
			return err
		}
		if err := a.answer(ctx, conn, u, kind, fields); err != nil {
			return err
		}
	}
}

// upstream returns the remote of a target, and connects to it if need be.
func (a *Agent) upstream(t share.Target) (*upstream, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if u := a.remotes[t]; u != nil {
		return u, nil
	}
	u, err := newUpstream(t, a.opts, a.poke)
	if err != nil {
		return nil, err
	}
	a.remotes[t] = u
	return u, nil
}

// answer answers one request.
func (a *Agent) answer(ctx context.Context, conn net.Conn, u *upstream, kind byte, fields []string) error {
	switch kind {
	case share.Info:
		return share.WriteFrame(conn, share.Yes, a.info())
	case share.Quit:
		err := share.WriteFrame(conn, share.Yes) // first: once we quit, connections end
		a.mu.Lock()
		a.quitting = true
		a.mu.Unlock()
		a.poke()
		return err
	case share.Flush:
		return a.busy(ctx, conn, func(ctx context.Context, _ func(string)) ([]string, error) { return nil, a.flush(ctx) })
	}
	if u == nil {
		return share.WriteFrame(conn, share.Error, "no remote was named")
	}
	if len(fields) == 0 {
		return share.WriteFrame(conn, share.Error, "no digest")
	}
	key, err := action.ParseDigest(fields[0])
	if err != nil {
		return share.WriteFrame(conn, share.Error, err.Error())
	}
	switch kind {
	case share.Put:
		if err := u.put(key); err != nil {
			return share.WriteFrame(conn, share.Error, err.Error())
		}
		return share.WriteFrame(conn, share.Yes)
	case share.Note:
		return a.busy(ctx, conn, func(ctx context.Context, _ func(string)) ([]string, error) { return nil, u.note(ctx, key) })
	case share.Result:
		return a.busy(ctx, conn, func(ctx context.Context, _ func(string)) ([]string, error) { return nil, u.result(ctx, key) })
	case share.Execute:
		anyway := len(fields) > 1 && fields[1] == "1"
		return a.busy(ctx, conn, func(ctx context.Context, say func(string)) ([]string, error) { return u.execute(ctx, key, anyway, say) })
	}
	return share.WriteFrame(conn, share.Error, fmt.Sprintf("unknown request %q", kind))
}

// busy does something that may take long, says so every second, and ends it
// when the client is gone.
func (a *Agent) busy(ctx context.Context, conn net.Conn, do func(context.Context, func(string)) ([]string, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type outcome struct {
		fields []string
		err    error
	}
	done := make(chan outcome, 1)
	said := make(chan string, 8)
	go func() {
		fields, err := do(ctx, func(s string) {
			select {
			case said <- s:
			default:
			}
		})
		done <- outcome{fields, err}
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case o := <-done:
			return reply(conn, o.fields, o.err)
		case s := <-said:
			if err := share.WriteFrame(conn, share.Busy, s); err != nil {
				cancel()
				<-done
				return err
			}
		case <-tick.C: // this is also how we learn that the client is gone
			if err := share.WriteFrame(conn, share.Busy); err != nil {
				cancel()
				<-done
				return err
			}
		}
	}
}

// reply sends the answer that err is.
func reply(conn net.Conn, fields []string, err error) error {
	if err == nil {
		return share.WriteFrame(conn, share.Yes, fields...)
	}
	if down, ok := errors.AsType[*share.DownError](err); ok {
		say := ""
		if down.Say {
			say = "1"
		}
		return share.WriteFrame(conn, share.Down, down.Why, say)
	}
	if errors.Is(err, action.ErrMiss) {
		return share.WriteFrame(conn, share.Miss, err.Error())
	}
	return share.WriteFrame(conn, share.Error, plain(err).Error())
}

// flush waits until nothing is left to send to remotes that answer, and says
// what could not be sent.
func (a *Agent) flush(ctx context.Context) error {
	var failed []error
	a.mu.Lock()
	list := a.sorted()
	a.mu.Unlock()
	for _, u := range list {
		if err := u.flush(ctx); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", u.target.Address, err))
		}
	}
	return errors.Join(failed...)
}

// sorted are the remotes by address. The caller holds mu.
func (a *Agent) sorted() (list []*upstream) {
	for _, u := range a.remotes {
		list = append(list, u)
	}
	slices.SortFunc(list, func(x, y *upstream) int {
		return strings.Compare(x.target.Address+x.target.Store, y.target.Address+y.target.Store)
	})
	return list
}

// info is a few lines for people.
func (a *Agent) info() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "agent %d, %d clients\n", os.Getpid(), a.conns)
	for _, u := range a.sorted() {
		b.WriteString(u.info())
	}
	return b.String()
}
