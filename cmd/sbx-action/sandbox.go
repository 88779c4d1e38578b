package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/native"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/cmd/wiring"
	"github.com/sbx-action/sbx-action/leftover"
	"github.com/sbx-action/sbx-action/staging"
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

// imageDefaults is what an image says of commands: images.Config, as 'rootfs
// import' has stored it.
type imageDefaults struct {
	Args, Env   []string
	Dir         string
	User, Group string // numbers, names, or empty
}

// ids returns the user and the group that the image wants, -1 where it has none
// that we take: names mean something only to the image's own passwd, and its root
// is not the host's, for which --uid 0 has to be said.
func (d *imageDefaults) ids() (user, group int) {
	number := func(s string) int {
		if n, err := strconv.ParseUint(s, 10, 31); err == nil && n > 0 {
			return int(n)
		}
		return -1
	}
	if user = number(d.User); user < 0 {
		return -1, -1
	}
	return user, number(d.Group)
}

// root finds what ROOTFS means and fills spec.Root. What it returns besides
// ends what the root needs.
func (f *sandboxFlags) root(ctx context.Context, source string, spec *backends.Spec, c backends.Capabilities, log *slog.Logger) (*imageDefaults, func(), error) {
	none := func() {}
	if info, err := os.Stat(source); err == nil && info.IsDir() && source != "host" {
		if err := notImage(source, func(name string) bool { _, err := os.Lstat(filepath.Join(source, name)); return err == nil }); err != nil {
			return nil, nil, err
		}
		owner := fileOwner(info)
		if c.Owner != backends.ID {
			owner = -1 // all files are the caller's
		}
		if c.Overlay && (owner < 0 || owner == backends.ID || c.Users) {
			dir, err := filepath.Abs(source)
			if err == nil {
				dir, err = filepath.EvalSymlinks(dir)
			}
			spec.Root.Lowers, f.dir = []backends.Layer{{Dir: dir}}, dir
			if owner >= 0 {
				spec.Root.As = &owner
			}
			return &imageDefaults{}, none, err
		}
		if f.commit {
			return nil, nil, errors.New("--commit: the backend cannot put a layer above the directory, or not run the command as its owner: take another one")
		}
		log.Info("the command gets a copy of the directory: the backend cannot put a layer above it, or not run the command as its owner")
	}
	f.rootfs = source
	p, err := f.open(ctx, action.BLAKE3, f.networkKind(), false)
	if err != nil {
		return nil, nil, err
	}
	done := func() { p.Close() }
	defaults, err := f.stage(ctx, p, spec, c, log)
	if err != nil {
		done()
		return nil, nil, err
	}
	return defaults, done, nil
}

// stage makes the root of a tree or of the host.
func (f *sandboxFlags) stage(ctx context.Context, p *parts, spec *backends.Spec, c backends.Capabilities, log *slog.Logger) (*imageDefaults, error) {
	if err := p.keepRootfs(ctx); err != nil {
		return nil, err
	}
	empty, err := p.blobs.PutBytes(ctx, action.BLAKE3, (&action.Directory{}).Marshal())
	if err != nil {
		return nil, err
	}
	s := &staging.Stager{Blobs: p.blobs, Layers: p.store, Notes: p.store, Capabilities: c, WorkDir: "/tmp", Log: log}
	if spec.Root, err = s.Stage(ctx, staging.Input{Tree: empty}, p.rootfs); err != nil {
		return nil, err
	}
	return imageDefaultsOf(ctx, p.store, f.rootfs)
}

// imageDefaultsOf returns what is known of a named root file system.
func imageDefaultsOf(ctx context.Context, store *cache.Store, name string) (*imageDefaults, error) {
	d := &imageDefaults{}
	names := wiring.Rootfs{Store: store.Dir()}
	if names.Check(name) != nil {
		return d, nil
	}
	e, err := names.Lookup(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && e.Config.IsZero() {
		return d, nil
	}
	if err != nil {
		return nil, err
	}
	file, err := store.Open(ctx, e.Config)
	if err != nil {
		return nil, fmt.Errorf("what the image says of commands: %w: import it again", err)
	}
	defer file.Close()
	data, err := io.ReadAll(file)
	if err == nil {
		err = json.Unmarshal(data, d)
	}
	if err != nil {
		return nil, fmt.Errorf("what the image says of commands: %w: import it again", err)
	}
	return d, nil
}

// complete fills in the rest of spec.
func (f *sandboxFlags) complete(spec *backends.Spec, d *imageDefaults, c backends.Capabilities) error {
	if len(spec.Args) == 0 {
		spec.Args = d.Args
	}
	if len(spec.Args) == 0 || spec.Args[0] == "" {
		return errors.New("no command: put it after --, as in 'sbx-action sandbox host -- ls /'")
	}
	for _, a := range spec.Args {
		if strings.ContainsRune(a, 0) {
			return fmt.Errorf("argument %q contains a NUL byte, which no program can be given", a)
		}
	}
	spec.Dir = "/"
	if d.Dir != "" {
		spec.Dir = path.Clean(d.Dir)
	}
	if f.cwd != "" {
		if spec.Dir = path.Clean(f.cwd); !path.IsAbs(spec.Dir) {
			return fmt.Errorf("--cwd %s: want an absolute path of the root", f.cwd)
		}
	}
	var err error
	if spec.Env, err = f.environ(d.Env); err != nil {
		return err
	}
	hasPath := slices.ContainsFunc(spec.Env, func(v string) bool { return strings.HasPrefix(v, "PATH=") })
	if !hasPath && !strings.Contains(spec.Args[0], "/") {
		return fmt.Errorf("--clearenv: there is no PATH to find %q: name the program with its directory, or add --env PATH=…", spec.Args[0])
	}
	if user, group := d.ids(); user >= 0 && f.uid < 0 && f.gid < 0 && c.Users {
		spec.Root.As = &user
		if group >= 0 {
			spec.Root.Group = &group
		}
	}
	if f.uid >= 0 {
		spec.Root.As = &f.uid
	}
	if f.gid >= 0 {
		spec.Root.Group = &f.gid
	}
	if spec.Filter, err = f.filter(); err != nil {
		return err
	}
	spec.Network = f.networkKind()
	spec.Limits = backends.Limits{Wall: time.Duration(f.timeout), Memory: int64(f.memory), Pids: int64(f.pids)}
	if len(f.writable) > 0 && f.writable[0] != "all" {
		spec.Root.ReadOnly = true
		if f.writable[0] != "none" {
			spec.Root.Writable = f.writable
		}
	}
	spec.Root.Tmpfs = f.tmpfs
	return f.addMounts(spec)
}

// environ is what the image says, and then --env; PATH is there, but with
// --clearenv.
func (f *sandboxFlags) environ(image []string) ([]string, error) {
	env := map[string]string{"PATH": defaultEnv["PATH"]}
	if f.clearEnv {
		env, image = map[string]string{}, nil
	}
	for _, v := range image {
		name, value, _ := strings.Cut(v, "=")
		env[name] = value
	}
	for _, v := range f.env {
		name, value, given := strings.Cut(v, "=")
		if name == "" {
			return nil, fmt.Errorf("--env %q: want NAME=VALUE, or NAME to pass the caller's value on", v)
		}
		if !given {
			if value, given = os.LookupEnv(name); !given {
				return nil, fmt.Errorf("--env %s: the variable is not set; give a value, as in --env %s=VALUE", name, name)
			}
		}
		env[name] = value
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		out = append(out, name+"="+env[name])
	}
	return out, nil
}

// filter reads --seccomp.
func (f *sandboxFlags) filter() ([]byte, error) {
	if f.seccomp == "" {
		return nil, nil
	}
	file, err := os.Open(f.seccomp)
	if err != nil {
		return nil, fmt.Errorf("--seccomp: %w", err)
	}
	defer file.Close()
	const most = backends.FilterMax * 8
	data, err := io.ReadAll(io.LimitReader(file, most+8)) // /dev/zero has no end
	if err != nil {
		return nil, fmt.Errorf("--seccomp: %w", err)
	}
	if err := backends.CheckFilter(data); err != nil {
		return nil, fmt.Errorf("--seccomp %s: %w", f.seccomp, err)
	}
	return data, nil
}

func (f *sandboxFlags) addMounts(spec *backends.Spec) error {
	for _, m := range f.mounts {
		parts := strings.Split(m, ":")
		writable := true
		if len(parts) == 3 && (parts[2] == "ro" || parts[2] == "rw") {
			writable = parts[2] == "rw"
			parts = parts[:2]
		}
		if len(parts) != 2 || parts[0] == "" {
			return fmt.Errorf("--mount %s: want SRC:DST or SRC:DST:ro", m)
		}
		source, err := filepath.Abs(parts[0])
		if err == nil {
			_, err = os.Stat(source)
		}
		if err != nil {
			return fmt.Errorf("--mount %s: %w", m, err)
		}
		if !path.IsAbs(parts[1]) || path.Clean(parts[1]) == "/" {
			return fmt.Errorf("--mount %s: %q is not an absolute path below the root", m, parts[1])
		}
		if p := path.Clean(parts[1]); p == "/proc" || p == "/dev" {
			return fmt.Errorf("--mount %s: the sandbox has a %s of its own, which programs rely on: take another place", m, p)
		}
		spec.Root.Binds = append(spec.Root.Binds, backends.Bind{Source: source, Target: path.Clean(parts[1]), Writable: writable})
	}
	return nil
}

// redirect opens --stdout and --stderr, and returns what closes them.
func (f *sandboxFlags) redirect(spec *backends.Spec) (func() error, error) {
	var files []*os.File
	closeAll := func() error {
		var errs []error
		for _, file := range files {
			errs = append(errs, file.Close())
		}
		return errors.Join(errs...)
	}
	for _, r := range []struct {
		flag, name string
		to         **os.File
	}{{"--stdout", f.stdout, &spec.Stdout}, {"--stderr", f.stderr, &spec.Stderr}} {
		switch r.name {
		case "":
		case "-":
			*r.to = spec.Stdout
		default:
			file, err := os.Create(r.name)
			if err != nil {
				return nil, errors.Join(fmt.Errorf("%s: %w", r.flag, err), closeAll())
			}
			files = append(files, file)
			*r.to = file
		}
	}
	return closeAll, nil
}

func (f *sandboxFlags) networkKind() backends.Network {
	if f.network == "host" {
		return backends.NetworkHost
	}
	return backends.NetworkNone
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
