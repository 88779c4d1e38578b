package foreign

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/sbx-action/sbx-action/backends"
)

// mountPlace finds an existing directory of the host where the root can be
// mounted for the tool to see, in a mount namespace of its own. So nothing has to
// be made and cleaned up; but what lies below the place is covered there, so it
// must have nothing to do with any file that is needed.
func mountPlace(program string, root *backends.Root) (string, error) {
	used := []string{program, root.Data, root.ScratchDir}
	for _, b := range root.Binds {
		used = append(used, b.Source)
	}
	for _, l := range root.Lowers {
		used = append(used, l.Dir, l.Image)
	}
	for _, path := range used {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			used = append(used, real)
		}
	}
	for _, place := range []string{"/mnt", "/media", "/srv", "/opt", "/home", "/boot", "/var/lib", "/run", "/root", "/tmp"} {
		if st, err := os.Lstat(place); err == nil && st.IsDir() && !related(place, used) {
			return place, nil
		}
	}
	return "", errors.New("there is no directory for the root's mount, such as /mnt, that has nothing to do with a directory that is shown")
}

// related says whether place is, or lies above or below, one of paths.
func related(place string, paths []string) bool {
	for _, p := range paths {
		if p != "" && (below(place, p) || below(p, place)) {
			return true
		}
	}
	return false
}

func below(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}
