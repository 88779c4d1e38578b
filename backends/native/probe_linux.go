package native

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/backends"
)

// probe finds out what this machine allows. It is on the way of every command,
// so it looks at the kernel's version and settings, which takes 0.1 ms, and
// runs a command only where these do not tell. Limits are for probeLimits.
func (b *Backend) probe() backends.Capabilities {
	c := backends.Capabilities{Owner: backends.ID}
	if b.unprivileged {
		c.Owner = os.Geteuid()
	}
	if c.Reason = b.forbidden(); c.Reason == restricted && b.works() {
		c.Reason = "" // a profile allows it
	}
	if c.Reason != "" {
		return c
	}
	c.Works = true
	c.Overlay, c.DataLayers, c.Images, c.Observe = b.overlay(), b.dataLayers(), b.images(), b.observes()
	c.Vary, c.Terminal = b.varies(), true
	c.Owners, c.Machines, c.SELinux = b.records(), b.emulates(), true
	c.OverBinds, c.Caller = c.Overlay, c.Observe
	c.Mounts, c.Users, c.Filters = true, !b.unprivileged, true
	c.NetworkNone, c.NetworkHost = true, true
	c.OwnRoot, c.FixedID, c.Loopback, c.KillsAll = true, true, true, true
	c.PidNamespace, c.IPCNamespace, c.UTSNamespace = true, true, true
	c.Seccomp, c.NoNewPrivs, c.ExactStatus = true, true, true
	return c
}

// probeLimits adds what can be limited.
func (b *Backend) probeLimits() backends.Capabilities {
	c := b.basics()
	if !c.Works {
		return c
	}
	c.ScratchLimit, c.FileLimit = true, true
	b.groups.find()
	c.MemoryLimit, c.PidsLimit = backends.PerProc, backends.Absent
	if b.unprivileged {
		c.PidsLimit = backends.PerProc
	}
	if b.groups.memory.dir != "" {
		c.MemoryLimit = backends.Exact
	}
	if b.groups.pids.dir != "" {
		c.PidsLimit = backends.Exact
	}
	return c
}

// The features that depend on the kernel, for Run as well.
func (b *Backend) overlay() bool { return b.kernel.since(6, 7) } // lowerdir+

func (b *Backend) dataLayers() bool { return b.kernel.since(6, 16) || b.overlay() && !b.unprivileged }
func (b *Backend) observes() bool   { return b.kernel.since(5, 5) }
func (b *Backend) varies() bool     { return b.kernel.since(5, 6) } // pidfd_getfd
func (b *Backend) records() bool    { return b.kernel.since(5, 12) }
func (b *Backend) emulates() bool   { return b.kernel.since(6, 7) } // binfmt_misc in user namespaces
func (b *Backend) images() bool {
	return !b.unprivileged && b.kernel.since(6, 12) && hasFilesystem("erofs")
}

const restricted = "AppArmor keeps users from making user namespaces: as root, give this program a profile with \"userns,\"," +
	" or run: sysctl kernel.apparmor_restrict_unprivileged_userns=0"

// forbidden says why no sandbox can be made, and what to do about it, or "". If
// it is restricted, that is only likely.
func (b *Backend) forbidden() string {
	if !b.kernel.since(5, 12) { // mount_setattr
		return fmt.Sprintf("the kernel is %d.%d, sandboxes need 5.12", b.kernel.major, b.kernel.minor)
	}
	if !b.unprivileged {
		if !effective(unix.CAP_SYS_ADMIN) {
			return "root lacks CAP_SYS_ADMIN here (a container?): give it the capability (docker: --privileged), or be another user"
		}
		return ""
	}
	for _, s := range []struct{ name, remedy string }{
		{"kernel/unprivileged_userns_clone", "kernel.unprivileged_userns_clone=1"},
		{"user/max_user_namespaces", "user.max_user_namespaces=10000"},
	} {
		if sysctl(s.name) == "0" {
			return "users may not make user namespaces: as root, run: sysctl " + s.remedy
		}
	}
	if sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1" {
		return restricted
	}
	return ""
}

// works tries it: an empty root in which nothing can be found.
func (b *Backend) works() bool {
	st, err := b.Run(context.Background(), &backends.Spec{Args: []string{"/probe"}, Dir: "/"})
	return err == nil && errors.Is(st.Start, syscall.ENOENT)
}

func sysctl(name string) string {
	data, _ := os.ReadFile("/proc/sys/" + name)
	return strings.TrimSpace(string(data))
}

// A version is that of the kernel.
type version struct{ major, minor int }

func (v version) since(major, minor int) bool {
	return v.major > major || v.major == major && v.minor >= minor
}

func kernel() version {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return version{}
	}
	f := strings.SplitN(unix.ByteSliceToString(u.Release[:]), ".", 3)
	if len(f) < 2 {
		return version{}
	}
	major, _ := strconv.Atoi(f[0])
	minor, _ := strconv.Atoi(strings.TrimRight(f[1], "-+abcdefghijklmnopqrstuvwxyz"))
	return version{major, minor}
}

func effective(capability uint) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return false
	}
	return data[capability/32].Effective&(1<<(capability%32)) != 0
}

// hasFilesystem says whether the kernel can mount this file system, or could
// after loading a module.
func hasFilesystem(name string) bool {
	data, _ := os.ReadFile("/proc/filesystems")
	for line := range strings.Lines(string(data)) {
		if strings.TrimSpace(strings.TrimPrefix(line, "nodev")) == name {
			return true
		}
	}
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	_, err := os.Stat("/lib/modules/" + unix.ByteSliceToString(u.Release[:]) + "/kernel/fs/" + name)
	return err == nil
}
