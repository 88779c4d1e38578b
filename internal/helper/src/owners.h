// The system calls that the ownership recorder answers: what filter.c has to
// catch, and how owners.c reads them.
#pragma once
#include "calls.h"

enum {
	OWN_CHOWN, // (path, uid, gid)
	OWN_LCHOWN,
	OWN_FCHOWN, // (fd, uid, gid)
	OWN_CHOWN_AT, // (dir, path, uid, gid, flags)
	OWN_CHOWN_16, // with 16-bit ids
	OWN_LCHOWN_16,
	OWN_FCHOWN_16,
	OWN_MKNOD, // (path, mode, dev)
	OWN_MKNOD_AT, // (dir, path, mode, dev)
	OWN_STAT, // (path, struct stat)
	OWN_LSTAT,
	OWN_FSTAT, // (fd, struct stat)
	OWN_STAT_AT, // (dir, path, struct stat, flags)
	OWN_STATX, // (dir, path, flags, mask, struct statx)
	OWN_FAKE, // succeeds, and does nothing: there is only one user
};

struct owner_call {
	s16 amd64, i386, arm64;
	u8 how;
};

static const struct owner_call owner_calls[] = {
	{92, 212, NONE, OWN_CHOWN},
	{94, 198, NONE, OWN_LCHOWN},
	{93, 207, 55, OWN_FCHOWN},
	{260, 298, 54, OWN_CHOWN_AT},
	{NONE, 182, NONE, OWN_CHOWN_16},
	{NONE, 16, NONE, OWN_LCHOWN_16},
	{NONE, 95, NONE, OWN_FCHOWN_16},
	{133, 14, NONE, OWN_MKNOD},
	{259, 297, 33, OWN_MKNOD_AT},
	{4, 195, NONE, OWN_STAT},
	{6, 196, NONE, OWN_LSTAT},
	{5, 197, 80, OWN_FSTAT},
	{262, 300, 79, OWN_STAT_AT},
	{332, 383, 291, OWN_STATX},
	{105, 213, 146, OWN_FAKE}, // setuid
	{106, 214, 144, OWN_FAKE}, // setgid
	{113, 203, 145, OWN_FAKE}, // setreuid
	{114, 204, 143, OWN_FAKE}, // setregid
	{116, 206, 159, OWN_FAKE}, // setgroups
	{117, 208, 147, OWN_FAKE}, // setresuid
	{119, 210, 149, OWN_FAKE}, // setresgid
	{122, 215, 151, OWN_FAKE}, // setfsuid
	{123, 216, 152, OWN_FAKE}, // setfsgid
	{NONE, 23, NONE, OWN_FAKE}, // and with 16-bit ids
	{NONE, 46, NONE, OWN_FAKE},
	{NONE, 70, NONE, OWN_FAKE},
	{NONE, 71, NONE, OWN_FAKE},
	{NONE, 81, NONE, OWN_FAKE},
	{NONE, 164, NONE, OWN_FAKE},
	{NONE, 170, NONE, OWN_FAKE},
	{NONE, 138, NONE, OWN_FAKE},
	{NONE, 139, NONE, OWN_FAKE},
};

enum { OWNER_CALLS = sizeof owner_calls / sizeof *owner_calls };
