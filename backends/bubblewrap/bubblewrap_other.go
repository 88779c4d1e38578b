//go:build !linux

package bubblewrap

import (
	"fmt"
	"runtime"

	"github.com/sbx-action/sbx-action/backends"
)

// Open returns an error: bwrap needs Linux.
func Open(Options) (backends.Backend, error) {
	return nil, fmt.Errorf("backend bubblewrap needs Linux, not %s: %w", runtime.GOOS, backends.ErrUnsupported)
}
