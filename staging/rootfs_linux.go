package staging

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// fileStamp says which file is at path, and in which state: it changes when
// the file is written or replaced.
func fileStamp(path string) string {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "absent"
	}
	return fmt.Sprint(st.Dev, st.Ino, st.Mode, st.Size, st.Mtim, st.Ctim)
}
