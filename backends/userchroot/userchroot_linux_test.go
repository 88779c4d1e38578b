package userchroot

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/backendtest"
)

func TestReal(t *testing.T) {
	backendtest.TestReal(t, "userchroot", backendtest.Opener(Open, Options{}))
}

// TestStandIn cannot have the command run: no script is setuid. So it is a tool that
// fails, and says why.
func TestStandIn(t *testing.T) {
	s := backendtest.NewStandIn(t, "userchroot", `id -u; id -G; cat /etc/userchroot.conf >&2; exit 1`)
	b := backendtest.Opener(Open, Options{Program: s.Program})(t)
	if os.Geteuid() != 0 {
		backendtest.TestRootOnly(t, func(*testing.T) backends.Backend { return b })
		return
	}
	if c := b.Capabilities(); c.Works || !strings.Contains(c.Reason, "stands in") {
		t.Errorf("Capabilities = %+v; want a reason that speaks of the stand-in", c)
	}
	_, err := b.Run(t.Context(), &backends.Spec{Network: backends.NetworkHost, Args: []string{"/x"}, Dir: "/"})
	if _, missing := os.Stat("/etc/userchroot.conf"); missing != nil {
		if err == nil || !strings.Contains(err.Error(), "no /etc/userchroot.conf") {
			t.Errorf("Run = %v; want an error that says what to make", err)
		}
		return
	}
	if err == nil || !strings.Contains(err.Error(), "userchroot could not make the sandbox: 65000") {
		t.Errorf("Run = %v; want what the stand-in said as user 65000", err)
	}
	got, want := s.Recorded(t), strings.Fields("ROOT /proc/self/fd/4 init")
	if len(got) != len(want) || !strings.HasSuffix(got[0], "/root") || !slices.Equal(got[1:], want[1:]) {
		t.Errorf("called with %q, want %q", got, want)
	}
}
