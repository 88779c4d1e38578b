package cache

import (
	"errors"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// HoldsImages says whether the kernel can mount a file of the store as a file
// system. It cannot in a tmpfs or an overlay, whose files it does not read page by
// page (fs/erofs/super.c: such a file must have read_folio).
func (s *Store) HoldsImages() bool {
	for dir := s.dir; ; dir = filepath.Dir(dir) {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		if err == nil {
			return st.Type != unix.TMPFS_MAGIC && st.Type != unix.OVERLAYFS_SUPER_MAGIC
		}
		if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return true
		}
	}
}
