package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/internal/warm"
	"github.com/sbx-action/sbx-action/staging"
)

type warmFlags struct {
	jobs  count
	count bool
}

func warmCommand() command {
	return command{
		Name: "warm", Quick: true, Args: "[--jobs N] [--] COMMAND [ARGUMENT…]",
		Short: "run a build with processes that wait for its actions",
		Long: `
Becomes COMMAND, as env does, with processes beside it that have done what each
'sbx-action run' and 'sbx-action cc' would do first: a miss of a small command takes
half as long. They end with COMMAND, however that ends; nothing stays behind.

  sbx-action warm make -j8
  sbx-action warm --jobs 4 -- ninja

A build that misses twice (by ninja: three times) gets such processes by itself,
four at most, for what comes after that: see docs/warm.md. SBX_WARM=off in the
environment switches that off.

Nothing else changes: what is in the cache, what a command sees, and what is printed.
Calls for which no process is free, those in other circumstances (another user,
other limits or namespaces) and those of rare kinds do without, as always.

Without COMMAND it prints the variable that calls need, and stays until Ctrl-C.
With --count it prints how many calls were answered in this session.
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			f := warmFlags{jobs: count(min(runtime.NumCPU(), warm.Most))}
			flags.Var(&f.jobs, "jobs", "`N` processes, for as many actions at a time")
			flags.BoolVar(&f.count, "count", false, "print how many calls the session in "+warm.Variable+" has answered and declined")
			return f.run
		},
	}
}

func (f *warmFlags) run(ctx context.Context, args []string) error {
	if f.count {
		return f.printCounts(args)
	}
	if f.jobs < 1 || f.jobs > warm.Most {
		return fmt.Errorf("--jobs %d: want a number from 1 to %d", f.jobs, warm.Most)
	}
	if len(args) == 0 {
		return f.stay(ctx)
	}
	return f.become(args)
}

// errOwnProcess says that a call has to have a process of its own. It is for a
// worker, whose caller goes on then as if there were none.
var errOwnProcess = errors.New("this needs a process of its own")

// serving is what this process is, if it is one of a warm session; else nil.
var serving *warmWorker

// A warmWorker answers the calls of other processes.
type warmWorker struct {
	backend backends.Backend // with a sandbox that is prepared
	digests *staging.Recalled
	stdin   *os.File // what the caller's standard input is to be when the call is declined; or nil
	said    bool     // the user was told something
	ran     bool     // the caller's command did, or its result was found

	same   func() bool // whether the caller is as we are
	reads  func()      // tells the caller that its standard input is read
	cancel func()      // ends the call
	broken atomic.Bool // nobody reads any more what the command writes
}

// recalled is what all calls know of files, or nil.
func (w *warmWorker) recalled() *staging.Recalled {
	if w == nil {
		return nil
	}
	return w.digests
}

// kept is the backend of all calls, or nil.
func (w *warmWorker) kept() backends.Backend {
	if w == nil {
		return nil
	}
	return w.backend
}

// gives says whether a call that failed is given back to the caller, which will say
// why it fails: nothing has happened yet that anybody could have noticed.
func (w *warmWorker) gives(ctx context.Context, out *action.Outcome, err error) bool {
	if w == nil {
		return false
	}
	if errors.Is(err, errOwnProcess) {
		return true
	}
	w.ran = w.ran || out != nil && (out.Started || out.Cached)
	return err != nil && !w.said && !w.ran && ctx.Err() == nil
}

// delivers notes that there is no way back.
func (w *warmWorker) delivers() {
	if w != nil {
		w.ran = true
	}
}

// failed looks at an error of writing to the caller's standard streams. A process of
// the caller's own ends when nobody reads any more.
func (w *warmWorker) failed(err error) {
	if w != nil && errors.Is(err, syscall.EPIPE) {
		w.broken.Store(true)
		w.cancel()
	}
}

// stands says whether this process may do what the caller wants, which is asked
// before anything is done that others could notice.
func (w *warmWorker) stands() bool { return w == nil || w.same() }

// certain is stands for a runner.
func (w *warmWorker) certain() error {
	if !w.stands() {
		return errOwnProcess
	}
	return nil
}

// stderr is the caller's standard error, for who has not asked whether we stand.
func (w *warmWorker) stderr() io.Writer {
	if w == nil {
		return os.Stderr
	}
	return unproven{w}
}

type unproven struct{ *warmWorker }

func (u unproven) Write(p []byte) (int, error) {
	if !u.stands() {
		return len(p), nil // the caller will find it out, too
	}
	return os.Stderr.Write(p)
}

// takesStdin notes that the caller's standard input is read.
func (w *warmWorker) takesStdin() {
	if w != nil {
		w.reads()
	}
}

// tells notes that a message goes out.
func (w *warmWorker) tells() {
	if w != nil {
		w.said = true
	}
}

// forWorker says whether a worker can answer the call: it has one backend, no
// terminal, no descriptors of the caller's but the standard streams, and all that
// other processes do for us is done for one caller.
func (f *runFlags) forWorker() bool {
	rare := f.inside.shell || f.inside.keep.set || f.inside.changes || f.suggest || f.unused || f.verify > 0 || f.owned.record || f.owned.arch != "" ||
		f.pids > 0 || f.remote.Address != ""
	return !rare && f.wiringFlags.forWorker(f.set)
}

func (f *ccFlags) forWorker() bool {
	rare := f.stats || f.zero || f.why != "" || f.installLinks != "" || f.verify > 0 || slices.ContainsFunc(f.flags.Args(), namesDescriptor)
	return !rare && f.wiringFlags.forWorker(f.flags)
}

func (w *wiringFlags) forWorker(flags *flag.FlagSet) bool {
	plain := (w.backend == "" || w.backend == "native") && os.Getenv("SANDBOXLIB_BACKEND") == "" && os.Getenv("SBX_REMOTE") == ""
	flags.VisitAll(func(f *flag.Flag) { plain = plain && !namesDescriptor(f.Value.String()) })
	return plain
}

// namesDescriptor says whether a text may name a file that is another one in each
// process.
func namesDescriptor(s string) bool {
	for _, name := range []string{"/dev/fd", "/dev/std", "/dev/tty", "/proc/"} {
		if strings.Contains(s, name) {
			return true
		}
	}
	return false
}
