package staging

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/internal/erofs"
)

// Staging a tree that shares most of its files with an earlier one costs what
// changed. A note under the input's hint lists the last few trees that got
// layers. Each of them is walked together with the new tree, where equal
// directories, having equal digests, are not looked into. The nearest one,
// or the first that is near enough, is the base: the differences become a layer on top of the base's layers, with a
// whiteout for each name that is gone and new directories marked opaque. When
// the base has maxLayers layers, the new tree is compared with the base's full
// layer instead; when the differences are more than one in deltaShare of the
// tree, it gets a full layer of its own.

const (
	recentTrees = 4
	deltaShare  = 20
	// A root file system may differ more: it is used again and again, and its
	// layer takes longest to make.
	deltaRootShare = 2
	deltaLeast     = 64  // entries that may differ however small the tree is
	deltaNear      = 100 // a tree that differs by less than one in this is near enough
)

// errNoDelta says that no earlier tree is near enough.
var errNoDelta = errors.New("no near tree")

// errFar says that two trees differ by more than was asked for.
var errFar = errors.New("the trees differ too much")

// recentNote is the list of trees that have layers, the newest first.
type recentNote struct {
	key   action.Digest
	trees []action.Digest
}

func (n *recentNote) add(d action.Digest) {
	n.trees = slices.DeleteFunc(n.trees, func(t action.Digest) bool { return t == d })
	n.trees = slices.Insert(n.trees, 0, d)
	n.trees = n.trees[:min(len(n.trees), recentTrees)]
}

// recall reads the note for in. A note that is lost or damaged is empty.
func (s *Stager) recall(ctx context.Context, in Input, k layerKind, p place) recentNote {
	key := fmt.Sprintf("sbx recent trees 1\n%v %s\n%v\n", k, p.tag, in.Hint)
	n := recentNote{key: action.Sum(action.SHA256, []byte(key))}
	if s.Notes == nil {
		return n
	}
	data, err := s.Notes.Note(ctx, n.key)
	if err != nil {
		return n
	}
	for line := range strings.Lines(string(data)) {
		d, err := action.ParseDigest(strings.TrimSuffix(line, "\n"))
		if err != nil || len(n.trees) == recentTrees {
			break
		}
		n.trees = append(n.trees, d)
	}
	return n
}

func (s *Stager) remember(ctx context.Context, n recentNote) {
	if s.Notes == nil {
		return
	}
	var b strings.Builder
	for _, d := range n.trees {
		b.WriteString(d.String() + "\n")
	}
	if err := s.Notes.PutNote(ctx, n.key, []byte(b.String())); err != nil {
		s.warn(ctx, "the next tree cannot be compared with this one", err)
	}
}

// A base is a tree that has layers, and how the new tree differs from it.
type base struct {
	piece
	trees []action.Digest // of the layers, topmost first
	files int             // entries of the whole tree
	nodes []erofs.Node    // the differences
	refs  refSet
	size  int // how many differences
}

// makeDelta makes a layer of the differences from the nearest of the trees.
// The error wraps errNoDelta when there is none.
func (s *Stager) makeDelta(ctx context.Context, l *treeLoader, d action.Digest, trees []action.Digest, k layerKind, p place) (piece, error) {
	var best *base
	for _, t := range trees {
		if t.Function() != d.Function() {
			continue
		}
		if t == d { // made meanwhile, or lost
			if known, err := s.knownLayers(ctx, k, p, d); err == nil {
				return known, nil
			}
			continue
		}
		b, err := s.compare(ctx, l, t, d, best, k, p)
		if ctx.Err() != nil {
			return piece{}, context.Cause(ctx)
		}
		if err == nil {
			best = b
		}
		// Looking for a nearer one would cost more than it could save.
		if best != nil && best.size <= max(deltaLeast, best.files/deltaNear) {
			break
		}
	}
	if best == nil {
		return piece{}, errNoDelta
	}
	b := &layerBuild{kind: k, name: layerName("delta", k, p, d), refs: best.refs.list()}
	if p.dir == "" {
		best.nodes = slices.DeleteFunc(best.nodes, func(n erofs.Node) bool { return s.ours(n.Name) })
	}
	b.root = erofs.Node{Kind: erofs.Directory, Nodes: best.nodes}
	b.header = layerHeader{files: best.files, data: s.takesFromStore(k, true, best.nodes), below: best.trees}
	top, err := s.putLayer(ctx, l, d, b, p)
	if err != nil {
		return piece{}, err
	}
	// There may have been one, which is not replaced: of a process that was faster, or of
	// a base that has been removed. It belongs on what it was compared with.
	switch _, h, err := s.openLayer(ctx, b.name, k); {
	case err != nil:
		return piece{}, fmt.Errorf("%w: %w", errLayer, err)
	case !slices.Equal(h.below, best.trees):
		known, err := s.knownLayers(ctx, k, p, d)
		if err != nil {
			return piece{}, errNoDelta
		}
		return known, nil
	}
	top.layers = append(top.layers, best.layers...)
	top.data = top.data || best.data
	return top, nil
}

// compare returns the tree t as a base for d, if it is nearer than best.
func (s *Stager) compare(ctx context.Context, l *treeLoader, t, d action.Digest, best *base, k layerKind, p place) (*base, error) {
	layers, h, err := s.chain(ctx, k, p, t)
	if err != nil {
		return nil, err
	}
	b := &base{piece: layers, trees: append([]action.Digest{t}, h.below...), files: h.files}
	if len(b.trees) >= maxLayers { // start again from the full layer
		t = b.trees[len(b.trees)-1]
		b.trees, b.layers = []action.Digest{t}, []backends.Layer{layers.layers[len(layers.layers)-1]}
	}
	limit := max(deltaLeast, h.files/deltaShare)
	if p.dir == "" { // root file systems that are made of others have many of their files
		limit = max(deltaLeast, h.files/deltaRootShare)
	}
	if best != nil {
		limit = min(limit, best.size-1)
	}
	b.refs = refSet{blobPath: s.Layers.BlobPath, paths: map[action.Digest]string{}}
	diff := treeDiff{loader: l, refs: b.refs, limit: limit}
	if b.nodes, err = diff.directories(ctx, t, d, 0); err != nil {
		return nil, err
	}
	b.size = diff.size
	b.files += diff.grown
	return b, nil
}

// A treeDiff finds the differences between two trees.
type treeDiff struct {
	loader *treeLoader
	refs   refSet // gets the blobs of what differs
	limit  int    // of size
	size   int    // entries of the result
	grown  int    // entries that the second tree has more than the first
}

func (t *treeDiff) add(n int) error {
	if t.size += n; t.size > t.limit {
		return errFar
	}
	return nil
}

// directories returns what must lie over the directory a to make it b.
func (t *treeDiff) directories(ctx context.Context, a, b action.Digest, depth int) ([]erofs.Node, error) {
	if a == b {
		return nil, nil
	}
	if depth > maxDepth {
		return nil, errFar
	}
	from, err := t.loader.directory(ctx, a)
	if err != nil {
		return nil, err
	}
	to, err := t.loader.directory(ctx, b)
	if err != nil {
		return nil, err
	}
	t.refs.add(b)
	old, list := entries(from), entries(to)
	t.grown += len(list) - len(old)
	var nodes []erofs.Node
	for len(old)+len(list) > 0 {
		var was, is *entry
		if len(list) == 0 || len(old) > 0 && old[0].name <= list[0].name {
			was = &old[0]
		}
		if len(old) == 0 || len(list) > 0 && list[0].name <= old[0].name {
			is = &list[0]
		}
		if was != nil {
			old = old[1:]
		}
		if is != nil {
			list = list[1:]
		}
		n, err := t.entry(ctx, was, is, depth)
		if err != nil {
			return nil, err
		}
		if n != nil {
			nodes = append(nodes, *n)
		}
	}
	return nodes, nil
}

// entry returns what must lie over was to make it is, or nil: either may be
// nil, and they have the same name.
func (t *treeDiff) entry(ctx context.Context, was, is *entry, depth int) (*erofs.Node, error) {
	if was != nil && is != nil && *was == *is {
		return nil, nil
	}
	if err := t.add(1); err != nil {
		return nil, err
	}
	if is == nil {
		return &erofs.Node{Name: was.name, Kind: erofs.Whiteout}, nil
	}
	if is.kind != erofs.Directory {
		n, err := t.loader.node(ctx, is, t.refs, depth)
		return &n, err
	}
	n := &erofs.Node{Name: is.name, Kind: erofs.Directory}
	var err error
	if was != nil && was.kind == erofs.Directory {
		n.Nodes, err = t.directories(ctx, was.digest, is.digest, depth+1)
		return n, err
	}
	n.Opaque = true
	n.Nodes, err = t.created(ctx, is.digest, depth+1)
	return n, err
}

// created returns the nodes of a directory that is not in the first tree.
func (t *treeDiff) created(ctx context.Context, d action.Digest, depth int) ([]erofs.Node, error) {
	if depth > maxDepth {
		return nil, errFar
	}
	m, err := t.loader.directory(ctx, d)
	if err != nil {
		return nil, err
	}
	t.refs.add(d)
	list := entries(m)
	t.grown += len(list)
	if err := t.add(len(list)); err != nil {
		return nil, err
	}
	nodes := make([]erofs.Node, len(list))
	for i := range list {
		e := &list[i]
		if e.kind != erofs.Directory {
			nodes[i], err = t.loader.node(ctx, e, t.refs, depth)
		} else {
			nodes[i] = erofs.Node{Name: e.name, Kind: erofs.Directory}
			nodes[i].Nodes, err = t.created(ctx, e.digest, depth+1)
		}
		if err != nil {
			return nil, err
		}
	}
	return nodes, nil
}
