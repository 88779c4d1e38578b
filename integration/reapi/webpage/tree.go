package webpage

import (
	"context"
	"errors"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi"
)

// A directory is one with what is below it, as far as a page has room for it.
type directory struct {
	Digest  action.Digest
	Kind    string // of the blob: directory or tree
	Entries []*entry
	More    int // that are not shown
}

// An entry is a file, a link or a directory.
type entry struct {
	Name, Kind, Link, Target string
	Size                     int64
	Below                    *directory // nil: none, or it is not shown
}

const (
	entriesMost = 5000 // on a page of its own
	inputsMost  = 300  // on that of an operation
	depthMost   = 64
)

// directory shows a Directory of the store.
func (h *Handler) directory(ctx context.Context, d action.Digest) (*view, error) {
	left := entriesMost
	p, err := h.below(ctx, d, &left)
	if err != nil {
		return nil, err
	}
	p.Kind = "directory"
	return &view{Title: "directory", Directory: p}, nil
}

// below is the directory d with what is below it.
func (h *Handler) below(ctx context.Context, d action.Digest, left *int) (*directory, error) {
	read := func(d action.Digest) *repb.Directory {
		m := new(repb.Directory)
		if h.message(ctx, d, m) != nil {
			return nil
		}
		return m
	}
	m := new(repb.Directory)
	if err := h.message(ctx, d, m); err != nil {
		return nil, err
	}
	link := func(d action.Digest) string { return link("directory", d) }
	return list(lister{d.Function(), read, link, left}, d, m, 0), nil
}

// tree shows a Tree of the store. Its directories need not be there by themselves,
// so there are no links to them.
func (h *Handler) tree(ctx context.Context, d action.Digest) (*view, error) {
	root, children, err := h.readTree(ctx, d)
	if err != nil {
		return nil, err
	}
	left := entriesMost
	read := func(d action.Digest) *repb.Directory { return children[d] }
	none := func(action.Digest) string { return "" }
	p := list(lister{d.Function(), read, none, &left}, d, root, 0)
	p.Kind = "tree"
	return &view{Title: "tree", Directory: p}, nil
}

// readTree reads a Tree: its root, and its other directories by their digests.
func (h *Handler) readTree(ctx context.Context, d action.Digest) (*repb.Directory, map[action.Digest]*repb.Directory, error) {
	m := new(repb.Tree)
	if err := h.message(ctx, d, m); err != nil {
		return nil, nil, err
	}
	if m.Root == nil {
		return nil, nil, errors.New("the blob is no tree")
	}
	children := map[action.Digest]*repb.Directory{}
	for _, c := range m.Children {
		if data, err := proto.Marshal(c); err == nil {
			children[action.Sum(d.Function(), data)] = c
		}
	}
	return m.Root, children, nil
}

// A lister makes lists of directories.
type lister struct {
	f    action.Function
	read func(action.Digest) *repb.Directory // nil: it is not there
	link func(action.Digest) string
	left *int // how many entries may follow
}

// list is m, called d, with what is below it. What is near the top is shown first
// if there is not room for everything.
func list(l lister, d action.Digest, m *repb.Directory, depth int) *directory {
	p := &directory{Digest: d}
	add := func(e *entry) bool {
		if *l.left == 0 {
			p.More++
			return false
		}
		*l.left--
		p.Entries = append(p.Entries, e)
		return true
	}
	below := map[*entry]action.Digest{}
	for _, n := range m.Directories {
		if s, err := reapi.Digest(l.f, n.Digest); err == nil {
			if e := (&entry{Name: n.Name + "/", Kind: "directory", Link: l.link(s)}); add(e) {
				below[e] = s
			}
		}
	}
	for _, n := range m.Files {
		if s, err := reapi.Digest(l.f, n.Digest); err == nil {
			kind := "file"
			if n.IsExecutable {
				kind = "executable"
			}
			add(&entry{Name: n.Name, Kind: kind, Link: link("blob", s), Size: s.Size()})
		}
	}
	for _, n := range m.Symlinks {
		add(&entry{Name: n.Name, Kind: "link", Target: n.Target})
	}
	for _, e := range p.Entries {
		if s, ok := below[e]; ok && *l.left > 0 && depth < depthMost {
			if m := l.read(s); m != nil {
				e.Below = list(l, s, m, depth+1)
			} else {
				e.Kind = "directory that is not in the store"
			}
		}
	}
	return p
}
