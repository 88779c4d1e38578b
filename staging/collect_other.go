//go:build !linux

package staging

import (
	"context"
	"os"

	"github.com/sbx-action/sbx-action/action"
)

// Collect needs Linux.
func Collect(context.Context, action.Blobs, *os.File, Outputs) (*action.Result, []action.Missing, error) {
	return nil, nil, errNotLinux
}
