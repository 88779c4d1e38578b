// The time of day that a command is told, and the times of its files.
//
// The time of day mostly comes without a system call, from the vDSO, code that
// the kernel maps into each program. Its functions are overwritten with system
// calls before the program can call them: at one of those that start-up code
// makes first. Times of files are the kernel's; those that were made while the
// command runs are set to what the clock says when somebody asks for them.
#include "varied.h"

const char *own_vdso;

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

s64 wall_clock(void)
{
	struct timespec t = {0, 0};
	SYS(clock_gettime, CLOCK_REALTIME, &t);
	return t.sec * SECOND + t.nsec;
}

static u64 load64(const char *p)
{
	u64 v;
	memcpy(&v, p, sizeof v);
	return v;
}

// find_functions reads the symbols of our own vDSO: the kernel gives everybody
// the same one.
void find_functions(struct varied *v)
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

static s64 steps(struct varied *v)
{
	u64 step = v->s->req->vary.step;
	return step ? (s64)((now_ns() - v->mono) / step * step) : 0;
}

s64 told_time(struct varied *v)
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
	long mem = SYS(openat, v->proc, proc_path(v, tid, "/mem", -1), O_RDWR | O_CLOEXEC);
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
	long fd = SYS(openat, v->proc, proc_path(v, tid, "/auxv", -1), O_RDONLY | O_CLOEXEC);
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
void no_vdso(struct varied *v, u32 tid)
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

s32 tell_time(struct varied *v, u32 tid, u8 how, const u64 *args)
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

void date_descriptor(struct varied *v, u32 tid, s32 fd)
{
	if (fd >= 0)
		date_file(v, v->proc, proc_path(v, tid, "/fd/", fd), 0);
}

void date_path(struct varied *v, u32 tid, s32 dirfd, u64 path, u32 flags)
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
	long dir = SYS(openat, v->proc, proc_path(v, tid, cwd ? "/cwd" : "/fd/", cwd ? -1 : (s64)(u32)dirfd), O_PATH | O_CLOEXEC);
	if (dir < 0)
		return;
	date_file(v, (s32)dir, v->buf, flags & AT_SYMLINK_NOFOLLOW);
	SYS(close, dir);
}
