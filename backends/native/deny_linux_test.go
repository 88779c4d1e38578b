package native

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/backendtest"
)

// TestDenyList: which filter a command gets depends on whether its slot was made for
// one that is observed, whether it is the first one of the slot, and whether it is
// what was expected. What is forbidden does not.
func TestDenyList(t *testing.T) {
	probe := backendtest.NewEnv(t).Probe
	kinds := map[string]func(*backends.Spec){
		"plain":    func(*backends.Spec) {},
		"observed": func(s *backends.Spec) { s.Observe = true },
		"owners":   func(s *backends.Spec) { s.Owners = true },
		"both":     func(s *backends.Spec) { s.Owners, s.Observe = true, true },
		"varied":   func(s *backends.Spec) { s.Vary = &backends.Vary{CPUs: 1} },
	}
	for kind, set := range kinds {
		for _, network := range []backends.Network{backends.NetworkNone, backends.NetworkHost, backends.NetworkSealed} {
			for _, expected := range []bool{false, true} {
				t.Run(fmt.Sprint(kind, network, expected), func(t *testing.T) {
					b := open(t).(*Backend)
					b.Warm(&backends.Spec{Network: network, Observe: expected})
					for range 2 {
						for _, what := range []string{"syscalls", "int80", "mount /tmp", "mount-user /tmp"} {
							spec := shell("exec /mnt/" + filepath.Base(probe) + " " + what + " || echo failed")
							spec.Network = network
							set(spec)
							spec.Root.Binds = append(spec.Root.Binds, backends.Bind{Source: filepath.Dir(probe), Target: "/mnt"})
							out, st := output(t, b, spec)
							if st.Code != 0 || len(out) < 3 || out[:3] != "no:" {
								t.Errorf("%s: code %d: %s", what, st.Code, out)
							}
							if spec.Observe && !st.Complete {
								t.Errorf("%s: not observed completely", what)
							}
						}
					}
					if err := b.Close(); err != nil {
						t.Error(err)
					}
				})
			}
		}
	}
}
