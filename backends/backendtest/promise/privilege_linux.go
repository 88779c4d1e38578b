package promise

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/backends"
	"golang.org/x/sys/unix"
)

func privilegePromises() []Promise {
	return []Promise{
		{
			Name: "privilege/as", Says: "a command that runs as the owner of what it sees has no other right of the owner's",
			needs: func(c backends.Capabilities) bool { return c.Users }, asks: func(s *backends.Spec) { s.Root.As = new(int) }, check: checkAs,
		},
		{
			Name: "privilege/group", Says: "a group that was asked for is the group in every way",
			needs: func(c backends.Capabilities) bool { return c.Users }, asks: func(s *backends.Spec) { s.Root.Group = new(int) }, check: checkGroup,
		},
		{
			Name: "privilege/filter", Says: "a filter of system calls that was asked for is in force, besides the deny list",
			needs: func(c backends.Capabilities) bool { return c.Filters }, asks: func(s *backends.Spec) { s.Filter = refuseUname }, check: checkFilter,
		},
		{Name: "privilege/capabilities", Says: "there is no capability in any set", needs: hasNoNewPrivs, check: checkCapabilities},
		{Name: "privilege/no-new-privs", Says: "no program that is executed gains privileges", needs: hasNoNewPrivs, check: checkNoNewPrivs},
		{Name: "privilege/seccomp", Says: "a system call filter is in force", needs: hasSeccomp, check: checkSeccomp},
		{Name: "privilege/system-calls", Says: "system calls that administer the kernel, or have many bugs, are refused", needs: hasSeccomp, check: func(t *trial) error { return t.defeats(attempt{args: []string{"syscalls"}, root: true}) }},
		{Name: "privilege/32-bit-calls", Says: "the filter holds for 32 bit system calls too", needs: hasSeccomp, check: checkInt80},
		own(Promise{Name: "privilege/setuid", Says: "a setuid program runs as whoever started it", check: checkSetuid}),
		{Name: "privilege/mount", Says: "nothing can be mounted", check: checkMount},
		{Name: "privilege/user-namespace", Says: "a user namespace inside gives no power to mount", check: checkUserNamespace},
		own(Promise{Name: "privilege/chroot", Says: "a second chroot does not lead out of the root", check: checkChroot}),
		own(Promise{Name: "privilege/device", Says: "devices cannot be made and opened", check: checkMknod}),
		{Name: "privilege/handle", Says: "files cannot be opened by handle", check: checkHandle},
		{Name: "privilege/proc", Says: "the kernel's settings in /proc cannot be written, nor its memory read", check: checkProc},
	}
}

func checkCapabilities(t *trial) error {
	keys := []string{"status", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}
	if !t.caps.FixedID {
		// Who is an ordinary user of the host cannot lower the bound, which says
		// nothing to those who get no new privileges.
		keys = slices.DeleteFunc(keys, func(k string) bool { return k == "CapBnd" })
	}
	got, err := t.inside(keys...)
	if err != nil {
		return err
	}
	var want strings.Builder
	for _, k := range keys[1:] {
		want.WriteString(k + " 0000000000000000\n")
	}
	if err := equal("capabilities", got, want.String()); err != nil {
		return err
	}
	outside, err := t.control(true, keys)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnproven, err)
	}
	if outside == want.String() {
		return fmt.Errorf("%w: root has no capabilities outside either", errUnproven)
	}
	return nil
}

func checkNoNewPrivs(t *trial) error {
	got, err := t.inside("status", "NoNewPrivs")
	if err != nil {
		return err
	}
	return equal("/proc/self/status", got, "NoNewPrivs 1\n")
}

func checkSeccomp(t *trial) error {
	got, err := t.inside("status", "Seccomp")
	if err != nil {
		return err
	}
	return equal("/proc/self/status", got, "Seccomp 2\n")
}

// checkInt80 probes an interface that some kernels do not have: then there is
// nothing to filter.
func checkInt80(t *trial) error {
	if out, err := t.outside("int80"); err == nil && !strings.HasPrefix(out, "yes") {
		return nil
	} else if err != nil && strings.Contains(err.Error(), "segmentation") {
		return nil
	}
	// A filter may also end whoever uses the interface.
	o, err := t.run(t.spec("int80"))
	if err != nil {
		return err
	}
	if strings.HasPrefix(o.out, "yes") || o.Code == 0 && !strings.HasPrefix(o.out, "no:") {
		return fmt.Errorf("a 32 bit system call was let through: %v", o)
	}
	return nil
}

// checkSetuid shows a setuid program in a bind and makes one with Fill. As a
// user we cannot make one for the control; then the host's own su serves.
func checkSetuid(t *trial) error {
	dir, err := os.MkdirTemp(t.Dir, "setuid-")
	if err != nil {
		return err
	}
	t.later(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	source, target := filepath.Join(dir, ProbeName), "/setuid/"+ProbeName
	args := []string{"setuid", target, "sleep", t.lifetime()}
	control := []string{"setuid", source, "sleep", t.lifetime()}
	if os.Geteuid() == 0 {
		if err := copyFile(source, t.Probe); err != nil {
			return err
		}
		// A user other than us and than the one inside, so both see a change.
		if err := os.Chown(source, 1, 1); err != nil {
			return err
		}
		if err := os.Chmod(source, 0o755|os.ModeSetuid|os.ModeSetgid); err != nil {
			return err
		}
	} else {
		source = "/usr/bin/su"
		control = []string{"setuid", source}
		args = []string{"setuid", "/usr/bin/su"}
	}
	return t.defeats(attempt{args: args, control: control, spec: func(s *backends.Spec) {
		if source == "/usr/bin/su" {
			t.hostRoot(s)
			return
		}
		s.Root.Binds = append(s.Root.Binds, backends.Bind{Source: source, Target: target})
	}})
}

func copyFile(to, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

func checkMount(t *trial) error {
	return t.defeats(attempt{args: []string{"mount", "/tmp"}, control: []string{"mount", t.Dir}, root: true})
}

func checkUserNamespace(t *trial) error {
	return t.defeats(attempt{args: []string{"mount-user", "/tmp"}, control: []string{"mount-user", t.Dir}})
}

func checkChroot(t *trial) error {
	path, err := t.canary()
	if err != nil {
		return err
	}
	return t.defeats(attempt{args: []string{"chroot", path}, root: true})
}

func checkMknod(t *trial) error {
	return all(
		func() error {
			return t.defeats(attempt{args: []string{"mknod", "/build"}, control: []string{"mknod", t.Dir}, root: true})
		},
		func() error {
			return t.defeats(attempt{args: []string{"mknod", "/tmp"}, control: []string{"mknod", t.Dir}, root: true})
		},
	)
}

func checkHandle(t *trial) error {
	path, err := t.canary()
	if err != nil {
		return err
	}
	h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, path, 0)
	if err != nil {
		return fmt.Errorf("%w: a handle: %w", errUnproven, err)
	}
	args := []string{"handle", fmt.Sprint(h.Type()), fmt.Sprintf("%x", h.Bytes())}
	// The probe's own file lies on a file system of the host, so does the root.
	return t.defeats(attempt{args: append(args, "/", "/build", "/usr"), control: append(args, "/var/tmp"), root: true, spec: func(s *backends.Spec) { t.hostRoot(s) }})
}

func checkProc(t *trial) error {
	written := []string{"open-write", "/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches", "/proc/sys/kernel/hostname", "/proc/irq/default_smp_affinity"}
	read := []string{"open-read", "/proc/kcore", "/proc/kmsg"}
	return all(
		func() error { return t.defeats(attempt{args: written, root: true}) },
		func() error { return t.defeats(attempt{args: read, root: true}) },
	)
}

// checkAs runs a command as root, who owns /proc/sys, too.
func checkAs(t *trial) error {
	dir, err := t.tree(map[string]string{"one": "1"})
	if err != nil {
		return err
	}
	spec, as := t.spec(), os.Geteuid()
	spec.Root.As = &as
	if err := errors.Join(os.Chown(dir+"/one", as, as), os.Chmod(dir+"/one", 0o600)); err != nil {
		return err
	}
	const openSysctl = ": 2>/dev/null >>/proc/sys/vm/swappiness" // writes nothing
	if err := exec.Command("/bin/sh", "-c", openSysctl).Run(); err != nil {
		return fmt.Errorf("%w: control: root may not write to /proc/sys: %w", errUnproven, err)
	}
	t.hostRoot(spec)
	spec.Root.Binds = append(spec.Root.Binds, backends.Bind{Source: dir, Target: "/above"})
	spec.Args = []string{"/bin/sh", "-c", "read x </above/one; echo $x; (" + openSysctl + ") 2>/dev/null && echo sysctl; (: >>/above/mine) 2>/dev/null && echo wrote"}
	o, err := t.run(spec)
	if err != nil {
		return err
	}
	return equal("output", strings.TrimSpace(o.out), "1")
}
