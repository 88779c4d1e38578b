package vm

import (
	"testing"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/backendtest"
)

func open(t *testing.T, o Options) backends.Backend {
	t.Helper()
	b, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// TestPromises checks those that need few boots: see promise.Essential.
func TestPromises(t *testing.T) {
	backendtest.Test(t, func(t *testing.T) backends.Backend { return open(t, Options{}) })
}
