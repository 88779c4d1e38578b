package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/compare"
	"github.com/sbx-action/sbx-action/history"
)

func lsCommand() command {
	return command{
		Name: "ls", Args: "[FLAGS] OUTPUT|DIGEST [PATH]",
		Short: "list an action's inputs or outputs, or a tree of the store",
		Long: `
Lists what is in the input root of an action, or with --outputs what it made, or
what is in a tree: at PATH, or at the top. Each line has a letter (f file, x
executable file, d directory, l link), the size in bytes, and the name.

  sbx-action ls -R build/main.o
  sbx-action ls --digests build/main.o include
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			var f lsFlags
			f.declare(flags)
			flags.BoolVar(&f.deep, "R", false, "list what is in directories, too")
			flags.BoolVar(&f.digests, "digests", false, "print digests and not sizes")
			flags.BoolVar(&f.outputs, "outputs", false, "list what the action made")
			return anywhere(flags, f.ls)
		},
	}
}

type lsFlags struct {
	bookFlags
	deep, digests, outputs bool
}

func (f *lsFlags) ls(ctx context.Context, args []string) error {
	if len(args) > 2 {
		return fmt.Errorf("want an output or a digest, and a path in it; have %d arguments", len(args))
	}
	book, t, err := f.one(ctx, args)
	if err != nil {
		return err
	}
	defer book.Store.Close()
	at := "."
	if len(args) == 2 {
		at = args[1]
	}
	roots, err := f.roots(ctx, book, t)
	if err != nil {
		return err
	}
	tree, err := roots.open(ctx, book.Store, at)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(os.Stdout)
	if tree.kind != 'd' {
		err = f.line(w, tree.item)
	} else {
		err = tree.in.walk(ctx, tree.item, f.deep, func(i item) error { return f.line(w, i) })
	}
	return errors.Join(err, w.Flush())
}

func (f *lsFlags) line(w io.Writer, i item) error {
	name := compare.Legible(i.path)
	if i.kind == 'l' {
		name += " -> " + compare.Legible(i.target)
	}
	var err error
	switch {
	case f.digests && i.kind != 'l':
		_, err = fmt.Fprintf(w, "%c %v %s\n", i.kind, i.digest, name)
	case i.kind == 'f' || i.kind == 'x':
		_, err = fmt.Fprintf(w, "%c %10d %s\n", i.kind, i.digest.Size(), name)
	default:
		_, err = fmt.Fprintf(w, "%c %10s %s\n", i.kind, "-", name)
	}
	return err
}

// roots are the places of an action in which a path may be: one tree, or the
// outputs, each with its name.
type roots struct {
	root    action.Digest // of a tree
	outputs []item        // with trees' digests as directories
}

// roots returns what ls and cat look at.
func (f *lsFlags) roots(ctx context.Context, book *history.Book, t *history.Thing) (*roots, error) {
	if t.Run == nil {
		return &roots{root: t.Blob}, nil
	}
	if !f.outputs {
		a, _, err := book.Origin(ctx, t.Run)
		if a == nil {
			return nil, err
		}
		return &roots{root: a.InputRoot}, nil
	}
	res, err := book.Result(t.Run)
	if err != nil {
		return nil, fmt.Errorf("%s has no result: %w", t.Name, err)
	}
	return &roots{outputs: outputItems(res)}, nil
}

func outputItems(res *action.Result) []item {
	list := []item{}
	for _, o := range res.Files {
		kind := byte('f')
		if o.Executable {
			kind = 'x'
		}
		list = append(list, item{o.Path, kind, o.Digest, ""})
	}
	for i := range res.Directories {
		list = append(list, item{res.Directories[i].Path, 'd', treeDigest(&res.Directories[i]), ""})
	}
	for _, l := range res.Symlinks {
		list = append(list, item{l.Path, 'l', action.Digest{}, l.Target})
	}
	return sortItems(list)
}

func sortItems(list []item) []item {
	slices.SortFunc(list, func(a, b item) int { return strings.Compare(a.path, b.path) })
	return list
}

// A placed is an item, and the tree that it is in.
type placed struct {
	item
	in *storedTree
}

// open finds the path.
func (r *roots) open(ctx context.Context, store *cache.Store, name string) (placed, error) {
	if r.outputs == nil {
		tree, err := openTree(ctx, store, r.root)
		if err != nil {
			return placed{}, err
		}
		i, err := tree.find(ctx, name)
		return placed{i, tree}, err
	}
	name = path.Clean(name)
	for _, o := range r.outputs {
		rest, below := strings.CutPrefix(name, o.path+"/")
		if name != o.path && (!below || o.kind != 'd') {
			continue
		}
		if o.kind != 'd' {
			return placed{o, nil}, nil
		}
		tree, err := openTree(ctx, store, o.digest)
		if err != nil {
			return placed{}, err
		}
		if !below {
			rest = "."
		}
		i, err := tree.find(ctx, rest)
		return placed{i, tree}, err
	}
	if name != "." {
		return placed{}, fmt.Errorf("there is no output %s", compare.Legible(name))
	}
	// All of them, as a directory that is nowhere stored.
	all := &storedTree{store: store, known: map[action.Digest]*action.Directory{}}
	return placed{item{path: ".", kind: 'd'}, all}, all.addOutputs(ctx, r.outputs)
}

// addOutputs makes the outputs what is in the directory of no digest.
func (t *storedTree) addOutputs(ctx context.Context, list []item) error {
	top := &action.Directory{}
	for _, o := range list {
		switch o.kind {
		case 'd':
			sub, err := openTree(ctx, t.store, o.digest)
			if err != nil {
				return fmt.Errorf("%s: %w", compare.Legible(o.path), err)
			}
			maps.Copy(t.known, sub.known)
			top.Directories = append(top.Directories, action.DirectoryNode{Name: o.path, Digest: sub.root})
		case 'l':
			top.Symlinks = append(top.Symlinks, action.SymlinkNode{Name: o.path, Target: o.target})
		default:
			top.Files = append(top.Files, action.FileNode{Name: o.path, Digest: o.digest, Executable: o.kind == 'x'})
		}
	}
	t.known[action.Digest{}] = top
	return nil
}

func catCommand() command {
	return command{
		Name: "cat", Args: "[FLAGS] OUTPUT|DIGEST [PATH]",
		Short: "print a file of the store: an output, an input, or any blob",
		Long: `
Prints what the store has of OUTPUT, as the last run made it; with PATH the input
PATH of the action that makes it, or with --outputs its output PATH. DIGEST may
be a blob, or a tree with PATH in it, or an action.

  sbx-action cat build/main.o >saved.o
  sbx-action cat build/main.o~1 main.c | diff - main.c
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			var f lsFlags
			f.declare(flags)
			flags.BoolVar(&f.outputs, "outputs", false, "PATH is an output")
			return anywhere(flags, f.cat)
		},
	}
}

func (f *lsFlags) cat(ctx context.Context, args []string) error {
	if len(args) > 2 {
		return fmt.Errorf("want an output or a digest, and a path in it; have %d arguments", len(args))
	}
	book, t, err := f.one(ctx, args)
	if err != nil {
		return err
	}
	defer book.Store.Close()
	d := t.Blob
	if len(args) == 2 || t.Run != nil {
		if d, err = f.file(ctx, book, t, args[1:]); err != nil {
			return err
		}
	}
	return copyBlob(ctx, os.Stdout, book.Store, d)
}

// file is the digest of the file that cat is to print.
func (f *lsFlags) file(ctx context.Context, book *history.Book, t *history.Thing, rest []string) (action.Digest, error) {
	var name string
	switch {
	case len(rest) == 1:
		name = rest[0]
	case t.File == "":
		return action.Digest{}, fmt.Errorf("%s is an action: say which of its inputs, or with --outputs which of its outputs", t.Name)
	default:
		_, c, err := book.Origin(ctx, t.Run)
		if c == nil {
			return action.Digest{}, err
		}
		f.outputs = true
		// Outputs are relative to the working directory, and so is this.
		work := path.Join(t.Run.Workspace, c.WorkingDirectory)
		name = strings.TrimPrefix(t.File, work+"/")
		for up := ""; name == t.File && work != "/"; work = path.Dir(work) {
			if rel, ok := strings.CutPrefix(t.File, work+"/"); ok {
				name = up + rel
			}
			up += "../"
		}
	}
	roots, err := f.roots(ctx, book, t)
	if err != nil {
		return action.Digest{}, err
	}
	i, err := roots.open(ctx, book.Store, name)
	switch {
	case err != nil:
		return action.Digest{}, err
	case i.kind == 'd':
		return action.Digest{}, fmt.Errorf("%s is a directory: 'sbx-action ls' lists it", compare.Legible(name))
	case i.kind == 'l':
		return action.Digest{}, fmt.Errorf("%s is a link to %s", compare.Legible(name), compare.Legible(i.target))
	}
	return i.digest, nil
}

func copyBlob(ctx context.Context, w io.Writer, store *cache.Store, d action.Digest) error {
	if d.Size() == 0 {
		return nil
	}
	f, err := store.Open(ctx, d)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}
