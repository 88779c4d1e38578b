// What the command line said, as plan.go writes it: words of 32 bits, and behind
// them text. A string is the place of its first byte in the text; the place 0
// has the empty one.
#pragma once
#include "lib.h"
#include "more.h"

enum { PLAN_VERSION = 0x73627731 };

enum {
	UNSHARE_USER = 1,
	UNSHARE_IPC = 1 << 1,
	UNSHARE_PID = 1 << 2,
	UNSHARE_NET = 1 << 3,
	UNSHARE_UTS = 1 << 4,
	UNSHARE_CGROUP = 1 << 5,
	DISABLE_USERNS = 1 << 6,
	ASSERT_USERNS_DISABLED = 1 << 7,
	NEW_SESSION = 1 << 8,
	DIE_WITH_PARENT = 1 << 9,
	AS_PID_1 = 1 << 10,
	LEVEL_PREFIX = 1 << 11,
	NEEDS_DEVPTS = 1 << 12,
	CAPS_GIVEN = 1 << 13,
	KEEP_PWD = 1 << 14, // set no variable PWD
	END_WITH_COMMAND = 1 << 15, // kill who is left
	SIGNALS_ARE_1 = 1 << 16, // the exit code for every signal
};

enum kind {
	BIND = 1,
	RO_BIND,
	DEV_BIND,
	OVERLAY,
	TMP_OVERLAY,
	RO_OVERLAY,
	PROC,
	DEV,
	TMPFS,
	MQUEUE,
	MAKE_DIR,
	MAKE_FILE,
	BIND_DATA,
	RO_BIND_DATA,
	SYMLINK,
	REMOUNT_RO,
	HOSTNAME,
	CHMOD,
	READ_ONLY,
};

// OP_EXISTS: the parents need not be made. OP_MADE: neither does what something is
// mounted on.
enum { OP_TRY = 1, OP_EXISTS = 2, OP_MADE = 4 };

struct op {
	u32 kind, flags;
	s32 fd;
	u32 perms, failed; // an errno, and then failed_name is the source that is not to be had
	u32 size_low, size_high;
	u32 source, dest, given, failed_name; // strings; given is the source as it was written
};

struct plan {
	u32 version, text, flags;
	s32 sync_fd, block_fd, userns_block_fd, info_fd, json_fd, seccomp_fd, userns_fd, userns2_fd, pidns_fd;
	u32 uid, gid, real_uid, real_gid;
	u32 tmp_overlays, caps_low, caps_high;
	u32 name, old_dir, home, tty, chdir, exec_label, file_label, program; // strings; name is ours
	// Then argv, the environment and the lock files: a number, and so many
	// strings. Then the filters: a number, and for each its length in
	// instructions, and its place. Then the number of operations, and they.
};

extern struct plan *the_plan;
extern char **the_argv, **the_env; // with room for one more, and ended by 0
extern struct op *the_ops;
extern u32 op_count, env_count, lock_count;
extern char **locks; // files that process 1 locks
extern u64 caps; // that the command has

const char *str(u32 place);
static inline int on(u32 flag) { return (the_plan->flags & flag) != 0; }

// main.c
extern s32 proc_fd; // of /proc outside
// What the processes tell each other through; or -1.
extern s32 exit_event; // the exit status plus one, from process 1 to the monitor
extern s32 go[2]; // a byte from the monitor to the child: the maps are there
extern s32 ready[2]; // a byte before execve, and another if it failed
extern s32 pids[2]; // the child's pid, from itself to the monitor, where that cannot know it
long set_caps(u64 set);
// drop_caps leaves none, or with keep those that were asked for, and makes us
// readable for ourselves again.
void drop_caps(int keep);
void die_with_parent(void);
void mask_child(int how); // SIGCHLD, in the way of sigprocmask
int exit_code(s32 status);
void wait_byte(s32 fd); // until there is something to read, or its end; and close it
long fork_child(u64 flags);

// monitor.c
_Noreturn void outside(s32 pid);

// child.c
_Noreturn void inside(void);

// plan.c
//
// must ends this process with a message if err is one.
void must(long err, const char *what);
void read_plan(const char *number);
void read_filter(void); // from the descriptor that the plan names, if any
void apply_filters(void);

// exec.c
//
// execute only returns if that is not to be had, with the reason.
long execute(const char *name);

// text.c
_Noreturn void quit(int code);
void *alloc(size_t n);
char *join(const char *a, const char *b, const char *c);
char *format(const char *f, ...); // %s, %d, %o
// die ends this process with a message, and the text of the error -err unless it
// is 0.
_Noreturn void die(long err, const char *f, ...);
const char *error_text(long err);
const char *mount_error_text(long err);
void write_all(s32 fd, const char *s);
long write_file(s32 dir, const char *name, const char *text);
void close_all_but(s32 a, s32 b, s32 c);

// setup.c
void setup_root(void);
