// Package warm lets processes that have started already answer the calls of others:
// what "sbx-action warm" is made of. A session is a directory of one user, with a
// socket and a lock for each worker; whoever runs in the session has the directory's
// name in the variable [Variable]. The callers are the front of this program, in C:
// see internal/front/src/warm.c, which also describes what is said on the socket.
//
// A worker answers one call at a time, as if it were the caller: with its arguments,
// environment, standard streams, working directory and file mode mask. Everything
// else that a command could notice must be the same for both ([Facts]); the caller
// starts its own process, as without a session, where it is not, where all workers
// are busy, and where a worker declines or dies.
//
// The directory has mode 0700, and both sides ask the kernel who the other one is.
package warm

// Variable names the directory of the session.
const Variable = "SBX_WARM"

// Most is how many workers a session can have; as in warm.c.
const Most = 64
