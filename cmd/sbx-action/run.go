package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/internal/await"
	"github.com/sbx-action/sbx-action/internal/front"
)

// runFlags are the flags of run, and of explain, which takes the same ones so
// that "explain" can be put in the place of "run".
type runFlags struct {
	wiringFlags
	inputs, outputs, env list
	cwd                  string
	stdin                string
	timeout              span
	memory, scratch      size
	pids                 count
	digest               function
	network              bool
	noCache              bool
	readOnly             bool
	refresh              bool
	cacheFailures        bool
	keepFailed           bool
	json                 bool
	verify               rounds
	insight
	inside insideFlags
	owned  ownerFlags

	many // of run alone
	set  *flag.FlagSet
	cli  map[string]bool   // the flags that the command line has
	name string            // of the action in its file
	tell func(line string) // where say says it; nil: on standard error

	spared bool // the store could not be written, and we have said so
}

func (f *runFlags) declare(flags *flag.FlagSet) {
	f.wiringFlags.declare(flags)
	f.declareLimit(flags)
	f.remote.Declare(flags)
	f.digest.Function = action.BLAKE3
	flags.Var(&f.inputs, "i", "`INPUT`: a file, a directory with all that is in it, a glob ('src/**/*.h'),\n@FILE with one input a line, DIR=DIGEST for a tree of the store, or\n!GLOB to leave out what earlier ones took in; may be repeated")
	flags.Var(&f.outputs, "o", "`OUTPUT`: a file, directory, link or glob that the command makes; may be repeated")
	flags.Var(&f.env, "env", "`NAME[=VALUE]`: set a variable; without a value, pass the caller's on;\nnothing else of the caller's environment is seen; may be repeated")
	flags.StringVar(&f.cwd, "cwd", "", "`DIR` of the workspace in which the command starts")
	flags.StringVar(&f.stdin, "stdin", "", "`FILE` for the command's standard input; its content is in the key")
	flags.Var(&f.timeout, "timeout", "`DURATION` after which the command and all its children are killed")
	flags.Var(&f.memory, "memory", "`SIZE`: most memory that the command may use, such as 512M; where no control\ngroup can be made, each process, and each of /tmp, /dev/shm and its root")
	flags.Var(&f.scratch, "scratch", "`SIZE`: most that the command may write into its root, and as many again\ninto each of /tmp and /dev/shm")
	flags.Var(&f.pids, "pids", "`N`: most processes and threads at a time")
	flags.Var(&f.digest, "digest", "`FUNCTION` of all digests: blake3 or sha256")
	flags.BoolVar(&f.network, "network", false, "let the command use the host's network; part of the key")
	flags.BoolVar(&f.noCache, "no-cache", false, "run it, and do not remember the result")
	flags.BoolVar(&f.readOnly, "read-only", false, "take results from the cache, but add none")
	flags.BoolVar(&f.refresh, "refresh", false, "run it although there is a result, which is replaced")
	flags.BoolVar(&f.cacheFailures, "cache-failures", false, "remember a command that failed, and take failures from the cache")
	flags.BoolVar(&f.keepFailed, "keep-failed", false, "write the outputs that exist even if the command failed")
	flags.Var(&f.verify, "verify", "run it again under other conditions, once or `N` times, and compare")
	f.inside.declare(flags)
	f.owned.declare(flags)
	flags.BoolVar(&f.json, "json", false, "print one line of JSON on standard output that says what happened, or with\n\"error\" why sbx-action failed; the command's own output goes to standard error")
	f.insight.declare(flags)
}

func runCommand() command {
	return command{
		Name: "run", Quick: true, Settings: true, Args: "[FLAGS] -- COMMAND [ARGUMENT…]\n       sbx-action run -f FILE [FLAGS] [TARGET…]",
		Short: "run a command sandboxed, or take its outputs from the cache",
		Long: `
Runs COMMAND in a fresh root file system that holds the inputs and nothing else
of the workspace, without network, and writes its outputs into the workspace.
If the same action ran before, nothing runs: outputs, standard output and
standard error come from the cache.

The workspace is the current directory; in the sandbox it is /build. Paths in
-i and -o are relative to it. The exit code is the command's own, 128+N when
signal N ended it, 127 when it was not found, 126 when it cannot be executed,
and 125 when sbx-action itself failed.

  sbx-action run -i src -i include -o app -- make -C src app
  sbx-action run -i 'src/*.c' -i '!src/old*' -o 'out/*.o' -- ./compile-all

With -f it runs the actions of a file, many at a time, each after those whose
outputs it needs: all of them, or the TARGETs, which are names of actions or
outputs. Inputs, outputs and the like are in the file; flags that are given
here count for all of them; --unused, --changes and --keep look into those that
are named. The exit code is 1 if a command failed, and 125 if sbx-action did.
docs/actionfile.md describes the file; 'sbx-action graph' shows what is in one.
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			var f runFlags
			f.declare(flags)
			f.many.declare(flags)
			f.set = flags
			return f.run
		},
	}
}

func (f *runFlags) run(ctx context.Context, args []string) (err error) {
	started := time.Now()
	f.cli = map[string]bool{}
	f.set.Visit(func(fl *flag.Flag) { f.cli[fl.Name] = true })
	promised.given = f.json
	if f.file != "" {
		if serving != nil {
			return errOwnProcess
		}
		return f.runFile(ctx, args)
	}
	for _, err := range []error{f.checkSingle(), f.check(args), f.inside.keep.check()} {
		if err != nil {
			return err
		}
	}
	if serving != nil && !f.forWorker() {
		return errOwnProcess
	}
	if f.suggest {
		return f.suggestInputs(ctx, args)
	}
	f.late = true
	job, err := f.describe(ctx, args)
	if err != nil {
		return err
	}
	defer job.Close()
	job.parts.witness.Hold = front.Wanted()
	line := &sink{to: os.Stdout, name: "output"}
	out, err := f.runJob(ctx, job, started, streams{os.Stdout, os.Stderr, line}, nil)
	promised.kept = line.used
	if out != nil && out.Started && f.forWorker() {
		beginWarm(job.parts, false)
	}
	if err == nil {
		f.leaveMemo(ctx, job, out)
	}
	return err
}

// streams are where the output of a command goes, and the line of --json.
type streams struct{ stdout, stderr, json io.Writer }

// runJob runs one action, and does with what came out all that the flags ask
// for. What admit is for, Request.Admit says. The outcome may be nil if there is
// an error.
func (f *runFlags) runJob(ctx context.Context, job *job, started time.Time, to streams, admit func(context.Context) (func(), error)) (*action.Outcome, error) {
	stdout, stderr := &sink{to: to.stdout, name: "output"}, &sink{to: to.stderr, name: "errors"}
	if f.json {
		stdout.to = to.stderr
	}
	req := f.request(job, stdout, stderr)
	req.Admit = admit
	req.Elsewhere = f.verify == 0 && !f.unused && !f.owned.record && job.machine == nil // these look at how it ran
	check := f.checker(job, req, started)
	if f.inside.shell {
		return nil, f.inside.enter(ctx, job, req)
	}
	left := f.inside.watch(job, req)
	left.tell = f.tell
	out, err := f.runAndDeliver(ctx, job, req)
	if serving.gives(ctx, out, err) {
		return out, errOwnProcess
	}
	f.remember(ctx, job, req, out, err, started)
	if err != nil {
		return out, err
	}
	var hints []string
	if out.Status != nil && out.Status.Code != 0 {
		hints = job.hints(out.Status)
	}
	f.account(out)
	if err := f.logLine(ctx, job, out, started); err != nil {
		return out, err
	}
	if err := check.result(ctx, out); err != nil {
		return out, err
	}
	left.report(f.json)
	unused := f.neverRead(job, out)
	if f.json {
		if err := printJSON(to.json, job, out, hints, unused, check.report, left, started); err != nil {
			return out, err
		}
	}
	if err := f.verdict(out, hints); err != nil {
		return out, err
	}
	return out, errors.Join(stdout.err, stderr.err, check.verdict())
}

// request is what the runner is asked for.
func (f *runFlags) request(job *job, stdout, stderr io.Writer) *action.Request {
	return &action.Request{
		Machine: job.machine,
		Action:  job.action, Command: job.command, Save: job.save, Stdin: job.stdin, Stdout: stdout, Stderr: stderr,
		Limits: backends.Limits{
			Wall: time.Duration(f.timeout), Memory: int64(f.memory), Pids: int64(f.pids), Scratch: int64(f.scratch),
		},
		SkipLookup: f.refresh || f.noCache || f.unused, SkipStore: f.readOnly || f.noCache, CacheFailures: f.cacheFailures,
		Observe: true, Network: networkOf(f.network), Prune: f.pruner(job), Intact: job.intact, Certain: serving.certain,
	}
}

// A sink passes on what a command writes, and keeps the first failure: the
// command does not notice it, so we have to say it.
type sink struct {
	to   io.Writer
	name string
	err  error
	used bool // something was written
}

func (s *sink) Write(p []byte) (int, error) {
	s.used = true
	n, err := s.to.Write(p)
	if err != nil && s.err == nil {
		serving.failed(err)
		s.err = fmt.Errorf("the command's standard %s could not be passed on: %w", s.name, err)
	}
	return n, err
}

// runAndDeliver writes the outputs of the action into the workspace if the
// command succeeded. A blob that vanished since the look-up makes a miss, inputs
// that the store has lost are stored anew, and a store that cannot be written is
// replaced by one for this action only.
func (f *runFlags) runAndDeliver(ctx context.Context, job *job, req *action.Request) (*action.Outcome, error) {
	for healed := false; ; {
		out, err := job.runner.Run(ctx, req)
		if lost, ok := job.heal(ctx, out, err); ok && !healed {
			healed = true
			if err := job.restore(ctx, lost); err != nil {
				return out, err
			}
			if printed, _ := req.Stdout.(*sink); printed == nil || !printed.used { // else somebody would read it twice
				f.say("the store had lost %q or damaged it: the command runs with it stored anew", lost.name)
				continue
			}
		}
		if why := job.parts.blobs.reason(); why != nil && out.Unkept != nil {
			out.Unkept = why
		}
		again := err != nil && out.Cached // the replay found a blob gone
		if err == nil && (f.keepFailed || out.Result.ExitCode == 0 && len(out.Missing) == 0) {
			err = job.deliver(ctx, out.Result)
			again = err != nil && out.Cached
		}
		if errors.Is(err, cache.ErrUnwritable) && !out.Started && !f.spared {
			f.say("this result will not be kept: %v", err)
			req.SkipStore, f.spared = true, true
			job.withoutLayers()
			continue
		}
		if again && errors.Is(err, action.ErrMiss) && !req.SkipLookup {
			req.SkipLookup = true
			continue
		}
		return out, err
	}
}

// verdict says on standard error what the user must know, and gives the exit
// code of the program.
func (f *runFlags) verdict(out *action.Outcome, hints []string) error {
	code := int(out.Result.ExitCode)
	if code == 0 && len(out.Missing) == 0 {
		if out.Unkept != nil && !f.noCache && !f.readOnly && !f.spared {
			f.say("the result was not cached: %v", out.Unkept)
		}
		return nil
	}
	if code == 0 {
		for _, m := range out.Missing {
			f.say("the command succeeded but did not make the output %q%s", path.Join(f.cwd, m.Path), near(m.Near))
		}
		return exitCode(exitOurs)
	}
	if s := out.Status; s != nil {
		switch {
		case s.Start != nil:
			f.say("the command could not be started: %v", s.Start)
		case s.TimedOut:
			f.say("the command was killed after --timeout %v", time.Duration(f.timeout))
		case s.OutOfMemory:
			f.say("the command was killed because it needed more than --memory %d bytes", f.memory)
		}
	}
	for _, hint := range hints {
		add := "-i " + shellWord(hint)
		if f.name != "" {
			add = "it to inputs"
		}
		f.say("it looked for %s, which is in the workspace but was not declared: add %s", hint, add)
	}
	return exitCode(code)
}

// account says of --verbose what was done, and why.
func (f *runFlags) account(out *action.Outcome) {
	why := ""
	switch {
	case out.Miss == nil:
	case strings.HasSuffix(out.Miss.Error(), ": not present"):
		why = ", for the store has no result of it ('sbx-action why' compares it with earlier runs)"
	default:
		why = fmt.Sprintf(", for %v", out.Miss)
	}
	switch {
	case !f.verbose:
	case out.Pruned:
		f.say("hit: the result of a run with other inputs, which the command did not look at: %v", out.Key)
	case out.Cached:
		f.say("hit: the result is from the cache: %v", out.Key)
	case out.Away != nil:
		f.say("another machine ran it%s: %v", why, out.Key)
	default:
		f.say("ran in %v%s: %v", out.Times.Run.Round(100*time.Microsecond), why, out.Key)
	}
}

// logLine appends what happened to --log, in one write.
func (f *runFlags) logLine(ctx context.Context, job *job, out *action.Outcome, started time.Time) error {
	if f.log == "" {
		return nil
	}
	file, err := await.Done(ctx, func() (*os.File, error) {
		return os.OpenFile(f.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o666)
	})
	if err != nil {
		return fmt.Errorf("--log: %w; name a file in a directory that is there and can be written", err)
	}
	defer file.Close()
	verb := "run"
	if out.Cached {
		verb = "hit"
	}
	what := strings.Join(f.outputs, " ")
	if what == "" {
		what = strings.Join(job.command.Arguments, " ")
	}
	if strings.ContainsFunc(what, unicode.IsControl) { // one line, whatever the names are
		what = strconv.Quote(what)
	}
	_, err = fmt.Fprintf(file, "%s %.6f %s\n", verb, time.Since(started).Seconds(), what)
	return err
}

// sayThrough is where say says it while something is drawn on the terminal; else
// nil.
var sayThrough func(line string)

// say prints one line about what the user must know.
func say(format string, args ...any) {
	if !serving.stands() {
		return // the caller will say it
	}
	serving.tells()
	line := "sbx-action: " + commandline.Visible(fmt.Sprintf(format, args...))
	if sayThrough != nil {
		sayThrough(line)
		return
	}
	fmt.Fprintln(os.Stderr, line)
}

// say is say, for one of many actions perhaps.
func (f *runFlags) say(format string, args ...any) {
	if f.tell == nil {
		say(format, args...)
		return
	}
	f.tell(fmt.Sprintf(format, args...))
}

// near is the end of a sentence that names what might have been meant.
func near(names []string) string {
	switch len(names) {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("; it made %q: is that what you mean?", names[0])
	}
	return fmt.Sprintf("; it made %q: is one of them what you mean?", names)
}

// shellQuote quotes s for a shell, where it needs it.
func shellQuote(s string) string {
	plain := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-/+,@%:=", r))
	}
	if s != "" && !strings.ContainsFunc(s, plain) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
