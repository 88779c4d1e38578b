// What pid 1 keeps to vary what a command sees: for vary.c, clock.c, order.c and
// turns.c.
#pragma once
#include "slot.h"
#include "vary.h"

#define SECOND 1000000000ll

enum {
	ENTRIES_SIZE = 256 << 20, // of address space, for a directory
	OUT_MAX = 256 << 10,
	BASES = 256,
	HELD_MAX = 256,
	LIVE_MAX = 64,
	FUNCTIONS = 3, // of the vDSO that tell the time
};

struct entry {
	u32 key, at; // at: in entries
};

struct varied {
	struct sandbox *s;
	s64 began; // wall clock
	u64 mono, readings;
	s32 proc;

	u64 function[FUNCTIONS]; // offsets in the vDSO, or 0
	struct {
		u32 tid;
		u64 at;
	} base[BASES]; // where the vDSO is

	struct {
		u64 id, since, due;
		u32 tid;
	} held[HELD_MAX]; // the oldest first
	u32 nheld, processes;
	u64 delayed;
	struct {
		u32 tid;
		s32 process;
	} live[LIVE_MAX]; // those whose turn has come
	u32 nlive;
	u8 seen[8192]; // bits: tid modulo 65536 was delayed

	u8 *entries; // struct linux_dirent64
	u32 used, n;
	struct entry *order;
	u32 order_size;
	char path[PATH_MAX], buf[PATH_MAX];
	u8 out[OUT_MAX];
};

// vary.c
const char *proc_path(struct varied *v, u32 tid, const char *what, s64 number);
u32 status_of(struct varied *v, u32 tid, const char *name);

// clock.c
s64 wall_clock(void);
void find_functions(struct varied *v);
s64 told_time(struct varied *v);
void no_vdso(struct varied *v, u32 tid);
s32 tell_time(struct varied *v, u32 tid, u8 how, const u64 *args);
void date_descriptor(struct varied *v, u32 tid, s32 fd);
void date_path(struct varied *v, u32 tid, s32 dirfd, u64 path, u32 flags);

// order.c
int list_in_order(struct varied *v, u32 tid, const u64 *args, int old, s64 *value);

// turns.c
void go_on(s32 listener, u64 id);
int hold_back(struct varied *v, u64 id, u32 tid);
u64 release_held(struct varied *v, s32 listener);
