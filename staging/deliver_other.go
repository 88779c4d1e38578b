//go:build !linux

package staging

import (
	"context"

	"github.com/sbx-action/sbx-action/action"
)

// Deliver needs Linux.
func Deliver(context.Context, action.Blobs, *action.Result, Workspace) error { return errNotLinux }
