package cache

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// longPath is from where on walkLayer gives up paths: a tree may be deeper than any
// path that the kernel takes (4,096 bytes), and one name more has up to 255.
const longPath = 3 << 10

// walkLayer calls each for the file or tree at path and all that is below it, in
// the order of [filepath.WalkDir]: at is by which it can be opened, rel what its path
// below path is, with a slash in front.
func walkLayer(path string, each func(at, rel string, e os.DirEntry) error) error {
	return walkBelow(path, "", each)
}

// walkBelow is walkLayer for what is at rel in the layer.
func walkBelow(top, rel string, each func(at, rel string, e os.DirEntry) error) error {
	above := strings.TrimSuffix(top, "/.")
	return filepath.WalkDir(top, func(p string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		here := ""
		if p != top {
			here = p[len(above):]
		} else if rel != "" {
			return nil // whoever came here has seen it
		}
		if err := each(p, rel+here, e); err != nil || !e.IsDir() || len(p) < longPath {
			return err
		}
		dir, err := os.Open(p)
		if err != nil {
			return err
		}
		defer dir.Close()
		// The dot makes it a directory, and not the link that it is.
		if err := walkBelow(fmt.Sprintf("/proc/self/fd/%d/.", dir.Fd()), rel+here, each); err != nil {
			return err
		}
		return fs.SkipDir
	})
}
