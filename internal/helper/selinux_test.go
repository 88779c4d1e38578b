//go:build linux

package helper

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sbx-action/sbx-action/backends"
)

// TestCheckSELinux: labels are refused where SELinux is not active, and wrong ones
// everywhere.
func TestCheckSELinux(t *testing.T) {
	dir := t.TempDir()
	for content, active := range map[string]bool{"1": true, "0": true, "0\n": true, "": false, "x": false} {
		status := filepath.Join(dir, "enforce")
		if err := os.WriteFile(status, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := CheckSELinux(&backends.SELinux{Process: "u:r:t"}, status); (err == nil) != active {
			t.Errorf("%q: %v", content, err)
		}
		if err := CheckSELinux(&backends.SELinux{Process: "u"}, status); err == nil {
			t.Errorf("%q: a bad label passes", content)
		}
	}
	if err := CheckSELinux(nil, filepath.Join(dir, "none")); err != nil {
		t.Error(err)
	}
	if err := CheckSELinux(&backends.SELinux{Mount: "u:r:t"}, filepath.Join(dir, "none")); err == nil {
		t.Error("accepted without SELinux")
	}
	r := NewRequest(&backends.Spec{SELinux: &backends.SELinux{Process: "a:b:c", Mount: "d:e:f"}})
	if r.Label != "a:b:c" || r.Context != "d:e:f" {
		t.Errorf("%q, %q", r.Label, r.Context)
	}
}
