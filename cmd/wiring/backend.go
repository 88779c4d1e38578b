// Package wiring chooses and opens the parts that both programs are made of:
// the store's place and the backend. What only one of them needs is in that
// one.
package wiring

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/bazelsandbox"
	"github.com/sbx-action/sbx-action/backends/bubblewrap"
	"github.com/sbx-action/sbx-action/backends/chroot"
	"github.com/sbx-action/sbx-action/backends/docker"
	"github.com/sbx-action/sbx-action/backends/firejail"
	"github.com/sbx-action/sbx-action/backends/landlock"
	"github.com/sbx-action/sbx-action/backends/linuxuserchroot"
	"github.com/sbx-action/sbx-action/backends/lxc"
	"github.com/sbx-action/sbx-action/backends/minijail"
	"github.com/sbx-action/sbx-action/backends/native"
	"github.com/sbx-action/sbx-action/backends/nspawn"
	"github.com/sbx-action/sbx-action/backends/oci"
	"github.com/sbx-action/sbx-action/backends/podman"
	"github.com/sbx-action/sbx-action/backends/proot"
	"github.com/sbx-action/sbx-action/backends/sandboxexec"
	"github.com/sbx-action/sbx-action/backends/schroot"
	"github.com/sbx-action/sbx-action/backends/userchroot"
	"github.com/sbx-action/sbx-action/backends/vm"
	"github.com/sbx-action/sbx-action/internal/durable"
)

// CacheDir is the directory of the store: that of the flag --cache, if it is
// not empty, else SBX_CACHE, else the user's own.
func CacheDir(flag string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	if dir := os.Getenv("SBX_CACHE"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no place for the store: %w; give one with --cache DIR or SBX_CACHE", err)
	}
	return filepath.Join(dir, "sbx-action"), nil
}

// StatDir is where in a store there is what is of this user alone, as what it has cost to
// read a file is: "stat", or where another user has made that, "stat-" and the user's
// number. Neither can so much as read the other's.
func StatDir(store string) string {
	dir := filepath.Join(store, "stat")
	me := os.Geteuid()
	if fi, err := durable.Stat(dir); err == nil && int(fi.UID) != me {
		dir = fmt.Sprintf("%s-%d", dir, me)
	}
	return dir
}

// BackendNames are the backends, the best first.
func BackendNames() []string {
	return []string{"native", "bubblewrap", "crun", "runc", "runsc", "lxc", "nspawn", "firejail", "podman", "docker", "chroot", "linux-user-chroot", "minijail", "userchroot", "landlock", "bazel-sandbox", "schroot", "proot", "vm", "sandbox-exec"}
}

// OpenBackend wires a backend by name: the one place that knows them all.
func OpenBackend(name string, o native.Options) (backends.Backend, error) {
	switch name {
	case "native":
		return native.Open(o)
	case "bubblewrap":
		return bubblewrap.Open(bubblewrap.Options{})
	case "crun", "runc", "runsc":
		return oci.Open(oci.Options{Runtime: name})
	case "lxc":
		return lxc.Open(lxc.Options{})
	case "nspawn":
		return nspawn.Open(nspawn.Options{})
	case "firejail":
		return firejail.Open(firejail.Options{})
	case "chroot":
		return chroot.Open(chroot.Options{})
	case "landlock":
		return landlock.Open(landlock.Options{})
	case "linux-user-chroot":
		return linuxuserchroot.Open(linuxuserchroot.Options{})
	case "minijail":
		return minijail.Open(minijail.Options{})
	case "userchroot":
		return userchroot.Open(userchroot.Options{})
	case "docker":
		return docker.Open(docker.Options{Host: os.Getenv("DOCKER_HOST")})
	case "vm":
		return vm.Open(vm.Options{})
	case "sandbox-exec":
		return sandboxexec.Open(sandboxexec.Options{})
	case "podman":
		return podman.Open(podman.Options{})
	case "bazel-sandbox":
		return bazelsandbox.Open(bazelsandbox.Options{})
	case "schroot":
		return schroot.Open(schroot.Options{})
	case "proot":
		return proot.Open(proot.Options{})
	}
	return nil, CheckBackend(name)
}

// CheckBackend says why name, if it is not empty, is no backend, or nil.
func CheckBackend(name string) error {
	if name == "" || slices.Contains(BackendNames(), name) {
		return nil
	}
	return fmt.Errorf("unknown backend %q: there are %s", name, strings.Join(BackendNames(), ", "))
}

// A Choice says which backend to open.
type Choice struct {
	Name    string // of the flag --backend; "" for SANDBOXLIB_BACKEND, or the best that works here
	Options native.Options
	Log     *slog.Logger

	// Begin, if it is there, is given each that is tried before it is asked
	// whether it works.
	Begin func(backends.Backend)
}

// Open opens the backend of the choice, and closes those that do not work.
func (c Choice) Open() (backends.Backend, error) {
	name := c.Name
	if name == "" {
		name = os.Getenv("SANDBOXLIB_BACKEND")
		if err := CheckBackend(name); err != nil {
			c.Log.Warn("SANDBOXLIB_BACKEND is ignored", "err", err)
			name = ""
		}
	}
	names := BackendNames()
	if name != "" {
		names = []string{name}
	}
	var reasons []error
	for _, name := range names {
		b, err := OpenBackend(name, c.Options)
		if err == nil && c.Begin != nil {
			c.Begin(b)
		}
		can := backends.Capabilities{}
		if err == nil {
			can = Basics(b)
		}
		if can.Works && (can.OwnRoot || c.Name != "") {
			return b, nil
		}
		if err == nil {
			err = errors.New(can.Reason)
			b.Close()
		}
		if can.Works { // less than anybody may expect
			err = fmt.Errorf("it has no root of its own, so it is used only when it is asked for: 'sbx-action sandbox --backend %s --degrade'", name)
		}
		reasons = append(reasons, fmt.Errorf("backend %s does not work here: %w", name, err))
	}
	return nil, errors.Join(reasons...)
}

// Basics is what b can do, but for the limits, which can take long to find out.
func Basics(b backends.Backend) backends.Capabilities {
	if q, ok := b.(interface{ Basics() backends.Capabilities }); ok {
		return q.Basics()
	}
	return b.Capabilities()
}
