// What a command is told that is not so: to find out what its outputs depend on.
//
// The kernel stops each process at the system calls of vary.h and tells pid 1,
// which answers in its place, or lets it continue. So it works for static
// programs, too, and needs nothing of ours in the command's root.
//
// The time of day mostly comes without a system call, from the vDSO, code that
// the kernel maps into each program. Its functions are overwritten with system
// calls before the program can call them: at one of those that start-up code
// makes first. Times of files are the kernel's; those that were made while the
// command runs are set to what the clock says when somebody asks for them.
//
// Not varied: programs of 32 bits, the clocks that do not tell the time of day,
// the change times of files, and /proc/uptime and its like. Whoever sleeps until a time
// of day sleeps too long.
#include "vary.h"
#include "slot.h"

const char *own_vdso;

enum {
	ENTRIES_SIZE = 256 << 20, // of address space, for a directory
	OUT_MAX = 256 << 10,
	BASES = 256,
	HELD_MAX = 256,
	DELAY_STEP = 8 * 1000 * 1000, // ns
	DELAY_BUDGET = 2000 * 1000 * 1000,
	TURN_MAX = 300 * 1000 * 1000, // ns that a process waits for those before it
	TURN_STEP = 1000 * 1000, // ns from look to look
	LIVE_MAX = 64,
	DEPTH_MAX = 64,
	FUNCTIONS = 3,
};

#define SECOND 1000000000ll

// What overwrites a function of the vDSO.
#if defined __x86_64__
enum { STUB = 8, NUMBER_AT = 1 };
static const u8 stub_code[STUB] = {0xb8, 0, 0, 0, 0, 0x0f, 0x05, 0xc3}; // mov $nr, %eax; syscall; ret
#else
enum { STUB = 16, NUMBER_AT = 4 };
static const u8 stub_code[STUB] = {
	0x5f, 0x24, 0x03, 0xd5, // bti c
	0x08, 0x00, 0x80, 0xd2, // mov x8, #nr
	0x01, 0x00, 0x00, 0xd4, // svc 0
	0xc0, 0x03, 0x5f, 0xd6, // ret
};
#endif

static const struct {
	const char *amd64, *arm64;
	s16 nr;
} functions[FUNCTIONS] = {
	{"__vdso_clock_gettime", "__kernel_clock_gettime", NR(228, 113)},
	{"__vdso_gettimeofday", "__kernel_gettimeofday", NR(96, 169)},
	{"__vdso_time", "", NR(201, NONE)},
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

static s64 wall_clock(void)
{
	struct timespec t = {0, 0};
	SYS(clock_gettime, CLOCK_REALTIME, &t);
	return t.sec * SECOND + t.nsec;
}

static void *room(size_t size)
{
	enum { MAP_NORESERVE = 0x4000 };
	long at = sys6(SYS_mmap, 0, (long)size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return at < 0 && at > -PATH_MAX ? 0 : (void *)at;
}

static u64 load64(const char *p)
{
	u64 v;
	memcpy(&v, p, sizeof v);
	return v;
}

// find_functions reads the symbols of our own vDSO: the kernel gives everybody
// the same one.
static void find_functions(struct varied *v)
{
	const char *elf = own_vdso, *dynamic = 0;
	if (!elf)
		return;
	u64 load = 0, symbols = 0, strings = 0;
	u16 n;
	memcpy(&n, elf + 56, 2);
	const char *ph = elf + load64(elf + 32);
	for (u16 i = 0; i < n; i++, ph += 56) {
		u32 type;
		memcpy(&type, ph, 4);
		if (type == 1)
			load = load64(ph + 16) - load64(ph + 8);
		if (type == 2)
			dynamic = elf + load64(ph + 8);
	}
	for (; dynamic && load64(dynamic); dynamic += 16) {
		if (load64(dynamic) == 5)
			strings = load64(dynamic + 8) - load;
		if (load64(dynamic) == 6)
			symbols = load64(dynamic + 8) - load;
	}
	// The strings stand behind the symbols; nothing else says how many there are.
	for (u64 at = symbols; symbols && at + 24 <= strings; at += 24) {
		u32 name;
		memcpy(&name, elf + at, 4);
		for (u32 f = 0; f < FUNCTIONS; f++) {
			const char *want = NR(functions[f].amd64, functions[f].arm64);
			if (*want && str_equal(elf + strings + name, want))
				v->function[f] = load64(elf + at + 8) - load;
		}
	}
}

static void use_one_cpu(void)
{
	u64 mask[16] = {0};
	long n = SYS(sched_getaffinity, 0, sizeof mask, mask);
	for (u32 i = 0, found = 0; n > 0 && i < sizeof mask / sizeof *mask; i++) {
		mask[i] = found ? 0 : mask[i] & -mask[i];
		found |= !!mask[i];
	}
	SYS(sched_setaffinity, 0, sizeof mask, mask);
}

// vary_sandbox does what pid 1 can do for the whole sandbox, before its root
// is built.
void vary_sandbox(struct sandbox *s)
{
	struct varied *v = s->varied = room(sizeof *v);
	if (!v)
		fail(s, "vary", 0, -ENOMEM);
	v->s = s;
	v->began = wall_clock();
	v->mono = now_ns();
	find_functions(v);
	long err = 0;
	if (*s->host_name) {
		err = SYS_COOKIE(unshare, CLONE_NEWUTS);
		if (err >= 0)
			err = SYS_COOKIE(sethostname, s->host_name, strlen(s->host_name));
	}
	if (err < 0)
		fail(s, "set the host name", s->host_name, err);
	if (s->req->vary.flags & VARY_ONE_CPU)
		use_one_cpu();
	if (s->req->vary.flags & (VARY_SHIFT | VARY_FREEZE) && !v->function[0])
		s->reply.flags |= DONE_UNVARIED;
}

// free_varied is called by the slot when pid 1 is dead.
void free_varied(struct sandbox *s)
{
	struct varied *v = s->varied;
	if (!v)
		return;
	if (v->entries)
		SYS(munmap, v->entries, ENTRIES_SIZE);
	if (v->order)
		SYS(munmap, v->order, v->order_size);
	SYS(munmap, v, sizeof *v);
	s->varied = 0;
}

static const char *of_process(struct varied *v, u32 tid, const char *what, s64 number)
{
	struct text t = text_in(v->path, sizeof v->path);
	put_number(&t, tid);
	put(&t, what);
	if (number >= 0)
		put_number(&t, (u64)number);
	return v->path;
}

// The clock.

static s64 steps(struct varied *v)
{
	u64 step = v->s->req->vary.step;
	return step ? (s64)((now_ns() - v->mono) / step * step) : 0;
}

static s64 told_time(struct varied *v)
{
	const struct vary *w = &v->s->req->vary;
	if (w->flags & VARY_SHIFT)
		return wall_clock() + w->clock;
	return w->clock + steps(v) + (s64)(1000 * v->readings++); // so who waits for it to change does not wait for ever
}

static s64 told_file_time(struct varied *v, s64 t)
{
	const struct vary *w = &v->s->req->vary;
	return w->flags & VARY_SHIFT ? t + w->clock : w->clock + steps(v);
}

// overwrite makes the functions of the vDSO at base ask the kernel. It can only
// be done through /proc: nobody may write there.
static void overwrite(struct varied *v, u32 tid, u64 base)
{
	u8 code[STUB];
	long mem = SYS(openat, v->proc, of_process(v, tid, "/mem", -1), O_RDWR | O_CLOEXEC);
	for (u32 f = 0; f < FUNCTIONS && mem >= 0; f++) {
		if (!v->function[f])
			continue;
		memcpy(code, stub_code, STUB);
		u32 word;
		memcpy(&word, code + NUMBER_AT, 4);
		word |= NR((u32)functions[f].nr, (u32)functions[f].nr << 5);
		memcpy(code + NUMBER_AT, &word, 4);
		if (SYS(pwrite64, mem, code, STUB, base + v->function[f]) != STUB)
			v->s->reply.flags |= DONE_UNVARIED;
	}
	if (mem < 0 && mem != -ENOENT && mem != -ESRCH)
		v->s->reply.flags |= DONE_UNVARIED;
	if (mem >= 0)
		SYS(close, mem);
}

static u64 vdso_base(struct varied *v, u32 tid)
{
	u64 aux[64];
	long fd = SYS(openat, v->proc, of_process(v, tid, "/auxv", -1), O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	long n = SYS(read, fd, aux, sizeof aux);
	SYS(close, fd);
	for (long i = 0; i + 16 <= n; i += 16)
		if (aux[i / 8] == 33) // AT_SYSINFO_EHDR
			return aux[i / 8 + 1];
	return 0;
}

static int overwritten(struct varied *v, u32 tid, u64 base)
{
	u8 have[STUB];
	u64 skip = NUMBER_AT + 4;
	return peek_process(tid, base + v->function[0], have, STUB) == STUB && !memcmp(have + skip, stub_code + skip, STUB - skip);
}

// no_vdso sees to it that the program asks the kernel for the time.
static void no_vdso(struct varied *v, u32 tid)
{
	u32 i = tid % BASES;
	if (!v->function[0] || (v->base[i].tid == tid && overwritten(v, tid, v->base[i].at)))
		return;
	u64 base = vdso_base(v, tid);
	v->base[i].tid = tid;
	v->base[i].at = base;
	if (base && !overwritten(v, tid, base))
		overwrite(v, tid, base);
}

static s32 tell_time(struct varied *v, u32 tid, u8 how, const u64 *args)
{
	s64 now = told_time(v), t[2] = {now / SECOND, now % SECOND};
	if (how == VARY_TIMEVAL) {
		t[1] /= 1000;
		return args[0] ? poke_process(tid, args[0], t, sizeof t) : 0;
	}
	return poke_process(tid, args[1], t, sizeof t);
}

// The times of files.

static int told_if_new(struct varied *v, s64 sec, u32 nsec, struct timespec *out)
{
	s64 t = sec * SECOND + nsec;
	if (t < v->began - 10 * SECOND || t > wall_clock())
		return 0;
	t = told_file_time(v, t);
	*out = (struct timespec){t / SECOND, t % SECOND};
	return 1;
}

// date_file gives a file that was changed while the command runs the time that
// the command's clock had then.
static void date_file(struct varied *v, s32 dir, const char *name, u32 flags)
{
	struct statx st;
	struct timespec times[2] = {{0, UTIME_OMIT}, {0, UTIME_OMIT}};
	if (SYS(statx, dir, name, flags, STATX_MTIME | STATX_ATIME, &st) < 0)
		return;
	// It changes the change time, so it is not done for every access.
	if (!told_if_new(v, st.mtime.sec, st.mtime.nsec, &times[1]))
		return;
	told_if_new(v, st.atime.sec, st.atime.nsec, &times[0]);
	SYS(utimensat, dir, name, times, flags);
}

static void date_descriptor(struct varied *v, u32 tid, s32 fd)
{
	if (fd >= 0)
		date_file(v, v->proc, of_process(v, tid, "/fd/", fd), 0);
}

static void date_path(struct varied *v, u32 tid, s32 dirfd, u64 path, u32 flags)
{
	if (flags & AT_EMPTY_PATH && !path) { // since 6.11
		date_descriptor(v, tid, dirfd);
		return;
	}
	if (!peek_string(tid, path, v->buf))
		return;
	if (!v->buf[0]) {
		if (flags & AT_EMPTY_PATH)
			date_descriptor(v, tid, dirfd);
		return;
	}
	if (has_prefix(v->buf, "/proc") || has_prefix(v->buf, "/dev"))
		return; // what is "self" there, would be us
	if (v->buf[0] == '/') {
		date_file(v, AT_FDCWD, v->buf, flags & AT_SYMLINK_NOFOLLOW);
		return;
	}
	int cwd = dirfd == AT_FDCWD;
	long dir = SYS(openat, v->proc, of_process(v, tid, cwd ? "/cwd" : "/fd/", cwd ? -1 : (s64)(u32)dirfd), O_PATH | O_CLOEXEC);
	if (dir < 0)
		return;
	date_file(v, (s32)dir, v->buf, flags & AT_SYMLINK_NOFOLLOW);
	SYS(close, dir);
}

// The order of directories.
//
// A name's place is a hash of it, and the offset of a directory that is open is
// the smallest place that has not been told yet. So it does not matter what is made
// or removed meanwhile, and seekdir works.

static u64 entry_next(const u8 *e)
{
	u16 n;
	memcpy(&n, e + 16, 2);
	return n;
}

static const char *entry_name(const u8 *e)
{
	return (const char *)e + 19;
}

static u32 place_of(const char *name, u32 seed)
{
	if (str_equal(name, ".") || str_equal(name, ".."))
		return name[1] == '.';
	u32 h = 2166136261u ^ seed;
	for (const u8 *p = (const u8 *)name; *p; p++)
		h = (h ^ *p) * 16777619u;
	h ^= h >> 15;
	h *= 0x2c1b3c6du;
	h ^= h >> 13;
	return 2 + h % 0x7ffffff0u; // an offset that every file system takes
}

static int compare(struct varied *v, struct entry a, struct entry b)
{
	if (a.key != b.key)
		return a.key < b.key ? -1 : 1;
	const char *x = entry_name(v->entries + a.at), *y = entry_name(v->entries + b.at);
	while (*x && *x == *y)
		x++, y++;
	return (u8)*x - (u8)*y;
}

static void sift(struct varied *v, u32 root, u32 n)
{
	struct entry *o = v->order;
	for (u32 child; (child = 2 * root + 1) < n; root = child) {
		if (child + 1 < n && compare(v, o[child], o[child + 1]) < 0)
			child++;
		if (compare(v, o[root], o[child]) >= 0)
			return;
		struct entry t = o[root];
		o[root] = o[child];
		o[child] = t;
	}
}

static void sort(struct varied *v)
{
	for (u32 i = v->n / 2; i-- > 0;)
		sift(v, i, v->n);
	for (u32 i = v->n; i-- > 1;) {
		struct entry t = v->order[0];
		v->order[0] = v->order[i];
		v->order[i] = t;
		sift(v, 0, i);
	}
}

// read_directory reads all entries whose place is from or behind it, and sorts
// them.
static int read_directory(struct varied *v, s32 fd, u32 from)
{
	enum { PART = 64 << 10 };
	if (!v->entries && !(v->entries = room(ENTRIES_SIZE)))
		return 0;
	u32 used = 0, n = 0, seed = v->s->req->vary.order;
	long got;
	do {
		if (used + PART > ENTRIES_SIZE)
			return 0;
		got = SYS(getdents64, fd, v->entries + used, PART);
		used += got > 0 ? (u32)got : 0;
	} while (got > 0);
	if (got < 0)
		return 0;
	for (u32 at = 0; at < used; at += (u32)entry_next(v->entries + at))
		n++;
	if (n * sizeof *v->order > v->order_size) {
		if (v->order)
			SYS(munmap, v->order, v->order_size);
		v->order_size = n * (u32)sizeof *v->order + PART;
		if (!(v->order = room(v->order_size)))
			return v->order_size = 0;
	}
	v->n = 0;
	for (u32 at = 0; at < used; at += (u32)entry_next(v->entries + at)) {
		u32 key = place_of(entry_name(v->entries + at), seed);
		if (key >= from)
			v->order[v->n++] = (struct entry){key, at};
	}
	sort(v);
	return 1;
}

// add_entry writes one entry into out, if there is room for it.
static u32 add_entry(struct varied *v, struct entry e, u32 at, u32 size, int old)
{
	const u8 *from = v->entries + e.at;
	u32 head = old ? 18 : 19, len = (u32)strlen(entry_name(from));
	u32 total = (head + len + (old ? 2 : 1) + 7) & ~7u;
	if (at + total > size)
		return 0;
	u8 *to = v->out + at;
	memset(to, 0, total);
	memcpy(to, from, 8);
	u64 next = e.key + 1;
	memcpy(to + 8, &next, 8);
	u16 n = (u16)total;
	memcpy(to + 16, &n, 2);
	memcpy(to + head, entry_name(from), len);
	to[old ? total - 1 : 18] = from[18];
	return total;
}

// fill_out fills out with the entries that have room, and returns its size.
// Entries with the same place are told at once, or a part would be lost.
static s64 fill_out(struct varied *v, u32 size, int old, u32 *next)
{
	u32 at = 0;
	for (u32 i = 0; i < v->n;) {
		u32 begin = at, key = v->order[i].key;
		for (; i < v->n && v->order[i].key == key; i++) {
			u32 n = add_entry(v, v->order[i], at, size, old);
			if (!n)
				return begin ? (s64)begin : -EINVAL;
			at += n;
		}
		*next = key + 1;
	}
	return at;
}

// status_number reads a number of /proc/TID/status, or returns 0.
static u32 status_number(struct varied *v, u32 tid, const char *name)
{
	long fd = SYS(openat, v->proc, of_process(v, tid, "/status", -1), O_RDONLY | O_CLOEXEC), n = 0;
	if (fd >= 0) {
		n = SYS(read, fd, v->buf, 512);
		SYS(close, fd);
	}
	u32 number = 0;
	size_t len = strlen(name);
	for (long i = 0; i + (long)len < n; i++)
		if (!memcmp(v->buf + i, name, len)) {
			for (i += (long)len; i < n && v->buf[i] >= '0' && v->buf[i] <= '9'; i++)
				number = number * 10 + (u32)(v->buf[i] - '0');
			break;
		}
	return number;
}

// take_descriptor returns a descriptor for what is open in the process as fd.
static long take_descriptor(struct varied *v, u32 tid, s32 fd)
{
	long process = SYS(pidfd_open, tid, 0);
	if (process == -EINVAL || process == -ENOENT) // not the first thread
		process = SYS(pidfd_open, status_number(v, tid, "\nTgid:\t"), 0);
	if (process < 0)
		return process;
	long got = SYS(pidfd_getfd, process, fd, 0);
	SYS(close, process);
	return got;
}

// list answers getdents64. It returns 1 if the call has to continue.
static int list(struct varied *v, u32 tid, const u64 *args, int old, s64 *value)
{
	enum { SEEK_SET = 0, SEEK_CUR = 1 };
	long shared = take_descriptor(v, tid, (s32)args[0]);
	if (shared < 0)
		return 1;
	long own = SYS(openat, v->proc, of_process(v, tid, "/fd/", (s64)(u32)args[0]), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	long from = SYS(lseek, shared, 0, SEEK_CUR);
	u32 size = (u32)args[2] < OUT_MAX ? (u32)args[2] : OUT_MAX, next = 0;
	int truth = 1;
	if (own >= 0 && from >= 0 && from < 0x7fffffff && read_directory(v, (s32)own, (u32)from)) {
		*value = fill_out(v, size, old, &next);
		if (*value > 0 && SYS(lseek, shared, next, SEEK_SET) != (long)next)
			v->s->reply.flags |= DONE_UNVARIED; // this file system cannot
		else
			truth = 0;
		if (!truth && *value > 0 && poke_process(tid, args[1], v->out, (size_t)*value) < 0)
			*value = -EFAULT;
	}
	if (own >= 0)
		SYS(close, own);
	SYS(close, shared);
	return truth;
}

static s64 tell_cpus(struct varied *v, u32 tid, const u64 *args)
{
	u32 n = v->s->req->vary.cpus;
	u64 mask[16] = {0}, size = args[1] & ~7ull;
	if (size > sizeof mask)
		size = sizeof mask;
	if (size * 8 < n)
		return -EINVAL;
	for (u32 i = 0; i < n; i++)
		mask[i / 64] |= 1ull << i % 64;
	size = size < 8 ? size : (n + 63) / 64 * 8;
	return poke_process(tid, args[2], mask, size) ? -EFAULT : (s64)size;
}

static const struct vary_call *find(s32 nr)
{
	for (u32 i = 0; i < VARY_CALLS; i++)
		if (NR(vary_calls[i].amd64, vary_calls[i].arm64) == nr)
			return &vary_calls[i];
	return 0;
}

// respond answers one call. The answer "continue" is a value of 0 and true.
static int respond(struct varied *v, const struct vary_call *c, u32 tid, const u64 *args, s64 *value)
{
	switch (c->how) {
	case VARY_CLOCK_CALL:
	case VARY_TIMEVAL:
		*value = tell_time(v, tid, c->how, args);
		return 0;
	case VARY_TIME:
		*value = told_time(v) / SECOND;
		if (args[0] && poke_process(tid, args[0], value, sizeof *value) < 0)
			*value = -EFAULT;
		return 0;
	case VARY_FIRST:
		if (varied_by(&v->s->req->vary) & BY_CLOCK)
			no_vdso(v, tid);
		return 1;
	case VARY_FSTAT:
		date_descriptor(v, tid, (s32)args[0]);
		return 1;
	case VARY_STAT:
		date_path(v, tid, AT_FDCWD, args[0], 0);
		return 1;
	case VARY_LSTAT:
		date_path(v, tid, AT_FDCWD, args[0], AT_SYMLINK_NOFOLLOW);
		return 1;
	case VARY_STAT_AT:
		date_path(v, tid, (s32)args[0], args[1], (u32)args[3]);
		return 1;
	case VARY_STATX:
		date_path(v, tid, (s32)args[0], args[1], (u32)args[2]);
		return 1;
	case VARY_GETDENTS:
	case VARY_OLD_GETDENTS:
		return list(v, tid, args, c->how == VARY_OLD_GETDENTS, value);
	case VARY_AFFINITY:
		*value = tell_cpus(v, tid, args);
		return 0;
	}
	return 1;
}

static void go_on(s32 listener, u64 id)
{
	struct seccomp_notif_resp resp = {.id = id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
	SYS(ioctl, listener, SECCOMP_IOCTL_NOTIF_SEND, &resp);
}

// delay is how long the next new process waits.
static u64 delay(struct varied *v)
{
	u32 seed = v->s->req->vary.delay, n = v->processes++;
	if (seed == VARY_IN_TURN)
		return TURN_MAX;
	if (seed == 1) // the first of some comes last
		return (5 - n % 6) * DELAY_STEP;
	return ((n + seed) * 2654435761u >> 29) * DELAY_STEP;
}

// hold says whether the first call that we hear of from a process shall wait.
static int hold(struct varied *v, u64 id, u32 tid)
{
	u32 bit = tid % 65536;
	if (!v->s->req->vary.delay || v->seen[bit / 8] & 1 << bit % 8 || v->nheld == HELD_MAX)
		return 0;
	v->seen[bit / 8] |= (u8)(1 << bit % 8);
	u64 now = now_ns(), wait = delay(v);
	if (!wait || v->delayed > DELAY_BUDGET)
		return 0;
	v->held[v->nheld].id = id;
	v->held[v->nheld].tid = tid;
	v->held[v->nheld].since = now;
	v->held[v->nheld++].due = now + wait;
	return 1;
}

static int descends(struct varied *v, u32 tid, u32 from)
{
	for (u32 i = 0; i < DEPTH_MAX && tid > 1; i++) {
		if (tid == from)
			return 1;
		tid = status_number(v, tid, "\nPPid:\t");
	}
	return 0;
}

// may_begin says whether all that began before tid have ended, but for those that
// it descends from.
static int may_begin(struct varied *v, u32 tid)
{
	struct timespec none = {0, 0};
	for (u32 i = 0; i < v->nlive;) {
		struct pollfd ended = {v->live[i].process, POLLIN, 0};
		if (SYS(ppoll, &ended, 1, &none, 0, 8) > 0) {
			SYS(close, ended.fd);
			v->live[i] = v->live[--v->nlive];
			continue;
		}
		if (!descends(v, tid, v->live[i].tid))
			return 0;
		i++;
	}
	return 1;
}

static void begins(struct varied *v, u32 tid)
{
	long process = v->nlive < LIVE_MAX ? SYS(pidfd_open, tid, 0) : -EAGAIN;
	if (process < 0) // a thread, or dead
		return;
	v->live[v->nlive].tid = tid;
	v->live[v->nlive++].process = (s32)process;
}

// release lets those go on whose time has come, and returns when to look again,
// or 0.
static u64 release(struct varied *v, s32 listener)
{
	int turns = v->s->req->vary.delay == VARY_IN_TURN;
	u64 next = 0, now = v->nheld ? now_ns() : 0;
	u32 kept = 0;
	for (u32 i = 0; i < v->nheld; i++) {
		u32 tid = v->held[i].tid;
		if (v->held[i].due <= now || (turns && kept == 0 && may_begin(v, tid))) {
			if (turns)
				begins(v, tid);
			v->delayed += now - v->held[i].since;
			go_on(listener, v->held[i].id);
			continue;
		}
		u64 look = turns ? now + TURN_STEP : v->held[i].due;
		if (!next || look < next)
			next = look;
		v->held[kept++] = v->held[i];
	}
	v->nheld = kept;
	return next;
}

static void answer(struct varied *v, s32 listener)
{
	struct seccomp_notif n = {0};
	if (SYS(ioctl, listener, SECCOMP_IOCTL_NOTIF_RECV, &n) < 0)
		return; // its process has died meanwhile
	const struct vary_call *c = find(n.data.nr);
	struct seccomp_notif_resp resp = {.id = n.id};
	if (!c || respond(v, c, n.pid, n.data.args, &resp.val)) {
		// Who made it by vfork waits until it has executed something.
		if ((c && c->how == VARY_EXEC) || !hold(v, n.id, n.pid))
			go_on(listener, n.id);
		return;
	}
	if (resp.val < 0) {
		resp.error = (s32)resp.val;
		resp.val = 0;
	}
	SYS(ioctl, listener, SECCOMP_IOCTL_NOTIF_SEND, &resp);
}

// wait_varied waits until pid has ended, or until the deadline, and answers
// what the command asks.
int wait_varied(struct sandbox *s, s32 pid, u64 deadline, s32 *status)
{
	struct varied *v = s->varied;
	u64 chld = 1ull << (SIGCHLD - 1);
	struct pollfd fds[3] = {
		{s->listener, POLLIN, 0},
		{(s32)SYS(signalfd4, -1, &chld, 8, SFD_CLOEXEC | O_NONBLOCK), POLLIN, 0},
		{s->slot->life, POLLIN, 0},
	};
	v->proc = (s32)SYS(openat, AT_FDCWD, "/proc", O_PATH | O_CLOEXEC);
	if (v->proc < 0)
		fail(s, "open", "/proc", v->proc);
	while (!reap_all(pid, status)) {
		do {
			u64 due = release(v, s->listener), now = now_ns();
			if (deadline && now >= deadline)
				return 0;
			if (deadline && (!due || deadline < due))
				due = deadline;
			u64 left = due > now ? due - now : 0;
			struct timespec timeout = {(s64)(left / SECOND), (s64)(left % SECOND)};
			if (SYS(ppoll, fds, 3, due ? &timeout : 0, 0, 8) <= 0)
				continue;
			close_stdio(s); // it has parted from us before its first call, or is dead
			if (fds[0].revents & POLLIN)
				answer(v, s->listener);
			else if (fds[0].revents)
				fds[0].fd = -1; // nobody is left who could ask
		} while (!fds[1].revents && !fds[2].revents);
		if (fds[2].revents) { // our caller has changed its mind, or is gone
			SYS(kill, -1, SIGKILL);
			quit(1);
		}
		char info[128];
		SYS(read, fds[1].fd, info, sizeof info);
	}
	return 1;
}
