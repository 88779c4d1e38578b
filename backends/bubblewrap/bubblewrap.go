// Package bubblewrap is a backend that has its sandboxes made by bwrap, the
// program that Flatpak uses. It is for machines whose policy allows bwrap and
// nothing else to make user namespaces, and for people who want a sandbox that
// others have looked at. It costs about ten times as much as package native.
//
// It promises what package backends asks for. Our own helper runs on both sides
// of bwrap: around it, where it mounts the layers and the scratch of the root
// in a mount namespace that ends with bwrap, so that bwrap never sees a file of
// the store that can be written; and inside, as process 1, where it starts the
// command with exactly the given environment and descriptors, installs the
// filter of system calls, and tells how the command ended, which bwrap's own
// exit status does not. Whatever bwrap itself writes goes to our error messages
// only: a command that could not be started because bwrap failed is an error of
// Run, and never a status.
//
// As root, bwrap makes no user namespace: process 1 is root with the few
// capabilities that it needs, and the command is the host's user 65000 without
// any. As another user, all is in a user namespace that knows one user.
//
// Limits of memory and of processes hold for each process, or for each user
// namespace, since bwrap knows no control groups: Limits.Memory is refused
// where it cannot be had at all.
package bubblewrap

// Options are the options of [Open]. The zero value is fine.
type Options struct {
	// Program is the path of bwrap. Empty: it is looked up in $PATH.
	Program string
}

// install is what the user is to do when there is no bwrap.
const install = "run: apt-get install bubblewrap (or your system's like), version 0.8 or later"
