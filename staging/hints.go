package staging

import (
	"os"
	"path"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

// Hints returns the paths of the workspace that a command looked for in vain
// in its input root and that exist but were not declared, relative to the
// workspace, the first looked for first. Files that it then found elsewhere, as
// on a search path, are not among them, nor directories of others that are.
// exists says whether the root has a path.
func Hints(lookups []backends.Lookup, workspace string, exists func(string) bool) []string {
	found := map[string]bool{}
	var vain []string
	for _, l := range lookups {
		p := path.Clean(l.Path)
		if exists(p) {
			found[path.Base(p)] = true
		} else if rel, ok := strings.CutPrefix(p, action.WorkRoot+"/"); ok && !slices.Contains(vain, rel) {
			vain = append(vain, rel)
		}
	}
	vain = slices.DeleteFunc(vain, func(rel string) bool {
		info, err := os.Lstat(path.Join(workspace, rel))
		return err != nil || !info.IsDir() && found[path.Base(rel)]
	})
	parents := map[string]bool{}
	for _, rel := range vain {
		for dir := path.Dir(rel); dir != "."; dir = path.Dir(dir) {
			parents[dir] = true
		}
	}
	return slices.DeleteFunc(vain, func(rel string) bool { return parents[rel] })
}
