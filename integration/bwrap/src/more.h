// What this program needs to know of the kernel, and the helper does not: the rest is in
// the helper's sys.h.
#pragma once
#include "sys.h"

enum {
	SYS_setsockopt = NR(54, 208),
	SYS_setuid = NR(105, 146),
	SYS_setgid = NR(106, 144),
	W_OK = 2,
	STATX_BASIC = 0x7ff,
	ENOSPC = 28,
	MS_BIND = 4096,
	MS_SILENT = 32768,
	AT_NO_AUTOMOUNT = 0x800,
	SIG_CHLD_MASK = 1 << (17 - 1),
	F_SETLK = 6,
	F_RDLCK = 0,
	SO_PASSCRED = 16,
	SCM_CREDENTIALS = 2,
	SECCOMP_MODE_FILTER = 2,
	CAP_LAST = 40,
};

struct cap_header {
	u32 version;
	s32 pid;
};
struct cap_data {
	u32 effective, permitted, inheritable;
};
struct flock_ {
	s16 type, whence;
	s64 start, len;
	s32 pid;
};
struct signalfd_info {
	u8 bytes[128];
};
struct ucred {
	s32 pid;
	u32 uid, gid;
};
