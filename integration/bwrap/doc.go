// Package bwrap takes bubblewrap's command line and does what it says.
//
// Programs that call bwrap find it under that name and rely on its options,
// their order, its exit codes, its messages, and on what it writes to --info-fd
// and --json-status-fd. All of that is as in bubblewrap 0.11; it is learned from
// its documentation, its source and its tests, and compared with the program of
// Debian in this package's tests. No code of it is here.
//
// # How it works
//
// [Main] reads the command line, resolves what is to be shown of the host, writes
// a plan and becomes a small C program (src), without a C library, that carries it
// out: it makes the namespaces, does one operation after the other on an empty
// tmpfs, makes that the root, and executes the command. It is C because user and
// PID namespaces are entered by processes with one thread, and because it stays:
// as the monitor outside, and as the process 1 that reaps inside.
//
// # What differs
//
//   - It is never setuid. Where bubblewrap would have to be, it fails.
//   - /proc/self/exe inside, before the command is executed, is not a bwrap that
//     could be called again.
//   - Mounts get their flags by mount_setattr, all below at once: Linux 5.12.
package bwrap
