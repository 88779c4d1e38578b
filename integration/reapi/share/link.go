package share

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/sbx-action/sbx-action/action"
)

// A Link is a connection to the agent. It is opened when it is first needed.
// Its methods may be called by any number of goroutines, and take their turns.
type Link struct {
	Target Target
	Socket string // the path of the socket

	// Start starts an agent that listens at the socket, and returns when it
	// does. It is called when nobody listens there.
	Start func(ctx context.Context, socket string) error

	// Busy, where not nil, is told what is being done.
	Busy func(string)

	mu   sync.Mutex
	conn *os.File // guarded by mu; nil: not open
	err  error    // guarded by mu: why it cannot be opened; it is not tried twice
}

// grace is how much longer than the time-out of the remote we wait for the
// agent, which should know better than we do when to give up.
const grace = 5 * time.Second

// open opens the connection.
func (l *Link) open(ctx context.Context) error {
	if l.conn != nil || l.err != nil {
		return l.err
	}
	conn, err := l.dial(ctx)
	if err != nil {
		l.err = fmt.Errorf("the agent for the remote: %w", err)
		return l.err
	}
	l.conn = conn
	return nil
}

// dial connects and says hello. An agent that was just ending is replaced.
func (l *Link) dial(ctx context.Context) (*os.File, error) {
	for last := false; ; last = true {
		conn, err := connect(l.Socket)
		if errors.Is(err, errNobody) {
			if err := l.Start(ctx, l.Socket); err != nil {
				return nil, err
			}
			conn, err = connect(l.Socket)
		}
		if err != nil {
			return nil, err
		}
		kind, fields, err := l.exchange(ctx, conn, grace, Hello, l.Target.Fields()...)
		if err == nil {
			if err = asked(kind, fields); err == nil {
				return conn, nil
			}
			last = true // it has answered
		}
		conn.Close()
		if last {
			return nil, err
		}
	}
}

// exchange sends a frame and waits for what answers it.
func (l *Link) exchange(ctx context.Context, conn *os.File, limit time.Duration, kind byte, fields ...string) (byte, []string, error) {
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	deadline := func() {
		if limit > 0 && ctx.Err() == nil {
			conn.SetDeadline(time.Now().Add(limit))
		}
	}
	deadline()
	if err := WriteFrame(conn, kind, fields...); err != nil {
		return 0, nil, broken(ctx, err)
	}
	for {
		kind, fields, err := ReadFrame(conn)
		if err != nil {
			return 0, nil, broken(ctx, err)
		}
		if kind != Busy {
			return kind, fields, nil
		}
		deadline()
		if l.Busy != nil && len(fields) > 0 {
			l.Busy(fields[0])
		}
	}
}

func broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.New("it does not answer; 'sbx-action remote stop' ends it")
	}
	return fmt.Errorf("the connection broke: %w", err)
}

// ask asks one thing. limit bounds the time between two answers; 0 does not.
func (l *Link) ask(ctx context.Context, limit time.Duration, kind byte, fields ...string) ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.open(ctx); err != nil {
		return nil, &DownError{Why: err.Error(), Say: true}
	}
	k, answer, err := l.exchange(ctx, l.conn, limit, kind, fields...)
	if err != nil {
		l.conn.Close()
		l.conn, l.err = nil, err
		if ctx.Err() != nil {
			return nil, err
		}
		return nil, &DownError{Why: "the agent for the remote: " + err.Error(), Say: true}
	}
	return answer, asked(k, answer)
}

// transfer is how long a transfer may take without a word: the agent says one
// every second.
func (l *Link) transfer() time.Duration { return l.Target.Timeout + grace }

// Note gets what the remote knows of an unsealed action, and says whether the
// store's note of it has more in it than before.
func (l *Link) Note(ctx context.Context, key action.Digest) error {
	_, err := l.ask(ctx, l.transfer(), Note, key.String())
	return err
}

// Result gets a result. If there is no error, the store has it, whole. The
// error wraps [action.ErrMiss] where the remote does not have it, and is a
// [DownError] where that is not known.
func (l *Link) Result(ctx context.Context, key action.Digest) error {
	_, err := l.ask(ctx, l.transfer(), Result, key.String())
	return err
}

// Put tells the agent to send a result of the store.
func (l *Link) Put(ctx context.Context, key action.Digest) error {
	_, err := l.ask(ctx, grace, Put, key.String())
	return err
}

// An Execution is what a cluster made of an action.
type Execution struct {
	Result *action.Result // whole in the store
	Cached bool           // it is from the cluster's action cache
}

// Execute executes an action on the cluster. Its inputs, command and message are
// in the store. It takes as long as it takes.
func (l *Link) Execute(ctx context.Context, key action.Digest, anyway bool) (*Execution, error) {
	skip := ""
	if anyway {
		skip = "1"
	}
	fields, err := l.ask(ctx, l.transfer(), Execute, key.String(), skip)
	if err != nil {
		return nil, err
	}
	if len(fields) != 2 {
		return nil, fmt.Errorf("%w: an execution of %d fields", errFrame, len(fields))
	}
	res, err := action.ParseResult([]byte(fields[0]), key.Function())
	if err != nil {
		return nil, err
	}
	return &Execution{Result: res, Cached: fields[1] == "1"}, nil
}

// Flush waits until everything is sent.
func (l *Link) Flush(ctx context.Context) error {
	_, err := l.ask(ctx, l.transfer(), Flush)
	return err
}

// Info says how things are.
func (l *Link) Info(ctx context.Context) (string, error) {
	fields, err := l.ask(ctx, grace, Info)
	if err != nil || len(fields) == 0 {
		return "", err
	}
	return fields[0], nil
}

// Quit tells the agent to end when it has nothing left to do.
func (l *Link) Quit(ctx context.Context) error {
	_, err := l.ask(ctx, grace, Quit)
	return err
}

// Another returns a link to the same remote by the same agent, with a connection
// of its own.
func (l *Link) Another() *Link {
	return &Link{Target: l.Target, Socket: l.Socket, Start: l.Start, Busy: l.Busy}
}

// Close ends the connection.
func (l *Link) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		return nil
	}
	err := l.conn.Close()
	l.conn = nil
	return err
}
