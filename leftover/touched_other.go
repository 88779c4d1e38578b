//go:build !linux

package leftover

import (
	"io/fs"
	"time"
)

// touched is not known here: every file is compared.
func touched(fs.FileInfo) time.Time { return time.Now() }

// owner is not known here.
func owner(fs.FileInfo) (uid, gid int, ok bool) { return 0, 0, false }
