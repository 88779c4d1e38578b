//go:build !linux

package native

import (
	"fmt"
	"runtime"

	"github.com/sbx-action/sbx-action/backends"
)

// Open returns an error: this backend needs Linux.
func Open(Options) (backends.Backend, error) {
	return nil, fmt.Errorf("backend native needs Linux, not %s: %w", runtime.GOOS, backends.ErrUnsupported)
}
