//go:build !linux

package runner

import (
	"errors"
	"os"
)

func apply(*os.File, string, string) error { return errors.ErrUnsupported }
