// What is written down of owners and devices: for owners.c, owned.c and told.c.
#pragma once
#include "owners.h"
#include "slot.h"

enum {
	NO_ID = -1,
	S_IFBLK = 0060000,
	CONTINUE = 1, // in the place of an error: the kernel shall do it
};

// An owned is what is written down of one inode.
struct owned {
	u64 dev, ino;
	u32 uid, gid;
	u32 kind; // S_IFCHR or S_IFBLK, or 0: what it is
	u32 major, minor;
	s32 fd; // holds it; -1: nothing does
	u32 used; // 0: a free place; 1: in use; 2: was in use
};

struct owners {
	struct sandbox *s;
	s32 proc;
	u32 tid; // of the call at hand
	struct owned *table; // open addressing
	u32 size, count; // count: with those that were in use
	u32 hand; // of the sweep
	u64 calls;
	s32 held, most; // descriptors

	s32 log_fd;
	u32 log_size, log_used;
	u8 log[16 << 10];

	char path[PATH_MAX + 64], name[PATH_MAX];
};

// owned.c
struct owned *find_owned(struct owners *o, const struct statx *st);
struct owned *write_down(struct owners *o, s32 fd, const struct statx *st);
void sweep(struct owners *o, u32 n);
long look(s32 fd, struct statx *st);
void touch(struct owners *o, s32 fd, const struct statx *st, int clear);

// owners.c
//
// What opens something returns its descriptor + 2, an error, or CONTINUE.
long open_named(struct owners *o, s32 dirfd, u64 at, u32 flags);

// told.c
long tell_stat(struct owners *o, u32 arch, long fd, u64 at);
long tell_statx(struct owners *o, const u64 *args);
