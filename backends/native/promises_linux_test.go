package native

import (
	"testing"

	"github.com/sbx-action/sbx-action/backends/backendtest"
)

var open = backendtest.Opener(Open, Options{})

func TestPromises(t *testing.T) { backendtest.Test(t, open) }
