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

// Program returns an error, too.
func Program() ([]byte, error) {
	return nil, fmt.Errorf("there is no program of our init for %s: %w", runtime.GOOS, backends.ErrUnsupported)
}

// A Machine needs Linux, too.
type Machine any
