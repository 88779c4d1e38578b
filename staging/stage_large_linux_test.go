package staging

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/action"
)

// TestLargeFilesOnLayers reads files that are large enough to come from the
// store, in layers that lie on others: of inputs on a root file system that is a
// tree, of what changed in them, and of a root file system that differs little
// from another.
func TestLargeFilesOnLayers(t *testing.T) {
	large := func(c string) string { return strings.Repeat(c, 2*stubSize) }
	base := spec{"lib/large": large("a")}
	first := spec{"large": large("b"), "dir/large": large("c")}
	for i := range 100 {
		base[fmt.Sprintf("lib/%d", i)] = "x"
		first[fmt.Sprintf("%d", i)] = "y"
	}
	second := maps.Clone(first)
	second["large"], second["new/large"] = large("d"), large("e")
	other := maps.Clone(base)
	other["opt/large"] = large("f")
	for _, m := range modes() {
		s, store := newStager(t, m)
		s.small = bounds{1, 1}
		for _, tree := range []spec{base, other} {
			rootfs := TreeRootfs(tree.add(t, store, action.BLAKE3))
			for _, input := range []spec{first, second} {
				root, _ := stage(t, s, input.add(t, store, action.BLAKE3), rootfs)
				out := inRoot(t, m, root, "dump")
				if diff := differences(out, input.want(m)); diff != "" {
					t.Errorf("%s: %s", m.name, diff)
				}
				for p := range tree {
					if strings.HasSuffix(p, "large") {
						inRoot(t, m, root, "read "+p)
					}
				}
			}
		}
	}
}
