// Package helper starts the small program that stands between us and a
// command, and defines what is said between the two.
//
// The program is written in C, without a C library, because it is where the
// time goes: it starts in a tenth of the time that a Go program needs, and its
// processes share their memory. Its source is in the directory src; build.sh
// makes the binaries, which are checked in, so that nobody needs a C compiler
// to build us, and a test makes them again and compares.
//
// # Modes
//
// The first argument is the mode. Descriptor [SocketFD] is a SOCK_SEQPACKET
// socket; it carries one [Request] and the answers to it, or in a slot one
// Request after the other.
//
//   - slot UID GID [user] [hostnet|sealed] [noscribe] [begin [watch]]: makes a sandbox
//     for each request (with "begin" the first one at once, with "watch" prepared
//     for commands that are observed; with "noscribe" each look-up of those asks:
//     see src/scribe.c) and runs the command in it. [LifeFD] is the
//     reading end of a pipe: the eight bytes of a request's Seq, written into
//     it, kill that request; eight bytes 255 do what "begin" does, once more; its end ends the slot and all it has started. With "user", everything happens in a user
//     namespace in which UID and GID are 65000; else the slot must be root.
//   - around UID GID [user [root]]: in a mount namespace (and user namespace) of its
//     own, mounts the root of the request at Request.Target, which must be an
//     existing directory, answers [Ready] with the root's directory, and then
//     executes Args[0], a path, with Env, in Dir. Descriptors 0 to 2 stay as
//     they are; the socket and others without close-on-exec stay, too, so that
//     an init further down can go on with it. Proc, dev, tmp and Binds are not
//     mounted. With "root", UID and GID are 0 in the user namespace, for programs
//     that want to be root.
//   - fence UID GID [user] [hostnet]: runs the command of the request as ID (or,
//     with "user", as whoever it is) in the namespaces that it is in. Landlock lets
//     the command open nothing but the sources of Binds, under their own names: for
//     reading and executing, or for everything where they are writable. Sockets
//     are refused, or with "hostnet" those with a name in the file system.
//     Request.Hide is the program's path, if it is not Args[0]. The end of the
//     socket kills all descendants and removes the directory Request.Target.
//   - vm: process 1 of a virtual machine; backends/vm is at the other end.
//   - init [user] [nest] [name] [stdio] [gone] [old] [connect NAME]: for the inside of another
//     sandbox, as pid 1, or as pid 2 of a pid 1 that only reaps. Runs the command of the
//     request, in the root it finds, or in Request.Tree, as the user it is (or as
//     ID if it is root), and reports, with everything else in the pid namespace
//     killed. Binds are not mounted but tell which directories cannot change (see
//     observation). A second message, or the end of the socket, kills everything.
//     With "user", the sandbox is in a user namespace; with "nest" we are its root,
//     and make one more, where we are ID; with "name" it has no host name yet; with
//     "stdio" the socket is descriptor 0; with "gone" the program removes its file;
//     with "old" system calls that proot does not know are missing;
//     with "connect" the socket is a connection to the abstract socket NAME. With
//     the flag OwnNet it makes a network of its own.
//
// # Messages
//
// See [Request] and [Reply]. The order for a request with a Fill is: Request,
// [Fill] with the directory to be filled, eight bytes that repeat Seq (or its
// complement, to give up), and [Done] or an error.
//
// A slot with "begin" sends a Fill with the Seq 0, for a scratch in memory below
// which there are no layers, before the first request: what is put there before
// the request is sent needs no Fill. If it cannot come so far, it sends
// [Failed] or [Killed] instead.
package helper
