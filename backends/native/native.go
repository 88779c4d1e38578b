// Package native is the backend of our own: namespaces, an overlay and a
// seccomp filter, set up by the program of internal/helper.
//
// It promises what package backends asks for, and more exactly:
//
//   - A command sees its own mounts, processes, network, IPC and host name. It
//     is never pid 1; pid 1 is ours, reaps, and cannot be traced, read or
//     signalled by it. When the command ends, or pid 1 or the process that
//     called us dies in whatever way, everything in the sandbox is dead.
//   - It runs as user and group 65000 without any capability or way to get
//     one, with the file mode mask 022, default signal handling, no core dumps,
//     fixed soft limits (stack 8 MiB, 1024 descriptors) and, for the same
//     addresses every time, without address space randomisation. Every mount
//     is nosuid, and nodev but for the devices in /dev.
//   - Args[0] without a slash is looked up in the PATH of Spec.Env, and nowhere
//     without one. A script without #! is run by /bin/sh, as shells do.
//   - The system calls that internal/helper/src/rules.h lists are refused:
//     among them namespaces, mounts, keys, bpf, perf, io_uring, sockets but of
//     the families unix, inet, inet6 and netlink's routes, and all of the x32
//     and 32-bit ARM ABIs.
//   - No two commands share a network, at one time or later: a slot's network
//     is thrown away after anything has gone over its loopback interface.
//
// Root runs commands as the host's user 65000; anybody else in a user namespace
// in which 65000 is the caller. There the command has the caller's
// supplementary groups (the kernel does not let them be dropped), and files
// of others belong to "nobody".
//
// # Speed
//
// A slot is a process that lives as long as the Backend, has the namespaces
// that can be shared by one command after the other, and makes a sandbox for
// each; from its second command on it prepares one in advance. Run takes an
// idle slot or starts one, so as many commands run at once as Run was called.
package native

// Options are the options of Open. The zero value is fine.
type Options struct {
	// CgroupParent is the directory of the control group below which groups
	// for Limits.Memory and Limits.Pids are made. With control groups of
	// version 1, the same directory is used in each hierarchy, relative to
	// its mount point. Empty: that of this process.
	CgroupParent string

	// Once says that this process will run one command, or few. Then a slot
	// ends as soon as its command has, while the caller looks at the outputs,
	// and Close has nothing left to wait for.
	Once bool

	// Prepared says that the caller calls [Backend.Prepare] when it has time. Then no
	// sandbox is prepared while a command runs, which that would slow down.
	Prepared bool

	// NoScribe makes each look-up of a command that is observed stop and ask,
	// also where there is a cheaper way: see internal/helper/src/scribe.c. What is
	// told is the same. It is for comparing the two.
	NoScribe bool
}
