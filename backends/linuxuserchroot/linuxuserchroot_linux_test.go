package linuxuserchroot

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/backends/backendtest"
)

func TestReal(t *testing.T) {
	backendtest.TestReal(t, "linux-user-chroot", backendtest.Opener(Open, Options{}))
}

// instead makes the sandbox with programs that are everywhere.
const instead = `
until [ -d "$1/sbx" ]; do shift; done
exec unshare --pid --fork --ipc --uts --net --mount sh -c 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"' "$@"
`

func TestStandIn(t *testing.T) {
	if os.Geteuid() != 0 {
		backendtest.TestRootOnly(t, backendtest.Opener(Open, Options{Program: backendtest.NewStandIn(t, "linux-user-chroot", "exit 1").Program}))
		return
	}
	s := backendtest.NewStandIn(t, "linux-user-chroot", instead)
	got := backendtest.TestStandIn(t, s, backendtest.Opener(Open, Options{Program: s.Program})(t))
	want := strings.Fields("--unshare-ipc --unshare-pid --unshare-net --mount-proc /proc ROOT /proc/self/fd/4 init")
	if len(got) != len(want) || !strings.HasSuffix(got[5], "/job/shell") {
		t.Fatalf("called with %q, want %q", got, want)
	}
	got[5] = "ROOT"
	if !slices.Equal(got, want) {
		t.Errorf("called with %q, want %q", got, want)
	}
}
