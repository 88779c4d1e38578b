package chroot

import (
	"testing"

	"github.com/sbx-action/sbx-action/backends/backendtest"
)

func TestPromises(t *testing.T) { backendtest.TestRootOnly(t, backendtest.Opener(Open, Options{})) }
