// Sbx-action makes any command a hermetic, cached build action.
//
// Read main.go, then run.go (what a user does all day), then setup.go (which
// parts the program is made of), then the package documentation of action.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"

	"github.com/sbx-action/sbx-action/backends/backendtest/probe"
	"github.com/sbx-action/sbx-action/backends/backendtest/promise"
)

// exitOurs is the exit code for everything that is our failure or the
// caller's, not the command's, so that make can tell them apart.
const exitOurs = 125

// An exitCode ends the program with this code and says nothing more: what had
// to be said has been said.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit status %d", int(c)) }

// interrupted is the cause of the context that a signal ended.
type interrupted struct{ syscall.Signal }

func (i interrupted) Error() string { return "interrupted (" + i.Signal.String() + ")" }

func main() {
	if filepath.Base(os.Args[0]) == promise.ProbeName { // see backends.go
		os.Exit(probe.Main(os.Args[1:]))
	}
	ctx := withSignals(context.Background())
	err := dispatch(ctx, os.Args[1:])
	os.Exit(report(ctx, err))
}

type signalsKey struct{}

// withSignals returns a context that a signal can end, once interruptible was
// called with it. Until then a signal ends the program, as signals do, and the
// program has one processor: a hit is over so soon that the 0.1 ms for the
// handler, and the 0.1 ms for waking threads that find nothing to do, would be
// felt.
func withSignals(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	processors := runtime.GOMAXPROCS(1)
	return context.WithValue(ctx, signalsKey{}, sync.OnceFunc(func() {
		runtime.GOMAXPROCS(processors)
		signals := make(chan os.Signal, 1)
		for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
			if !signal.Ignored(s) { // by nohup, or a shell that put us in the background
				signal.Notify(signals, s)
			}
		}
		go func() {
			s := <-signals
			cancel(interrupted{s.(syscall.Signal)})
			signal.Stop(signals) // a second one ends us at once
		}()
	}))
}

// interruptible makes signals end ctx and not the program, so that what was
// begun is cleaned up.
func interruptible(ctx context.Context) {
	if f, ok := ctx.Value(signalsKey{}).(func()); ok {
		f()
	}
}

// report prints err and returns the exit code for it. Whatever failed once a
// signal had ended ctx, failed because of it.
func report(ctx context.Context, err error) int {
	if err == nil {
		return 0
	}
	if code, ok := errors.AsType[exitCode](err); ok {
		return int(code)
	}
	fmt.Fprintf(os.Stderr, "sbx-action: %v\n", err)
	if i, ok := errors.AsType[interrupted](context.Cause(ctx)); ok {
		return 128 + int(i.Signal)
	}
	return exitOurs
}
