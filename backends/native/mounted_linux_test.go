package native

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/sbx-action/sbx-action/backends"
)

func TestMountBelow(t *testing.T) {
	const info = `27 1 254:0 / / rw - ext4 /dev/vda rw
22 27 0:21 / /proc rw,relatime - proc proc rw
23 27 0:22 / /srv/a\040b/c rw,relatime - tmpfs tmpfs rw
`
	for dir, want := range map[string]string{
		"/": "/proc", "/proc": "", "/pro": "", "/srv": "/srv/a b/c", "/srv/a b": "/srv/a b/c", "/srv/a": "",
	} {
		if got := mountBelow(info, dir); got != want {
			t.Errorf("below %s: %q; want %q", dir, got, want)
		}
	}
}

func TestMountedBelow(t *testing.T) {
	kernel := fmt.Errorf("make the sandbox: %w", fmt.Errorf("mount overlay : %w", syscall.EINVAL))
	slash, no := &backends.Root{Lowers: []backends.Layer{{Dir: "/"}}}, &backends.Root{Lowers: []backends.Layer{{Dir: t.TempDir()}}}
	user, root := &Backend{unprivileged: true}, &Backend{}
	if err := user.mountedBelow(slash, kernel); !errors.Is(err, kernel) || !strings.Contains(err.Error(), "is mounted below /,") {
		t.Errorf("%v; want what is mounted there", err)
	}
	for _, err := range []error{user.mountedBelow(no, kernel), root.mountedBelow(slash, kernel)} {
		if err != kernel {
			t.Errorf("%v; want nothing more", err)
		}
	}
	if err := user.mountedBelow(slash, syscall.EINVAL); err != syscall.EINVAL {
		t.Errorf("%v; want nothing more than what it was", err)
	}
}
