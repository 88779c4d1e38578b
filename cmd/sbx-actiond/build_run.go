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
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/cmd/wiring"
	"github.com/sbx-action/sbx-action/history"
	"github.com/sbx-action/sbx-action/integration/baserock"
	"github.com/sbx-action/sbx-action/integration/component"
	"github.com/sbx-action/sbx-action/progress"
	"github.com/sbx-action/sbx-action/schedule"
)

// buildFlags are the flags of what builds.
type buildFlags struct {
	definitionsFlags
	file           string
	anySource      bool // see baserock.Options
	cache, backend string
	digest         commandline.Function
	verbose        bool
	offline        bool
	scratchDir     string
	noOwners       bool

	remote wiring.Remote

	aliases, sources, replace commandline.List
	sourceMap                 string
	hostBootstrap             bool
	overlaps                  string
	maxJobs, jobs             commandline.Count
	memory, componentMemory   commandline.Size
	componentDisk             commandline.Size
	timeout                   commandline.Span

	keepGoing      bool
	caches         bool
	noTests        bool
	only, rebuild  commandline.List
	outputs        commandline.List
	manifest, sbom string
	plain          bool
	meta           bool

	why, shell string // in the place of the words why and shell
	convert    bool
}

func (f *buildFlags) declare(flags *flag.FlagSet) {
	flags.StringVar(&f.dir, "definitions", "", "`DIR` with the file VERSION of a tree of Baserock definitions")
	flags.StringVar(&f.file, "file", "", "`FILE` in the form of sbx.yaml (default: sbx.yaml, if it is there)")
	flags.StringVar(&f.arch, "arch", "", "`ARCH` to build for, such as x86_64 (default: that of the system); if it is not this\nmachine's, qemu executes its programs")
	flags.BoolVar(&f.warnings, "warnings", false, "say what in definitions is allowed but probably not meant")
	f.digest.Function = action.BLAKE3
	flags.Var((*commandline.Given)(&f.cache), "cache", "`DIR` of the store (default: $SBX_CACHE, else $XDG_CACHE_HOME/sbx-action)")
	flags.StringVar(&f.backend, "backend", "", "`NAME` of the sandbox, of those that 'sbx-action backends --list' shows\n(default: the best that works here)")
	flags.Var(&f.digest, "digest", "`FUNCTION` of all digests: blake3 or sha256")
	flags.BoolVar(&f.verbose, "verbose", false, "say also what comes from the cache, and what is done and why")
	flags.BoolVar(&f.offline, "offline", false, "fetch nothing: sources must be here")
	flags.Var(&f.aliases, "alias", "`PREFIX=PLACE`: repositories whose name begins with PREFIX, such as upstream:,\nare at PLACE; may be repeated")
	flags.Var(&f.sources, "source", "`NAME=SOURCE`: the source of a chunk, by its path, name or repo, is dir:DIR,\ntar:FILE#SHA256, git:REPO@REF or dsc:FILE; may be repeated")
	flags.StringVar(&f.sourceMap, "source-map", "", "`FILE` with one NAME=SOURCE a line; files in it are relative to it")
	flags.Var(&f.replace, "replace", "`ELEMENT=ROOTFS`: put a root file system in the place of a chunk or a stratum,\nby a name that 'rootfs import' gave it, a digest, or a directory or archive;\nmay be repeated")
	flags.BoolVar(&f.hostBootstrap, "allow-host-bootstrap", false, "build bootstrap chunks, with the tools of this machine")
	flags.StringVar(&f.overlaps, "overlaps", "warn", "`POLICY` for files that two components have: ignore, warn or exit")
	flags.Var(&f.maxJobs, "max-jobs", "`N` of -jN in MAKEFLAGS, which then is in the key (default: the number of processors)")
	flags.Var(&f.jobs, "jobs", "`N`: most components that are built at a time (default: half the processors)")
	flags.Var(&f.memory, "memory", "`SIZE` that components may need together, of those that say what they need\n(default: seven eighths of the machine's memory, or of the control group's)")
	flags.Var(&f.componentMemory, "component-memory", "`SIZE`: most memory that one component may use that has no limit of its own\n(default, where control groups can be made: --memory divided by --jobs, or 4 GiB if\nthat is more and is there)")
	flags.Var(&f.componentDisk, "component-disk", "`SIZE`: most that one component may write that has no limit of its own (default: in\nmemory, half of the default of --component-memory; in --scratch-dir, what is free\nbut for 1 GiB, or a twentieth of a small disk)")
	flags.BoolVar(&f.noOwners, "no-owners", false, "run commands as a user who cannot give files away or make devices,\ninstead of recording that")
	flags.Var((*commandline.Given)(&f.scratchDir), "scratch-dir", "`DIR` for what builds write, for those that memory cannot hold")
	flags.Var(&f.timeout, "timeout", "`DURATION` after which a component is killed")
	flags.BoolVar(&f.keepGoing, "keep-going", false, "when a component fails, build what does not need it")
	flags.Var(&f.only, "only", "`COMPONENT` that may be built: all others must be in the cache; may be repeated")
	flags.Var(&f.rebuild, "rebuild", "`COMPONENT` to build although it is in the cache; may be repeated")
	flags.Var(&f.outputs, "output", "`KIND:PATH` for the system, or what a component has installed: dir, tar, oci,\next4, squashfs or cpio; may be repeated")
	flags.StringVar(&f.manifest, "manifest", "", "`FILE` for a list of every file of the system: whose it is, its digest, its owner")
	flags.StringVar(&f.sbom, "sbom", "", "`FILE` for a list of components, sources and their digests: SPDX, JSON")
	f.remote.Declare(flags)
	flags.BoolVar(&f.caches, "caches", false, "keep the caches that components declare from one build to the next; what is built\nso has a key of its own, and stays on this machine")
	flags.BoolVar(&f.noTests, "no-tests", false, "leave out the tests of components")
	flags.BoolVar(&f.meta, "meta", false, "put /baserock/NAME.meta of each chunk into systems, as YBD does")
	flags.StringVar(&f.why, "why", "", "`COMPONENT`: as 'build why COMPONENT'")
	flags.StringVar(&f.shell, "shell", "", "`COMPONENT`: as 'build shell COMPONENT'")
	flags.BoolVar(&f.convert, "convert", false, "as 'build convert TARGET'")
	flags.BoolVar(&f.plain, "plain", false, "one line for each thing that happens, also on a terminal")
}

// buildSettings: what all components may need together, and each of them, have
// other names here.
var buildSettings = map[string]string{"memory-budget": "memory", "memory": "component-memory"}

func buildRunCommand() commandline.Command {
	return commandline.Command{
		Name: "build", Settings: true, SettingFlags: buildSettings, Args: "[FLAGS] [TARGET…]\n       sbx-action build graph|keys|show|why|log|shell|init|convert …",
		Short: "build components, of an sbx.yaml or Baserock definitions",
		Long: `
Builds each TARGET, and what it needs: every component from its source, in a root
of its own that holds what it needs and nothing else, without network. What was
built before comes from the cache; what was built again and became the same does
not make its users be built again.

A TARGET is a component of sbx.yaml, which docs/build.md describes and 'sbx-action
init' begins; without one, all of them are built.

With --definitions, a TARGET is a chunk, stratum, system or cluster of a tree of
Baserock definitions. Repositories are where --alias, --source and --source-map
say; a toolchain that is not to be had is replaced by a root file system.

  sbx-action rootfs import bookworm bookworm.tar
  sbx-action build --definitions . --replace strata/build-essential=bookworm \
    --source-map sources systems/mini --output oci:mini

graph, keys, show   look at definitions; 'sbx-action build WORD --help' says more
why COMPONENT       says what is not as it was when it was last built
log [COMPONENT]     prints what its last build printed, or lists who has a log
shell COMPONENT     runs a shell where its build would run

When a component fails, the last lines of its log are shown, and the exit code is
that of its command.
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			var f buildFlags
			f.declare(flags)
			return func(ctx context.Context, args []string) error {
				args, err := flagsAnywhere(flags, args)
				if err != nil {
					return err
				}
				return f.run(ctx, args)
			}
		},
	}
}

// flagsAnywhere takes the flags out that stand between and after the words.
func flagsAnywhere(flags *flag.FlagSet, args []string) (words []string, err error) {
	for len(args) > 0 {
		words = append(words, args[0])
		if err := commandline.ParseFlags(flags, args[1:]); err != nil {
			return nil, err
		}
		args = flags.Args()
	}
	return words, nil
}

// A job is a project with the targets that were asked for.
type buildJob struct {
	project  *component.Project
	asked    []string               // the targets, as the user named them
	targets  []*component.Component // with what they need
	roots    []*component.Component // only what was asked for
	systems  []*component.System
	dir      string // of the project
	warnings []string
	noTests  bool
}

func (f *buildFlags) run(ctx context.Context, args []string) (err error) {
	if err := f.check(); err != nil {
		return err
	}
	switch {
	case f.why != "":
		return explainBuild(ctx, f, append(args, f.why))
	case f.shell != "":
		return openShell(ctx, f, append(args, f.shell))
	case f.convert:
		return convert(ctx, f, args)
	}
	job, err := f.job(args)
	if err != nil {
		return err
	}
	for _, s := range job.systems {
		s.Meta = f.meta
	}
	parts, err := openBuildParts(*f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, parts.Close()) }()
	run, view, err := f.wire(parts, job)
	if err != nil {
		return err
	}
	for _, w := range job.warnings {
		view.Say("warning: %s", w)
	}
	remote, err := openRemote(&f.remote, parts, run)
	if err != nil {
		return err
	}
	if remote != nil {
		defer remote.Close(ctx)
	}
	f.checkShells(ctx, parts, job, view)
	built, err := run.Build(ctx, job.needed())
	if err != nil {
		return f.failed(err)
	}
	return f.systems(ctx, run, parts, job, built)
}

func (j *buildJob) needed() []*component.Component {
	list := slices.Clone(j.targets)
	for _, s := range j.systems {
		for _, c := range s.Contents {
			list = append(list, c.Component)
		}
	}
	if !j.noTests {
		for _, c := range slices.Clone(list) {
			list = append(list, c.Tests...)
		}
	}
	return list
}

// wire makes the run.
func (f *buildFlags) wire(parts *buildParts, job *buildJob) (*component.Run, *component.Shown, error) {
	arch := cmp.Or(f.arch, job.project.Arch)
	machine, err := wiring.Arch(arch)
	if err != nil {
		return nil, nil, fmt.Errorf("--arch %s: %w", arch, err)
	}
	var emulator action.Digest
	if machine != nil {
		if emulator, err = sumOf(f.digest.Function, machine.Emulator); err != nil {
			return nil, nil, fmt.Errorf("--arch %s: %w", arch, err)
		}
	}
	view := &component.Shown{To: os.Stderr, Verbose: f.verbose, Color: os.Getenv("NO_COLOR") == ""}
	if !f.plain {
		view.Size = progress.Terminal(os.Stderr)
	}
	parts.fetcher.Say = view.Say
	b := &component.Builder{
		Runner: parts.runner(), Staging: parts.staging, Blobs: parts.store, Results: parts.store, Function: f.digest.Function, Fetcher: parts.fetcher,
		Bases: parts.base, ISA: wiring.ISA(arch), Machine: machine, Emulator: emulator, ScratchDir: f.scratchDir, Owners: !f.noOwners, Overlaps: component.Overlaps(f.overlaps), Say: view.Say,
	}
	if state := stateOf(parts.store.Dir(), job.dir); f.caches {
		b.Caches = state.Caches
	}
	b.Remember = func(name string, req *action.Request, out *action.Outcome, err error, started time.Time) {
		r := history.Of(req, out, err)
		r.Time, r.Took, r.Workspace, r.Label, r.Tool = started, time.Since(started), filepath.Dir(job.dir), name, history.ToolBuild
		if err := history.Add(context.Background(), parts.store, r); err != nil {
			parts.log.Debug("this run is not remembered", "err", err)
		}
	}
	run := &component.Run{
		Builder: b, Project: job.project, State: stateOf(parts.store.Dir(), job.dir), View: view,
		Jobs: int(f.jobs), Memory: int64(f.memory), KeepGoing: f.keepGoing, Rebuild: named(f.rebuild),
	}
	if run.Memory == 0 {
		run.Memory = component.UsableMemory(schedule.Memory())
	}
	run.Bounds = component.DefaultBounds(run.Memory, run.AtOnce())
	if len(f.only) > 0 {
		run.Only = named(f.only)
	}
	if server, err := schedule.OpenJobserver(os.Getenv("MAKEFLAGS")); err != nil {
		view.Say("warning: %v", err)
	} else if server != nil {
		run.Tokens = server
	}
	return run, view, nil
}

// sumOf is the digest of a file.
func sumOf(f action.Function, path string) (action.Digest, error) {
	file, err := os.Open(path)
	if err != nil {
		return action.Digest{}, err
	}
	defer file.Close()
	h := action.NewHasher(f)
	_, err = io.Copy(h, file)
	return h.Sum(), err
}

// stateOf is where logs of a project are: below the store, by its directory.
func stateOf(store, project string) *component.State {
	return &component.State{Dir: filepath.Join(store, "builds", action.Sum(action.SHA256, []byte(project)).Hash()[:16])}
}

// named returns whether a component has one of the names.
func named(names []string) func(*component.Component) bool {
	return func(c *component.Component) bool {
		return slices.ContainsFunc(names, func(n string) bool { return c.Is(strings.TrimSuffix(n, ".morph")) })
	}
}

func (f *buildFlags) check() error {
	switch component.Overlaps(f.overlaps) {
	case component.IgnoreOverlaps, component.WarnOverlaps, component.RefuseOverlaps:
	default:
		return fmt.Errorf("unknown --overlaps %q: there are ignore, warn and exit", f.overlaps)
	}
	if f.scratchDir != "" {
		dir, err := filepath.Abs(f.scratchDir)
		if err != nil {
			return err
		}
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return fmt.Errorf("--scratch-dir %s is not a directory", f.scratchDir)
		}
		f.scratchDir = dir
	}
	for _, o := range f.outputs {
		if _, err := component.ParseOutput(o); err != nil {
			return fmt.Errorf("--output: %w", err)
		}
	}
	return nil
}

// job reads the project, and finds the targets in it.
func (f *buildFlags) job(args []string) (*buildJob, error) {
	definitions, dir, err := f.place()
	if err != nil {
		return nil, err
	}
	if !definitions {
		return f.fileJob(dir, args)
	}
	if len(args) == 0 {
		return nil, errors.New("no target: name a chunk, a stratum or a system")
	}
	tree, err := baserock.Load(f.dir)
	if err != nil {
		return nil, f.explain(err)
	}
	o, err := f.options()
	if err != nil {
		return nil, err
	}
	job := &buildJob{dir: dir, project: &component.Project{}}
	var problems []error
	for _, arg := range args {
		e, err := tree.Find(arg)
		var project *component.Project
		if err == nil {
			project, err = tree.Project(e, o)
		}
		if err != nil {
			problems = append(problems, err)
			continue
		}
		job.asked = append(job.asked, e.Path)
		job.project.Components = append(job.project.Components, project.Components...)
		if len(project.Systems) > 0 {
			job.systems = append(job.systems, project.Systems...)
			job.project.Systems = append(job.project.Systems, project.Systems...)
			continue
		}
		job.targets = append(job.targets, project.Components...)
		job.roots = append(job.roots, project.Targets...)
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	if f.warnings {
		for _, w := range tree.Warnings {
			job.warnings = append(job.warnings, w.String())
		}
	}
	return job, f.knownNames(job)
}

// place finds what is to be built: a tree of definitions, or a file. dir is the
// directory of the tree, or the file.
func (f *buildFlags) place() (definitions bool, dir string, err error) {
	switch {
	case f.dir != "" && f.file != "":
		return false, "", errors.New("--definitions and --file exclude each other: give one")
	case f.dir == "" && f.file == "":
		if _, err := os.Stat(component.FileName); err == nil {
			f.file = component.FileName
		} else if _, err := os.Stat("VERSION"); err == nil {
			f.dir = "."
		} else {
			return false, "", errors.New("there is neither an sbx.yaml nor a tree of definitions here: name one with --file or --definitions, or begin one with 'sbx-action build init'")
		}
	}
	if f.file != "" {
		dir, err = filepath.Abs(f.file)
		return false, dir, err
	}
	dir, err = filepath.Abs(f.dir)
	return true, dir, err
}

// fileJob is the job of an sbx.yaml: without targets, all its systems, or all
// its components if it has none.
func (f *buildFlags) fileJob(dir string, args []string) (*buildJob, error) {
	for _, name := range []struct {
		flag string
		set  bool
	}{
		{"--alias", len(f.aliases) > 0},
		{"--source", len(f.sources) > 0},
		{"--source-map", f.sourceMap != ""},
		{"--replace", len(f.replace) > 0},
		{"--allow-host-bootstrap", f.hostBootstrap},
		{"--max-jobs", f.maxJobs > 0},
	} {
		if name.set {
			return nil, fmt.Errorf("%s is for definitions: an sbx.yaml says it itself", name.flag)
		}
	}
	project, err := component.ReadFile(f.file)
	if err != nil {
		return nil, err
	}
	job := &buildJob{dir: dir, project: project, asked: args, noTests: f.noTests}
	if len(args) == 0 {
		job.systems, job.asked = project.Systems, []string{filepath.Base(filepath.Dir(dir))}
		if len(project.Systems) == 0 {
			job.roots = slices.DeleteFunc(slices.Clone(project.Components), func(c *component.Component) bool { return c.Test })
			job.targets = job.roots
		}
	}
	for _, arg := range args {
		system := slices.IndexFunc(project.Systems, func(s *component.System) bool { return s.Name == arg })
		c := slices.IndexFunc(project.Components, named([]string{arg}))
		switch {
		case system >= 0:
			job.systems = append(job.systems, project.Systems[system])
		case c >= 0:
			job.targets = append(job.targets, project.Components[c])
			job.roots = append(job.roots, project.Components[c])
		default:
			return nil, fmt.Errorf("%s has no component and no system %q: it has %s", f.file, arg, strings.Join(project.Names(), ", "))
		}
	}
	for _, c := range project.Components {
		c.Limits.Timeout = cmp.Or(c.Limits.Timeout, time.Duration(f.timeout))
		c.Limits.Memory = cmp.Or(c.Limits.Memory, int64(f.componentMemory))
		c.Limits.Scratch = cmp.Or(c.Limits.Scratch, int64(f.componentDisk))
	}
	return job, f.knownNames(job)
}

// knownNames refuses names in --only and --rebuild that nothing has.
func (f *buildFlags) knownNames(job *buildJob) error {
	for _, name := range append(slices.Clone(f.only), f.rebuild...) {
		if !slices.ContainsFunc(job.project.Components, named([]string{name})) && !slices.ContainsFunc(job.systems, func(s *component.System) bool { return s.Name == name }) {
			return fmt.Errorf("--only and --rebuild: %s is no component of what is to be built", name)
		}
	}
	return nil
}

// failed turns an error of a run into one for the user, and the exit code of the
// command that failed.
func (f *buildFlags) failed(err error) error {
	run, ok := errors.AsType[*component.RunError](err)
	if !ok {
		return err
	}
	code := 0
	for _, err := range run.Failed {
		failed, ok := errors.AsType[*component.FailedError](err)
		if !ok || failed.Code == 0 {
			code = commandline.ExitOurs
			break
		}
		code = failed.Code
	}
	// The view has said what failed.
	return commandline.ExitCode(code)
}
