package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/cmd/wiring"
	"github.com/sbx-action/sbx-action/integration/cc"
	"github.com/sbx-action/sbx-action/internal/front"
	"github.com/sbx-action/sbx-action/staging"
)

// ccFlags are the flags of cc. Those that are settings can also be given as
// variables of the environment, and in a file of the project: see settings.
type ccFlags struct {
	wiringFlags
	any, links, noStdin bool
	recache, readOnly   bool
	disable, failures   bool
	env, inputs         list
	path, root          string
	verify              count
	stats, zero, json   bool
	why, installLinks   string
	looked              lookups // for the settings
	flags               *flag.FlagSet
}

func (f *ccFlags) declare(flags *flag.FlagSet) {
	f.flags = flags
	f.declareCache(flags)
	f.declareLimit(flags)
	flags.StringVar(&f.backend, "backend", "", "`NAME` of the sandbox (default: the best that works here)")
	flags.BoolVar(&f.verbose, "verbose", false, "say on standard error what is done and why")
	flags.BoolVar(&f.any, "any", false, "COMPILER is a program of whatever kind; what it reads is found out")
	flags.BoolVar(&f.links, "cache-links", false, "cache links that compile nothing, too")
	flags.BoolVar(&f.noStdin, "no-stdin", false, "with --any: COMPILER does not read its standard input")
	flags.BoolVar(&f.recache, "recache", false, "run the compiler although there is a result, which is replaced")
	flags.BoolVar(&f.readOnly, "read-only", false, "take results from the cache, but add none, nor ask a remote, whose results are\nadded")
	flags.BoolVar(&f.disable, "disable", false, "only execute the compiler")
	flags.BoolVar(&f.failures, "cache-failures", false, "take calls that failed from the cache, too")
	flags.Var(&f.env, "env", "`NAME` of a variable to pass on, which is then in the key; may be repeated")
	flags.Var(&f.inputs, "inputs", "`DIR`: of the host the compiler sees the system's directories and those that\nare named in this way, and nothing else; may be repeated")
	flags.StringVar(&f.path, "path", "same", "`WHERE` the compiler sees files: same, at their own places, or fixed, as if the\nproject were in /build, so that checkouts at several places share results")
	f.remote.DeclareCache(flags)
	flags.StringVar(&f.root, "root", "", "`DIR` of the project, for --path fixed (default: the nearest directory, from the\ncurrent one up, that holds .sbx-cc or a repository; else the current one)")
	flags.Var(&f.verify, "verify", "`N`: of N hits, run the compiler for one all the same, and compare")
	flags.BoolVar(&f.stats, "stats", false, "print what happened so far, and why")
	flags.BoolVar(&f.zero, "zero", false, "forget what happened so far; with --stats, when it is printed")
	flags.BoolVar(&f.json, "json", false, "with --stats: print JSON")
	flags.Var((*given)(&f.why), "why", "print how `FILE` was made last, and why it did not come from the cache")
	flags.Var((*given)(&f.installLinks), "install-links", "make links to this program in `DIR`, by the names of the compilers that are\ninstalled: with DIR first on PATH, they are called instead")
}

func ccCommand() command {
	return command{
		Name: "cc", Quick: true, Args: "[FLAGS] COMPILER [ARGUMENT…]",
		Short: "cache a compiler's calls, as in CC=\"sbx-action cc gcc\"",
		Long: `
Behaves like COMPILER in every respect but the time that it takes: outputs,
standard output, standard error and exit code are the same. On a miss the
compiler runs in a sandbox, without network, and every path that it looks up is
noted, found or not; on a hit nothing is started. What is not understood, and
what fails, is executed as if we were not there.

  make CC="sbx-action cc gcc" AR="sbx-action cc ar"
  cmake -DCMAKE_C_COMPILER_LAUNCHER="sbx-action;cc"
  sbx-action cc --any bison -d parser.y
  sbx-action cc --stats

Each flag that is a setting has a variable, such as SBX_CC_CACHE_LINKS=1 for
--cache-links, and can stand in a file .sbx-cc of the project or a directory
above it, as in "cache-links = 1", a line each; lists have spaces in them. Flags
go before variables, variables before the file.
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			var f ccFlags
			f.declare(flags)
			return f.run
		},
	}
}

// linkedArgs is what a call by the name of another program, through a link to
// us, stands for.
func linkedArgs(name string) []string {
	if !cc.Knows(name) {
		return []string{"sbx-action", "cc", "--any", name}
	}
	return []string{"sbx-action", "cc", name}
}

func (f *ccFlags) run(ctx context.Context, args []string) error {
	f.looked.began = staging.Now()
	if err := f.together(); err != nil {
		return err
	}
	dir, err := cc.WorkingDirectory()
	if serr := f.settings(dir); serr != nil {
		return serr
	}
	if err := f.check(); err != nil {
		return err
	}
	if err := f.remote.Settle(); err != nil {
		return err
	}
	if serving != nil && !f.forWorker() {
		return errOwnProcess
	}
	if report, ok := f.report(); ok {
		interruptible(ctx)
		if len(args) > 0 {
			return fmt.Errorf("%q: --stats, --zero, --why and --install-links run no compiler", args[0])
		}
		return report(ctx)
	}
	if len(args) == 0 {
		return fmt.Errorf("no compiler: put it after cc, as in CC=\"sbx-action cc gcc\"")
	}
	j := &ccJob{ccFlags: f, self: cc.NewSelf(), args: args}
	if inner := j.within(); inner != nil {
		return again(inner)
	}
	if j.self.Is(args[0]) {
		j.args = append([]string{filepath.Base(args[0])}, args[1:]...)
	}
	if j.self.Called() { // the call by which the script was started is answered, and counted
		return j.execute()
	}
	if err != nil {
		return j.plain(cc.ReasonUnderRoot)
	}
	return j.run(ctx, dir)
}

// A ccJob is one call of a compiler.
type ccJob struct {
	*ccFlags
	self    *cc.Self
	args    []string
	call    *cc.Call
	parts   *parts
	stdin   *os.File // what we have read of standard input, and the compiler has not
	stdinAt int64    // where that begins, in a file that is left as it is
	want    cc.Want
	urls    bool // diagnostics may have links

	passing bool // no call has these arguments again: see [cc.Call.Aside]
}

// run finds or makes the result of the call, and delivers it.
func (j *ccJob) run(ctx context.Context, dir string) error {
	started := time.Now()
	writesFail()
	quits()
	if why := j.parse(dir); why != "" {
		return j.plain(why)
	}
	var err error
	if j.parts, err = j.openCC(action.BLAKE3, j.readOnly); err != nil {
		return j.broken(err)
	}
	s, done, told, err := j.answer(ctx)
	if s == nil && err == nil {
		return j.plain(cmp.Or(j.call.Plain, cc.ReasonUnderRoot))
	}
	if err != nil {
		return j.broken(err)
	}
	if done.Result.ExitCode != 0 && len(j.want.Limits) > 0 {
		return j.undeclared(ctx, s, done)
	}
	if why := j.parts.blobs.reason(); why != nil && errors.Is(done.Unkept, action.ErrMiss) {
		done.Unkept = why // for which an output that it names is not there
	}
	event, doubt := j.judge(s, done)
	if doubt != "" {
		return j.doubted(done, doubt)
	}
	if done, err = j.verified(ctx, s, done); err != nil {
		return j.broken(err)
	}
	if err = j.deliver(ctx, s, done); errors.Is(err, action.ErrMiss) { // an output is damaged, or gone by now
		if s, done, err = j.remake(ctx, s, err); err == nil {
			event = done.Event()
		}
	}
	if err != nil {
		return j.broken(err)
	}
	j.explain(done)
	if err := passOn(done); err != nil {
		return j.broken(err)
	}
	serving.delivers()
	if !j.readOnly && done.Result.ExitCode == 0 {
		j.remember(ctx, s, done, started)
	}
	j.record(event)
	if !told && !j.passing {
		j.leaveMemo(ctx, s, done, dir)
	}
	return j.finish(done)
}

// judge says what is counted of the call, and why its failure is not believed, or "".
func (j *ccJob) judge(s *cc.Session, done *cc.Done) (event cc.Event, doubt string) {
	event = done.Event()
	if event.Outcome == cc.Miss && j.parts.remote.silent() {
		event.Reason = cc.ReasonRemote
	}
	switch {
	case done.Result.ExitCode == 0:
		return event, ""
	case j.failures:
		return event, done.Complaint()
	}
	return cc.Event{Outcome: cc.Failed, Reason: cc.ReasonMistake}, s.Doubt(done)
}

// finish ends the call as the compiler did.
func (j *ccJob) finish(done *cc.Done) error {
	if !done.Cached && j.forWorker() {
		beginWarm(j.parts, true)
	}
	j.parts.Close()
	if done.Result.ExitCode != 0 {
		return exitCode(done.Result.ExitCode)
	}
	return nil
}

// deliver writes the outputs, where nothing speaks against it.
func (j *ccJob) deliver(ctx context.Context, s *cc.Session, done *cc.Done) error {
	if err := errors.Join(j.heard(done), s.InPlace(done.Result)); err != nil {
		return err
	}
	if j.stdin == nil || j.call.Stdin {
		return s.Deliver(ctx, done.Result)
	}
	n, err := s.Consumed(ctx, done)
	if err == nil {
		err = s.Deliver(ctx, done.Result)
	}
	if err == nil {
		err = j.leaveStdin(n)
	}
	return err
}

// doubted executes the compiler, because there is a reason for which it may have failed
// in the sandbox only.
func (j *ccJob) doubted(done *cc.Done, doubt string) error {
	if serving != nil {
		return j.execute()
	}
	if j.verbose {
		say("cc: executed outside: it failed in the sandbox, and %s", doubt)
	}
	j.record(cc.Event{Outcome: cc.Failed, Reason: done.Why()})
	return j.execute()
}

// remake makes a result anew, of which something was lost, and delivers it.
func (j *ccJob) remake(ctx context.Context, s *cc.Session, lost error) (*cc.Session, *cc.Done, error) {
	s = s.Again()
	done, err := s.Run(ctx, cc.Options{Recache: true, ReadOnly: j.readOnly})
	if err != nil {
		return s, nil, err
	}
	done.Miss = lost
	if done.Result.ExitCode != 0 {
		return s, done, fmt.Errorf("it failed: %w", cc.ErrPlain)
	}
	return s, done, j.deliver(ctx, s, done)
}

// undeclared says what a strict call that failed was not shown. It is not
// executed outside, where it would see everything.
func (j *ccJob) undeclared(ctx context.Context, s *cc.Session, done *cc.Done) (err error) {
	if done.Cached {
		s = s.Again()
		if done, err = s.Run(ctx, cc.Options{Recache: true, ReadOnly: j.readOnly}); err != nil {
			return j.broken(err)
		}
	}
	j.record(cc.Event{Outcome: cc.Failed, Reason: done.Why()})
	_, _ = os.Stdout.Write(done.Stdout) // it has failed as it is
	_, _ = os.Stderr.Write(done.Stderr)
	for _, dir := range s.Hints(done) {
		say("cc: it looked for something in %s, which is not among --inputs: add --inputs %s", dir, shellQuote(dir))
	}
	return exitCode(done.Result.ExitCode)
}

// parse says why the call can only be executed, or "".
func (j *ccJob) parse(dir string) cc.Reason {
	kind := cc.Unknown
	if j.any {
		kind = cc.Any
	}
	j.call = cc.Parse(kind, dir, j.args)
	switch {
	case j.disable:
		return cc.ReasonDisabled
	case j.call.Plain != "":
		return j.call.Plain
	case j.call.Kind == cc.Link && j.call.Sources == 0 && !j.links:
		return cc.ReasonLink
	case front.Closed(1), front.Closed(2):
		return cc.ReasonClosed
	case cc.MasksOwner():
		return cc.ReasonUmask
	case cc.Loaded(os.LookupEnv):
		return cc.ReasonPreload
	case cc.Restricted():
		return cc.ReasonDomain
	case !j.any && j.self.IsWrapper(j.args[0], os.Getenv("PATH")):
		return cc.ReasonWrapped
	}
	j.want.Root = cc.ProjectRoot(dir, j.looked.exists)
	if j.root != "" {
		if root, err := filepath.Abs(j.root); err == nil {
			j.want.Root, _ = filepath.EvalSymlinks(root)
		}
	}
	j.call.Script = j.call.Kind != cc.Any && (j.call.Extended(os.Getenv) || j.self.IsScript(j.args[0], os.Getenv("PATH")))
	j.want.Env = j.environment()
	for _, d := range j.inputs {
		j.want.Limits = append(j.want.Limits, d)
	}
	if why := j.readStdin(); why != "" {
		return why
	}
	if j.call.Jobserver {
		if serving != nil {
			return cc.ReasonJobserver // its descriptors are the caller's
		}
		server, ok := cc.FindJobserver(os.Getenv("MAKEFLAGS"))
		if !ok || j.call.Stdin {
			return cc.ReasonJobserver
		}
		server.Pass(&j.want)
	}
	return j.call.Plain
}

// environment is what of the environment the call is given.
func (j *ccJob) environment() []action.EnvironmentVariable {
	env, mark := j.self.Mark(j.args[0], os.Getenv("PATH"), os.Environ())
	return j.call.Environment(env, append(slices.Clone(j.env), mark), j.self.LinksIn(j.args[0]))
}

// readStdin takes what comes on standard input, where the call reads it.
func (j *ccJob) readStdin() cc.Reason {
	if !j.call.Stdin && (j.call.Kind != cc.Any || j.noStdin) {
		return ""
	}
	if front.Closed(0) {
		return cc.ReasonClosed
	}
	info, err := os.Stdin.Stat()
	switch {
	case err != nil: // closed
		return ""
	case j.call.Stdin && info.Mode().IsRegular():
		if at, err := os.Stdin.Seek(0, io.SeekCurrent); at != 0 || err != nil {
			return cc.ReasonStdin // GCC finds it shorter than it expects
		}
	case j.call.Stdin, info.Mode().IsRegular():
	case info.Mode()&os.ModeCharDevice != 0: // a terminal, or nothing
		return ""
	default:
		return cc.ReasonStdin
	}
	if info.Mode()&os.ModeCharDevice != 0 && cc.IsTerminal(0) {
		return cc.ReasonStdin // whoever types wants an answer now
	}
	data, err := j.takeStdin()
	if err != nil {
		return cc.ReasonStdin
	}
	if j.stdin, err = cc.Hold(data); err != nil {
		return cc.ReasonStdin
	}
	j.want.Stdin, j.want.Source = data, j.stdin
	return ""
}

func (j *ccJob) explain(done *cc.Done) {
	switch {
	case !j.verbose:
	case done.Cached:
		say("cc: hit %v", done.Key)
	case done.Unkept != nil:
		say("cc: miss: %s; not kept: %s", j.named(fmt.Sprint(done.Miss)), j.named(done.Unkept.Error()))
	default:
		say("cc: miss: %s", j.named(fmt.Sprint(done.Miss)))
	}
}

// broken executes the compiler, because something of ours failed.
func (j *ccJob) broken(err error) error {
	if serving != nil {
		return j.execute()
	}
	if j.verbose {
		say("cc: executed: %v", err)
	}
	event := cc.Fault(err)
	if errors.Is(err, errStore) {
		event.Reason = cc.ReasonStore
	}
	j.record(event)
	return j.execute()
}

// plain executes the compiler, because we do not understand the call.
func (j *ccJob) plain(why cc.Reason) error {
	if serving != nil {
		return j.execute()
	}
	if j.verbose {
		say("cc: executed: %s", why)
	}
	j.record(cc.Event{Outcome: cc.Plain, Reason: why})
	return j.execute()
}

// record counts the call.
func (j *ccJob) record(e cc.Event) {
	dir, err := wiring.CacheDir(j.cache)
	if err != nil {
		return
	}
	cc.Record(wiring.StatDir(dir), e, func() bool {
		_, err := cache.Open(dir, cache.Options{ReadOnly: true})
		return err == nil && !j.readOnly // else nothing is made there
	})
}

// execute becomes the compiler.
func (j *ccJob) execute() error {
	if j.parts != nil {
		j.parts.Close()
	}
	if serving != nil { // it cannot become anything
		if j.call == nil || j.call.Stdin {
			serving.stdin = j.stdin
		}
		return errOwnProcess
	}
	if j.stdin != nil && j.call.Stdin {
		err := cc.GiveBack(j.stdin)
		if err != nil {
			return fmt.Errorf("give standard input back: %w", err)
		}
	}
	path, err := j.self.Find(j.args[0], os.Getenv("PATH"))
	if err == nil {
		args, env := j.self.Alone(path, j.args, os.Environ())
		front.Exact()
		deadlyAgain()
		err = cc.Exec(path, args, env)
		writesFail()
	}
	say("cc: %v", err)
	if errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.ENOEXEC) {
		return exitCode(126)
	}
	return exitCode(127)
}
