package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/cmd/wiring"
	"github.com/sbx-action/sbx-action/history"
	"github.com/sbx-action/sbx-action/staging"
)

// A recorded is an action that ran before, as the history, a directory of --keep
// or an import has it.
type recorded struct {
	name      string // as the user calls it
	workspace string
	action    *action.Action // with what it saw of the host, if that is known
	command   *action.Command
	kept      string       // the work directory that --keep left, or ""
	run       *history.Run // nil of a directory of --keep
}

// findRecorded returns what the user means by name: an output, the digest of an
// action, or a directory of --keep.
func findRecorded(ctx context.Context, book *history.Book, name string) (*recorded, error) {
	if r, err := keptRecord(name); err != nil || r != nil {
		return r, err
	}
	t, err := findRun(ctx, book, name)
	if err != nil {
		return nil, err
	}
	a, c, err := book.Origin(ctx, t.Run)
	if err == nil && c == nil {
		err = fmt.Errorf("command %v is not known any more", a.Command)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &recorded{name: name, workspace: t.Run.Workspace, action: a, command: c, run: t.Run}, nil
}

// keptRecord reads a directory that --keep made; nil if dir is none.
func keptRecord(dir string) (*recorded, error) {
	a, err := os.ReadFile(filepath.Join(dir, keptAction))
	if err != nil {
		return nil, nil //nolint:nilerr // it is something else
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	work := filepath.Join(dir, keptRoot, action.WorkRoot)
	if info, err := os.Lstat(work); err != nil || !info.IsDir() {
		return nil, nil //nolint:nilerr // it is something else
	}
	c, err := os.ReadFile(filepath.Join(dir, keptCommand))
	if err != nil {
		return nil, fmt.Errorf("%s: %w; it is no longer what --keep left", dir, err)
	}
	r := &recorded{name: dir, workspace: dir, kept: work}
	for _, f := range []action.Function{action.BLAKE3, action.SHA256} {
		r.action, err = action.ParseAction(a, f)
		if err == nil && action.Sum(f, c) == r.action.Command {
			if r.command, err = action.ParseCommand(c, f); err == nil {
				return r, nil
			}
		}
	}
	return nil, fmt.Errorf("%s is no longer what --keep left: its action and its command do not belong together", dir)
}

// property is the value of a platform property, or "".
func property(a *action.Action, name string) string {
	for _, p := range a.Platform {
		if p.Name == name {
			return p.Value
		}
	}
	return ""
}

// open makes a job of r, as if its command line had been given again.
func (r *recorded) open(ctx context.Context, w wiringFlags) (*job, error) {
	network := backends.NetworkNone
	if property(r.action, "network") == "host" {
		network = backends.NetworkHost
	}
	unsealed := staging.Unsealed(r.action)
	id := property(unsealed, staging.RootfsProperty)
	w.rootfs = "host"
	if !strings.HasPrefix(id, "host") {
		w.rootfs = id
	}
	function := r.action.InputRoot.Function()
	parts, err := w.open(ctx, function, network, false)
	if err != nil {
		return nil, err
	}
	parts.store.Stay()
	j := &job{parts: parts, workspace: r.workspace, command: r.command, action: unsealed}
	if err := r.fill(ctx, j, id); err != nil {
		j.Close()
		return nil, fmt.Errorf("%s: %w", r.name, err)
	}
	return j, nil
}

func (r *recorded) fill(ctx context.Context, j *job, id string) error {
	function := r.action.InputRoot.Function()
	if have := j.parts.rootfs.ID(); have != id {
		return fmt.Errorf("it ran on the root file system %s, and here is %s", id, have)
	}
	if r.kept != "" {
		snapshot, err := staging.Scan(ctx, staging.ScanConfig{
			Workspace: r.kept, Inputs: []string{"."}, Function: function, Files: j.parts.hasher, Never: []string{j.parts.store.Dir()},
		})
		if err != nil {
			return err
		}
		if err := snapshot.Save(ctx, j.parts.blobs, nil); err != nil {
			return err
		}
		changed := *j.action
		changed.InputRoot = snapshot.Root
		j.action = &changed
	}
	tree, err := openTree(ctx, j.parts.store, j.action.InputRoot)
	if err != nil {
		return fmt.Errorf("its inputs: %w; run it again where its workspace is", err)
	}
	if err := r.complete(ctx, j, tree); err != nil {
		return err
	}
	find := func(p string) (staging.Entry, bool) {
		i, err := tree.find(ctx, p)
		return staging.Entry{Kind: kindOf(i.kind)}, err == nil
	}
	j.stager = j.parts.miss.forJob(j.parts.store, action.Sum(function, []byte(j.workspace)), find)
	j.runner = *j.parts.runner
	j.runner.Stager = j.stager
	return r.openStdin(ctx, j)
}

func kindOf(k byte) staging.Kind {
	switch k {
	case 'd':
		return staging.KindDirectory
	case 'l':
		return staging.KindLink
	}
	return staging.KindFile
}

// complete says whether the store still has all inputs.
func (r *recorded) complete(ctx context.Context, j *job, tree *storedTree) error {
	root := item{path: ".", kind: 'd', digest: tree.root}
	return tree.walk(ctx, root, true, func(i item) error {
		if (i.kind == 'f' || i.kind == 'x') && !j.parts.store.Has(ctx, i.digest) {
			return fmt.Errorf("its input %s is not in the store any more (trimmed?): run it again where its workspace is", i.path)
		}
		return nil
	})
}

// openStdin opens what the action had on standard input.
func (r *recorded) openStdin(ctx context.Context, j *job) error {
	text := property(r.action, "stdin")
	if text == "" {
		return nil
	}
	d, err := action.ParseDigest(text)
	if err != nil {
		return err
	}
	f, err := j.parts.store.Open(ctx, d)
	if err != nil {
		return fmt.Errorf("its standard input: %w; run it again where its workspace is", err)
	}
	defer f.Close()
	tmp, err := os.CreateTemp("", "sbx-stdin-")
	if err != nil {
		return fmt.Errorf("%w; set TMPDIR to a directory that can be written", err)
	}
	defer tmp.Close()
	_, err = io.Copy(tmp, f)
	if err == nil {
		j.stdin, err = os.Open(tmp.Name())
	}
	return errors.Join(err, os.Remove(tmp.Name()), tmp.Chmod(0o400))
}

// request is what the runner is asked for. The inputs are in the store already.
func (r *recorded) request(j *job) *action.Request {
	req := &action.Request{
		Action: j.action, Command: j.command, Stdin: j.stdin, Stdout: os.Stdout, Stderr: os.Stderr, Observe: true,
		Save: func(ctx context.Context) error { return j.parts.keepRootfs(ctx) },
	}
	if property(r.action, wiring.EmulatorProperty) != "" {
		m, err := wiring.Arch(property(r.action, "ISA"))
		if err != nil {
			say("%v", err)
		}
		req.Machine = m
	}
	if property(r.action, "network") == "host" {
		req.Network = backends.NetworkHost
	}
	return req
}

// changedHost says what of the host is not as the action saw it, or nil.
func (r *recorded) changedHost(ctx context.Context, j *job) error {
	sealed, err := j.parts.witness.Recall(ctx, j.action)
	switch {
	case err == nil && property(sealed, staging.RootfsProperty) == property(r.action, staging.RootfsProperty):
		return nil
	case staging.Unsealed(r.action) == r.action: // nobody noted what it saw
		return nil
	case errors.Is(err, action.ErrMiss):
		return errors.New(strings.TrimSuffix(err.Error(), ": "+action.ErrMiss.Error()))
	case err == nil:
		return errors.New("other things of it were looked at by a later run")
	}
	return err
}
