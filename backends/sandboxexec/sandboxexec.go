// Package sandboxexec is the backend of macOS: sandbox-exec(1) keeps a command from
// what its profile does not allow. The system has no namespaces and no mounts for
// users, so there is no root of the command's own: see
// [backends.Capabilities.OwnRoot], and package landlock, which is the same for Linux.
//
// The profile, which [Profile] writes, is all that is tested: we have no Mac. What
// runs it has been compiled and read, and never executed.
//
// What is not promised: that no process survives (the process group is killed, which
// a command may leave), that others cannot be seen, an exact account of memory, and
// any limit but the wall clock's.
package sandboxexec

// Name is the name of the backend.
const Name = "sandbox-exec"

// Options are the options of [Open]. The zero value is fine.
type Options struct {
	// Program is the path of sandbox-exec. Empty: where macOS has it.
	Program string
}
