package bazelsandbox

import (
	"testing"

	"github.com/sbx-action/sbx-action/backends/backendtest"
)

func TestPromises(t *testing.T) { backendtest.Test(t, backendtest.Opener(Open, Options{})) }
