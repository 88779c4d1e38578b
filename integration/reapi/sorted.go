package reapi

//lint:file-ignore SA1019 old clients use the old lists

import (
	"cmp"
	"slices"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
)

// sortResult sorts what package action wants sorted and REAPI does not.
func sortResult(m *repb.ActionResult) {
	byPath := func(a, b interface{ GetPath() string }) int { return cmp.Compare(a.GetPath(), b.GetPath()) }
	slices.SortStableFunc(m.OutputFiles, func(a, b *repb.OutputFile) int { return byPath(a, b) })
	slices.SortStableFunc(m.OutputDirectories, func(a, b *repb.OutputDirectory) int { return byPath(a, b) })
	for _, list := range [][]*repb.OutputSymlink{m.OutputSymlinks, m.OutputFileSymlinks, m.OutputDirectorySymlinks} {
		slices.SortStableFunc(list, func(a, b *repb.OutputSymlink) int { return byPath(a, b) })
	}
	for _, f := range m.OutputFiles {
		sortProperties(f.NodeProperties)
	}
	for _, list := range [][]*repb.OutputSymlink{m.OutputSymlinks, m.OutputFileSymlinks, m.OutputDirectorySymlinks} {
		for _, l := range list {
			sortProperties(l.NodeProperties)
		}
	}
}

func sortProperties(p *repb.NodeProperties) {
	if p == nil {
		return
	}
	slices.SortFunc(p.Properties, func(a, b *repb.NodeProperty) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Value, b.Value))
	})
}
