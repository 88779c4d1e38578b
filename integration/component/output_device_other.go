//go:build !linux

package component

import (
	"os/exec"

	"github.com/sbx-action/sbx-action/staging"
)

// device leaves out what only Linux has in this form.
func (x *extractor) device(string, staging.Owner) error {
	x.left++
	return nil
}

// beUser leaves the command what it is: only Linux has user namespaces.
func beUser(*exec.Cmd, int, int) {}
