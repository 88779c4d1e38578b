package compare

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/sbx-action/sbx-action/action"
)

// AddTree makes the directories of m known, and returns the digest of its root.
func (c *Comparison) AddTree(m *action.Tree, f action.Function) action.Digest {
	if c.Known == nil {
		c.Known = map[action.Digest]*action.Directory{}
	}
	root := action.Sum(f, m.Root.Marshal())
	c.Known[root] = &m.Root
	for i := range m.Children {
		c.Known[action.Sum(f, m.Children[i].Marshal())] = &m.Children[i]
	}
	return root
}

// Root returns the digest of the Directory at the root of an output directory,
// and makes what is below it known.
func (c *Comparison) Root(ctx context.Context, d *action.OutputDirectory) (action.Digest, error) {
	if d.Tree.IsZero() {
		return d.Root, nil
	}
	data, err := c.read(ctx, d.Tree, dirMax)
	if err != nil {
		return action.Digest{}, err
	}
	m, err := action.ParseTree(data, d.Tree.Function())
	if err != nil {
		return action.Digest{}, fmt.Errorf("tree %v: %w", d.Tree, err)
	}
	return c.AddTree(m, d.Tree.Function()), nil
}

// Results adds how two results differ: exit codes, outputs, standard output and
// standard error.
func (c *Comparison) Results(ctx context.Context, a, b *action.Result) {
	if a.ExitCode != b.ExitCode {
		c.add(Change{Part: Other, Kind: Changed, Name: "exit code", Old: strconv.Itoa(int(a.ExitCode)), New: strconv.Itoa(int(b.ExitCode))})
	}
	x, y := c.outputs(ctx, a), c.outputs(ctx, b)
	t := &treeDiff{c: c, part: Output, gone: map[action.Digest][]int{}}
	for _, name := range sortedNames(x, y) {
		t.node(ctx, name, x[name], y[name], 1)
	}
	for _, change := range t.changes {
		c.add(change)
	}
	c.More += t.more
	for _, s := range []struct {
		name     string
		raw, new []byte
		a, b     action.Digest
	}{
		{"standard output", a.StdoutRaw, b.StdoutRaw, a.Stdout, b.Stdout},
		{"standard error", a.StderrRaw, b.StderrRaw, a.Stderr, b.Stderr},
	} {
		old, err1 := c.stream(ctx, s.raw, s.a)
		news, err2 := c.stream(ctx, s.new, s.b)
		switch {
		case err1 != nil || err2 != nil:
			if s.a != s.b {
				c.add(Change{Part: Other, Kind: Unknown, Name: s.name, Detail: noDetails})
			}
		case string(old) != string(news):
			c.add(Change{Part: Other, Kind: Changed, Name: s.name, Detail: describe(old, news)})
		}
	}
}

func (c *Comparison) stream(ctx context.Context, raw []byte, d action.Digest) ([]byte, error) {
	if len(raw) > 0 || d.Size() == 0 {
		return raw, nil
	}
	f, err := c.Blobs.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, contentMax))
}

func (c *Comparison) outputs(ctx context.Context, r *action.Result) map[string]node {
	all := map[string]node{}
	for _, f := range r.Files {
		all[f.Path] = node{digest: f.Digest, exec: f.Executable, kind: 'f'}
	}
	for _, l := range r.Symlinks {
		all[l.Path] = node{target: l.Target, kind: 'l'}
	}
	for i := range r.Directories {
		d := &r.Directories[i]
		root, err := c.Root(ctx, d)
		if err != nil {
			root = d.Tree // differs, and nobody can say how
		}
		all[d.Path] = node{digest: root, kind: 'd'}
	}
	return all
}
