package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/compare"
	"github.com/sbx-action/sbx-action/history"
)

func showCommand() command {
	return command{
		Name: "show", Args: "[FLAGS] OUTPUT|DIGEST",
		Short: "show an action, its result, a tree or a blob of the store",
		Long: `
Shows what is known of an action: its command, environment, inputs, what it made,
how long it took, and whether the store still has the result. Of a digest that is
a tree, how much is in it; of any other blob, its size.

  sbx-action show build/main.o
  sbx-action show 41f7a2
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			var f bookFlags
			f.declare(flags)
			return anywhere(flags, f.show)
		},
	}
}

// one opens the history and finds the only argument.
func (f *bookFlags) one(ctx context.Context, args []string) (*history.Book, *history.Thing, error) {
	if len(args) == 0 {
		return nil, nil, errors.New("say what: an output, or a digest")
	}
	book, err := f.open()
	if err != nil {
		return nil, nil, err
	}
	t, err := find(ctx, book, args[0])
	if err != nil {
		return nil, nil, errors.Join(err, book.Store.Close())
	}
	return book, t, nil
}

func (f *bookFlags) show(ctx context.Context, args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("want one output or digest, have %d", len(args))
	}
	book, t, err := f.one(ctx, args)
	if err != nil {
		return err
	}
	defer book.Store.Close()
	w := bufio.NewWriter(os.Stdout)
	if t.Run == nil {
		showBlob(ctx, w, book.Store, t.Blob)
	} else if err := showRun(ctx, w, book, t); err != nil {
		return err
	}
	return w.Flush()
}

func showBlob(ctx context.Context, w io.Writer, store *cache.Store, d action.Digest) {
	tree, err := openTree(ctx, store, d)
	if err != nil || d.Size() == 0 {
		fmt.Fprintf(w, "blob %v\n", d)
		return
	}
	fmt.Fprintf(w, "tree %v: %s\n", d, treeSize(ctx, tree))
}

// treeSize says how much is in a tree.
func treeSize(ctx context.Context, t *storedTree) string {
	type sum struct{ files, bytes int64 }
	known := map[action.Digest]sum{} // directories can be in a tree more than once, and much more
	var lack error
	var of func(d action.Digest) sum
	of = func(d action.Digest) (s sum) {
		if s, ok := known[d]; ok || ctx.Err() != nil {
			return s
		}
		m, err := t.directory(ctx, d)
		if err != nil {
			lack = err
			return s
		}
		for _, i := range items("", m) {
			if i.kind != 'd' {
				s.files++
				s.bytes += i.digest.Size()
				continue
			}
			sub := of(i.digest)
			s.files, s.bytes = s.files+sub.files, s.bytes+sub.bytes
			if s.files < 0 || s.bytes < 0 || s.files > 1<<60 || s.bytes > 1<<60 {
				s = sum{1 << 60, 1 << 60}
			}
		}
		known[d] = s
		return s
	}
	s := of(t.root)
	text := plural(int(s.files), "file") + ", " + commandline.HumanSize(s.bytes)
	if lack != nil {
		text += "; not all of it is in the store: " + lack.Error()
	}
	return text
}

// shellLine is a command as it could be typed, on one line.
func shellLine(args []string) string {
	quoted := make([]string, len(args))
	for i, a := range args {
		quoted[i] = shellQuote(a)
		if strings.ContainsFunc(a, func(r rune) bool { return r < ' ' || r == 0x7f || r >= 0x80 && compare.Legible(string(r)) != string(r) }) {
			quoted[i] = "$" + strings.ReplaceAll(compare.Legible(a), `'`, `\'`)
			quoted[i] = "$'" + strings.TrimSuffix(strings.TrimPrefix(quoted[i], `$"`), `"`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}

func showRun(ctx context.Context, w io.Writer, book *history.Book, t *history.Thing) error {
	r := t.Run
	a, c, err := book.Origin(ctx, r)
	if a == nil {
		return err
	}
	f := a.InputRoot.Function()
	key := r.Key.Function().String() + ":" + r.Key.Hash()
	if d := a.Digest(f); d.Bytes() == r.Key.Bytes() {
		key = d.String()
	}
	fmt.Fprintf(w, "action       %s\n", key)
	fmt.Fprintf(w, "ran          %s, for %s", when(r.Time), roundTime(r.Cost))
	if r.Tool != "" {
		fmt.Fprintf(w, ", by %s", compare.Legible(r.Tool))
	}
	if r.Label != "" {
		fmt.Fprintf(w, ", as %s", compare.Legible(r.Label))
	}
	fmt.Fprintln(w)
	if r.Workspace != "" {
		fmt.Fprintf(w, "workspace    %s\n", compare.Legible(r.Workspace))
	}
	if c == nil {
		fmt.Fprintf(w, "command      not known any more: %v\n", err)
	} else {
		showCommandMessage(w, c)
	}
	tree, err := openTree(ctx, book.Store, a.InputRoot)
	if err != nil {
		fmt.Fprintf(w, "inputs       %v: not in the store any more\n", a.InputRoot)
	} else {
		fmt.Fprintf(w, "inputs       %v: %s\n", a.InputRoot, treeSize(ctx, tree))
	}
	for _, p := range a.Platform {
		fmt.Fprintf(w, "platform     %s=%s\n", compare.Legible(p.Name), compare.Legible(p.Value))
	}
	showResult(ctx, w, book, t)
	return nil
}

func showCommandMessage(w io.Writer, c *action.Command) {
	fmt.Fprintf(w, "command      %s\n", shellLine(c.Arguments))
	if c.WorkingDirectory != "" {
		fmt.Fprintf(w, "directory    %s\n", compare.Legible(c.WorkingDirectory))
	}
	for _, v := range c.Environment {
		fmt.Fprintf(w, "variable     %s=%s\n", compare.Legible(v.Name), compare.Legible(v.Value))
	}
	for _, p := range slices.Concat(c.OutputPaths, c.OutputFiles, c.OutputDirectories) {
		fmt.Fprintf(w, "output       %s\n", compare.Legible(p))
	}
}

func showResult(ctx context.Context, w io.Writer, book *history.Book, t *history.Thing) {
	r := t.Run
	res, err := book.Result(r)
	switch {
	case r.Verdict == history.Broken:
		fmt.Fprintf(w, "result       none: %s\n", compare.Sentence(r.Unkept))
		return
	case r.Verdict == history.NotKept && r.Result == nil:
		fmt.Fprintf(w, "result       exit code %d; not cached: %s\n", r.ExitCode, compare.Sentence(r.Unkept))
		return
	case err != nil:
		text := err.Error()
		if x, ok := book.Gone(r); ok && x.Cause == cache.Trimmed {
			text = "trimmed " + when(x.Time)
		}
		fmt.Fprintf(w, "result       not in the store: %s\n", compare.Sentence(text))
		return
	}
	kept := "in the store"
	if r.Verdict == history.NotKept {
		kept = "not cached: " + compare.Sentence(r.Unkept)
	}
	fmt.Fprintf(w, "result       exit code %d; %s; backend %s\n", res.ExitCode, kept, compare.Legible(worker(res)))
	for _, f := range res.Files {
		fmt.Fprintf(w, "made         %s %v\n", compare.Legible(f.Path), f.Digest)
	}
	for i := range res.Directories {
		d := &res.Directories[i]
		size := "not in the store any more"
		if tree, err := openTree(ctx, book.Store, treeDigest(d)); err == nil {
			size = treeSize(ctx, tree)
		}
		fmt.Fprintf(w, "made         %s/ %v: %s\n", compare.Legible(d.Path), treeDigest(d), size)
	}
	for _, l := range res.Symlinks {
		fmt.Fprintf(w, "made         %s -> %s\n", compare.Legible(l.Path), compare.Legible(l.Target))
	}
	out, errs := streamSize(res.StdoutRaw, res.Stdout), streamSize(res.StderrRaw, res.Stderr)
	if out+errs > 0 {
		fmt.Fprintf(w, "printed      %s, and %s of errors: see 'sbx-action log %s'\n", commandline.HumanSize(out), commandline.HumanSize(errs), shellLine([]string{t.Name}))
	}
	if last, n := t.LastHit(); n > 0 {
		fmt.Fprintf(w, "hits since   %d, the last %s\n", n, when(last.Time))
	}
}

func treeDigest(d *action.OutputDirectory) action.Digest {
	if d.Tree.IsZero() {
		return d.Root
	}
	return d.Tree
}

func streamSize(raw []byte, d action.Digest) int64 { return max(int64(len(raw)), d.Size()) }

func logCommand() command {
	return command{
		Name: "log", Args: "[FLAGS] OUTPUT|DIGEST",
		Short: "print what the command printed when it last ran",
		Long: `
Prints what the command wrote to its standard output and standard error when it
ran: each to ours. Of a command that failed, too.

  sbx-action log build/main.o
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			var f bookFlags
			f.declare(flags)
			return anywhere(flags, f.logs)
		},
	}
}

func (f *bookFlags) logs(ctx context.Context, args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("want one output or digest, have %d", len(args))
	}
	book, t, err := f.one(ctx, args)
	if err != nil {
		return err
	}
	defer book.Store.Close()
	if t.Run == nil {
		return fmt.Errorf("%s names a blob and not an action", t.Name)
	}
	res, err := book.Result(t.Run)
	if err != nil {
		if t.Run.Unkept != "" {
			err = errors.New(compare.Sentence(t.Run.Unkept))
		}
		return fmt.Errorf("what %s printed is not known: %w", t.Name, err)
	}
	for _, s := range []struct {
		to   io.Writer
		raw  []byte
		blob action.Digest
	}{{os.Stdout, res.StdoutRaw, res.Stdout}, {os.Stderr, res.StderrRaw, res.Stderr}} {
		if len(s.raw) > 0 {
			_, err = s.to.Write(s.raw)
		} else {
			err = copyBlob(ctx, s.to, book.Store, s.blob)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
