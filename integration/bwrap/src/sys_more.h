// What lib.h's sys.h lacks, because sandboxes of our own do not need it.
#pragma once
#include "sys.h"

enum {
	SYS_capget = NR(125, 90),
	SYS_geteuid = NR(107, 175),
	SYS_setsockopt = NR(54, 208),
	SYS_setuid = NR(105, 146),
	SYS_setgid = NR(106, 144),
	SYS_unlinkat = NR(263, 35),
	O_TRUNC = 01000,
	W_OK = 2,
	S_IFLNK = 0120000,
	STATX_INO = 0x100,
	STATX_BASIC = 0x7ff,
	ENOSPC = 28,
	EROFS = 30,
	MS_BIND = 4096,
	MS_SILENT = 32768,
	AT_NO_AUTOMOUNT = 0x800,
	SIG_CHLD_MASK = 1 << (17 - 1),
	F_SETLK = 6,
	F_RDLCK = 0,
	SO_PASSCRED = 16,
	SCM_CREDENTIALS = 2,
	SOCK_SEQPACKET = 5,
	PR_CAP_AMBIENT_RAISE = 2,
	PR_SET_SECCOMP = 22,
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
