// Seccomp filters as they are being written: what program.c does for filter.c.
#pragma once
#include "slot.h"

// What becomes of a system call.
enum check {
	REFUSE, // EPERM
	MISSING, // ENOSYS: programs then do without
	OURS, // EPERM without the cookie
	CLONE, // no new namespaces
	UNSHARE,
	SOCKET, // of the usual families only
	SOCKETCALL,
	IOCTL, // nothing that types for the user
	WATCH,
	WATCH_DIR, // unless the cookie says that it is us
	WATCH_CLOCK, // unless argument 0 is a clock that says nothing of the time of day
	WATCH_STREAM, // unless argument 0 is no standard stream
	WATCH_MEMORY, // if it could be in huge pages: see observe.h
	WATCH_FILTERS, // prctl, if it installs a seccomp filter
	FAKE, // success
};

struct rule {
	u32 first, last; // system call numbers
	u32 check;
};

enum {
	CHECKS = FAKE + 1,
	ALLOW = CHECKS, // the check that lets everything pass
	JUMPS_MAX = 512,
};

// A program being written. What does not fit is counted but not written, and
// install refuses it.
struct program {
	struct sock_filter *out;
	u32 n;
	int with_cookie;
	int ask_rest; // what is not forbidden asks

	// Jumps to checks, which stand behind the tree that decides for them.
	struct {
		u32 at, check;
		int yes;
	} jumps[JUMPS_MAX];
	u32 njumps;
};

enum {
	LOAD = 0x20,
	RETURN = 0x06,
	JUMP = 0x05,
	IF_EQUAL = 0x15,
	IF_GREATER = 0x25,
	IF_NOT_LESS = 0x35,
	IF_SET = 0x45,
	AND = 0x54,
	AT_NR = offsetof(struct seccomp_data, nr),
	AT_ARCH = offsetof(struct seccomp_data, arch),
	AT_IP = offsetof(struct seccomp_data, ip),
	AT_ARGS = offsetof(struct seccomp_data, args),
};

void emit(struct program *p, u16 code, u32 k, u8 yes, u8 no);
void emit_return(struct program *p, u32 k);
void emit_load_arg(struct program *p, u32 arg, u32 word);

// set_jump makes one side of the condition at "at" go to what comes next. It
// can skip 255 instructions.
void set_jump(struct program *p, u32 at, int yes);

// emit_arch decides by n rules what becomes of system calls of this kind of machine.
void emit_arch(struct program *p, u32 arch, const struct rule *rules, u32 n);
