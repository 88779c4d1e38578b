package main

import (
	"context"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/compare"
)

// A storedTree is a tree of the store: a blob that is a Directory, or that is
// a whole Tree, as output directories are kept.
type storedTree struct {
	store *cache.Store
	root  action.Digest // of a Directory
	known map[action.Digest]*action.Directory
}

// metaMax is the largest message that is read into memory.
const metaMax = 256 << 20

func readBlob(ctx context.Context, store *cache.Store, d action.Digest) ([]byte, error) {
	if d.Size() > metaMax {
		return nil, fmt.Errorf("%v is too large", d)
	}
	f, err := store.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

func openTree(ctx context.Context, store *cache.Store, d action.Digest) (*storedTree, error) {
	t := &storedTree{store: store, root: d, known: map[action.Digest]*action.Directory{}}
	data, err := readBlob(ctx, store, d)
	if err != nil {
		return nil, err
	}
	m, err := action.ParseDirectory(data, d.Function())
	if err == nil {
		t.known[d] = m
		return t, nil
	}
	whole, terr := action.ParseTree(data, d.Function())
	if terr != nil {
		return nil, err
	}
	c := compare.Comparison{}
	t.root, t.known = c.AddTree(whole, d.Function()), c.Known
	return t, nil
}

func (t *storedTree) directory(ctx context.Context, d action.Digest) (*action.Directory, error) {
	if m := t.known[d]; m != nil {
		return m, nil
	}
	data, err := readBlob(ctx, t.store, d)
	if err != nil {
		return nil, err
	}
	return action.ParseDirectory(data, d.Function())
}

// An item is a name in a tree.
type item struct {
	path   string
	kind   byte // 'f', 'x' executable, 'd', 'l'
	digest action.Digest
	target string
}

func items(dir string, m *action.Directory) (list []item) {
	for _, d := range m.Directories {
		list = append(list, item{path.Join(dir, d.Name), 'd', d.Digest, ""})
	}
	for _, f := range m.Files {
		kind := byte('f')
		if f.Executable {
			kind = 'x'
		}
		list = append(list, item{path.Join(dir, f.Name), kind, f.Digest, ""})
	}
	for _, l := range m.Symlinks {
		list = append(list, item{path.Join(dir, l.Name), 'l', action.Digest{}, l.Target})
	}
	return list
}

// find returns what is at a path in the tree, "." for its root.
func (t *storedTree) find(ctx context.Context, name string) (item, error) {
	at := item{path: ".", kind: 'd', digest: t.root}
	for part := range strings.SplitSeq(path.Clean(name), "/") {
		if part == "." || part == "" {
			continue
		}
		if at.kind != 'd' {
			return at, fmt.Errorf("%s is not a directory", compare.Legible(at.path))
		}
		m, err := t.directory(ctx, at.digest)
		if err != nil {
			return at, fmt.Errorf("%s: %w", compare.Legible(at.path), err)
		}
		found := false
		for _, i := range items(at.path, m) {
			if path.Base(i.path) == part {
				at, found = i, true
			}
		}
		if !found {
			where := "the top of the tree"
			if at.path != "." {
				where = compare.Legible(at.path)
			}
			return at, fmt.Errorf("there is no %s in %s: list it with 'sbx-action ls'", compare.Legible(part), where)
		}
	}
	return at, nil
}

// walk calls each with what is below a directory, and with what is below that
// if deep; names in order.
func (t *storedTree) walk(ctx context.Context, at item, deep bool, each func(item) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m, err := t.directory(ctx, at.digest)
	if err != nil {
		return fmt.Errorf("%s: %w", compare.Legible(at.path), err)
	}
	for _, i := range sortItems(items(at.path, m)) {
		if err := each(i); err != nil {
			return err
		}
		if deep && i.kind == 'd' {
			if err := t.walk(ctx, i, deep, each); err != nil {
				return err
			}
		}
	}
	return nil
}
