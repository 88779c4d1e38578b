//go:build !linux

package staging

import (
	"errors"
	"os"

	"github.com/sbx-action/sbx-action/backends"
)

// Owned finds what a command with recorded owners has left of a file: on Linux.
type Owned struct{}

// NewOwned returns nil.
func NewOwned([]backends.Owned) *Owned { return nil }

// LeftOwners fails.
func LeftOwners(*os.File, []backends.Owned) (Owners, error) {
	return nil, errors.New("only Linux has sandboxes")
}
