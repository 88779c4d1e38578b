package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/compare"
	"github.com/sbx-action/sbx-action/staging"
)

// A suggester runs a command with the whole workspace visible, and finds the
// least inputs with which it does the same.
//
// What the command named is what it may depend on; what it wrote is not, though
// it named that, too; what it learned from listing a directory is all names in
// it, and seldom matters. So the inputs are guessed, the narrowest first, and
// each guess is tried: the first with which the command makes the same outputs,
// prints the same and ends with the same code is it. What differs between two
// runs that see everything is not compared.
type suggester struct {
	f    *runFlags
	args []string

	shown    []string // the inputs of the run that saw everything
	seen     *job     // that run's
	changes  bool     // the command needs its earlier outputs, and changes them
	out      *action.Outcome
	uses     map[string]staging.Use
	traces   map[string]staging.Trace
	made     []string          // undeclared files that the command made
	expected map[string]string // what the run gave, by name
}

// hiddenAtFirst are directories that hardly any command reads, and that can be
// large: they are shown if it looks for them.
var hiddenAtFirst = []string{".git", ".hg", ".svn", ".jj"}

func (f *runFlags) suggestInputs(ctx context.Context, args []string) error {
	interruptible(ctx)
	s := &suggester{f: f, args: args}
	defer s.close()
	if err := s.observe(ctx); err != nil {
		return err
	}
	list, how, err := s.narrow(ctx)
	if err != nil {
		return err
	}
	return s.print(list, how)
}

func (s *suggester) close() {
	if s.seen != nil {
		s.seen.Close()
	}
}

// observe runs the command with everything in sight, and delivers what it makes.
func (s *suggester) observe(ctx context.Context) error {
	inputs, hidden, err := s.first()
	if err != nil {
		return err
	}
	for {
		shown := slices.Clone(inputs)
		for _, h := range hidden {
			shown = append(shown, "!./"+h)
		}
		if err := s.observeWith(ctx, shown); err != nil {
			return err
		}
		if wanted := s.wanted(hidden); len(wanted) > 0 {
			hidden = slices.DeleteFunc(hidden, func(h string) bool { return slices.Contains(wanted, h) })
			s.close()
			s.seen = nil
			continue
		}
		break
	}
	if code := s.out.Result.ExitCode; code != 0 {
		say("the command failed although it could see the whole workspace, so there is nothing to suggest")
		return exitCode(code)
	}
	if len(s.out.Missing) > 0 {
		return s.f.verdict(s.out, nil)
	}
	if !s.out.Status.Complete {
		return errors.New("--suggest-inputs: not everything that the command looked up could be observed")
	}
	return s.seen.deliver(ctx, s.out.Result)
}

// first returns the inputs to begin with, and which of them are hidden as long
// as the command does not need them: the outputs that an earlier run has left,
// and hiddenAtFirst.
func (s *suggester) first() (inputs, hidden []string, err error) {
	if len(s.f.inputs) > 0 {
		return s.f.inputs, nil, nil
	}
	workspace, err := s.f.workspaceDir()
	if err != nil {
		return nil, nil, err
	}
	for _, name := range hiddenAtFirst {
		if _, err := os.Lstat(path.Join(workspace, name)); err == nil {
			hidden = append(hidden, name)
		}
	}
	for _, out := range s.f.outputs {
		out = path.Clean(out)
		if _, err := os.Lstat(path.Join(workspace, out)); (err == nil || strings.ContainsAny(out, "*?[{")) && out != "." && !path.IsAbs(out) {
			hidden = append(hidden, out)
		}
	}
	return []string{"."}, hidden, nil
}

// wanted are those of what is hidden that must be shown: what the command
// looked for, but for outputs, which it looks for to replace them. Without them
// it fails, if it needs them.
func (s *suggester) wanted(hidden []string) (list []string) {
	for _, h := range hidden {
		if !slices.Contains(hiddenAtFirst, h) {
			if s.out.Result.ExitCode != 0 {
				s.changes = true
				list = append(list, h)
			}
		} else if lookedFor(s.out.Status.Lookups, h) {
			list = append(list, h)
		}
	}
	return list
}

// isOutput says whether the command makes name, and needs none to do so.
func (s *suggester) isOutput(name string) bool { return !s.changes && s.seen.isOutput(name) }

func lookedFor(lookups []backends.Lookup, name string) bool {
	at := action.WorkRoot + "/" + name
	return slices.ContainsFunc(lookups, func(l backends.Lookup) bool {
		p := path.Clean(l.Path)
		return p == at || within(p, at)
	})
}

func (s *suggester) observeWith(ctx context.Context, inputs []string) error {
	job, err := s.describe(ctx, inputs)
	if err != nil {
		return err
	}
	s.shown, s.seen = inputs, job
	req := s.request(job)
	req.Stdout, req.Stderr = os.Stderr, os.Stderr // standard output is for the inputs
	var root traces
	job.stager.inspect = root.take
	started := time.Now()
	s.out, err = job.runner.Run(ctx, req)
	s.f.remember(ctx, job, req, s.out, err, started)
	if err != nil {
		return err
	}
	if root.dir == nil {
		return nil // it did not even start
	}
	defer root.dir.Close()
	s.uses = job.snapshot.Uses(s.out.Status.Lookups)
	s.traces = map[string]staging.Trace{}
	for name := range s.uses {
		s.traces[name], _ = staging.TraceOf(root.dir, name)
	}
	s.made = s.undeclared(root.dir)
	s.expected = gave(s.out)
	return nil
}

// traces keeps the root of a run open until it was looked at.
type traces struct{ dir *os.File }

func (t *traces) take(root *os.File) {
	if fd, err := unix.FcntlInt(root.Fd(), unix.F_DUPFD_CLOEXEC, 0); err == nil {
		t.dir = os.NewFile(uintptr(fd), root.Name())
	}
}

// describe is runFlags.describe with other inputs.
func (s *suggester) describe(ctx context.Context, inputs []string) (*job, error) {
	f := *s.f
	f.inputs, f.quiet = inputs, true
	return f.describe(ctx, s.args)
}

func (s *suggester) request(job *job) *action.Request {
	req := s.f.request(job, io.Discard, io.Discard)
	req.SkipLookup, req.SkipStore = true, true
	return req
}

// undeclared are the files that the command made or changed, and that are not
// declared as outputs, at most a hundred.
func (s *suggester) undeclared(root *os.File) []string {
	var made []string
	seen := map[string]bool{}
	for _, l := range s.out.Status.Lookups {
		rel, ok := strings.CutPrefix(path.Clean(l.Path), action.WorkRoot+"/")
		if !ok || seen[rel] || s.seen.isOutput(rel) || len(made) == 100 {
			continue
		}
		seen[rel] = true
		if t, mode := staging.TraceOf(root, rel); t == staging.Written && mode&os.ModeDir == 0 {
			made = append(made, rel)
		}
	}
	slices.Sort(made)
	return made
}

// gave is what a run gave, by names that no two things share.
func gave(out *action.Outcome) map[string]string {
	res := out.Result
	m := map[string]string{
		"code": fmt.Sprint(res.ExitCode),
		"1":    string(res.StdoutRaw) + res.Stdout.String(), "2": string(res.StderrRaw) + res.Stderr.String(),
	}
	for _, f := range res.Files {
		m["o "+f.Path] = fmt.Sprint(f.Digest, f.Executable)
	}
	for _, d := range res.Directories {
		m["o "+d.Path] = fmt.Sprint(d.Tree, d.Root)
	}
	for _, l := range res.Symlinks {
		m["o "+l.Path] = l.Target
	}
	for _, x := range out.Missing {
		m["o "+x.Path] = "missing"
	}
	return m
}

// narrow returns the narrowest inputs with which the command does the same, and
// what is to be said of them.
func (s *suggester) narrow(ctx context.Context) ([]string, string, error) {
	guesses := s.guesses()
	for i, g := range guesses {
		same, err := s.try(ctx, g.inputs)
		if err != nil {
			return nil, "", err
		}
		if same {
			inputs, err := s.withoutLists(ctx, g)
			return inputs, g.how, err
		}
		if i == 0 { // is it the inputs, or is it never the same?
			if err := s.forgetUnstable(ctx); err != nil {
				return nil, "", err
			}
			if same, err := s.try(ctx, g.inputs); err != nil || same {
				return g.inputs, g.how + "; what differs from run to run was not compared", err
			}
		}
	}
	return nil, "", errors.New("--suggest-inputs: with every input that the command looked at it does not do the same as with the whole workspace: it may depend on what changes from run to run: declare the workspace, with -i")
}

// listsTried is from how many directories what was only listed is left out to
// see whether it matters: each is another run.
const listsTried = 16

// withoutLists returns the inputs of a guess that will do, without what is in
// directories whose list does not matter: Python lists the directory of a
// program, whatever that does.
func (s *suggester) withoutLists(ctx context.Context, g guess) ([]string, error) {
	dirs := map[string]bool{}
	for _, name := range g.listed {
		dirs[path.Dir(name)] = true
	}
	inputs := g.inputs
	if len(dirs) < 2 { // of one, the narrower guess has shown that it matters
		return inputs, nil
	}
	for _, dir := range slices.Sorted(maps.Keys(dirs))[:min(len(dirs), listsTried)] {
		fewer := slices.DeleteFunc(slices.Clone(inputs), func(name string) bool {
			return path.Dir(name) == dir && slices.Contains(g.listed, name)
		})
		same, err := s.try(ctx, fewer)
		if err != nil {
			return nil, err
		}
		if same {
			inputs = fewer
		}
	}
	return inputs, nil
}

// try runs the command with the inputs, and says whether it did the same.
func (s *suggester) try(ctx context.Context, inputs []string) (bool, error) {
	job, err := s.describe(ctx, literal(inputs))
	if err != nil {
		return false, err
	}
	defer job.Close()
	out, err := job.runner.Run(ctx, s.request(job))
	if err != nil {
		return false, err
	}
	got := gave(out)
	for name, want := range s.expected {
		if got[name] != want {
			return false, nil
		}
	}
	return true, nil
}

// forgetUnstable runs the command again with everything in sight, and takes out
// of what is expected what it did not give again.
func (s *suggester) forgetUnstable(ctx context.Context) error {
	job, err := s.describe(ctx, s.shown)
	if err != nil {
		return err
	}
	defer job.Close()
	out, err := job.runner.Run(ctx, s.request(job))
	if err != nil {
		return err
	}
	again := gave(out)
	for name, want := range maps.Clone(s.expected) {
		if again[name] != want {
			delete(s.expected, name)
		}
	}
	return nil
}

// A guess is inputs that may do.
type guess struct {
	inputs []string // paths
	how    string
	listed []string // those of inputs that are there for a list only
}

func (s *suggester) guesses() []guess {
	var first, written, dirs []string
	for name, use := range s.uses {
		e, ok := s.seen.snapshot.Find(name)
		switch {
		case !ok || s.isOutput(name):
		case e.Kind == staging.KindDirectory && e.Digest.IsEmpty():
			if s.traces[name] == staging.Untouched {
				first = append(first, name)
			}
		case e.Kind == staging.KindDirectory:
			dirs = append(dirs, name)
		case s.traces[name] == staging.Untouched, s.traces[name] == staging.Gone && use != staging.Named:
			first = append(first, name)
		default:
			written = append(written, name)
		}
	}
	all := slices.Concat(first, written)
	list := []guess{{inputs: clean(first), how: "the command looked at each"}}
	if len(written) > 0 {
		list = append(list, guess{inputs: clean(all), how: "the command looked at each, and changed some"})
	}
	if s.uses["."] != 0 {
		dirs = append(dirs, ".")
	}
	listed := s.inDirs(dirs, func(name string) bool { return s.uses[path.Dir(name)]&staging.Read != 0 })
	if more := clean(slices.Concat(all, listed)); len(more) > len(all) {
		list = append(list, guess{more, "the command looked at some, and listed the directories of the others, which matters to it", clean(without(listed, all))})
	}
	lookedAt := s.inDirs(dirs, func(string) bool { return true })
	if more := clean(slices.Concat(all, lookedAt)); len(more) > len(all) {
		list = append(list, guess{more, "the command looked at some, and at the directories of the others, which matters to it", clean(without(lookedAt, all))})
	}
	return list
}

// inDirs are the files and links directly in the directories that want wants.
func (s *suggester) inDirs(dirs []string, want func(name string) bool) (list []string) {
	in := map[string]bool{}
	for _, d := range dirs {
		in[d] = true
	}
	_ = s.seen.snapshot.Walk(func(name string, e staging.Entry) error {
		if in[path.Dir(name)] && e.Kind != staging.KindDirectory && want(name) && !s.isOutput(name) {
			list = append(list, name)
		}
		return nil
	})
	return list
}

// without are the names that are not among the others.
func without(names, others []string) []string {
	in := map[string]bool{}
	for _, o := range others {
		in[o] = true
	}
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return in[name] })
}

func clean(names []string) []string {
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.Compact(names)
}

// literal declares paths whatever characters they have.
func literal(names []string) []string {
	list := make([]string, len(names))
	for i, n := range names {
		list[i] = plainInput(n)
	}
	return list
}

// plainInput is the input that means the path and nothing else: a path that
// exists means itself, but for what stands at its beginning.
func plainInput(name string) string {
	if strings.HasPrefix(name, "!") || strings.HasPrefix(name, "@") || strings.ContainsAny(name, "=:") {
		return "./" + name
	}
	return name
}

// inputText is plainInput in print: what would steer a terminal, or be hard to
// write for a shell, becomes a "?".
func inputText(name string) string {
	if name != compare.Sentence(name) {
		var b strings.Builder
		for _, r := range name {
			switch {
			case compare.Sentence(string(r)) != string(r):
				b.WriteByte('?')
			case strings.ContainsRune(`*?[]{}\!,`, r):
				b.WriteString(`\` + string(r))
			default:
				b.WriteRune(r)
			}
		}
		name = b.String()
	}
	return plainInput(name)
}

// print prints the inputs, a line each, as a shell takes them.
func (s *suggester) print(names []string, how string) error {
	var b strings.Builder
	lines := fold(s.seen.snapshot, names)
	for _, n := range lines {
		fmt.Fprintf(&b, "-i %s\n", shellWord(n))
	}
	if _, err := os.Stdout.WriteString(b.String()); err != nil {
		return err
	}
	say("%s: %s; tried without the rest of the workspace, and the command did the same", plural(len(names), "input"), how)
	if len(s.made) > 0 && len(s.f.outputs) == 0 {
		say("it made, and you can declare with -o: %s", shellLine(s.made[:min(len(s.made), 20)]))
	}
	return nil
}

// shellWord quotes a word for a shell, also one that would steer a terminal.
func shellWord(s string) string { return shellLine([]string{s}) }
