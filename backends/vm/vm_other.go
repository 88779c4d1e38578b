//go:build !linux

package vm

import (
	"fmt"
	"runtime"

	"github.com/sbx-action/sbx-action/backends"
)

// Open returns an error: this backend needs Linux.
func Open(Options) (backends.Backend, error) {
	return nil, fmt.Errorf("backend %s needs Linux, not %s: %w", Name, runtime.GOOS, backends.ErrUnsupported)
}
