//go:build !linux

package foreign

import (
	"fmt"
	"runtime"

	"github.com/sbx-action/sbx-action/backends"
)

// Open returns an error: the tools need Linux.
func Open(tool Tool) (backends.Backend, error) {
	return nil, fmt.Errorf("backend %s needs Linux, not %s: %w", tool.Name, runtime.GOOS, backends.ErrUnsupported)
}
