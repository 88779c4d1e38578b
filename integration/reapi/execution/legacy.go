package execution

//lint:file-ignore SA1019 what is deprecated is what this file is about

import (
	"fmt"
	"path"
	"slices"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/sbx-action/sbx-action/action"
)

// oldPlatform is where clients before REAPI 2.2 say what they need.
func oldPlatform(c *repb.Command) *repb.Platform { return c.Platform }

// oldOutputs are what clients before REAPI 2.1 want.
func oldOutputs(c *repb.Command) (files, directories []string) {
	return c.OutputFiles, c.OutputDirectories
}

// checkLegacy refuses a directory where an old client wants a file, and a file
// where it wants a directory.
func (s *stager) checkLegacy(res *action.Result) error {
	for _, d := range res.Directories {
		if slices.Contains(s.j.legacy.files, d.Path) {
			return fmt.Errorf("%w: %q is a directory, and the action wants a file", errOutput, d.Path)
		}
	}
	for _, f := range res.Files {
		if slices.Contains(s.j.legacy.directories, f.Path) {
			return fmt.Errorf("%w: %q is a file, and the action wants a directory", errOutput, f.Path)
		}
	}
	return nil
}

// addLegacy repeats links where clients before REAPI 2.1 look for them: by what
// they lead to, as far as the result tells.
func (s *stager) addLegacy(res *action.Result) {
	for _, l := range res.Symlinks {
		target := path.Join(path.Dir(l.Path), l.Target)
		leads := slices.ContainsFunc(res.Directories, func(d action.OutputDirectory) bool { return d.Path == target })
		if leads || slices.Contains(s.j.legacy.directories, l.Path) {
			res.DirSymlinks = append(res.DirSymlinks, l)
		} else {
			res.FileSymlinks = append(res.FileSymlinks, l)
		}
	}
}
