// What observe.c and scribe.c share.
#pragma once
#include "slot.h"

enum {
	TABLE_MIN = 1 << 11, // see observer.first
	LONG_PATH = 2 * PATH_MAX, // a working directory and a path below it
	FIXED_MAX = 40, // binds directly below the root that are kept in mind
	LINKS_KNOWN = 4, // links that are
};

struct observer {
	struct sandbox *s;
	s32 log_fd, proc;
	u8 *log;
	u32 used;
	int complete;

	// Open hashing of what is in the log: positions + 1. It stops growing at
	// TABLE_MAX; then things are written down twice.
	u32 *table;
	u32 size, count;
	u32 first[TABLE_MIN]; // the table, until it grows

	struct scribe *scribe; // or 0

	// Binds that next_fixed finds, and of them those whose mounts the command
	// cannot change anywhere: see know_places. NULL ends both.
	const char *fixed[FIXED_MAX + 1], *quiet[FIXED_MAX + 1];
	int fixed_more; // there are others

	// Links in the root directory that lead into quiet binds, and where; NULL ends
	// them. links_moved: the command has made or removed one.
	const char *links[LINKS_KNOWN + 1];
	char link_targets[LINKS_KNOWN][32];
	int links_moved, changes; // the call at hand makes or removes names

	// The directory in which the command has started, as the kernel names it, or "".
	// still: all of its processes are there, and no link or directory has been made,
	// moved or removed: see later.c.
	char dir[1024];
	int still;

	u32 tid; // of the call at hand
	s64 result; // of it, or NOT_YET
	u64 ip; // where it ends, if the code around that may be read with its path; else 0
	u64 code_ip; // where the call ends that code is from; or 0
	u8 code[SITE];
	int begun; // a program of the command has named a path
	char name[LONG_PATH + 8], real[LONG_PATH + 8], rest[LONG_PATH + 8], next[LONG_PATH + 8];
};

// observe.c
void *map(size_t size, s32 fd, u64 offset);

// OPENS_ANEW says whether open with these flags makes a file, or empties it.
#define OPENS_ANEW(flags) (((flags) & (O_CREAT | O_TRUNC | O_EXCL | O_PATH)) == (O_CREAT | O_TRUNC) && (flags) & (O_WRONLY | O_RDWR))

// look_path writes down the look-up of the absolute path in o->name, and where it leads.
void look_path(struct observer *o, u8 op, u8 how, int follow_last);
void note(struct observer *o, u8 op, u8 how, const char *path);
void note_part(struct observer *o, u8 op, u8 how, const char *path, size_t n);

// look_up writes down what the system call nr of the process o->tid names. result
// is what it gave, or NOT_YET.
#define NOT_YET (1ll << 40)
void look_up(struct observer *o, u32 arch, s32 nr, const u64 *args, s64 result);

// peek.c
//
// peek reads memory of the process at hand, up to n bytes or the end of what is mapped.
long peek(struct observer *o, u64 at, void *to, size_t n);

// peek_parts reads n parts of that memory, one behind the other, up to the first that
// cannot be read.
long peek_parts(struct observer *o, void *to, size_t size, const struct iovec *parts, u32 n);

// peek_code reads the code of a site whose call ends at ip: SITE bytes, which stay as they
// are until the next call. It returns 0 if there are fewer.
const u8 *peek_code(struct observer *o, u64 ip);

// peek_path reads a string. It stops reading where the string ends, mostly in
// the first few hundred bytes; with them it reads the code that makes the call.
int peek_path(struct observer *o, u64 at, char buf[static PATH_MAX]);

// places.c
int below(const char *path, const char *dir);
void tidy(char *path);
int join(char *buf, const char *a, const char *b, const char *c);
void know_places(struct observer *o);
void know_links(struct observer *o);
int fixed(struct observer *o, const char *path);
const char *leads(struct observer *o, const char *path, u32 *from);
void note_moved(struct observer *o, const char *path);
void follow(struct observer *o, const char *name, int last_too);
int own_proc(struct observer *o, const char *path);
void note_magic(struct observer *o, u8 op, int follow_last);

// programs.c
int interpreter(struct observer *o, char out[static PATH_MAX], int *last);

// later.c
struct path_call;

// know_dir is told in which directory, open as fd, the command starts.
void know_dir(struct observer *o, s32 fd);

// stir_before is told of each call before it is made, and stir_removed of it when
// its first path is o->name.
void stir_before(struct observer *o, const struct path_call *c, const u64 *args);
void stir_removed(struct observer *o, const struct path_call *c);

// scribe.c
//
// Where a scribe is in the address space of a command's process: above the
// libraries and below what its stack may reasonably grow to, where the kernel puts
// nothing by itself.
#define SCRIBE_AT 0x7ffffa000000ull
#define SCRIBE_CALLS_AT (SCRIBE_AT + 0x1000) // system calls from this page are written down
#define SCRIBE_CALLS_END (SCRIBE_AT + 0x2000)
#define SCRIBE_LOG_AT (SCRIBE_AT + 0x10000)

// Memory that a scribe asks huge pages for: see inside.c. A program asks for it by mmap
// with this protection, these flags, and a length of these bytes.
enum { HUGE_PROTECTION = PROT_READ | PROT_WRITE, HUGE_FLAGS = MAP_PRIVATE | MAP_ANONYMOUS, HUGE_LEAST = 2 << 20, HUGE_MOST = 8 << 20 };

// scribe_answer says whether a notification comes from a scribe itself, and what is the
// answer then.
int scribe_answer(struct observer *o, s32 listener, const struct seccomp_notif *n, s64 *answer);

// scribe_consider is told of each look-up of a process that waits for us, and may
// put a scribe into it.
void scribe_consider(struct observer *o, s32 listener, const struct seccomp_notif *n);

// scribe_finish notes what the scribes have written. No process of the command
// may be alive.
void scribe_finish(struct observer *o);

// scribe_follow follows what waits for it, now, as something is about to change. From
// then on scribes ask.
void scribe_follow(struct observer *o);

void scribe_free(struct observer *o);
