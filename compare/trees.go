package compare

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/sbx-action/sbx-action/action"
)

// Blobs is where trees and contents come from. An error means that it has not
// got something, or not any more.
type Blobs interface {
	Open(ctx context.Context, d action.Digest) (*os.File, error)
}

// A Comparison compares. Its fields are set before use; it is for one goroutine
// and one comparison.
type Comparison struct {
	Blobs Blobs

	// Limit is how many changes are wanted. The rest is only counted.
	Limit int

	// Contents asks for the details of changed files, which are read.
	Contents bool

	// Known are directories that need not be read from Blobs: see AddTree.
	Known map[action.Digest]*action.Directory

	Changes []Change
	More    int // changes beyond Limit
}

func (c *Comparison) add(x Change) {
	if len(c.Changes) >= c.Limit {
		c.More++
		return
	}
	c.Changes = append(c.Changes, x)
}

// dirMax is the largest Directory message that is read, and treeDepth how deep
// a tree may be.
const (
	dirMax    = 256 << 20
	treeDepth = 1000
)

func (c *Comparison) read(ctx context.Context, d action.Digest, limit int64) ([]byte, error) {
	if d.Size() > limit {
		return nil, fmt.Errorf("%v is too large", d)
	}
	f, err := c.Blobs.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

func (c *Comparison) directory(ctx context.Context, d action.Digest) (*action.Directory, error) {
	if d.IsZero() {
		return &action.Directory{}, nil
	}
	if m := c.Known[d]; m != nil {
		return m, nil
	}
	data, err := c.read(ctx, d, dirMax)
	if err != nil {
		return nil, err
	}
	return action.ParseDirectory(data, d.Function())
}

// A node is a name in a directory.
type node struct {
	digest action.Digest // of a file or a directory
	exec   bool
	target string // of a link
	kind   byte   // 'f', 'd', 'l'; 0: not there
}

func nodes(m *action.Directory) map[string]node {
	all := make(map[string]node, len(m.Files)+len(m.Directories)+len(m.Symlinks))
	for _, f := range m.Files {
		all[f.Name] = node{digest: f.Digest, exec: f.Executable, kind: 'f'}
	}
	for _, d := range m.Directories {
		all[d.Name] = node{digest: d.Digest, kind: 'd'}
	}
	for _, l := range m.Symlinks {
		all[l.Name] = node{target: l.Target, kind: 'l'}
	}
	return all
}

func (n node) String() string {
	switch n.kind {
	case 'd':
		return "directory"
	case 'l':
		return "link"
	}
	return "file"
}

// Trees adds how the tree of the Directory b differs from that of a. Either may
// be zero: an empty one.
func (c *Comparison) Trees(ctx context.Context, part Part, a, b action.Digest) {
	c.trees(ctx, part, "", a, b)
}

// trees is Trees of two directories that are called name.
func (c *Comparison) trees(ctx context.Context, part Part, name string, a, b action.Digest) {
	if a == b {
		return
	}
	t := &treeDiff{c: c, part: part, gone: map[action.Digest][]int{}}
	t.directories(ctx, name, a, b, 0)
	if len(t.changes)+t.more == 0 {
		t.add(Change{Kind: Unknown, Name: name, Detail: "in what a tree says of its entries besides names, contents and executable bits"})
	}
	for _, x := range t.changes {
		if x.Kind != 0 {
			c.add(x)
		}
	}
	c.More += t.more
}

// A treeDiff is a comparison of two trees. A file that was removed here and
// added there has moved.
type treeDiff struct {
	c       *Comparison
	part    Part
	changes []Change
	more    int
	steps   int
	gone    map[action.Digest][]int // files: where in changes they were removed
	come    []cameFile
}

type cameFile struct {
	digest action.Digest
	at     int
}

// kept is how many changes are kept before moves are found, and stepsMax how
// many names are looked at: a tree in which directories are shared can have more
// paths than there is time.
const (
	kept     = 100_000
	stepsMax = 20_000_000
)

// full says that nothing more is wanted.
func (t *treeDiff) full(ctx context.Context) bool {
	t.steps++
	return len(t.changes) >= kept || t.steps > stepsMax || ctx.Err() != nil
}

func (t *treeDiff) add(x Change) int {
	if len(t.changes) >= kept {
		t.more++
		return -1
	}
	x.Part = t.part
	t.changes = append(t.changes, x)
	return len(t.changes) - 1
}

func (t *treeDiff) directories(ctx context.Context, dir string, a, b action.Digest, depth int) {
	if a == b {
		return
	}
	if t.full(ctx) {
		t.more++
		return
	}
	old, err1 := t.c.directory(ctx, a)
	news, err2 := t.c.directory(ctx, b)
	if err1 != nil || err2 != nil || depth > treeDepth {
		which := "the earlier"
		if err1 == nil {
			which = "the later"
		}
		t.add(Change{Kind: Unknown, Name: dir, Detail: which + " directory is not in the store any more"})
		return
	}
	x, y := nodes(old), nodes(news)
	for _, name := range sortedNames(x, y) {
		t.node(ctx, path.Join(dir, name), x[name], y[name], depth)
	}
	if depth == 0 {
		t.findMoves()
	}
}

func (t *treeDiff) node(ctx context.Context, name string, a, b node, depth int) {
	switch {
	case a == b:
	case a.kind == 0:
		t.whole(ctx, Added, name, b, depth)
	case b.kind == 0:
		t.whole(ctx, Removed, name, a, depth)
	case a.kind != b.kind:
		t.add(Change{Kind: Changed, Name: name, Detail: "a " + a.String() + " became a " + b.String()})
	case a.kind == 'd':
		t.directories(ctx, name, a.digest, b.digest, depth+1)
	case a.kind == 'l':
		t.add(Change{Kind: Changed, Name: name, Old: a.target, New: b.target, Detail: "the target of the link"})
	default:
		t.add(Change{Kind: Changed, Name: name, Detail: t.file(ctx, a, b)})
	}
}

// whole adds what came or went: of a directory, each file in it, and the
// directory itself if it is empty.
func (t *treeDiff) whole(ctx context.Context, k Kind, name string, n node, depth int) {
	if t.full(ctx) {
		t.more++
		return
	}
	switch n.kind {
	case 'l':
		x := Change{Kind: k, Name: name, Detail: "a link to " + Legible(n.target)}
		t.add(x)
	case 'f':
		at := t.add(Change{Kind: k, Name: name, Detail: count(int(n.digest.Size()), "byte")})
		if at < 0 {
			return
		}
		if k == Removed {
			t.gone[n.digest] = append(t.gone[n.digest], at)
		} else {
			t.come = append(t.come, cameFile{n.digest, at})
		}
	case 'd':
		m, err := t.c.directory(ctx, n.digest)
		all := map[string]node{}
		if err == nil && depth < treeDepth {
			all = nodes(m)
		}
		if len(all) == 0 {
			what := "an empty directory"
			if err != nil {
				what = "a directory; " + noDetails
			}
			t.add(Change{Kind: k, Name: name, Detail: what})
		}
		for _, sub := range sortedNames(all, nil) {
			t.whole(ctx, k, path.Join(name, sub), all[sub], depth+1)
		}
	}
}

// findMoves makes one change of a file that was removed and one with the same
// content that was added. Empty files are not the same.
func (t *treeDiff) findMoves() {
	for _, f := range t.come {
		from := t.gone[f.digest]
		if len(from) == 0 || f.digest.Size() == 0 {
			continue
		}
		old := &t.changes[from[0]]
		t.gone[f.digest] = from[1:]
		t.changes[f.at] = Change{Part: t.part, Kind: Moved, Name: old.Name, New: t.changes[f.at].Name}
		old.Kind = 0 // said by the other
	}
}

// file says how a file differs.
func (t *treeDiff) file(ctx context.Context, a, b node) string {
	bits := ""
	if a.exec != b.exec {
		bits = "it is executable now"
		if a.exec {
			bits = "it is not executable any more"
		}
	}
	if a.digest == b.digest {
		return bits
	}
	text := t.c.contents(ctx, a.digest, b.digest)
	if bits != "" {
		text = bits + "; " + text
	}
	return text
}

// contents says how two contents differ.
func (c *Comparison) contents(ctx context.Context, a, b action.Digest) string {
	sizes := fmt.Sprintf("%d bytes became %d", a.Size(), b.Size())
	if a.Size() == b.Size() {
		sizes = fmt.Sprintf("%d bytes, as before", a.Size())
	}
	if !c.Contents || len(c.Changes) >= c.Limit || a.Size() > contentMax || b.Size() > contentMax {
		return sizes
	}
	old, err1 := c.read(ctx, a, contentMax)
	news, err2 := c.read(ctx, b, contentMax)
	if err1 != nil || err2 != nil {
		return sizes + "; " + noDetails
	}
	return describe(old, news)
}
