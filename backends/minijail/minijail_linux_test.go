package minijail

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/backends/backendtest"
)

func TestReal(t *testing.T) {
	backendtest.TestReal(t, "minijail0", backendtest.Opener(Open, Options{}))
}

// instead makes the sandbox with programs that are everywhere.
const instead = `
until [ "$1" = -P ]; do shift; done
root=$2
until [ "$1" = -- ]; do shift; done
shift
exec unshare --pid --fork --ipc --uts --net --mount sh -c 'hostname sbx; mount -t proc proc "$0/proc" && exec chroot "$0" "$@"' "$root" "$@"
`

func TestStandIn(t *testing.T) {
	if os.Geteuid() != 0 {
		backendtest.TestRootOnly(t, backendtest.Opener(Open, Options{Program: backendtest.NewStandIn(t, "minijail0", "exit 1").Program}))
		return
	}
	s := backendtest.NewStandIn(t, "minijail0", instead)
	got := backendtest.TestStandIn(t, s, backendtest.Opener(Open, Options{Program: s.Program})(t))
	want := strings.Fields("--logging=stderr -T static -l -p --uts=sbx -P ROOT -k proc,/proc,proc,0xe --preserve-fd=3 --preserve-fd=4 -e -- /proc/self/fd/4 init")
	if len(got) != len(want) || !strings.HasSuffix(got[7], "/job/shell") {
		t.Fatalf("called with %q, want %q", got, want)
	}
	got[7] = "ROOT"
	if !slices.Equal(got, want) {
		t.Errorf("called with %q, want %q", got, want)
	}
}
