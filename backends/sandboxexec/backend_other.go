//go:build !darwin

package sandboxexec

import (
	"context"
	"fmt"
	"runtime"

	"github.com/sbx-action/sbx-action/backends"
)

// absent is the backend where there is no macOS.
type absent struct{}

// Open returns a backend that works on macOS only, and says so.
func Open(Options) (backends.Backend, error) { return absent{}, nil }

func (absent) Name() string { return Name }
func (absent) Close() error { return nil }

func (absent) Capabilities() backends.Capabilities {
	return backends.Capabilities{Reason: "sandbox-exec is a part of macOS, and this is " + runtime.GOOS}
}

func (a absent) Run(context.Context, *backends.Spec) (*backends.Status, error) {
	return nil, fmt.Errorf("%s: %w", a.Capabilities().Reason, backends.ErrUnsupported)
}
