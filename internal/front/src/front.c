// Answers calls of sbx-action that are hits, before Go starts.
//
// The program's entry is sbx_front (front_linux_amd64.s), which calls
// sbx_front_main with the stack that the kernel made. If a memo says what the
// call gives, and everything in it holds, the outputs are put into their places
// and the process ends here. In every other case nothing has happened yet, or only
// what Go does once more, and it starts as if we had not been there, but for one
// variable (see lone). So a doubt costs a millisecond, and nothing else: whatever is
// unusual returns a reason.
//
// Read on in memo.c, facts.c, outputs.c, finish.c, warm.c and limits.c, which are one
// program with this file: the compiler is to see all of it.
//
// What is in a memo, and why it may be believed, is in memo_linux.go. It was written by
// this program, for this user; nevertheless no byte of it can make us read or
// write outside of our buffers. There is no memory but the stack and one mapping,
// and there are no variables: the code is position-independent, without
// relocations, because Go's linker copies it as it is (see build.sh).
#include "front.h"

enum {
	KEY_MAX = 256 << 10,  // bytes of a key
	MEMO_MAX = 4 << 20,   // bytes of a memo's file
	PATH_SIZE = 4096,     // of the kernel
	OUTPUTS_MAX = 64,     // outputs of a call
	APPENDS_MAX = 4,      // files that are appended to
	BLOCK = 64 << 10,     // what is not larger is not cloned, as in Go
	PIECE = 16 << 10,     // what is read at a time; the stack costs a fault a page
	RECORD_HEAD = 4 + 32, // of a note: cache/record.go
	HEAD = 8 + 8 + 36 + 5 * 8 + 4 * 4,
	TOUCH_AFTER = 600,    // seconds, as in cache.Store
	MILLION = 1000000,
	STACK_MIN = 1 << 20,  // bytes; we need less than 600 KiB
	GROUPS_MAX = 64,      // supplementary groups
	LONE = 0x100,         // beside a reason
	LATE = 1000000,       // nanoseconds by which Go's threads may sleep longer
};

#include "bytes.c"

// ---- The call

// A front is one call on its way.
struct front {
	u64 argc;
	char **argv, **env;
	char cwd[PATH_SIZE];   // where we are
	char store[PATH_SIZE]; // an absolute path
	u64 store_len;
	i64 now; // seconds since 1970
	u32 uid;
	struct in facts, records, outputs, tail;
};

// ignored says whether a variable says nothing of what a call gives. ignoredNames
// in memo_linux.go is the same list, and a test compares.
static int ignored(const char *v)
{
	static const char names[] = "COLORTERM=\0DISPLAY=\0HISTFILE=\0HISTSIZE=\0INVOCATION_ID=\0JOURNAL_STREAM=\0"
		"LS_COLORS=\0MAIL=\0MAKEFLAGS=\0MAKELEVEL=\0MAKE_TERMERR=\0MAKE_TERMOUT=\0MFLAGS=\0OLDPWD=\0PS1=\0PS2=\0"
		"SBX_WARM=\0SHLVL=\0STY=\0TMP=\0TEMP=\0TMPDIR=\0TMUX=\0TMUX_PANE=\0WAYLAND_DISPLAY=\0WINDOWID=\0XAUTHORITY=\0_=\0"
		"DBUS_\0GPG_\0NINJA_\0SSH_\0SUDO_\0VTE_\0XDG_SESSION_\0";
	for (const char *n = names; *n; n += length(n) + 1)
		if (*n == *v && starts(v, n))
			return 1;
	return 0;
}

static const char *variable(struct front *f, const char *name)
{
	for (char **e = f->env; *e; e++)
		if (starts(*e, name))
			return *e + length(name);
	return 0;
}

// find_store fills in where the store is, as wiring.CacheDir does. The flag may be
// the value of another one, or not ours: then the memo that is found there is not
// of this call, or there is none.
static int find_store(struct front *f)
{
	const char *dir = 0, *end = 0;
	for (u64 i = 1; i < f->argc && i < 64 && !dir; i++) {
		const char *a = f->argv[i];
		if (starts(a, "--cache=") && a[8])
			dir = a + 8;
		else if (starts(a, "--cache") && !a[7] && i + 1 < f->argc)
			dir = f->argv[i + 1];
		else if (starts(a, "--") && !a[2])
			break;
	}
	if (!dir && (dir = variable(f, "SBX_CACHE=")) && !*dir)
		dir = 0;
	if (!dir && (dir = variable(f, "XDG_CACHE_HOME="))) {
		end = "sbx-action";
		if (!*dir)
			dir = 0;
	}
	if (!dir && (dir = variable(f, "HOME=")))
		end = ".cache/sbx-action";
	if (!dir || !*dir)
		return 0;
	u64 n = length(dir);
	if (*dir == '/') {
		if (n >= PATH_SIZE)
			return 0;
		memcpy(f->store, dir, n + 1);
	} else if (end || !join(f->store, f->cwd, length(f->cwd), dir, n))
		return 0;
	if (end) {
		char whole[PATH_SIZE];
		if (!join(whole, f->store, length(f->store), end, length(end)))
			return 0;
		memcpy(f->store, whole, PATH_SIZE);
	}
	f->store_len = length(f->store);
	return f->store_len + 128 < PATH_SIZE;
}

static int put(u8 *to, u64 *at, const char *s)
{
	u64 n = length(s) + 1;
	if (n > KEY_MAX - *at)
		return 0;
	memcpy(to + *at, s, n);
	*at += n;
	return 1;
}

// who writes whom the kernel takes us for when it is asked for a file, as appendWho
// does in Go. It returns the length, or 0.
static u64 who(u8 *to)
{
	struct { u32 version; int pid; } of = {CAPABILITIES, 0};
	struct { u32 effective, permitted, inheritable; } caps[2] = {{0, 0, 0}, {0, 0, 0}};
	u32 list[5 + GROUPS_MAX];
	i64 n = sys(NR_getgroups, GROUPS_MAX, P(list + 5), 0, 0, 0);
	if (n < 0 || sys(NR_capget, P(&of), P(caps), 0, 0, 0) < 0)
		return 0;
	list[0] = (u32)sys(NR_geteuid, 0, 0, 0, 0, 0), list[1] = (u32)sys(NR_getegid, 0, 0, 0, 0, 0);
	list[2] = caps[0].effective, list[3] = caps[1].effective, list[4] = (u32)n;
	memcpy(to, list, (5 + (u64)n) * 4);
	return (5 + (u64)n) * 4;
}

// key_of writes the key of the call: front.Key in memo_linux.go. It returns its length,
// or 0.
static u64 key_of(struct front *f, u8 *to)
{
	u8 termios[64];
	u32 n = (u32)f->argc;
	__builtin_memcpy(to, &n, 4);
	to[4] = sys(NR_ioctl, 2, TCGETS, P(termios), 0, 0) == 0;
	u64 at = who(to + 5);
	if (!at)
		return 0;
	at += 5;
	if (!put(to, &at, f->cwd))
		return 0;
	for (u64 i = 0; i < f->argc; i++)
		if (!put(to, &at, f->argv[i]))
			return 0;
	for (char **e = f->env; *e; e++)
		if (!ignored(*e) && !put(to, &at, *e))
			return 0;
	return at;
}

// ours says whether there can be a memo of the call.
static int ours(struct front *f)
{
	if (!f->argc || !f->argv[0])
		return 0;
	const char *base = f->argv[0];
	for (const char *s = base; *s; s++)
		if (*s == '/')
			base = s + 1;
	if (!starts(base, "sbx-action"))
		return 1; // a link by the name of a compiler
	if (f->argc < 3)
		return 0;
	const char *c = f->argv[1];
	return starts(c, "cc") && !c[2] || starts(c, "run") && !c[3];
}

#include "memo.c"
#include "facts.c"
#include "outputs.c"
#include "finish.c"
#include "domain.c"

// answer is apart from its caller so that its large frame is there only where there
// is a memo.
__attribute__((noinline)) static enum reason answer(struct front *f)
{
	struct delivery d;
	u8 buf[BLOCK];
	d.n = d.n_dirs = d.names_len = 0;
	enum reason why = UNABLE;
	// A limit of the size of files ends no program that was not asked to write so much,
	// and where nobody reads, the command may do something else than we.
	u64 held = 1UL << (SIGXFSZ - 1) | 1UL << (SIGPIPE - 1), before = 0;
	sys(NR_sigprocmask, 0 /* block */, P(&held), P(&before), 8, 0);
	if (prepare(f, &d, buf))
		why = finish(f, &d);
	undo(&d);
	struct timespec at_once = {0, 0};
	held &= ~before;
	while (held && call6(NR_sigtimedwait, P(&held), 0, P(&at_once), 8, 0, 0) > 0)
		;
	sys(NR_sigprocmask, 2 /* set */, P(&before), 0, 8, 0);
	return why;
}

__attribute__((noinline)) static enum reason try(struct front *f)
{
	u8 key[KEY_MAX], *memo = 0;
	u64 size = 0, key_len = key_of(f, key);
	if (!key_len)
		return NOT_OURS;
	u32 mask = (u32)sys(NR_umask, 077, 0, 0, 0, 0);
	sys(NR_umask, mask, 0, 0, 0, 0);
	if (mask & 0700) // the command may fail without us: see MasksOwner in integration/cc
		return NOT_OURS;
	struct stat self;
	f->uid = (u32)sys(NR_geteuid, 0, 0, 0, 0, 0);
	enum reason why = load(f, key, key_len, &memo, &size, &self);
	if (!why)
		why = holds(f, &self);
	if (!why && restricted())
		why = NOT_OURS;
	if (!why)
		why = answer(f);
	if (memo)
		call6(NR_munmap, P(memo), P(size), 0, 0, 0, 0);
	return why;
}

#include "warm.c"
#include "limits.c"

// look looks for an answer to what the kernel put on the stack: the number of
// arguments, the arguments, a 0, the environment, a 0.
static enum reason look(i64 *stack)
{
	struct front f;
	f.argc = (u64)stack[0];
	f.argv = (char **)(stack + 1);
	f.env = f.argv + f.argc + 1;
	if (!ours(&f))
		return NOT_OURS;
	// What we open would get the numbers of standard descriptors that are closed. And
	// we need some stack.
	for (i64 fd = 0; fd < 3; fd++)
		if (sys(NR_fcntl, fd, 1 /* F_GETFD */, 0, 0, 0) < 0)
			return NOT_OURS;
	u64 stack_limit[2];
	if (sys(NR_getrlimit, 3, P(stack_limit), 0, 0, 0) < 0 || stack_limit[0] < STACK_MIN)
		return NOT_OURS;
	i64 n = sys(NR_getcwd, P(f.cwd), PATH_SIZE, 0, 0, 0);
	if (n <= 0 || f.cwd[0] != '/' || !find_store(&f))
		return NOT_OURS;
	struct timespec t = {0, 0};
	call6(NR_clock_gettime, 0, P(&t), 0, 0, 0, 0);
	f.now = t.sec;
	enum reason why = try(&f);
	if (why != NOT_OURS)
		warm(&f, why);
	return why;
}

// lone has Go start with one processor: it sets up less, and starts no threads that
// look for work that there is not. Go is told by a variable, for which the stack
// moves down by two words, which are free. It says no if the user has set it. See One in
// front.go, which takes it away.
static int lone(i64 *stack)
{
	i64 *to = stack - 2;
	u64 n = (u64)stack[0] + 2;
	for (; stack[n]; n++)
		if (starts((const char *)stack[n], "GOMAXPROCS="))
			return 0;
	for (u64 i = 0; i < n; i++)
		to[i] = stack[i];
	to[n] = P("GOMAXPROCS=1");
	to[n + 1] = 0;
	// The auxiliary vector: pairs, the last of which begins with 0. It moves by one word.
	to += n + 2;
	i64 type;
	do {
		type = to[0] = to[1];
		to[1] = to[2];
		to += 2;
	} while (type);
	return 1;
}

// unusable puts something in the place of standard descriptors that are closed with
// which reads and writes fail as with none, and with the same error: /dev/null, opened
// the wrong way. Go would open it for both, and what is written there is lost without a
// word. Exact in slack_linux.go closes them again.
static void unusable(void)
{
	for (i64 fd = 0; fd < 3; fd++)
		if (sys(NR_fcntl, fd, 1 /* F_GETFD */, 0, 0, 0) < 0)
			sys(NR_openat, AT_FDCWD, P("/dev/null"), fd ? O_RDONLY : O_WRONLY, 0, 0);
}

// sbx_front_main is called with the stack as the kernel made it, and two words free
// below. It returns the reason, and LONE if the stack begins those two words earlier.
// Then Go's threads also sleep less exactly: one of them, sysmon, sleeps 20 us at a time
// while anything runs, and would wake fifty times in a miss to find nothing to do. What
// is done about the threads that start other programs, slack_linux.go says.
u32 sbx_front_main(i64 *stack)
{
	enum reason why = look(stack);
	cramped(stack);
	unusable();
	if (why == NOT_OURS || !lone(stack))
		return why;
	call6(NR_prctl, PR_SET_TIMERSLACK, LATE, 0, 0, 0, 0);
	return why | LONE;
}
