package vm

import (
	"testing"

	"github.com/sbx-action/sbx-action/backends/backendtest"
)

// TestPromises checks those that need few boots: see promise.Essential.
func TestPromises(t *testing.T) {
	backendtest.Test(t, backendtest.Opener(Open, Options{}))
}
