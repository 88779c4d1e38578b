package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/cmd/wiring"
	"github.com/sbx-action/sbx-action/internal/await"
	"github.com/sbx-action/sbx-action/staging"
)

// A job is an action as the command line describes it, with what it takes to
// run it.
type job struct {
	parts     *parts
	shared    bool   // the parts are other jobs', too
	name      string // of the action in its file
	runner    action.Runner
	stager    *jobStager
	workspace string // absolute
	snapshot  *staging.Snapshot
	action    *action.Action
	command   *action.Command
	stdin     *os.File
	placed    []*storedTree     // inputs that are Trees: see placed.go
	machine   *backends.Machine // whose programs run; nil: this one's

	scanned, delivered time.Duration
}

// defaultEnv is the environment of every command, unless --env says otherwise.
// It is in the key.
//
// Text is UTF-8, and all else is as in the locale C. LC_ALL would say almost the
// same, but makes each program open eleven more files when it starts.
var defaultEnv = map[string]string{
	"HOME":              "/tmp",
	"LC_CTYPE":          "C.UTF-8",
	"PATH":              "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	"SOURCE_DATE_EPOCH": fmt.Sprint(staging.MTime),
	"TZ":                "UTC",
}

// check refuses what can be seen to be wrong without looking at any file.
func (f *runFlags) check(args []string) error {
	switch {
	case len(args) == 0 && !f.inside.shell:
		return fmt.Errorf("no command: put it after --, as in 'sbx-action run -i a.c -o a.o -- gcc -c a.c'")
	case f.memory > 0 && f.memory < 1<<20:
		return fmt.Errorf("--memory %d: no program starts with less than 1M", f.memory)
	case len(args) > 0 && args[0] == "":
		return fmt.Errorf("the command's name is empty")
	case f.owned.record && f.verify > 0:
		return errors.New("--owners excludes --verify: one process can answer only for one of them")
	case f.noCache && f.readOnly, f.noCache && f.refresh, f.readOnly && f.refresh:
		return fmt.Errorf("--no-cache, --read-only and --refresh exclude each other: give one")
	case f.suggest && (f.prune || f.unused || f.json || f.refresh || f.noCache || f.readOnly || f.keepFailed || f.verify > 0):
		return fmt.Errorf("--suggest-inputs excludes --prune, --unused, --json, --refresh, --no-cache, --read-only, --verify and --keep-failed")
	case f.inside.shell && f.inside.instead(f) != "":
		return fmt.Errorf("--shell excludes %s: no command runs, and nothing is kept", f.inside.instead(f))
	case f.suggest && (f.inside.shell || f.inside.changes || f.inside.keep.set):
		return errors.New("--suggest-inputs excludes --shell, --changes and --keep")
	}
	for _, a := range args {
		if strings.ContainsRune(a, 0) {
			return fmt.Errorf("argument %q contains a NUL byte, which no program can be given", a)
		}
	}
	return nil
}

// describe makes the action: it scans the inputs and opens the store.
func (f *runFlags) describe(ctx context.Context, args []string) (*job, error) {
	j, err := f.begin(args)
	if err != nil {
		return nil, err
	}
	if j.parts, err = f.wiringFlags.open(ctx, f.digest.Function, networkOf(f.network), false); err != nil {
		return nil, err
	}
	if err := f.fill(ctx, j); err != nil {
		j.Close()
		return nil, err
	}
	return j, nil
}

// describeWith is describe with the parts of an earlier job, which were opened
// with the same flags.
func (f *runFlags) describeWith(ctx context.Context, p *parts, args []string) (*job, error) {
	j, err := f.begin(args)
	if err != nil {
		return nil, err
	}
	j.parts, j.shared = p, true
	if err := f.fill(ctx, j); err != nil {
		j.Close()
		return nil, err
	}
	return j, nil
}

// begin makes what does not need the store.
func (f *runFlags) begin(args []string) (_ *job, err error) {
	j := &job{}
	if len(args) == 0 { // of --shell
		args = []string{"sh"}
	}
	if j.workspace, err = f.workspaceDir(); err != nil {
		return nil, err
	}
	if j.command, err = f.commandMessage(j.workspace, args); err != nil {
		return nil, err
	}
	return j, j.command.Check()
}

// fill scans the inputs, and makes the action.
func (f *runFlags) fill(ctx context.Context, j *job) (err error) {
	if err := j.guardStore(j.command.OutputPaths); err != nil {
		return err
	}
	if !f.small(j.workspace) {
		interruptible(ctx)
	}
	lap := time.Now()
	if j.snapshot, err = staging.Scan(ctx, staging.ScanConfig{
		Workspace: j.workspace, Inputs: f.inputs, Function: f.digest.Function,
		StatCache: statDir(j.parts.store), Files: j.parts.hasher, Never: []string{j.parts.store.Dir()},
		Tree: func(d action.Digest) (action.Digest, error) { return j.placedTree(ctx, d) },
	}); err != nil {
		return err
	}
	j.scanned = time.Since(lap)
	for _, w := range j.snapshot.Warnings {
		if !f.quiet {
			f.say("%v", w)
		}
	}
	platform, err := f.platform(ctx, j)
	if err != nil {
		return err
	}
	j.action = &action.Action{
		Command: j.command.Digest(f.digest.Function), InputRoot: j.snapshot.Root, Platform: platform,
	}
	hint := action.Sum(f.digest.Function, []byte(j.workspace))
	if f.name != "" {
		j.name, hint = f.name, action.Sum(f.digest.Function, []byte(j.workspace+"\x00"+f.name))
	}
	j.stager = j.parts.miss.forJob(j.parts.store, hint, j.snapshot.Find)
	j.runner = *j.parts.runner
	j.runner.Stager = j.stager
	return nil
}

func (f *runFlags) workspaceDir() (string, error) {
	dir := f.workspace
	if dir == "" {
		dir = "."
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("the current directory: %w", err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", fmt.Errorf("--workspace %s is not a directory that can be entered: %w", f.workspace, err)
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return "", fmt.Errorf("--workspace %s is not a directory", dir)
	}
	return dir, nil
}

// small says whether the inputs are a few files.
func (f *runFlags) small(workspace string) bool {
	for _, i := range f.inputs {
		info, err := os.Lstat(filepath.Join(workspace, i))
		if err != nil || !info.Mode().IsRegular() {
			return false
		}
	}
	return len(f.inputs) <= 64
}

// commandMessage makes the Command of the command line.
func (f *runFlags) commandMessage(workspace string, args []string) (*action.Command, error) {
	c := &action.Command{Arguments: args}
	var err error
	if f.cwd, err = below("--cwd", f.cwd); err != nil {
		return nil, err
	}
	if info, err := os.Stat(filepath.Join(workspace, f.cwd)); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("--cwd %s is not a directory of the workspace %s", f.cwd, workspace)
	}
	c.WorkingDirectory = f.cwd
	for _, o := range f.outputs {
		p, err := below("-o", o)
		if err != nil {
			return nil, err
		}
		if p == "" {
			return nil, fmt.Errorf("-o %s: the whole workspace cannot be an output; name what the command makes", o)
		}
		if err := staging.CheckOutputGlob(p); err != nil {
			return nil, fmt.Errorf("-o %s: %w", shellQuote(o), err)
		}
		rel, err := filepath.Rel("/"+f.cwd, "/"+p) // REAPI: relative to the working directory
		if err != nil {
			return nil, err
		}
		if rel == "." {
			rel = ""
		}
		c.OutputPaths = append(c.OutputPaths, rel)
	}
	slices.Sort(c.OutputPaths)
	c.OutputPaths = slices.Compact(c.OutputPaths)
	c.Environment, err = environment(f.env)
	return c, err
}

// below cleans a path that must be in the workspace, and returns it relative
// to it, "" for the workspace itself.
func below(flag, p string) (string, error) {
	if p == "" {
		return "", nil
	}
	if strings.ContainsRune(p, 0) {
		return "", fmt.Errorf("%s %q contains a NUL byte", flag, p)
	}
	clean := path.Clean(p)
	if path.IsAbs(clean) || clean == ".." || strings.HasPrefix(clean, "../") {
		return "", fmt.Errorf("%s %s is outside of the workspace: give a path relative to it and below it, or choose a higher --workspace", flag, p)
	}
	if clean == "." {
		return "", nil
	}
	return clean, nil
}

// environment is the default environment with the settings of --env.
func environment(settings []string) ([]action.EnvironmentVariable, error) {
	env := make(map[string]string, len(defaultEnv)+len(settings))
	maps.Copy(env, defaultEnv)
	for _, s := range settings {
		name, value, given := strings.Cut(s, "=")
		if name == "" {
			return nil, fmt.Errorf("--env %q: want NAME=VALUE, or NAME to pass the caller's value on", s)
		}
		if !given {
			var set bool
			if value, set = os.LookupEnv(name); !set {
				return nil, fmt.Errorf("--env %s: the variable is not set; give a value, as in --env %s=VALUE", name, name)
			}
		}
		if err := action.CheckEnvironmentVariable(name, value); err != nil {
			return nil, fmt.Errorf("--env: %w", err)
		}
		env[name] = value
	}
	var list []action.EnvironmentVariable
	for name, value := range env {
		list = append(list, action.EnvironmentVariable{Name: name, Value: value})
	}
	slices.SortFunc(list, func(a, b action.EnvironmentVariable) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// platform is what the result depends on besides command and input root.
func (f *runFlags) platform(ctx context.Context, j *job) ([]action.Property, error) {
	var err error
	if j.machine, err = f.owned.machine(); err != nil {
		return nil, err
	}
	list := []action.Property{
		{Name: "ISA", Value: wiring.ISA(f.owned.arch)},
		{Name: "OSFamily", Value: "linux"},
		{Name: staging.RootfsProperty, Value: j.parts.rootfs.ID()},
	}
	if f.network {
		list = append(list, action.Property{Name: "network", Value: "host"})
	}
	if j.machine != nil {
		d, err := j.parts.hasher.Digest(j.machine.Emulator)
		if err != nil {
			return nil, fmt.Errorf("--arch %s: %w", f.owned.arch, err)
		}
		list = append(list, action.Property{Name: wiring.EmulatorProperty, Value: d.Digest.String()})
	}
	if f.owned.record {
		list = append(list, action.Property{Name: action.OwnersProperty, Value: action.OwnersRecorded})
	}
	if f.stdin != "" {
		in, err := await.Done(ctx, func() (keptStdin, error) { return openStdin(f.stdin, f.digest.Function) })
		if err != nil {
			return nil, fmt.Errorf("--stdin: %w", err)
		}
		j.stdin = in.file
		list = append(list, action.Property{Name: "stdin", Value: in.digest.String()})
	}
	slices.SortFunc(list, func(a, b action.Property) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// save stores the inputs: it is the first thing that happens on a miss.
func (j *job) save(ctx context.Context) error {
	interruptible(ctx)
	if j.stdin != nil { // for whoever runs it again
		if _, err := j.parts.blobs.PutFile(ctx, j.snapshot.Root.Function(), j.stdin); err != nil {
			return err
		}
		if _, err := j.stdin.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	if err := j.parts.keepRootfs(ctx); err != nil {
		return err
	}
	if err := j.savePlaced(ctx); err != nil {
		return err
	}
	return j.snapshot.Save(ctx, j.parts.blobs, j.stager.saved(ctx, j.snapshot.Root))
}

// deliver writes the outputs into the workspace.
func (j *job) deliver(ctx context.Context, res *action.Result) error {
	if len(res.Files) > 1 || len(res.Directories) > 0 {
		interruptible(ctx) // one file appears by one system call
	}
	lap := time.Now()
	defer func() { j.delivered = time.Since(lap) }()
	if err := j.guardStore(outputPaths(res)); err != nil { // what patterns matched
		return err
	}
	return staging.Deliver(ctx, j.parts.blobs, res, j.destination())
}

// destination is where outputs go. Of an action file those that are there already
// keep their times: nobody compares them, and to know them again is cheaper.
func (j *job) destination() staging.Workspace {
	w := staging.Workspace{Root: j.workspace, Dir: j.command.WorkingDirectory}
	if j.name != "" {
		w.Known, w.StatCache = j.parts.hasher, statDir(j.parts.store)
	}
	return w
}

// hints are the undeclared files that the command looked for, at most ten,
// without its own outputs.
func (j *job) hints(s *backends.Status) []string {
	hints := staging.Hints(s.Lookups, j.workspace, func(p string) bool {
		if rel, ok := strings.CutPrefix(p, action.WorkRoot+"/"); ok {
			_, ok = j.snapshot.Find(rel)
			return ok
		}
		host, ok := j.parts.rootfs.HostPath(p)
		if !ok {
			return false
		}
		_, err := os.Stat(host)
		return err == nil
	})
	hints = slices.DeleteFunc(hints, j.isOutput)
	return hints[:min(len(hints), 10)]
}

// isOutput says whether the command is to make rel, or something in which it
// is: then it looked for it to replace what an earlier run has left.
func (j *job) isOutput(rel string) bool {
	return slices.ContainsFunc(j.command.OutputPaths, func(out string) bool {
		out = j.inWorkspace(out)
		for p := rel; p != "."; p = path.Dir(p) {
			if match, _ := path.Match(out, p); match || p == out {
				return true
			}
		}
		return false
	})
}

// inWorkspace turns a path of a result, which is relative to the working
// directory, into one relative to the workspace.
func (j *job) inWorkspace(p string) string { return path.Join(j.command.WorkingDirectory, p) }

// networkOf is the network of a command that asks for the host's, or for none.
func networkOf(host bool) backends.Network {
	if host {
		return backends.NetworkHost
	}
	return backends.NetworkNone
}

// printInputs lists every input with its digest.
func (j *job) printInputs() error {
	return j.snapshot.Walk(func(path string, e staging.Entry) error {
		var err error
		switch {
		case e.Kind == staging.KindLink:
			_, err = fmt.Printf("  %q -> %q\n", path, e.Target)
		case e.Kind == staging.KindFile && e.Executable:
			_, err = fmt.Printf("  %q executable %v\n", path, e.Digest)
		default:
			_, err = fmt.Printf("  %q %v\n", path, e.Digest)
		}
		return err
	})
}

func (j *job) Close() {
	if j.stdin != nil {
		j.stdin.Close()
	}
	if j.shared {
		j.parts.stayWithin()
	} else {
		j.parts.Close()
	}
}
