package staging

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/action"
)

// checkSorted says why m is not what REAPI calls topologically sorted, or nil: each
// directory that another names is there, once, after all that name it, and
// there is no other. f is the function of the digests in m.
func checkSorted(m *action.Tree, f action.Function) error {
	named := map[action.Digest]string{} // not seen yet
	seen := map[action.Digest]bool{}
	visit := func(d *action.Directory) error {
		for _, n := range d.Directories {
			if seen[n.Digest] {
				return fmt.Errorf("directory %q is stored before one that names it", n.Name)
			}
			named[n.Digest] = n.Name
		}
		return nil
	}
	if err := visit(&m.Root); err != nil {
		return err
	}
	var b []byte
	for i := range m.Children {
		b = m.Children[i].AppendMarshal(b[:0])
		d := action.Sum(f, b)
		if seen[d] {
			return fmt.Errorf("children[%d] is stored twice", i)
		}
		if _, ok := named[d]; !ok {
			return fmt.Errorf("children[%d] is stored before any directory that names it", i)
		}
		delete(named, d)
		seen[d] = true
		if err := visit(&m.Children[i]); err != nil {
			return err
		}
	}
	if len(named) > 0 {
		return fmt.Errorf("directory %q is missing", slices.Min(slices.Collect(maps.Values(named))))
	}
	return nil
}

// TestCheckSorted is the control of checkSorted.
func TestCheckSorted(t *testing.T) {
	leaf := action.Directory{Files: []action.FileNode{{Name: "f", Digest: action.Sum(action.BLAKE3, nil)}}}
	dir := func(children ...action.Directory) (d action.Directory) {
		for i, c := range children {
			d.Directories = append(d.Directories, action.DirectoryNode{Name: string(rune('a' + i)), Digest: c.Digest(action.BLAKE3)})
		}
		return d
	}
	mid := dir(leaf)
	top := dir(mid, leaf)
	for _, c := range []struct {
		tree action.Tree
		want string
	}{
		{action.Tree{}, ""},
		{action.Tree{Root: leaf}, ""},
		{action.Tree{Root: dir(leaf, leaf), Children: []action.Directory{leaf}}, ""},
		{action.Tree{Root: dir(top), Children: []action.Directory{top, mid, leaf}}, ""},
		{action.Tree{Root: dir(action.Directory{}), Children: []action.Directory{{}}}, ""},
		{action.Tree{Root: dir(top), Children: []action.Directory{top, leaf, mid}}, "before one that names it"},
		{action.Tree{Root: dir(top), Children: []action.Directory{mid, top, leaf}}, "children[0] is stored before any directory that names it"},
		{action.Tree{Root: dir(top), Children: []action.Directory{top, mid}}, `directory "a" is missing`},
		{action.Tree{Root: dir(leaf), Children: []action.Directory{leaf, leaf}}, "children[1] is stored twice"},
		{action.Tree{Root: leaf, Children: []action.Directory{leaf}}, "children[0] is stored before any"},
	} {
		err := checkSorted(&c.tree, action.BLAKE3)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v; want %q", c.tree, err, c.want)
		}
	}
}
