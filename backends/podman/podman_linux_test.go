package podman

import (
	"os"
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

func TestPromises(t *testing.T) {
	if os.Geteuid() != 0 { // crun alone is asked for all of it
		backendtest.TestBrief(t, open)
		return
	}
	backendtest.Test(t, open)
}
