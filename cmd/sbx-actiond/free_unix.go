//go:build unix

package main

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// halfOfFree is half of what is free where dir is, or will be, in bytes.
func halfOfFree(dir string) (int64, error) {
	for {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		if err == nil {
			return int64(st.Bavail) * int64(st.Bsize) / 2, nil
		}
		if !os.IsNotExist(err) || dir == "/" {
			return 0, fmt.Errorf("how much is free in %s: %w; give --cache-size", dir, err)
		}
		dir = filepath.Dir(dir)
	}
}
