//go:build !linux

package cache

// HoldsImages says whether the kernel can mount a file of the store as a file
// system.
func (s *Store) HoldsImages() bool { return false }
