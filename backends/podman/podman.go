// Package podman is the backend that has its sandboxes made by podman. Package
// foreign says what is promised, and how.
//
// Podman gets the root that the helper has made, not an
// image, and keeps its state in the job's directory; so it neither needs nor
// leaves anything in its storage. Docker cannot be used like this: its daemon
// does not see what we mount, and takes no descriptors.
//
// For other users podman is the root of a user namespace that knows one user; it
// needs neither newuidmap nor a control group.
package podman

import (
	"cmp"
	"fmt"
	"os"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/foreign"
)

// Options are the options of [Open]. The zero value is fine.
type Options struct {
	// Program is the path of podman. Empty: it is looked up in $PATH.
	Program string
}

// Open returns the backend. It does not fail where the program is missing or
// does not work: Capabilities says so, and Run.
func Open(o Options) (backends.Backend, error) {
	return foreign.Open(foreign.Tool{
		Name: "podman", Program: cmp.Or(o.Program, "podman"),
		Install:  "run: apt-get install podman crun (or your system's like)",
		UserRoot: true,
		Hide:     "/sys/fs/cgroup",
		Shell:    []string{"etc", "run", "sys", "tmp", "var"},
		Command:  command,
	})
}

func command(j *foreign.Job) (foreign.Line, error) {
	// Locks in a file of the job's, not in memory that all podmans share.
	if err := j.WriteFile("containers.conf", []byte("[engine]\nlock_type = \"file\"\n")); err != nil {
		return foreign.Line{}, err
	}
	args := []string{
		j.Program, "--root", j.Dir + "/storage", "--runroot", j.Dir + "/run", "--tmpdir", j.Dir + "/tmp",
		"--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=none", "--log-level=error",
		"--runtime=crun", "--runtime-flag=root=" + j.Dir + "/crun",
		"run", "--rm", "--interactive=false", "--log-driver=none", "--cgroups=disabled", "--no-hosts", "--hostname", backends.HostName,
		"--name", fmt.Sprintf("sbx-%d-%d", os.Getpid(), j.PID),
		"--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096", "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined", "--security-opt", "label=disable",
		"--cap-drop", "ALL", fmt.Sprintf("--preserve-fds=%d", foreign.LastFD-foreign.FirstFD+1),
	}
	caps := foreign.ShellCapabilities()
	if j.User {
		// Its terminals would belong to a group that the user namespace does not know.
		// And of a /proc of which parts are covered there could be no other one.
		args = append(args, "--tmpfs=/dev/pts", "--security-opt=unmask=ALL")
		caps = foreign.UserCapabilities()
	}
	for _, c := range caps {
		args = append(args, "--cap-add", c)
	}
	if j.Network == backends.NetworkNone {
		args = append(args, "--network=none")
	} else {
		args = append(args, "--network=host")
	}
	args = append(args, "--entrypoint", "", "--rootfs", j.Root)
	return foreign.Line{
		Args: append(args, j.Init...),
		Env:  []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + j.Dir, "CONTAINERS_CONF=" + j.Dir + "/containers.conf"},
	}, nil
}
