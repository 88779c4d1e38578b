package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// absent says that there is no such file: also because what should be its directory is
// none. [Store.inDir] then makes that one.
func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) }

// clearWay removes a file that has the place of dir, or of a directory of the store
// above it. It says whether there was one. A link to nowhere stays: it may lead to a
// disk that is not mounted now.
func (s *Store) clearWay(dir string) bool {
	if s.opts.ReadOnly {
		return false
	}
	for ; len(dir) > len(s.dir); dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			continue
		}
		if info.IsDir() {
			return false
		}
		s.warn(fmt.Errorf("%s is no directory, and is made again", dir))
		return ignoreMissing(s.disk.Remove(dir)) == nil
	}
	return false
}
