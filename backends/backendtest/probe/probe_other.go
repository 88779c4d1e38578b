//go:build !linux

package probe

// commands is empty: all promises that we can probe are about Linux.
func commands() map[string]command { return nil }
