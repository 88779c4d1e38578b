package staging

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/action"
)

// A Workspace says where outputs go.
type Workspace struct {
	Root string // outputs stay below this directory, which must exist
	Dir  string // their paths are relative to this one; itself relative to Root

	// Known, if it is there, says what files hold without reading them again. An
	// output that is as it will be, a directory too, is then left as it is, with
	// its time. StatCache is as in ScanConfig.
	Known     *FileHasher
	StatCache string
}

// place returns where in the workspace an output goes, relative to Root.
func (w Workspace) place(p string) (string, error) {
	full := path.Join(w.Dir, p)
	switch {
	case p == "" || full == ".":
		return "", errors.New("the whole working directory cannot be replaced by an output: name what is in it")
	case path.IsAbs(p) || full == ".." || strings.HasPrefix(full, "../"):
		return "", errors.New("it would be outside the workspace")
	}
	return full, nil
}

// A delivery is one output on its way into the workspace.
type delivery struct {
	path string // relative to the workspace's root
	show string // as the Result has it

	file *action.OutputFile
	link *action.OutputSymlink
	dir  *action.OutputDirectory
}

// deliveries lists the outputs of res.
func (w Workspace) deliveries(res *action.Result) ([]delivery, error) {
	list := make([]delivery, 0, len(res.Files)+len(res.Directories)+len(res.Symlinks))
	for i := range res.Directories {
		list = append(list, delivery{show: res.Directories[i].Path, dir: &res.Directories[i]})
	}
	for i := range res.Files {
		list = append(list, delivery{show: res.Files[i].Path, file: &res.Files[i]})
	}
	links := res.Symlinks
	if len(links) == 0 { // a server may set all three, with the same links
		links = slices.Concat(res.FileSymlinks, res.DirSymlinks)
	}
	for i := range links {
		list = append(list, delivery{show: links[i].Path, link: &links[i]})
	}
	dirs := map[string]bool{}
	for i := range list {
		var err error
		if list[i].path, err = w.place(list[i].show); err != nil {
			return nil, fmt.Errorf("output %q: %w", list[i].show, err)
		}
		if list[i].dir != nil {
			dirs[list[i].path] = true
		}
	}
	return slices.DeleteFunc(list, func(o delivery) bool { return below(dirs, o.path) }), nil
}

// below says whether p is below one of dirs: then it comes with it.
func below(dirs map[string]bool, p string) bool {
	for p != "." && p != "/" {
		if p = path.Dir(p); dirs[p] {
			return true
		}
	}
	return false
}
