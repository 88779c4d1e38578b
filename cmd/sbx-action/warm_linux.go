package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/backendtest/promise"
	"github.com/sbx-action/sbx-action/backends/native"
	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/integration/cc"
	"github.com/sbx-action/sbx-action/internal/durable"
	"github.com/sbx-action/sbx-action/internal/front"
	"github.com/sbx-action/sbx-action/internal/warm"
	"github.com/sbx-action/sbx-action/staging"
)

// become starts a session and becomes COMMAND. Where there can be no session, the
// user is told, and COMMAND runs all the same.
func (f *warmFlags) become(args []string) error {
	path, err := exec.LookPath(args[0])
	if err != nil {
		say("warm: %v", err)
		return exitCode(lookCode(err))
	}
	s, err := warm.Start(int(f.jobs))
	if err == nil {
		err = os.Setenv(warm.Variable, s.Dir)
	}
	if err != nil {
		say("warm: there are no warm processes: %v", err)
	}
	err = cc.Exec(path, args, os.Environ())
	say("warm: %v", err)
	return exitCode(lookCode(err))
}

// lookCode is the exit code of a shell for a program that cannot be executed.
func lookCode(err error) int {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		return 127
	}
	return 126
}

// stay starts a session for other processes, until a signal.
func (f *warmFlags) stay(ctx context.Context) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	s, err := warm.Start(int(f.jobs))
	if err != nil {
		return err
	}
	fmt.Printf("export %s=%s\n", warm.Variable, shellQuote(s.Dir))
	<-signals
	s.End()
	return nil
}

func (f *warmFlags) printCounts(args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%q: --count takes no command", args[0])
	}
	dir := os.Getenv(warm.Variable)
	if dir == "" {
		dir = warm.Found()
	}
	if dir == "" || dir == warm.Off {
		return fmt.Errorf("--count: there is no session: %s is not set; 'sbx-action warm COMMAND' sets it for COMMAND", warm.Variable)
	}
	c, err := warm.ReadCounts(dir)
	if err != nil {
		return fmt.Errorf("--count: the session of %s has ended: %w", warm.Variable, err)
	}
	fmt.Printf("answered %d, declined %d\n", c.Served, c.Declined)
	return nil
}

// warmPart is what this process does if it is a part of a session: see package
// warm.
func warmPart(args []string) (code int, ok bool) {
	if filepath.Base(args[0]) != warm.Program {
		return 0, false
	}
	return warm.Main(args[1:], work), true
}

// A server is a worker at its work.
type server struct {
	*warm.Worker
	backend *native.Backend
	first   backends.Network // what the first call will likely want
	mounts  []unix.PollFd    // tells of new ones

	busy   sync.Mutex // held while there is a call
	cancel context.CancelFunc
	mu     sync.Mutex // guards cancel
}

// work answers calls until the session ends, or until this process has to be
// replaced.
//
// # What stays from call to call
//
// Everything is opened anew for each call (the store, views of the host, stat
// caches, settings), except for the helper with its idle sandbox, which sees the
// host's mounts as they are: where they are changed it is started anew. The root that
// may be begun in it is compared with the one that is wanted: see
// native.Backend.Prepare. What staging.Recalled keeps of files and names counts where stat
// data say so that are read each time. Variables of packages that remember something are forgotten,
// or hold what cannot change while a process lives; TestPackageVariables lists all of
// them.
func work(w *warm.Worker) int {
	s := &server{Worker: w}
	if w.Compiles {
		s.first = backends.NetworkSealed
	}
	var err error
	if s.backend, err = native.Open(native.Options{Prepared: true}); err != nil {
		w.Ready(err.Error())
		return exitOurs
	}
	if can := s.backend.Basics(); !can.Works {
		w.Ready("backend native does not work here: " + can.Reason)
		return exitOurs
	}
	fd, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		w.Ready(err.Error())
		return exitOurs
	}
	s.mounts = []unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI}}
	serving = &warmWorker{backend: keptBackend{s.backend}, digests: &staging.Recalled{}}
	s.prepare()
	debug.SetGCPercent(400)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // writes say so, too
	go func() {
		w.UntilAlone()
		s.mu.Lock()
		if s.cancel != nil {
			s.cancel()
		}
		s.mu.Unlock()
		s.busy.Lock()
		s.backend.Close()
		w.Left()
		os.Exit(0)
	}()
	w.Ready("")
	for n := 1; ; n++ {
		c, err := w.Next()
		if err != nil {
			return exitOurs
		}
		s.busy.Lock()
		s.answer(c)
		if err := w.Forget(); err != nil || !w.Tidy(100) || runtime.NumGoroutine() > 50 || n == 10_000 {
			s.backend.Close()
			return 0 // another one takes over
		}
		s.prepare()
		if n%32 == 0 {
			runtime.GC()
		}
		s.busy.Unlock()
	}
}

// A keptBackend is the backend of all calls.
type keptBackend struct{ *native.Backend }

func (keptBackend) Close() error { return nil }

// prepare makes a sandbox for the next call.
func (s *server) prepare() {
	s.backend.Prepare()
	s.backend.Warm(&backends.Spec{Network: s.backend.Last(s.first), Observe: true}) // if there is none yet
}

// freshen forgets what may not be so any more.
func (s *server) freshen() {
	n, _ := unix.Poll(s.mounts, 0)
	if n != 0 {
		s.backend.Renew()
		s.prepare()
	}
	serving.digests.Begin(n != 0)
	staging.ForgetHost()
	durable.ForgetUmask()
	serving, sayThrough = &warmWorker{backend: serving.backend, digests: serving.digests}, nil
}

// answer does what the caller wants, or lets it do it itself.
func (s *server) answer(c *warm.Call) {
	defer c.Close()
	if !answerable(c.Args) || !s.Trusts(c) || c.Become(s.Own, s.Startup) != "" {
		s.Declined()
		c.Decline(nil)
		return
	}
	s.freshen()
	ctx, interrupt := commandline.WithInterrupt(context.Background())
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	s.cancel = cancel
	s.mu.Unlock()
	serving.cancel, serving.reads = cancel, c.Reads
	stop := s.Watch(c, interrupt, cancel)
	defer stop()
	serving.same = func() bool { return c.Same() == "" }

	front.Stand(front.Reason(c.Why))
	os.Args, calledAs = c.Args, c.Args
	if name := filepath.Base(c.Args[0]); !strings.HasPrefix(name, "sbx-action") {
		os.Args = append(linkedArgs(name), c.Args[1:]...)
	}
	p := program()
	err := p.Dispatch(ctx, os.Args[1:])
	_, interrupted := commandline.Interrupted(ctx)
	_, coded := errors.AsType[exitCode](err)
	if err != nil && ctx.Err() == nil && (errors.Is(err, errOwnProcess) || !coded && !serving.said && !serving.ran) {
		s.Declined()
		c.Decline(serving.stdin)
		return
	}
	if serving.broken.Load() || errors.Is(err, syscall.EPIPE) { // which would have ended the caller
		s.Served()
		c.Done(0, syscall.SIGPIPE)
		return
	}
	if ctx.Err() != nil && !interrupted {
		return // nobody is there any more
	}
	code := p.Report(ctx, err)
	stop()
	s.Served()
	s.Forget() //nolint:errcheck // who waits for the next call asks again
	c.Done(code, 0)
}

// answerable says whether a call is of a kind that workers know.
func answerable(args []string) bool {
	name := filepath.Base(args[0])
	if name == promise.ProbeName || name == warm.Program {
		return false
	}
	for _, p := range personalities() {
		if name == p.name {
			return false
		}
	}
	if !strings.HasPrefix(name, "sbx-action") {
		return cc.Knows(name)
	}
	return len(args) > 1 && (args[1] == "run" || args[1] == "cc")
}
