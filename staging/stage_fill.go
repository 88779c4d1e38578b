package staging

import (
	"context"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/erofs"
)

// A fillNode is a file, link or directory that is copied into a scratch.
type fillNode struct {
	name   string
	kind   erofs.Kind
	exec   bool
	data   []byte                   // of a file, where it was read in advance
	open   func() (*os.File, error) // else: opens its content
	size   int64
	target string
	kids   []fillNode
}

// A placement is a node with its absolute path in the root. A directory may be
// there already.
type placement struct {
	path string
	node fillNode
}

func (n fillNode) at(p string) placement {
	n.name = path.Base(p)
	return placement{p, n}
}

func emptyDir() fillNode { return fillNode{kind: erofs.Directory} }

// contents returns the tree d with the content of its files. If that is more
// than inMemory bytes, files are opened when they are copied; then at least
// they have been seen to be in the store.
func (l *treeLoader) contents(ctx context.Context, d action.Digest, inMemory int64) (fillNode, error) {
	preload, err := l.fits(ctx, d, bounds{maxCopies, inMemory})
	if err != nil {
		return fillNode{}, err
	}
	l.count, l.limit = 0, maxCopies
	c := contentReader{l, preload}
	kids, err := c.directory(ctx, d, 0)
	return fillNode{kind: erofs.Directory, kids: kids}, err
}

type contentReader struct {
	*treeLoader
	preload bool
}

func (c contentReader) directory(ctx context.Context, d action.Digest, depth int) ([]fillNode, error) {
	if depth > maxDepth {
		return nil, errTooDeep()
	}
	m, err := c.treeLoader.directory(ctx, d)
	if err != nil {
		return nil, err
	}
	list := entries(m)
	if err := c.add(len(list)); err != nil {
		return nil, err
	}
	nodes := make([]fillNode, len(list))
	for i, e := range list {
		nodes[i] = fillNode{name: e.name, kind: e.kind, exec: e.exec, target: e.target}
		switch e.kind {
		case erofs.Directory:
			nodes[i].kids, err = c.directory(ctx, e.digest, depth+1)
		case erofs.File:
			err = c.file(ctx, &nodes[i], e.digest)
		}
		if err != nil {
			return nil, inside(e.name, err)
		}
	}
	return nodes, nil
}

func (c contentReader) file(ctx context.Context, n *fillNode, d action.Digest) error {
	n.size = d.Size()
	if n.size == 0 {
		return nil
	}
	if c.preload {
		var err error
		if n.data, err = readBlob(ctx, c.blobs, d, nil); err != nil {
			return fmt.Errorf("blob %v: %w", d, err)
		}
		return nil
	}
	if !c.blobs.Has(ctx, d) {
		return fmt.Errorf("blob %v is not in the store: %w", d, action.ErrMiss)
	}
	n.open = func() (*os.File, error) { return c.blobs.Open(ctx, d) }
	return nil
}

// fillAll puts placements into the directory of a fresh scratch.
func fillAll(dir *os.File, owner int, groups ...[]placement) error {
	w := newPlacer(owner)
	root := int(dir.Fd())
	if err := w.own(root, 0o755); err != nil {
		return fmt.Errorf("fill the scratch: %w", err)
	}
	for _, g := range groups {
		for i := range g {
			if err := w.placeAt(root, strings.Split(strings.Trim(g[i].path, "/"), "/"), &g[i].node); err != nil {
				return fmt.Errorf("fill the scratch: %s: %w", g[i].path, err)
			}
		}
	}
	return w.date(root)
}

// placeAt places n at the path of names below the directory parent.
func (p *placer) placeAt(parent int, names []string, n *fillNode) error {
	if len(names) == 1 {
		return p.place(parent, n, true)
	}
	fd, err := p.mkdir(parent, names[0], true)
	if err != nil {
		return err
	}
	return p.finish(fd, p.placeAt(fd, names[1:], n))
}

// place puts n into the directory parent. If n is a directory, it may be there
// already where merge says so.
func (p *placer) place(parent int, n *fillNode, merge bool) error {
	switch n.kind {
	case erofs.Symlink:
		return p.symlink(parent, n.name, n.target)
	case erofs.File:
		return p.file(parent, n.name, n.exec, func(fd int) error { return p.content(fd, n) })
	}
	fd, err := p.mkdir(parent, n.name, merge)
	if err != nil {
		return err
	}
	for i := range n.kids {
		if err = p.place(fd, &n.kids[i], false); err != nil {
			err = inside(n.kids[i].name, err)
			break
		}
	}
	return p.finish(fd, err)
}

// content writes the content of n.
func (p *placer) content(fd int, n *fillNode) error {
	if n.open == nil {
		return writeAll(fd, n.data)
	}
	src, err := n.open()
	if err != nil {
		return err
	}
	defer src.Close()
	return p.copy(fd, int(src.Fd()), n.size)
}

// A treeWriter writes a layer that is a directory tree.
type treeWriter struct {
	*placer
	blobDir string // with the contents
	attrs   string // what the names of overlayfs's attributes begin with
	stubs   int64  // from which size on files are stubs; 0: none is
}

// write writes what n holds into the directory dir.
func (w *treeWriter) write(ctx context.Context, dir int, n *erofs.Node) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := w.own(dir, 0o755); err != nil {
		return err
	}
	if n.Opaque {
		if err := setAttr(dir, w.attrs+"opaque", "y"); err != nil {
			return err
		}
	}
	for i := range n.Nodes {
		if err := w.node(ctx, dir, &n.Nodes[i]); err != nil {
			return inside(n.Nodes[i].Name, err)
		}
	}
	return w.date(dir)
}

func (w *treeWriter) node(ctx context.Context, dir int, n *erofs.Node) error {
	switch n.Kind {
	case erofs.Symlink:
		return w.symlink(dir, n.Name, n.Target)
	case erofs.Whiteout:
		return whiteout(dir, n.Name)
	case erofs.File:
		return w.file(dir, n.Name, n.Executable, func(fd int) error { return w.fileContent(fd, n) })
	}
	fd, err := w.mkdir(dir, n.Name, false)
	if err != nil {
		return err
	}
	return w.finish(fd, w.write(ctx, fd, n))
}

// fileContent gives a file its content, or makes it a stub.
func (w *treeWriter) fileContent(fd int, n *erofs.Node) error {
	if n.Size == 0 {
		return nil
	}
	if w.stubs > 0 && n.Size >= w.stubs {
		if err := setAttr(fd, w.attrs+"metacopy", ""); err != nil {
			return err
		}
		if err := setAttr(fd, w.attrs+"redirect", n.Redirect); err != nil {
			return err
		}
		return truncate(fd, n.Size)
	}
	src, err := os.Open(w.blobDir + n.Redirect)
	if os.IsNotExist(err) {
		return fmt.Errorf("blob %s: %w", n.Redirect, action.ErrMiss)
	}
	if err != nil {
		return err
	}
	defer src.Close()
	return w.copy(fd, int(src.Fd()), n.Size)
}
