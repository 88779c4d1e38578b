package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/native"
	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/cmd/wiring"
	"github.com/sbx-action/sbx-action/leftover"
)

func sandboxCommand() command {
	return command{
		SettingFlags: map[string]string{"timeout": ""}, // who works in it is not cut off by the time for a build
		Name:         "sandbox", Settings: true, Args: "ROOTFS [FLAGS] -- [COMMAND [ARGUMENT…]]",
		Short: "run a command in a sandbox, without caching",
		Long: `
Runs COMMAND in the root file system ROOTFS: a directory, a name that 'rootfs
import' gave, a tar, the digest of a tree, or host. Nothing is cached. What the
command writes goes to a fresh layer above ROOTFS and is gone afterwards, but for
what --mount shares with the host, or with --commit. On a terminal the command
gets one of its own, with job control, but from the backends landlock, vm and
runsc, which have none to give.

The command has no network, sees no other process, and runs as the owner of a
directory ROOTFS, or as user 65000, without any privilege. Without a COMMAND the
one that the image names is run.

  sbx-action sandbox host -- sh -c 'id; ls /'
  sbx-action sandbox ./root --mount "$PWD:/src" --cwd /src -- make
  sbx-action sandbox bookworm --writable none --tmpfs /var/tmp -- ./test

The exit code is the command's own, 128+N when signal N ended it, 127 when it
was not found, 126 when it cannot be executed, and 125 when sbx-action failed.
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			f := sandboxFlags{flags: flags, network: "isolated", uid: -1, gid: -1}
			f.declareCache(flags)
			flags.StringVar(&f.backend, "backend", "", "`NAME` of the sandbox, of those that 'sbx-action backends --list' shows\n(default: the best that works here)")
			flags.StringVar(&f.cwd, "cwd", "", "`DIR` of the root in which the command starts (default: what the image says, or /)")
			flags.Var(&f.env, "env", "`NAME[=VALUE]`: set a variable; without a value, pass the caller's on; may be repeated")
			flags.BoolVar(&f.clearEnv, "clearenv", false, "set no variable but those of --env: neither PATH, which is always set else, nor\nwhat an image says")
			flags.StringVar(&f.network, "network", "isolated", "`KIND`: isolated, a loopback interface of its own; or host")
			flags.Var(&f.writable, "writable", "`PATH` of the root that can be written to, if not all of it; or none; or all;\nmay be repeated")
			flags.Var(&f.mounts, "mount", "`SRC:DST[:ro]`: show a directory or file of the host; without :ro the command\ncan change it; may be repeated")
			flags.Var(&f.tmpfs, "tmpfs", "`PATH` of an empty directory in memory; may be repeated")
			flags.BoolVar(&f.proc, "proc", true, "mount /proc; it cannot be left out")
			flags.StringVar(&f.stdout, "stdout", "", "`FILE` for standard output")
			flags.StringVar(&f.stderr, "stderr", "", "`FILE` for standard error; - for the same as standard output")
			flags.IntVar(&f.uid, "uid", -1, "`NUMBER` of the user that the command runs as; only root can choose")
			flags.IntVar(&f.gid, "gid", -1, "`NUMBER` of the group (default: the user's)")
			flags.StringVar(&f.seccomp, "seccomp", "", "`FILE` with a compiled BPF program, as bwrap's --seccomp takes it: system calls\ngo through it, too")
			flags.Var(&f.memory, "memory", "`SIZE`: most memory that the command may use, such as 512M")
			flags.Var(&f.pids, "pids", "`N`: most processes and threads at a time")
			flags.Var(&f.timeout, "timeout", "`DURATION` after which the command and all its children are killed")
			flags.BoolVar(&f.changes, "changes", false, "list what the command added, changed and deleted")
			flags.BoolVar(&f.commit, "commit", false, "make the directory ROOTFS as the command left it, if it succeeded")
			f.owned.declare(flags)
			f.owned.declareFiles(flags)
			flags.StringVar(&f.selinux.Process, "selinux-label", "", "`LABEL` of SELinux that the command gets, such as system_u:system_r:container_t:s0;\nrefused where SELinux is not active")
			flags.StringVar(&f.selinux.Mount, "selinux-mount-label", "", "`LABEL` of SELinux that the files of its root get")
			flags.BoolVar(&f.degrade, "degrade", false, "drop what the backend cannot do, and say so, instead of refusing")
			flags.BoolVar(&f.verbose, "verbose", false, "say on standard error what is done and why")
			return f.run
		},
	}
}

type sandboxFlags struct {
	wiringFlags
	flags *flag.FlagSet

	cwd, network, stdout, stderr string
	seccomp                      string
	env, writable, mounts, tmpfs list
	uid, gid                     int
	memory                       size
	pids                         count
	timeout                      span
	proc, degrade, clearEnv      bool
	changes, commit              bool
	owned                        ownerFlags
	selinux                      backends.SELinux

	dir string // ROOTFS, if it is a directory
}

// run makes a Spec of the flags, and runs it.
func (f *sandboxFlags) run(ctx context.Context, args []string) (err error) {
	source, args, err := f.words(args)
	if err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	log := commandline.Log(os.Stderr, "sbx-action", slog.LevelWarn, f.verbose)
	b, err := wiring.Choice{Name: f.backend, Options: native.Options{Once: true}, Log: log}.Open()
	if err != nil {
		return err
	}
	defer b.Close()
	spec := &backends.Spec{Args: args, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	defaults, done, err := f.root(ctx, source, spec, wiring.Basics(b), log)
	if err != nil {
		return err
	}
	defer done()
	if err := f.complete(spec, defaults, wiring.Basics(b)); err != nil {
		return err
	}
	if f.commit && f.dir == "" {
		return fmt.Errorf("--commit: %s is not a directory that could be changed", source)
	}
	if err := f.owned.apply(spec); err != nil {
		return err
	}
	if f.selinux != (backends.SELinux{}) {
		spec.SELinux = &f.selinux
	}
	closeFiles, err := f.redirect(spec)
	if err != nil {
		return err
	}
	if !wiring.Basics(b).OwnRoot && !slices.ContainsFunc(spec.Env, func(v string) bool { return strings.HasPrefix(v, "TMPDIR=") }) {
		spec.Env = append(spec.Env, "TMPDIR=/tmp") // of the root, wherever that is
	}
	if f.degrade {
		var dropped []string
		spec, dropped = backends.Degrade(spec, b.Capabilities())
		for _, d := range dropped {
			say("%s cannot do all that was asked for: %s", b.Name(), d)
		}
	}
	st, err := f.inTerminal(b, spec, func() (*backends.Status, error) { return f.runAndCompare(ctx, b, spec) })
	if err := errors.Join(err, closeFiles()); err != nil {
		if errors.Is(err, backends.ErrUnsupported) && !f.degrade {
			if _, dropped := backends.Degrade(spec, b.Capabilities()); len(dropped) > 0 {
				err = fmt.Errorf("%w; --degrade does without", err)
			}
			return fmt.Errorf("%w; 'sbx-action backends' says what the others can do", err)
		}
		return err
	}
	return f.verdict(st)
}

// inTerminal runs the command in a terminal of its own, connected to ours, if
// that is where it would talk to.
func (f *sandboxFlags) inTerminal(b backends.Backend, spec *backends.Spec, run func() (*backends.Status, error)) (*backends.Status, error) {
	if !isTTY(os.Stdin) || !isTTY(os.Stdout) || f.stdout != "" || f.stderr != "" || !wiring.Basics(b).Terminal {
		return run()
	}
	t, err := newTerminal(os.Stdin, os.Stdout)
	if err != nil {
		return nil, err
	}
	defer t.close()
	spec.Stdin, spec.Stdout, spec.Stderr, spec.Terminal = nil, nil, nil, t.connect
	if !slices.ContainsFunc(spec.Env, func(v string) bool { return strings.HasPrefix(v, "TERM=") }) {
		spec.Env = append(spec.Env, "TERM="+term())
	}
	return run()
}

// runAndCompare runs the command, and says or keeps what it left in the root.
func (f *sandboxFlags) runAndCompare(ctx context.Context, b backends.Backend, spec *backends.Spec) (*backends.Status, error) {
	if !f.changes && !f.commit && f.owned.save == "" {
		return b.Run(ctx, spec)
	}
	spec.KeepRoot = true
	began := time.Now()
	st, err := b.Run(ctx, spec)
	if err != nil || st.Root == nil {
		return st, err
	}
	defer st.Root.Close()
	if err := f.owned.write(st); err != nil {
		return st, err
	}
	if !f.changes && !f.commit {
		return st, nil
	}
	// Another root made of the same, in which nothing ran.
	fresh := backends.Spec{Root: spec.Root, Network: spec.Network, Args: []string{"/nothing/to/run"}, Dir: "/", KeepRoot: true}
	fresh.Root.ReadOnly = false
	none, err := b.Run(ctx, &fresh)
	if err != nil || none.Root == nil {
		return nil, fmt.Errorf("a root to compare with: %w", err)
	}
	defer none.Root.Close()
	after := fmt.Sprintf("/proc/self/fd/%d", st.Root.Fd())
	list, err := leftover.Changes(fmt.Sprintf("/proc/self/fd/%d", none.Root.Fd()), after, began)
	if err != nil {
		return nil, err
	}
	if f.changes {
		for _, c := range list {
			fmt.Fprintln(os.Stderr, changeLine(c))
		}
	}
	if !f.commit || st.Code != 0 {
		return st, nil
	}
	left, err := leftover.Apply(after, f.dir, list)
	for _, p := range left {
		say("--commit: left out %s", p)
	}
	if err != nil {
		return nil, fmt.Errorf("--commit: %w", err)
	}
	return st, nil
}

// words takes ROOTFS out, behind which flags may stand, too.
func (f *sandboxFlags) words(args []string) (source string, command []string, err error) {
	if len(args) == 0 {
		return "", nil, errors.New("no root file system: name one, as in 'sbx-action sandbox host -- ls /'")
	}
	source = args[0]
	if err := commandline.ParseFlags(f.flags, args[1:]); err != nil {
		return "", nil, err
	}
	return source, f.flags.Args(), nil
}

func (f *sandboxFlags) check() error {
	given := map[string]bool{}
	f.flags.Visit(func(fl *flag.Flag) { given[fl.Name] = true })
	switch {
	case f.network != "isolated" && f.network != "host":
		return fmt.Errorf("--network %s: want isolated or host", f.network)
	case f.uid < 0 && given["uid"]:
		return fmt.Errorf("--uid %d: want a number from 0 on", f.uid)
	case f.gid < 0 && given["gid"]:
		return fmt.Errorf("--gid %d: want a number from 0 on", f.gid)
	case slices.Contains(f.tmpfs, "/"):
		return errors.New("--tmpfs /: that is the root itself; what is written there is gone afterwards anyway")
	case f.uid > math.MaxInt32:
		return fmt.Errorf("--uid %d: no user has so large a number", f.uid)
	case f.gid > math.MaxInt32:
		return fmt.Errorf("--gid %d: no group has so large a number", f.gid)
	case f.memory > 0 && f.memory < 1<<20:
		return fmt.Errorf("--memory %d: no program starts with less than 1M", f.memory)
	case !f.proc:
		return errors.New("--proc=false: programs find themselves there, so it is always mounted")
	case len(f.writable) > 1 && (slices.Contains(f.writable, "all") || slices.Contains(f.writable, "none")):
		return errors.New("--writable: all and none go with nothing else")
	case f.stdout == "-":
		return errors.New("--stdout -: that is where it goes without the flag")
	}
	for _, p := range slices.Concat(f.tmpfs, f.writable) {
		if slices.Contains(f.tmpfs, p) && (p == "/proc" || p == "/dev") {
			return fmt.Errorf("--tmpfs %s: the sandbox has one of its own, which programs rely on: take another place", p)
		}
		if p != "all" && p != "none" && (!path.IsAbs(p) || path.Clean(p) != p) {
			return fmt.Errorf("%s: want an absolute path of the root, without dots", p)
		}
	}
	return nil
}

// verdict says what the command cannot say itself.
func (f *sandboxFlags) verdict(st *backends.Status) error {
	switch {
	case st.Start != nil:
		say("the command could not be started: %v", st.Start)
	case st.TimedOut:
		say("the command was killed after --timeout %v", time.Duration(f.timeout))
	case st.OutOfMemory:
		say("the command was killed because it needed more than --memory %d bytes", f.memory)
	}
	if st.Code != 0 {
		return exitCode(st.Code)
	}
	return nil
}
