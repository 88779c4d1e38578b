package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/carry"
	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/compare"
	"github.com/sbx-action/sbx-action/history"
	"github.com/sbx-action/sbx-action/leftover"
	"github.com/sbx-action/sbx-action/reproduce"
	"github.com/sbx-action/sbx-action/staging"
)

func exportCommand() command {
	return command{
		Name: "export", Settings: true, Args: "[FLAGS] OUTPUT|DIGEST FILE.tar",
		Short: "write an action into a tar, to run it elsewhere",
		Long: `
Writes an action that ran, with its command, inputs, root file system and result,
into one file that 'sbx-action rerun FILE.tar' runs anywhere: a bug report that
reproduces. "-" is standard output.

An action on the host's root file system runs once more, observed, and the export
has those files of the host that it read, looked at or found in a list, and no
others; then it runs on these alone, to see that they are enough. Whoever gets
the file can read the inputs and these files.
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			var f recordedFlags
			f.declareCache(flags)
			flags.StringVar(&f.backend, "backend", "", "`NAME` of the sandbox, of those that 'sbx-action backends --list' shows\n(default: the best that works here)")
			flags.Var(&f.timeout, "timeout", "`DURATION` after which the command is killed")
			return f.export
		},
	}
}

func (f *recordedFlags) export(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("want an output or the digest of an action, and the file to write")
	}
	r, j, err := f.open(ctx, args[0])
	if err != nil {
		return err
	}
	defer j.Close()
	c := &carry.Case{Action: j.action, Command: j.command, Rootfs: j.parts.rootfs.Tree(), About: map[string]string{
		"action": r.action.Digest(r.action.InputRoot.Function()).String(), "rootfs": property(r.action, staging.RootfsProperty),
		"system": runtime.GOOS + "/" + runtime.GOARCH, "workspace": r.workspace,
	}}
	if text := property(r.action, "stdin"); text != "" {
		if c.Stdin, err = action.ParseDigest(text); err != nil {
			return err
		}
	}
	if c.Result, err = r.result(ctx, f); err != nil {
		c.Result = nil
	}
	if _, ok := j.parts.rootfs.HostPath("/usr"); ok {
		if err := f.exportHost(ctx, r, j, c); err != nil {
			return err
		}
	}
	return writeExport(ctx, args[1], c, j.parts.blobs)
}

// writeExport writes the file, whole or not at all.
func writeExport(ctx context.Context, name string, c *carry.Case, blobs action.Blobs) error {
	interruptible(ctx)
	if err := commandline.WriteWhole(name, func(w io.Writer) error { return carry.Write(ctx, w, c, blobs) }); err != nil || name == "-" {
		return err
	}
	info, err := os.Stat(name)
	if err == nil {
		say("wrote %s, %d MiB: 'sbx-action rerun %s' runs it", name, info.Size()>>20, shellQuote(name))
	}
	return err
}

// exportHost turns the action into one on a tree of the files of the host that
// it saw.
func (f *recordedFlags) exportHost(ctx context.Context, r *recorded, j *job, c *carry.Case) error {
	var seen []byte
	dir, err := os.MkdirTemp("", "sbx-rootfs-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	req := r.request(j)
	req.Stdout, req.Stderr = io.Discard, io.Discard
	req.Limits.Wall = time.Duration(f.timeout)
	req.SkipLookup, req.SkipStore, req.Elsewhere = true, true, false
	start := j.parts.witness.Clock()
	req.Inspect = func(ctx context.Context, made backends.Root, status *backends.Status) error {
		sealed, err := j.parts.witness.Seal(ctx, j.action, status, start)
		if err != nil {
			return err
		}
		if seen, err = j.parts.witness.Seen(ctx, j.action, sealed); err != nil {
			return err
		}
		return copyMade(ctx, j, made, dir)
	}
	out, err := j.runner.Run(ctx, req)
	if err != nil {
		return err
	}
	if err := copySeen(j.parts.rootfs, seen, dir); err != nil {
		return err
	}
	imported, err := staging.ImportDir(ctx, j.parts.blobs, dir, staging.ImportOptions{Function: j.action.InputRoot.Function()})
	if err != nil {
		return err
	}
	j.parts.rootfs = staging.TreeRootfs(imported.Tree)
	j.parts.miss.rootfs = j.parts.rootfs
	changed := *j.action
	changed.Platform = nil
	for _, p := range j.action.Platform {
		if p.Name == staging.RootfsProperty {
			p.Value = j.parts.rootfs.ID()
		}
		changed.Platform = append(changed.Platform, p)
	}
	j.action, c.Action, c.Rootfs, c.Result = &changed, &changed, imported.Tree, out.Result
	c.Result.Metadata = nil
	return f.tryExport(ctx, r, j, out.Result)
}

// tryExport runs what is to be exported once, and says if it does not give the
// same.
func (f *recordedFlags) tryExport(ctx context.Context, r *recorded, j *job, want *action.Result) error {
	req := r.request(j)
	req.Action = j.action
	req.Stdout, req.Stderr = io.Discard, io.Discard
	req.Limits.Wall = time.Duration(f.timeout)
	req.SkipLookup, req.SkipStore, req.Observe, req.Elsewhere = true, true, false, false
	if req.Stdin != nil {
		if _, err := req.Stdin.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	out, err := j.runner.Run(ctx, req)
	if err != nil {
		return fmt.Errorf("try what is exported: %w", err)
	}
	list, err := reproduce.Differences(ctx, j.parts.blobs, want, out.Result, j.command.WorkingDirectory)
	if err != nil {
		return err
	}
	for _, line := range list {
		say("on the exported files alone: %s", compare.Sentence(line))
	}
	return nil
}

// copyMade copies what staging puts into a root that shows the host: all but
// what is bound there.
func copyMade(ctx context.Context, j *job, made backends.Root, dir string) error {
	none, err := j.parts.miss.Run(ctx, &backends.Spec{Root: made, Args: []string{"/nothing/to/run"}, Dir: "/", KeepRoot: true})
	if err != nil {
		return err
	}
	if none.Root == nil {
		return errors.New("the sandbox did not keep its root")
	}
	defer none.Root.Close()
	from := fmt.Sprintf("/proc/self/fd/%d", none.Root.Fd())
	list, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range list {
		switch name := "/" + e.Name(); {
		case name == action.WorkRoot, name == "/proc", name == "/dev", name == "/tmp":
		case e.IsDir():
			if _, err := leftover.Keep(from, name, dir, nil); err != nil {
				return err
			}
		case e.Type()&os.ModeSymlink != 0:
			target, err := os.Readlink(from + name)
			if err == nil {
				err = os.Symlink(target, dir+name)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// copySeen copies what was seen of the host: a line of docs/key.md each.
func copySeen(rootfs staging.Rootfs, seen []byte, dir string) error {
	for line := range bytes.Lines(seen) {
		kind, rest, _ := strings.Cut(strings.TrimSuffix(string(line), "\n"), " ")
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return fmt.Errorf("what was seen of the host: %q: %w", line, err)
		}
		name, err := strconv.Unquote(quoted)
		if err != nil {
			return err
		}
		host, ok := rootfs.HostPath(name)
		if !ok || kind == "absent" || kind == "made" {
			continue
		}
		if err := copyHost(host, filepath.Join(dir, name), kind == "list"); err != nil {
			return fmt.Errorf("copy %s: %w", name, err)
		}
	}
	return nil
}

// copyHost copies a file, or makes a directory; of one that was listed with
// empty files in the place of those that nobody read.
func copyHost(from, to string, list bool) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	have, herr := os.Lstat(to)
	switch {
	case info.IsDir():
		if err := os.MkdirAll(to, 0o755); err != nil || !list {
			return err
		}
		return placeholders(from, to)
	case herr == nil && (have.Mode()&os.ModeSymlink != 0 || have.Size() > 0 || info.Size() == 0):
		return nil
	case info.Mode()&os.ModeSymlink != 0:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	case !info.Mode().IsRegular():
		return nil
	}
	in, err := os.Open(from)
	if errors.Is(err, os.ErrPermission) {
		return os.WriteFile(to, nil, 0o644) // it could not be read by the command either
	}
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Chmod(info.Mode().Perm()), out.Close())
}

func placeholders(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := filepath.Join(to, e.Name())
		if _, err := os.Lstat(name); err == nil {
			continue
		}
		switch {
		case e.IsDir():
			err = os.Mkdir(name, 0o755)
		case e.Type()&os.ModeSymlink != 0:
			var target string
			if target, err = os.Readlink(filepath.Join(from, e.Name())); err == nil {
				err = os.Symlink(target, name)
			}
		case e.Type().IsRegular():
			err = os.WriteFile(name, nil, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func importCommand() command {
	return command{
		Name: "import", Args: "[FLAGS] FILE.tar",
		Short: "take what export wrote into the store",
		Long: `
Reads what 'sbx-action export' wrote, checks it, and puts it into the store, so
that 'rerun', 'enter', 'show' and 'diff' know the action by the digest that is
printed. "-" is standard input. What the file says that the action gave is only
compared with: it is never taken for a result of the cache.
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			var f recordedFlags
			f.declareCache(flags)
			return f.importCase
		},
	}
}

func (f *recordedFlags) importCase(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("want the file that 'sbx-action export' wrote")
	}
	file := os.Stdin
	if args[0] != "-" {
		var err error
		if file, err = os.Open(args[0]); err != nil {
			return err
		}
		defer file.Close()
	}
	run, err := f.take(ctx, file)
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	fmt.Println(run.Key.Hash())
	return nil
}

// take puts an export into the store and its history.
func (f *recordedFlags) take(ctx context.Context, in io.Reader) (*history.Run, error) {
	store, err := f.openStore(cache.Options{})
	if err != nil {
		return nil, err
	}
	defer store.Close()
	c, err := carry.Read(ctx, bufio.NewReaderSize(in, 1<<20), store, func(a *action.Action) (rootfs, stdin action.Digest, err error) {
		if rootfs, err = action.ParseDigest(property(a, staging.RootfsProperty)); err != nil {
			return rootfs, stdin, fmt.Errorf("the root file system %q is not a tree", property(a, staging.RootfsProperty))
		}
		if text := property(a, "stdin"); text != "" {
			stdin, err = action.ParseDigest(text)
		}
		return rootfs, stdin, err
	})
	if err != nil {
		return nil, err
	}
	key := c.Action.Digest(c.Action.InputRoot.Function())
	run := &history.Run{
		Time: time.Now(), Key: key, Unsealed: key, Verdict: history.NotKept, Lookup: history.NotAsked,
		Unkept: "it was imported, and did not run here", Workspace: "/imported", Tool: "import",
		Action: c.Action, Command: c.Command, Result: c.Result,
	}
	if c.Result != nil {
		run.ExitCode, run.Cost = int(c.Result.ExitCode), history.Cost(c.Result)
	}
	return run, history.Add(ctx, store, run)
}

// fileRecord imports name if it is a file that export wrote; nil if it is not.
func (f *recordedFlags) fileRecord(ctx context.Context, name string) (*recorded, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, nil //nolint:nilerr // it is something else
	}
	defer file.Close()
	if !carry.Is(file) {
		return nil, nil
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	run, err := f.take(ctx, file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &recorded{name: name, workspace: run.Workspace, action: run.Action, command: run.Command, run: run}, nil
}
