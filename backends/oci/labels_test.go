package oci

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/foreign"
)

// TestSELinuxLabels: labels are where the runtime looks for them, and only if they were
// asked for.
func TestSELinuxLabels(t *testing.T) {
	r := runtimes["runc"]
	l := &backends.SELinux{Process: "system_u:system_r:container_t:s0:c1,c2", Mount: "system_u:object_r:container_file_t:s0"}
	for _, labels := range []*backends.SELinux{nil, l} {
		data, err := json.Marshal(r.bundle(&foreign.Job{Root: "/r", SELinux: labels}))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{`"selinuxLabel":"` + l.Process + `"`, `"mountLabel":"` + l.Mount + `"`} {
			if strings.Contains(string(data), want) != (labels != nil) {
				t.Errorf("labels %v: %s in %s", labels, want, data)
			}
		}
	}
}

func TestSELinuxCheck(t *testing.T) {
	for label, good := range map[string]bool{
		"u:r:t": true, "u:r:t:s0": true, "u:r:t:s0:c1,c2": true, "": true,
		"u": false, "u:r": false, "u:r:t:": false, ":r:t": false, "u::t": false, "u:r:t s0": false, "u:r:t\"": false, "a:b:c:d:e:f": false,
	} {
		if err := (&backends.SELinux{Process: label}).Check(); (err == nil) != good {
			t.Errorf("%q: %v", label, err)
		}
	}
}
