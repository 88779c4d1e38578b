package oci

import (
	"os"
	"testing"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/backendtest"
)

func opener(runtime string) func(*testing.T) backends.Backend {
	return func(t *testing.T) backends.Backend {
		t.Helper()
		b, err := Open(Options{Runtime: runtime})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		return b
	}
}

func TestRunc(t *testing.T) { backendtest.Test(t, opener("runc")) }
func TestCrun(t *testing.T) { backendtest.Test(t, opener("crun")) }

// A kernel for each command takes its time; the table in docs/backends.md has all
// of what can be probed in a moment.
func TestRunsc(t *testing.T) {
	if os.Geteuid() != 0 {
		backendtest.TestRootOnly(t, opener("runsc"))
		return
	}
	backendtest.TestBrief(t, opener("runsc"))
}
