//go:build unix

package main

import (
	"io/fs"
	"syscall"
)

// fileOwner is the number of the user that a file belongs to, or -1.
func fileOwner(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}
