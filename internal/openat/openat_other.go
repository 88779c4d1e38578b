//go:build !linux

package openat

import "errors"

// Open needs Linux.
func Open(dir int, path string, flags int, mode uint32, scope Scope) (int, error) {
	return -1, errors.ErrUnsupported
}
