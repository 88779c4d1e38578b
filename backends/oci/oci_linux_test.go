package oci

import (
	"os"
	"testing"

	"github.com/sbx-action/sbx-action/backends/backendtest"
)

func TestRunc(t *testing.T) { backendtest.Test(t, backendtest.Opener(Open, Options{Runtime: "runc"})) }

func TestCrun(t *testing.T) { backendtest.Test(t, backendtest.Opener(Open, Options{Runtime: "crun"})) }

// A kernel for each command takes its time; the table in docs/backends.md has all
// of what can be probed in a moment.
func TestRunsc(t *testing.T) {
	if os.Geteuid() != 0 {
		backendtest.TestRootOnly(t, backendtest.Opener(Open, Options{Runtime: "runsc"}))
		return
	}
	backendtest.TestBrief(t, backendtest.Opener(Open, Options{Runtime: "runsc"}))
}
