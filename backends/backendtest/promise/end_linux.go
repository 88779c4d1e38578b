package promise

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sbx-action/sbx-action/backends"
	"golang.org/x/sys/unix"
)

func endPromises() []Promise {
	return []Promise{
		{Name: "end/exit-code", Says: "the exit code is that of the command", check: exitCodes(0, 1, 2, 7, 125, 126, 127, 128, 137, 143, 255)},
		{Name: "end/exit-code-all", Says: "all 256 exit codes come through", slow: true, check: exitCodes()},
		{Name: "end/signal", Says: "a command that ended by a signal says by which one, and 128 more as its code", needs: hasExactStatus, check: fatalSignals(unix.SIGTERM, unix.SIGKILL, unix.SIGSEGV, unix.SIGABRT)},
		{Name: "end/signal-all", Says: "every signal that ends a process is told", needs: hasExactStatus, slow: true, check: fatalSignals()},
		{Name: "end/not-found", Says: "a command that is not there is code 127, did not start, and its name is told", needs: hasExactStatus, check: checkNotFound},
		{Name: "end/not-executable", Says: "a file that cannot be executed, a directory, and a binary in no known format are code 126 and did not start", needs: hasExactStatus, check: checkNotExecutable},
		{Name: "end/usage", Says: "the time and memory that descendants used are told", check: checkUsage},
	}
}

func exitCodes(codes ...int) func(*trial) error {
	if codes == nil {
		for i := range 256 {
			codes = append(codes, i)
		}
	}
	return func(t *trial) error {
		// At once where there are many: some tools take a while for each.
		return together(codes, func(code int) error {
			o, err := t.run(t.spec("exit", strconv.Itoa(code)))
			if err != nil {
				return err
			}
			if o.Code != code || o.Signal != 0 || o.Start != nil || o.TimedOut || o.OutOfMemory {
				return fmt.Errorf("exit %d: %v", code, o)
			}
			return nil
		})
	}
}

// together calls check for each of list, several at a time.
func together[T any](list []T, check func(T) error) error {
	var wait sync.WaitGroup
	errs := make([]error, len(list))
	turn := make(chan struct{}, 8)
	for i, x := range list {
		turn <- struct{}{}
		wait.Go(func() {
			errs[i] = check(x)
			<-turn
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

// fatal says whether a process ends by a signal that it does nothing about.
func fatal(sig unix.Signal) bool {
	switch sig {
	case unix.SIGCHLD, unix.SIGCONT, unix.SIGURG, unix.SIGWINCH: // ignored
		return false
	case unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU: // stopped
		return false
	case 32, 33: // the C library's own
		return false
	}
	return true
}

func fatalSignals(signals ...unix.Signal) func(*trial) error {
	if signals == nil {
		for sig := unix.Signal(1); sig <= 64; sig++ {
			if fatal(sig) {
				signals = append(signals, sig)
			}
		}
	}
	return func(t *trial) error {
		return together(signals, func(sig unix.Signal) error {
			o, err := t.run(t.spec("die", strconv.Itoa(int(sig))))
			if err != nil {
				return err
			}
			if o.Signal != int(sig) || o.Code != 128+int(sig) || o.Start != nil || o.TimedOut || o.OutOfMemory {
				return fmt.Errorf("signal %d: %v", sig, o)
			}
			return nil
		})
	}
}

// notStarted checks that the command of spec could not be started.
func (t *trial) notStarted(spec *backends.Spec, code int) error {
	o, err := t.run(spec)
	if err != nil {
		return fmt.Errorf("%q: %w", spec.Args[0], err)
	}
	if o.Start == nil || o.Code != code || o.Signal != 0 || o.out != "" {
		return fmt.Errorf("%q: got %v; want code %d, not started", spec.Args[0], o, code)
	}
	if name := strings.TrimPrefix(spec.Args[0], "./"); !strings.Contains(o.Start.Error(), name) {
		return fmt.Errorf("%q: the reason does not name it: %w", spec.Args[0], o.Start)
	}
	return nil
}

func checkNotFound(t *trial) error {
	for _, name := range []string{"/build/absent", "./absent", "absent", "/absent/absent", "absent/absent"} {
		spec := t.spec()
		spec.Args = []string{name}
		if err := t.notStarted(spec, 127); err != nil {
			return err
		}
	}
	return nil
}

func checkNotExecutable(t *trial) error {
	spec := t.spec()
	spec.Root.Fill = t.fill(
		file{path: "/build/plain", text: "#!" + probePath + "\n"},
		file{path: "/build/garbage", text: "garbage\x00", mode: 0o755},
		file{path: "/build/dir/"},
	)
	for _, name := range []string{"/build/plain", "./garbage", "/build/dir"} {
		spec.Args = []string{name}
		if err := t.notStarted(spec, 126); err != nil {
			return err
		}
	}
	return nil
}

func checkUsage(t *trial) error {
	o, err := t.run(t.spec("burn", "200"))
	if err != nil {
		return err
	}
	u := o.Usage
	if o.Code != 0 || u.User+u.System < 195*time.Millisecond || u.User+u.System > 20*time.Second || u.Wall < 195*time.Millisecond {
		return fmt.Errorf("a grandchild used 200 ms: told %+v of %v", u, o)
	}
	if o, err = t.run(t.spec("touch", "64")); err != nil {
		return err
	}
	if rss := o.Usage.MaxRSS; o.Code != 0 || rss < 64<<20 || rss > 256<<20 {
		return fmt.Errorf("64 MiB were used: told %d bytes of %v", rss, o)
	}
	// What vfork makes begins with the size of its parent on its account.
	ballast := bytes.Repeat([]byte{1}, 128<<20)
	o, err = t.run(t.spec("exit", "0"))
	runtime.KeepAlive(ballast)
	if err != nil {
		return err
	}
	if rss := o.Usage.MaxRSS; o.Code != 0 || rss > 96<<20 {
		return fmt.Errorf("next to nothing was used, by a caller that has 128 MiB: told %d bytes of %v", rss, o)
	}
	return nil
}

func killPromises() []Promise {
	return []Promise{
		{Name: "kill/time-out", Says: "when its time is over, the command and all descendants are gone, sessions of their own or not", needs: killsAll, check: checkTimeOut},
		{Name: "kill/cancel", Says: "when the context is done, the command and all descendants are gone, and the error is its cause", needs: killsAll, check: checkCancel},
		{Name: "kill/cancel-before", Says: "with a context that is done, nothing is run", check: checkCancelBefore},
		{Name: "kill/daemon", Says: "what a command that ended leaves running is gone, though it holds the output open", needs: killsAll, check: checkDaemon},
		{Name: "kill/bomb", Says: "hundreds of processes that go on making more are gone", needs: killsAll, slow: true, check: checkBomb},
		{Name: "kill/in-time", Says: "a command that ends before its time is over was not timed out", check: checkInTime},
	}
}

// lifetime is how long processes live that nobody ends. All checks wait for
// less.
func (t *trial) lifetime() string { return strconv.Itoa(max(1, int(t.Lifetime/time.Second))) }

// soon is how long something may take that takes no time, where no machine has to
// boot for it.
func (t *trial) soon(d time.Duration) time.Duration {
	if t.caps.Boots {
		return t.patience()
	}
	return d
}

// wait is how long a check waits for something that takes no time.
func (t *trial) wait() time.Duration { return t.Lifetime / 2 }

// visible waits until a process with mark is running: the control that shows
// that it would be seen if it went on.
func (t *trial) visible(mark string) error {
	err := t.eventually(t.wait(), "control: a process of the command is visible on the host", func() bool { return len(t.alive(mark)) > 0 })
	if err != nil {
		return fmt.Errorf("%w: %w", errUnproven, err)
	}
	return nil
}

// gone checks that no process with mark is left. Whoever called Run may look
// at once.
func (t *trial) gone(mark string) error {
	if pids := t.alive(mark); len(pids) > 0 {
		return fmt.Errorf("processes %v are still alive", pids)
	}
	return nil
}

func checkTimeOut(t *trial) error {
	return t.timesOut(700*time.Millisecond, func(mark string) []string {
		return []string{"daemon", mark, t.lifetime(), "daemon", mark, t.lifetime(), "sleep", t.lifetime(), mark}
	})
}

// timesOut checks that a command, whose processes have the mark, is ended after
// wall; and after more, where that was too little to see one of them run.
func (t *trial) timesOut(wall time.Duration, command func(mark string) []string) error {
	for ; ; wall *= 4 {
		mark := t.mark()
		spec := t.spec(command(mark)...)
		spec.Limits.Wall = wall
		watch := *t
		var over context.CancelFunc
		watch.ctx, over = context.WithCancel(t.ctx)
		seen := make(chan error, 1)
		go func() { seen <- watch.visible(mark) }()
		begun := time.Now()
		o, err := t.run(spec)
		left := t.gone(mark)
		over()
		control := <-seen
		if err != nil {
			return err
		}
		if !o.TimedOut || o.Code == 0 {
			return fmt.Errorf("a command that takes longer: %v", o)
		}
		if took := time.Since(begun); took < wall || took > t.soon(wall+t.wait()) || o.Usage.Wall < wall {
			return fmt.Errorf("ended after %v, by its own account %v", took, o.Usage.Wall)
		}
		if left != nil || control == nil || wall > t.wait()/4 {
			return all(func() error { return left }, func() error { return control })
		}
	}
}

func checkCancel(t *trial) error {
	mark := t.mark()
	cause := errors.New("the cause")
	ctx, cancel := context.WithCancelCause(t.ctx)
	defer cancel(nil)
	seen := make(chan error, 1)
	go func() {
		seen <- t.visible(mark)
		cancel(cause)
	}()
	canceled := *t
	canceled.ctx = ctx
	o, err := canceled.run(t.spec("daemon", mark, t.lifetime(), "sleep", t.lifetime(), mark))
	left := t.gone(mark)
	if err == nil {
		return fmt.Errorf("no error, but %v", o)
	}
	if !errors.Is(err, cause) {
		return fmt.Errorf("an error that does not wrap the cause: %w", err)
	}
	return all(func() error { return left }, func() error { return <-seen })
}

func checkCancelBefore(t *trial) error {
	cause := errors.New("the cause")
	ctx, cancel := context.WithCancelCause(t.ctx)
	cancel(cause)
	f, err := t.temp()
	if err != nil {
		return err
	}
	defer f.Close()
	spec := t.spec("say", "I ran")
	spec.Stdout = f
	if _, err := t.Backend.Run(ctx, spec); !errors.Is(err, cause) {
		return fmt.Errorf("got error %v, want the cause", err)
	}
	return equal("output", readAll(f), "")
}

func checkDaemon(t *trial) error {
	mark := t.mark()
	// The command waits until we have seen its daemon.
	stdin, release, err := pipe(t)
	if err != nil {
		return err
	}
	spec := t.spec("daemon", mark, t.lifetime(), "cat")
	spec.Stdin = stdin
	seen := make(chan error, 1)
	go func() {
		seen <- t.visible(mark)
		release.WriteString("done")
		release.Close()
	}()
	begun := time.Now()
	got, err := t.succeed(spec)
	if err != nil {
		return err
	}
	left := t.gone(mark)
	if took := time.Since(begun); took > t.soon(t.Lifetime*3/4) {
		return fmt.Errorf("it ended after %v: somebody waited for the daemon", took)
	}
	if err := equal("output", got, "done"); err != nil {
		return err
	}
	return all(func() error { return left }, func() error { return <-seen })
}

func checkBomb(t *trial) error {
	return t.timesOut(1500*time.Millisecond, func(mark string) []string {
		return []string{"bomb", mark, t.lifetime(), "150"}
	})
}

func checkInTime(t *trial) error {
	spec := t.spec("say", "done")
	spec.Limits.Wall = patience
	got, err := t.succeed(spec)
	if err != nil {
		return err
	}
	return equal("output", got, "done")
}
