// Package oci is the backends that have their sandboxes made by an OCI runtime:
// runc, crun, or runsc (gVisor, where the command meets a kernel of its own).
// They are for people whose policy says that containers are made by these, and
// nothing else.
//
// Package foreign says what is promised, and how. The bundle that the runtime
// is given (OCI runtime specification, config.md) has the root that the helper
// has made, and its state is in the job's directory: both end with the runtime,
// whatever ends it.
//
// Runsc has no use for most of this: gVisor's kernel has a /dev of its own with
// /dev/fuse, a /sys, and a /proc that says less, and knows no limit of memory.
//
// For users who are not root, runc and crun are the root of a user namespace that
// knows one user. They make no control group, and need none.
package oci

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/foreign"
)

// Options are the options of [Open].
type Options struct {
	// Runtime is "runc", "crun" or "runsc", which is also the backend's name.
	Runtime string
	// Program is the path of the runtime. Empty: it is looked up in $PATH.
	Program string
}

// A runtime is what we have to know of one of them.
type runtime struct {
	pack   string   // Debian's package
	global []string // flags before the command
	hide   string   // what it must not see of the host

	rootOnly  bool
	ownKernel bool // which knows the host's files and descriptors 0 to 2, and nothing else of it
}

var runtimes = map[string]runtime{
	"runc":  {pack: "runc"},
	"crun":  {pack: "crun", global: []string{"--cgroup-manager=disabled"}, hide: "/sys/fs/cgroup"},
	"runsc": {pack: "runsc", global: []string{"--platform=ptrace"}, rootOnly: true, ownKernel: true},
}

// Open returns the backend. It does not fail where the runtime is missing or
// does not work: Capabilities says so, and Run.
func Open(o Options) (backends.Backend, error) {
	r, ok := runtimes[o.Runtime]
	if !ok {
		return nil, fmt.Errorf("unknown OCI runtime %q: there are runc, crun and runsc", o.Runtime)
	}
	return foreign.Open(foreign.Tool{
		Name: o.Runtime, Program: cmp.Or(o.Program, o.Runtime),
		Install:  fmt.Sprintf("run: apt-get install %s (or your system's like)", r.pack),
		RootOnly: r.rootOnly,
		UserRoot: !r.rootOnly,
		Hide:     r.hide,
		Labels:   !r.ownKernel,
		Stdio:    r.ownKernel,
		InitFile: r.ownKernel,
		Pipes:    r.ownKernel,
		Adjust:   r.adjust,
		Command:  r.command,
	})
}

// adjust takes back what a command under another kernel has not, or cannot be seen
// to have.
func (r *runtime) adjust(c *backends.Capabilities) {
	if r.ownKernel {
		c.OwnKernel, c.Exposed, c.MemoryLimit = true, true, backends.Absent
		c.Observe, c.Filters = false, false
	}
}

func (r *runtime) command(j *foreign.Job) (foreign.Line, error) {
	config, err := json.Marshal(r.bundle(j))
	if err != nil {
		return foreign.Line{}, err
	}
	if err := j.WriteFile("config.json", config); err != nil {
		return foreign.Line{}, err
	}
	args := append([]string{j.Program, "--root", j.Dir + "/state"}, r.global...)
	if r.ownKernel {
		args = append(args, "--network="+map[backends.Network]string{backends.NetworkNone: "none", backends.NetworkHost: "host"}[j.Network])
	}
	args = append(args, "run", "--bundle", j.Dir)
	if !r.ownKernel {
		args = append(args, fmt.Sprintf("--preserve-fds=%d", foreign.LastFD-foreign.FirstFD+1))
	}
	args = append(args, name(j))
	return foreign.Line{Args: args, Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}}, nil
}

// name is unlike any other that exists on this machine: control groups are
// called by it.
func name(j *foreign.Job) string { return fmt.Sprintf("sbx-%d-%d", os.Getpid(), j.PID) }

// bundle is the configuration of a container for j.
func (r *runtime) bundle(j *foreign.Job) *specs.Spec {
	caps := foreign.Capabilities()
	kinds := []specs.LinuxNamespaceType{specs.PIDNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.MountNamespace}
	if j.Network == backends.NetworkNone {
		kinds = append(kinds, specs.NetworkNamespace)
	}
	var namespaces []specs.LinuxNamespace
	for _, k := range kinds {
		namespaces = append(namespaces, specs.LinuxNamespace{Type: k})
	}
	shared := []string{"nosuid", "nodev", "mode=1777"}
	if j.SharedMemory > 0 {
		shared = append(shared, fmt.Sprintf("size=%d", j.SharedMemory))
	}
	spec := &specs.Spec{
		Version:  "1.0.2", // the oldest that says all that we need
		Hostname: backends.HostName,
		Root:     &specs.Root{Path: j.Root, Readonly: j.ReadOnly},
		Process: &specs.Process{
			Args: j.Init, Cwd: "/", Env: []string{"PATH=/"}, // for the init: the command has its own
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "nodev", "noexec"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noexec", "mode=755", "size=64k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "tmpfs", Options: shared},
		},
		Linux: &specs.Linux{
			Namespaces:        namespaces,
			RootfsPropagation: "private",
			MaskedPaths:       []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/proc/scsi", "/proc/acpi"},
			ReadonlyPaths:     []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
	if l := j.SELinux; l != nil {
		spec.Process.SelinuxLabel, spec.Linux.MountLabel = l.Process, l.Mount
	}
	if r.ownKernel {
		spec.Root.Readonly = false // or all that is mounted there would be; the host sees to it
	}
	if j.User {
		// The command gets a /proc of its own: what of ours is covered could not be
		// seen there, so the kernel would not allow it.
		spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths = nil, nil
		caps := spec.Process.Capabilities
		caps.Bounding = foreign.UserCapabilities()
		caps.Effective, caps.Permitted = caps.Bounding, caps.Bounding
	}
	return spec
}
