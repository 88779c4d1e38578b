package podman

import (
	"os"
	"testing"

	"github.com/sbx-action/sbx-action/backends/backendtest"
)

var open = backendtest.Opener(Open, Options{})

func TestPromises(t *testing.T) {
	if os.Geteuid() != 0 { // crun alone is asked for all of it
		backendtest.TestBrief(t, open)
		return
	}
	backendtest.Test(t, open)
}
