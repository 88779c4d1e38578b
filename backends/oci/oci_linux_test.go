package oci

import (
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

func TestRunc(t *testing.T)  { backendtest.Test(t, opener("runc")) }
func TestCrun(t *testing.T)  { backendtest.Test(t, opener("crun")) }
func TestRunsc(t *testing.T) { backendtest.TestRootOnly(t, opener("runsc")) }
