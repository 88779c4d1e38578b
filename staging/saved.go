package staging

import (
	"context"
	"path"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/action"
)

// Saved returns a function that says of a directory of an input root, given by
// its path and its digest, that the store has it and all that is below it. It
// is right without looking at the files, because a layer of an earlier tree
// holds the directory at the same path, and a layer keeps its blobs. What it
// costs grows with what changed since that tree, not with the tree.
//
// The function is for [Snapshot.Save], and for one goroutine.
func (s *Stager) Saved(ctx context.Context, in Input) func(dir string, d action.Digest) bool {
	kind, place := s.layerKind(), s.workPlace()
	if kind == noLayer {
		return func(string, action.Digest) bool { return false }
	}
	var trees []*savedTree
	for _, t := range s.recall(ctx, in, kind, place).trees {
		if t.Function() != in.Tree.Function() {
			continue
		}
		if _, err := s.knownLayers(ctx, kind, place, t); err == nil {
			trees = append(trees, &savedTree{ctx, newTreeLoader(s.Blobs), t})
		}
	}
	return func(dir string, d action.Digest) bool {
		return slices.ContainsFunc(trees, func(t *savedTree) bool { return t.has(dir, d) })
	}
}

// A savedTree is an earlier tree that has layers.
type savedTree struct {
	ctx  context.Context
	dirs *treeLoader
	root action.Digest
}

// has says whether the tree has the directory d at the path dir.
func (t *savedTree) has(dir string, d action.Digest) bool {
	at := t.root
	for name := range strings.SplitSeq(path.Clean(dir), "/") {
		if name == "." || name == "" {
			continue
		}
		m, err := t.dirs.directory(t.ctx, at)
		if err != nil {
			return false
		}
		i, ok := slices.BinarySearchFunc(m.Directories, name, func(n action.DirectoryNode, name string) int {
			return strings.Compare(n.Name, name)
		})
		if !ok {
			return false
		}
		at = m.Directories[i].Digest
	}
	return at == d
}
