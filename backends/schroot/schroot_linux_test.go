package schroot

import (
	"testing"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/backendtest"
)

func open(t *testing.T) backends.Backend {
	t.Helper()
	b, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func TestPromises(t *testing.T) { backendtest.TestRootOnly(t, open) }
