// The messages between the Go program and this helper. internal/helper/wire.go
// is the other side, and explains them; a test compares the two files' numbers.
//
// Every message is one packet of a SOCK_SEQPACKET socket, in the machine's own
// byte order (both sides are always on the same machine).
#pragma once
#include "sys.h"

enum { WIRE_VERSION = 3 };

enum {
	REQUEST_KEEP_ROOT = 1,
	REQUEST_OBSERVE = 2,
	REQUEST_FILL = 4,
	REQUEST_PREWARM = 8,
	REQUEST_BIG = 16,
	REQUEST_STDIN = 32,
	REQUEST_STDOUT = 64,
	REQUEST_STDERR = 128,
	REQUEST_VARY = 256,
	REQUEST_SHELL = 512,
	REQUEST_TERMINAL = 1024,
	REQUEST_READ_ONLY = 2048,
	REQUEST_OWN_PID = 4096,
	REQUEST_OWN_REST = 8192,
	REQUEST_OWN_NET = 16384,
	REQUEST_TREE = 32768,
	REQUEST_STDIO = 65536,
	REQUEST_AS_USER = 131072,
	REQUEST_HOST_SHELL = 262144,
	REQUEST_OWNERS = 524288,
	REQUEST_SET_NAME = 1048576, // init: the host name is not set yet
	REQUEST_LO_UP = 2097152, // init: the loopback interface is not up yet
	REQUEST_KEEP_CAPS = 4194304, // around: the program has all capabilities of the user namespace
	REQUEST_PUT_INIT = 8388608,
	REQUEST_BEGIN = 16777216, // slot: no request for a command yet, but its first binds
	REQUEST_BEGUN = 33554432, // slot: those of that are wanted; binds are those that come after
};

enum { REQUEST_FILTER = 1073741824 }; // there is a filter, as a descriptor

// What a command is told that is not so, or is done to it: with REQUEST_VARY, but for
// VARY_UMASK and VARY_CALLER, which hold without it, too.
enum {
	VARY_SHIFT = 1, // the wall clock is wrong by "clock"
	VARY_FREEZE = 2, // the wall clock begins at "clock", and does not run
	VARY_ORDER = 4, // directories are listed in the order "order"
	VARY_UMASK = 8,
	VARY_LAYOUT = 16, // addresses are random
	VARY_ONE_CPU = 32, // nothing of the command runs at the same time
	VARY_CALLER = 64, // its user and group have the numbers of the slot's caller; needs REQUEST_OBSERVE, and "user"
};

#define VARY_IN_TURN (~0u) // a delay: processes begin when those before them have ended

struct vary {
	u64 flags;
	s64 clock; // ns
	u64 step; // VARY_FREEZE: after so many real ns the clock jumps by as many
	u32 order, umask;
	u32 cpus; // that sched_getaffinity tells of; 0: the truth
	u32 delay; // not 0: new processes wait, each for a time that depends on it
};

struct request {
	u32 size, version;
	u64 seq;
	u32 flags, id;
	u32 nargs, nenv, nlowers, nbinds, ngroups, nknown, gid, spare;
	u64 wall_ns, data, nproc, file_size, scratch;
	struct vary vary;
};

enum {
	REPLY_DONE = 1,
	REPLY_FILL = 2,
	REPLY_READY = 3,
	REPLY_ERROR = 4,
	REPLY_KILLED = 5,
	REPLY_TERMINAL = 6,
};

enum {
	DONE_TIMED_OUT = 1,
	DONE_COMPLETE = 2,
	DONE_NO_INTERPRETER = 4,
	DONE_UNVARIED = 8, // something that was to be varied was not
	DONE_LEFT = 16, // the command had left processes, which were killed
	DONE_NETWORK = 32, // something was sent to the loopback interface
};

struct reply {
	u32 kind, version;
	u64 seq;
	s32 wait_status, start_errno;
	u32 flags, log_size;
	u64 user_us, system_us, maxrss_kb, wall_ns;
	s32 error;
	u32 owners_size;
	char text[480];
};

// One entry of the log of owners, followed by length bytes of a path, and zeroes
// up to a multiple of 8.
struct owner_entry {
	u64 ino;
	u32 dev_major, dev_minor, uid, gid;
	u32 kind, major, minor, length;
};

enum {
	OP_STAT = 0,
	OP_OPEN = 1,
	OP_EXEC = 2,
	OP_MOVE = 3,
	OP_ANEW = 4, // OP_OPEN of a file that is made, or emptied: what was in it is not read
	OP_REPLACE = 5, // OP_MOVE to a name: what had it is gone
};

// What else is known of a look-up.
enum {
	LOOKUP_FOUND = 1, // there was something, perhaps what the command has made
	LOOKUP_MADE = 2, // the call may have made it, or given it this name
	LOOKUP_STAYS = 4, // it did, in /tmp, /run or /dev/shm, and there it is at the end
};

// One entry of the log of an observed command, followed by length bytes.
struct lookup {
	u16 length;
	u8 op, how;
};

enum {
	MESSAGE_MAX = 64 << 10, // of what fits into a packet; more goes by memfd
	FDS_MAX = 8,
	BEGUN_MAX = 24, // binds of a root that is begun
	USER_FILTER_MAX = 4096, // instructions, as the kernel has it
	LOG_MAX = 64 << 20,
};
