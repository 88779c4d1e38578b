//go:build unix

package progress

import (
	"os"

	"golang.org/x/sys/unix"
)

// Terminal returns what [Options.Size] wants, or nil if f is no terminal.
func Terminal(f *os.File) func() (columns, rows int) {
	size := func() (int, int) {
		w, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
		if err != nil {
			return 0, 0
		}
		return int(w.Col), int(w.Row)
	}
	if _, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err != nil {
		return nil
	}
	return size
}
