package staging

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
)

// A Trace is what a command left of a path in its input root.
type Trace uint8

// The traces.
const (
	Untouched Trace = iota // a file, link or directory as it was staged
	Written                // made or changed by the command, whatever is in it
	Gone                   // not there, or not any more
)

// TraceOf says what a command left of the path rel of its input root; root is
// that of backends.Status. Everything staged has the time MTime, and what the
// command wrote has another, unless it took pains. A directory counts as
// written if names in it changed.
func TraceOf(root *os.File, rel string) (t Trace, mode os.FileMode) {
	var st unix.Stat_t
	name := action.WorkRoot[1:] + "/" + rel
	if err := unix.Fstatat(int(root.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return Gone, 0
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		mode = os.ModeDir
	case unix.S_IFLNK:
		mode = os.ModeSymlink
	case unix.S_IFREG:
	default:
		mode = os.ModeIrregular
	}
	if sec, _ := st.Mtim.Unix(); sec == MTime {
		return Untouched, mode
	}
	return Written, mode
}
