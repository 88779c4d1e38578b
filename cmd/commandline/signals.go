package commandline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
)

// interrupted is the cause of the context that a signal ended.
type interrupted struct{ syscall.Signal }

func (i interrupted) Error() string { return "interrupted (" + i.Signal.String() + ")" }

type signalsKey struct{}

// withSignals returns a context that a signal can end, once Interruptible was
// called with it. Until then a signal ends the program, as signals do, and the
// program has one processor: a hit is over so soon that the 0.1 ms for the
// handler, and the 0.1 ms for waking threads that find nothing to do, would be
// felt. With one it has been started that way, and nobody has asked for another number.
func withSignals(ctx context.Context, one bool) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	processors := runtime.GOMAXPROCS(1)
	return context.WithValue(ctx, signalsKey{}, sync.OnceFunc(func() {
		if one {
			runtime.SetDefaultGOMAXPROCS()
		} else {
			runtime.GOMAXPROCS(processors)
		}
		signals := make(chan os.Signal, 1)
		for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
			if !signal.Ignored(s) { // by nohup, or a shell that put us in the background
				signal.Notify(signals, s)
			}
		}
		if !signal.Ignored(syscall.SIGINT) { // that shell ignores both, and Go only knows of one
			signal.Notify(signals, syscall.SIGQUIT)
		}
		go func() {
			s := <-signals
			cancel(interrupted{s.(syscall.Signal)})
			signal.Stop(signals) // a second one ends us at once
		}()
	}))
}

// Interruptible makes signals end ctx and not the program, so that what was
// begun is cleaned up.
func Interruptible(ctx context.Context) {
	if f, ok := ctx.Value(signalsKey{}).(func()); ok {
		f()
	}
}

// Interrupted says whether a signal ended ctx, and which.
func Interrupted(ctx context.Context) (syscall.Signal, bool) {
	i, ok := errors.AsType[interrupted](context.Cause(ctx))
	return i.Signal, ok
}

// WithInterrupt returns a context that interrupt ends as that signal would: for a
// process that does what another one was asked for, and is told of its signals.
func WithInterrupt(ctx context.Context) (_ context.Context, interrupt func(syscall.Signal)) {
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, func(s syscall.Signal) { cancel(interrupted{s}) }
}

// Report is what Main does at its end: it prints err and returns the exit code.
func (p *Program) Report(ctx context.Context, err error) int { return p.report(ctx, err) }

// report prints err and returns the exit code for it. Whatever failed once a
// signal had ended ctx, failed because of it.
func (p *Program) report(ctx context.Context, err error) int {
	if err == nil {
		return 0
	}
	if code, ok := errors.AsType[ExitCode](err); ok {
		return int(code)
	}
	fmt.Fprintf(os.Stderr, "%s: %s\n", p.Name, Visible(err.Error()))
	code := ExitOurs
	if s, ok := Interrupted(ctx); ok {
		code = 128 + int(s)
	}
	if p.Failed != nil {
		p.Failed(err, code)
	}
	return code
}
