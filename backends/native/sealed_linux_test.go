package native

import (
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/backends"
)

//go:embed testdata/sealed.c
var sealedSource string

// TestSealed: where there is no network, nothing that leads to the host's can be
// made, and who looks at what /proc says of that is not observed completely.
func TestSealed(t *testing.T) {
	dir := t.TempDir()
	gcc := exec.Command("gcc", "-static", "-O", "-o", filepath.Join(dir, "sealed"), "-x", "c", "-")
	gcc.Stdin = strings.NewReader(sealedSource)
	if out, err := gcc.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	b := open(t).(*Backend)
	for i := range 3 { // the first of its slot, unobserved, and observed as expected; and another one
		spec := shell("exec /mnt/sealed")
		spec.Network, spec.Observe = backends.NetworkSealed, i > 0
		spec.Root.Binds = append(spec.Root.Binds, backends.Bind{Source: dir, Target: "/mnt"})
		if i == 1 {
			b = open(t).(*Backend)
			b.Warm(spec)
		}
		out, st := output(t, b, spec)
		if st.Code != 0 || strings.Count(out, ": refused\n") < 5 || strings.Count(out, ": refused\n") != strings.Count(out, "\n") {
			t.Errorf("%d: code %d:\n%s", i, st.Code, out)
		}
	}
	for script, complete := range map[string]bool{
		"cat /proc/self/stat /proc/meminfo":                       true,
		"cat /proc/net/dev":                                       false,
		"cat /proc/self/net/dev":                                  false,
		"cd /proc/self && cat net/dev":                            false,
		"cd /proc/self/net && cat dev":                            false,
		"ln -s /proc/self/net here && cat here/dev":               false,
		"mkdir net && echo >net/dev && cat /build/net/dev":        true,
		"ln -s /proc here && cat here/self/net/dev":               false,
		"cat /proc/self/net/../stat":                              false, // who cares
		"cat /proc/self/cwd/../proc/self/task/$$/net/dev || true": false,
	} {
		for _, network := range []backends.Network{backends.NetworkSealed, backends.NetworkNone} {
			spec := shell(script)
			spec.Network, spec.Observe = network, true
			if out, st := output(t, b, spec); st.Complete != complete && network == backends.NetworkSealed || st.Code != 0 {
				t.Errorf("network %d: %s: code %d, complete %v:\n%s", network, script, st.Code, st.Complete, out)
			}
		}
	}
}
