// Package landlock is the backend that needs no namespace: Landlock and filters of
// system calls keep a command from what it was not given. It is for machines where
// nobody but root may make a sandbox (user namespaces are forbidden) and where
// nothing is installed that could. Linux 6.2 is needed, and 6.12 for all of it.
//
// Nothing can be mounted, so there is no root of the command's own:
// [backends.Capabilities.OwnRoot] says what there is instead, and a Spec whose
// Root.InPlace is not set is refused. The rest:
//
//   - Files: the command can read, write and execute what is below the directory
//     that stands for its root, can read and execute what is bound (and write, where
//     the bind is Writable), and can open nothing else, whatever the permissions.
//     What Landlock knows nothing of are stat, access and readlink; and, where the
//     caller is not root, chmod, utime and setxattr of files that belong to the
//     caller, whom the command is. Their contents are safe.
//   - Network: without it there are no sockets but pairs, and those not of datagrams, which could be
//     connected to others. With the host's, there
//     are those of the internet; sockets with a name in the file system are never
//     to be had, because a daemon behind one would do as it is told.
//   - Processes: those of the host are visible, but cannot be traced or, since Linux
//     6.12, signalled. When the command ends, or its time is over, or we are killed,
//     everything that it has started is found in /proc and killed: its children may
//     leave their session but not their ancestors, as our helper is a subreaper.
//   - No capability, no new privileges, the same deny list of system calls, the same
//     exact status as with every backend.
//
// As root, the command is the user [backends.ID] of the host. As another user it is
// the caller.
package landlock

// Options are the options of [Open]. There are none yet.
type Options struct{}

// Name is the name of the backend.
const Name = "landlock"
