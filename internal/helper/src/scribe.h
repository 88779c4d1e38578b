// What the files of the scribe share: scribe.c, enter.c, inside.c, sites.c, scribed.c, later.c.
#pragma once
#include "observe.h"

#if defined __x86_64__

enum {
	MAGIC = 0x73627873,
	TEXT_SIZE = 0x2000, // our code, and the calls
	LOG_OFFSET = 0x10000, // in the file: as in the process
	TABLE = 8192, // entries of the log's hash table
	ENTRIES = 448 << 10, // bytes
	LONGEST = 1024, // path that a scribe writes down
	PLACES = 40,
	PLACE_MAX = 32,
	CALL_SIZE = 64,
	CALLS = 0x1000 / CALL_SIZE - 1, // the last one holds the number of those in use
	NEVER = 255,
	COUNTERS = 512,
	ASKED = 64,
	PATIENCE = 6, // so often a process asks before it gets a scribe: /bin/true asks five times, and ends
	MUCH = 4096, // bytes in the log, from which on they get it at once
	LOADER_MAX = 256,
	FAMILY = 1 << 18, // bytes between sites that are expected to stay together
};

// A found site is one in the process at hand.
struct found {
	u64 ip;
	s32 nr;
	u8 code[SITE];
};

// sites.c
//
// consider_site is told of a call nr that ends at ip in the process at hand. It
// returns -1 if there can be no scribe, 0 for a site that was not known, and 1 for
// one that was.
int consider_site(struct observer *o, struct sites *s, u64 ip, s32 nr);

// consider_exec is told of an execve that ends at ip.
void consider_exec(struct observer *o, struct sites *s, u64 ip);

// find_sites finds the site whose call ends at ip and its neighbours, as far as they
// are as they were when they were first seen, and returns how many.
u32 find_sites(struct observer *o, struct sites *s, u64 ip, struct found out[static SITES]);

// forget_process is for when another process may get the number of the last one.
void forget_process(struct sites *s);

// The log: written by the processes of the command, so we believe none of it.
struct log {
	u32 magic, used, lost, nplaces;
	u32 still, ndir; // later: ndir is the length of dir
	u32 filters; // a process of the command may have seccomp filters of its own
	char dir[LONGEST]; // below which it is done; and /tmp, and below that
	char places[PLACES][PLACE_MAX];
	u32 table[TABLE]; // offsets of entries, + 1
	u8 entries[ENTRIES]; // struct lookup, as in observe.c
};

// What else than LOOKUP_FOUND and so on an entry of it says. Those that are to be
// followed later are as the process has named them, relative ones too.
enum {
	LATER_FOLLOW = 0x10, // also a link in the last place
	LATER_NO_FOLLOW = 0x20,
	LATER_DONE = 0x40, // all that had been written down when something stirred
	LATER_MADE = 0x80, // LOOKUP_MADE of what does not follow it
	LATER = LATER_FOLLOW | LATER_NO_FOLLOW | LATER_DONE,
};
enum { LOG_SIZE = (sizeof(struct log) + 4095) & ~4095u };

// What the scribe pushes, from the last to the first.
struct frame {
	u64 nr, r10, r9, r8, rdx, rsi, rdi, back;
	s64 result;
};

// Calls that are written down, by number, and mmap. Those with a directory are the
// higher ones.
enum { OPEN = 2, STAT = 4, LSTAT = 6, MMAP = 9, ACCESS = 21, EXECVE = 59, READLINK = 89, OPENAT = 257, NEWFSTATAT = 262, READLINKAT = 267, FACCESSAT = 269, STATX = 332, FACCESSAT2 = 439 };

struct scribe {
	int off; // it did not work, and will not
	struct sites *sites; // the slot's: the next command mostly calls from the same ones
	s32 fd;
	struct log *log;
	s32 mem; // memory of the process mem_tid; or -1
	u32 mem_tid;
	int mem_own; // that is known to be nobody else's: see own_memory
	u32 loaded_tid; // the last process that got the loader, at loaded
	u64 loaded;

	struct {
		u32 tid;
		u8 count; // how often it has asked, or NEVER
		u64 ip;
	} counters[COUNTERS];

	// How often a process has asked since it has its program.
	struct {
		u32 tid, count;
	} asked[ASKED];
};

// enter.c
//
// What of a process shows that it has a scribe.
struct inside {
	u32 text, calls, log; // calls: how many are in use
	u64 vdso; // where the vDSO is, if that was looked at and is where it mostly is; else 0
};

// look_inside reads that, and returns 1 if there is a whole scribe, 0 if there is
// nothing in its place, and -1 if there is something else.
int look_inside(struct observer *o, struct inside *in, int vdso_too);

// settle puts a scribe into the process that waits, whose vDSO is at vdso, or is to be
// found. It returns 0 if none can be put there.
int settle(struct observer *o, struct scribe *s, s32 listener, const struct seccomp_notif *n, s32 mem, u64 vdso);

// loaded is told of each notification, and answers that of the loader, which is done: with
// where scribe_memory is, or 0. It returns 0 for all others.
int loaded(struct observer *o, struct scribe *s, s32 listener, const struct seccomp_notif *n, s64 *answer);

// redirect makes the site whose call ends at ip go through the scribe, of which "used" calls
// are in use, and with it its neighbours.
int redirect(struct observer *o, struct scribe *s, u64 ip, s32 mem, u32 used);

// alone says whether the process, which has a scribe, still has one thread.
int alone(struct observer *o, struct scribe *s, u32 tid);

// as_made says whether the process has been made by another one, and has the memory still
// that it had from that.
int as_made(struct observer *o, u32 tid, u32 by);

// memory_of returns a descriptor for the memory of the process that waits, or -1;
// forget_memory is for when a process may have been given another memory.
s32 memory_of(struct observer *o, struct scribe *s, s32 listener, const struct seccomp_notif *n);
void forget_memory(struct scribe *s);

// in_process is where code of the scribe is in a process that has one.
u64 in_process(const u8 *code);

// later.c
//
// follow_entry follows what an entry of the log names, n bytes of path, which stay as
// they are meanwhile.
void follow_entry(struct observer *o, u8 op, u8 how, const char *path, size_t n);

// inside.c
extern const u8 __start_scribe[], __stop_scribe[], scribe_common[], scribe_asked[], scribe_missing[], scribe_memory[];
extern const u8 loader[], loader_back[], loader_fd[], loader_size[], loader_bytes[], loader_asked[], loader_end[];

#endif
