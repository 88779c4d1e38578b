package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/compare"
	"github.com/sbx-action/sbx-action/leftover"
)

// insideFlags are the flags of run that look into the sandbox.
type insideFlags struct {
	shell   bool
	keep    keepDir
	changes bool
}

func (f *insideFlags) declare(flags *flag.FlagSet) {
	flags.BoolVar(&f.shell, "shell", false, "open a shell in the sandbox instead of running the command in it")
	flags.Var(&f.keep, "keep", "leave the work directory, as the command left it, in `DIR`, which is made\n(default: a new directory in $TMPDIR); 'sbx-action enter DIR' goes on with it")
	flags.BoolVar(&f.changes, "changes", false, "list what the command added, changed and deleted")
}

// A keepDir is the flag --keep[=DIR].
type keepDir struct {
	set bool
	dir string
}

func (k *keepDir) String() string { return k.dir }

// IsBoolFlag lets the flag stand without a value.
func (*keepDir) IsBoolFlag() bool { return true }

func (k *keepDir) Set(text string) error {
	if text == "" {
		return errors.New("it must not be empty: is a variable not set?")
	}
	k.set = true
	if text != "true" {
		k.dir = text
	}
	return nil
}

// check says what make would, before anything runs.
func (k *keepDir) check() error {
	if k.dir == "" {
		return nil
	}
	if _, err := os.Lstat(k.dir); err == nil {
		return fmt.Errorf("--keep: %s is there already; name a directory that is not there yet", k.dir)
	}
	if info, err := os.Stat(filepath.Dir(k.dir)); err != nil || !info.IsDir() {
		return fmt.Errorf("--keep: %s is not a directory, in which %s could be made", filepath.Dir(k.dir), filepath.Base(k.dir))
	}
	return nil
}

// make makes the directory.
func (k *keepDir) make() (string, error) {
	if k.dir == "" {
		return os.MkdirTemp("", "sbx-kept-")
	}
	dir, err := filepath.Abs(k.dir)
	if err != nil {
		return "", err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", fmt.Errorf("--keep: %w; name a directory that is not there yet", err)
	}
	return dir, nil
}

// A leftBehind is what a command left in its root, as far as it was asked for.
type leftBehind struct {
	flags   *insideFlags
	job     *job
	began   time.Time
	ran     bool
	tell    func(line string) // where say says it, as that of runFlags
	changes []leftover.Change
	kept    string
}

// watch makes req look at what the command leaves behind. It runs, then, also if
// there is a result.
func (f *insideFlags) watch(j *job, req *action.Request) *leftBehind {
	l := &leftBehind{flags: f, job: j}
	if !f.changes && !f.keep.set {
		return l
	}
	req.SkipLookup, req.Elsewhere = true, false
	save := req.Save
	req.Save = func(ctx context.Context) error {
		l.began = time.Now()
		return save(ctx)
	}
	req.Inspect = l.inspect
	return l
}

// inspect compares the root with another one made of the same, in which nothing
// ran.
func (l *leftBehind) inspect(ctx context.Context, made backends.Root, status *backends.Status) error {
	if status.Root == nil {
		return errors.New("the sandbox did not keep its root")
	}
	none, err := l.job.parts.miss.Run(ctx, &backends.Spec{Root: made, Args: []string{"/nothing/to/run"}, Dir: "/", KeepRoot: true})
	if err != nil {
		return err
	}
	if none.Root == nil {
		return errors.New("the sandbox did not keep its root")
	}
	defer none.Root.Close()
	before, after := fmt.Sprintf("/proc/self/fd/%d", none.Root.Fd()), fmt.Sprintf("/proc/self/fd/%d", status.Root.Fd())
	l.changes, err = leftover.Changes(before, after, l.began)
	if err != nil {
		return err
	}
	l.ran = true
	if !l.flags.keep.set {
		return nil
	}
	return l.keep(after)
}

// The files of a directory that --keep makes. What the action was is beside what
// it left, so that 'sbx-action enter' finds both.
const (
	keptRoot    = "root"
	keptAction  = "action"
	keptCommand = "command"
)

func (l *leftBehind) keep(after string) error {
	dir, err := l.flags.keep.make()
	if err != nil {
		return err
	}
	left, err := leftover.Keep(after, action.WorkRoot, filepath.Join(dir, keptRoot), l.changes)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, keptAction), l.job.action.Marshal(), 0o644)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, keptCommand), l.job.command.Marshal(), 0o644)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	for _, name := range left {
		l.say("--keep: left out %s", name)
	}
	l.kept = dir
	return nil
}

// report says what was found, unless it is said in JSON.
func (l *leftBehind) report(json bool) {
	if !l.ran {
		return
	}
	if l.flags.changes && !json {
		for _, c := range l.changes {
			if l.tell != nil {
				l.tell(changeLine(c))
				continue
			}
			fmt.Fprintln(os.Stderr, changeLine(c))
		}
		if len(l.changes) == 0 {
			l.say("the command changed nothing")
		}
	}
	if l.kept != "" {
		l.say("the work directory, as the command left it, is %s; 'sbx-action enter %s' goes on with it",
			filepath.Join(l.kept, keptRoot, action.WorkRoot), shellQuote(l.kept))
	}
}

// say is say, for one of many actions perhaps.
func (l *leftBehind) say(format string, args ...any) {
	(&runFlags{tell: l.tell}).say(format, args...)
}

// changeLine is a change in a line: paths of the workspace are relative to it.
func changeLine(c leftover.Change) string {
	p := inWork(c.Path)
	if c.Dir {
		p += "/"
	}
	line := fmt.Sprintf("%-7s  %s", c.Kind, shellLine([]string{p}))
	if c.What != "" {
		line += "  (" + compare.Sentence(c.What) + ")"
	}
	return line
}

func inWork(p string) string {
	if p == action.WorkRoot {
		return "."
	}
	return strings.TrimPrefix(p, action.WorkRoot+"/")
}

// jsonLeft is a change for programs.
type jsonLeft struct {
	Kind string `json:"kind"` // added, changed or deleted
	Path string `json:"path"` // relative to the workspace, or absolute outside of it
	What string `json:"what,omitempty"`
}

func (l *leftBehind) json() (list []jsonLeft) {
	for _, c := range l.changes {
		if l.flags.changes {
			list = append(list, jsonLeft{c.Kind.String(), inWork(c.Path), c.What})
		}
	}
	return list
}
