package oci

import (
	"testing"

	"github.com/sbx-action/sbx-action/backends/backendtest"
	"github.com/sbx-action/sbx-action/backends/native"
)

// The promises about layers are not probed where there are none, so that there
// are some has a test of its own: for users who are not root, too.
func TestLayers(t *testing.T) {
	n, err := native.Open(native.Options{Once: true})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if !n.Capabilities().Overlay {
		t.Skip("this kernel or user has no layers")
	}
	for _, runtime := range []string{"crun", "runc"} {
		if !backendtest.Opener(Open, Options{Runtime: runtime})(t).Capabilities().Overlay {
			t.Errorf("%s has no layers, native has", runtime)
		}
	}
}
