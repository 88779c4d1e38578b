// Package bubblewrap is a backend that has its sandboxes made by bwrap, the
// program that Flatpak uses. It is for machines whose policy allows bwrap and
// nothing else to make user namespaces, and for people who want a sandbox that
// others have looked at. It costs about ten times as much as package native.
//
// It promises what package backends asks for; package foreign says how.
//
// As root, bwrap makes no user namespace: process 1 is root with the few
// capabilities that it needs, and the command is the host's user 65000 without
// any. As another user, all is in a user namespace that knows one user.
package bubblewrap

import (
	"cmp"
	"strconv"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/foreign"
)

// Options are the options of [Open]. The zero value is fine.
type Options struct {
	// Program is the path of bwrap. Empty: it is looked up in $PATH.
	Program string
}

// Open returns the backend. It does not fail where bwrap is missing or does not
// work: Capabilities says so, and Run.
func Open(o Options) (backends.Backend, error) {
	return foreign.Open(foreign.Tool{
		Name: "bubblewrap", Program: cmp.Or(o.Program, "bwrap"),
		Install: "run: apt-get install bubblewrap (or your system's like), version 0.8 or later",
		Command: command,
	})
}

// command is bwrap's command line, with its options in the order in which it
// obeys them.
func command(j *foreign.Job) (foreign.Line, error) {
	args := []string{
		j.Program,
		"--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try",
		"--hostname", backends.HostName,
		"--die-with-parent", "--new-session", "--as-pid-1", "--clearenv",
		"--cap-drop", "ALL",
	}
	if j.Network == backends.NetworkNone {
		args = append(args, "--unshare-net")
	}
	if j.User {
		id := strconv.Itoa(backends.ID)
		args = append(args, "--unshare-user", "--uid", id, "--gid", id)
		if !j.OwnUser {
			args = append(args, "--disable-userns")
		}
	} else {
		for _, c := range foreign.Capabilities() {
			args = append(args, "--cap-add", c)
		}
	}
	args = append(
		args,
		"--bind", j.Root, "/", "--proc", "/proc", "--dev", "/dev",
	)
	if j.SharedMemory > 0 {
		args = append(args, "--size", strconv.FormatInt(j.SharedMemory, 10))
	}
	args = append(
		args,
		"--perms", "1777", "--tmpfs", "/dev/shm", "--remount-ro", "/dev",
		"--chdir", "/",
	)
	if j.ReadOnlyProc {
		args = append(args, "--remount-ro", "/proc")
	}
	args = append(args, "--")
	return foreign.Line{Args: append(args, j.Init...)}, nil
}
