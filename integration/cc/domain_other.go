//go:build !linux

package cc

// Restricted says whether Landlock, which only Linux has, may keep us from files.
func Restricted() bool { return false }
