// Getting a scribe into a process: see scribe.c.
//
// The process waits for our answer to a call. We give it a descriptor
// (SECCOMP_IOCTL_NOTIF_ADDFD), write the loader (inside.c), 200 bytes, into what is
// unused at the end of its vDSO, and a jump to it over the instruction to which
// the call returns. The loader maps the scribe, closes the descriptor, and tells
// us; we put the instruction back. All of that is in the process's own copies of
// the pages.
//
// It is not done to processes with threads, with a tracer, with filters of their
// own, or with handlers of signals that may come at any time, nor before they have
// executed something, as what vfork makes: somebody might run what is just being
// changed. A system call that is started again after a signal, or that somebody jumps
// to, finds the syscall instruction where it was.
#include "scribe.h"

#if defined __x86_64__

// Below this the kernel does not put libraries without address randomization, and
// with a stack that may grow to 128 MiB.
#define LIBRARIES_AT 0x7ffff0000000ull

// name_of puts the name of one of the process's files into name, below /proc.
static const char *name_of(char name[static 40], u32 tid, const char *what)
{
	struct text t = text_in(name, 40);
	put_number(&t, tid);
	put(&t, what);
	return name;
}

static s32 open_of(struct observer *o, u32 tid, const char *what, int flags)
{
	char name[40];
	return (s32)SYS(openat, o->proc, name_of(name, tid, what), flags | O_CLOEXEC);
}

// executed says whether the process has executed something since it was made. The
// kernel's flags of a process are the ninth word of its stat.
static int executed(struct observer *o, u32 tid)
{
	char stat[512], name[40], *p = stat;
	if (!read_status(o->proc, name_of(name, tid, "/stat"), stat, sizeof stat))
		return 0;
	for (char *q = stat; *q; q++) // the second one is the program's name, in parentheses
		if (*q == ')')
			p = q;
	for (u32 words = 0; *p && words < 7; p++)
		words += *p == ' ';
	if (*p < '0' || *p > '9')
		return 0;
	u64 flags = 0; // none where addresses are not random
	for (; *p >= '0' && *p <= '9'; p++)
		flags = flags * 10 + (u64)(*p - '0');
	return !(flags & 0x40); // PF_FORKNOEXEC
}

int as_made(struct observer *o, u32 tid, u32 by)
{
	char name[40];
	return status_number(o->proc, name_of(name, tid, "/status"), "\nPPid:\t", 10) == by && !executed(o, tid);
}

// own_memory says whether the memory that is open is the process's own: until it has
// executed something, it may be that of who made it, and of the threads there (vfork,
// posix_spawn), or ours. Who has will always have, and the descriptor is closed when it
// executes another program: so that is looked at once.
static int own_memory(struct observer *o, struct scribe *s, u32 tid)
{
	if (s->mem_tid == tid && !s->mem_own)
		s->mem_own = executed(o, tid);
	return s->mem_tid == tid && s->mem_own;
}

// suits says whether nothing but one thread of control, which waits for us, can
// run in the process.
static int suits(struct observer *o, struct scribe *s, u32 tid)
{
	// Faults, and what asks a process to end: their handlers do not come back.
	const u64 fine = 1ull << (4 - 1) | 1ull << (6 - 1) | 1ull << (7 - 1) | 1ull << (8 - 1) | 1ull << (11 - 1) | // ILL ABRT BUS FPE SEGV
			 1ull << (1 - 1) | 1ull << (2 - 1) | 1ull << (3 - 1) | 1ull << (13 - 1) | 1ull << (15 - 1) | // HUP INT QUIT PIPE TERM
			 1ull << (24 - 1) | 1ull << (25 - 1) | 1ull << (31 - 1); // XCPU XFSZ SYS
	char status[4096], name[40];
	u32 *own = &o->s->slot->filters[!!o->s->denied];
	if (!*own) {
		s64 n = read_status(o->proc, name_of(name, (u32)SYS(getpid), "/status"), status, sizeof status) ? field(status, "\nSeccomp_filters:\t", 10) : -1;
		if (n < 0) {
			s->off = 1;
			return 0;
		}
		*own = (u32)n;
	}
	if (!read_status(o->proc, name_of(name, tid, "/status"), status, sizeof status))
		return 0;
	return field(status, "\nThreads:\t", 10) == 1 && field(status, "\nTracerPid:\t", 10) == 0 && field(status, "\nPid:\t", 10) == tid &&
	       field(status, "\nTgid:\t", 10) == tid && field(status, "\nSeccomp_filters:\t", 10) == *own + 1 &&
	       !(field(status, "\nSigCgt:\t", 16) & ~fine) && own_memory(o, s, tid);
}

int alone(struct observer *o, struct scribe *s, u32 tid)
{
	char name[40];
	struct statx st;
	// Two links, and one for each thread.
	return SYS(statx, o->proc, name_of(name, tid, "/task"), 0, STATX_NLINK, &st) >= 0 && st.nlink == 3 && own_memory(o, s, tid);
}

void forget_memory(struct scribe *s)
{
	if (s->mem >= 0)
		SYS(close, s->mem);
	s->mem = -1;
}

s32 memory_of(struct observer *o, struct scribe *s, s32 listener, const struct seccomp_notif *n)
{
	if (s->mem >= 0 && s->mem_tid == n->pid)
		return s->mem; // if that has ended meanwhile, nothing can be written
	forget_memory(s);
	s->mem = open_of(o, n->pid, "/mem", O_RDWR);
	s->mem_tid = n->pid;
	s->mem_own = 0;
	if (s->mem >= 0 && SYS(ioctl, listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &n->id) < 0)
		forget_memory(s); // it may be that of another process
	return s->mem;
}

static int write_at(s32 mem, u64 at, const void *from, size_t n)
{
	return SYS(pwrite64, mem, from, n, at) == (long)n;
}

// find_vdso finds out where the process has room for the loader: behind the section
// headers of the vDSO, which are the last thing in it, up to the end of the page.
static u64 find_vdso(struct observer *o, u32 tid)
{
	u64 auxv[64], at = 0;
	u8 head[64], room[LOADER_MAX];
	struct vdso *v = &o->s->slot->vdso;
	s32 fd = open_of(o, tid, "/auxv", O_RDONLY);
	if (fd < 0)
		return 0;
	long n = SYS(read, fd, auxv, sizeof auxv);
	SYS(close, fd);
	for (long i = 0; i + 1 < n / 8; i += 2)
		if (auxv[i] == 33) // AT_SYSINFO_EHDR
			at = auxv[i + 1];
	// Where it is higher or lower, the stack may grow to other places than we think.
	if (at < LIBRARIES_AT || at > SCRIBE_AT || peek(o, at, head, 64) != 64 || memcmp(head, "\177ELF\2", 5))
		return 0;
	u64 sections;
	memcpy(&sections, head + 40, 8);
	u64 used = sections + (u64)(head[58] | head[59] << 8) * (head[60] | head[61] << 8);
	used = (used + 15) & ~15ull;
	if (!v->end) {
		if (used > 64 << 10 || (used & 4095) + LOADER_MAX > 4096 || peek(o, at + used, room, LOADER_MAX) != LOADER_MAX)
			return 0;
		for (u32 i = 0; i < LOADER_MAX; i++)
			if (room[i])
				return 0;
		v->end = used;
	}
	if (used != v->end)
		return 0;
	memcpy(v->head, head, sizeof head);
	__atomic_store_n(&v->at, at, __ATOMIC_RELEASE); // last: we may be killed here, and the next sandbox use it
	return at + used;
}

// make_file makes the file that processes map.
static int make_file(struct observer *o, struct scribe *s)
{
	if (s->fd >= 0)
		return 1;
	s->fd = (s32)SYS(memfd_create, "sbx-lookups", MFD_CLOEXEC);
	if (s->fd < 0)
		return 0;
	u32 magic = MAGIC;
	size_t n = (size_t)(__stop_scribe - __start_scribe);
	if (n > 4096 - 8 || SYS(ftruncate, s->fd, LOG_OFFSET + LOG_SIZE) < 0 || !write_at(s->fd, 8, __start_scribe, n) || !write_at(s->fd, 0, &magic, 4))
		return 0;
	struct log *log = s->log = map(LOG_SIZE, s->fd, LOG_OFFSET);
	if (!log)
		return 0;
	log->magic = MAGIC;
	for (const char **p = o->quiet; *p && log->nplaces < PLACES; p++)
		if (strlen(*p) < PLACE_MAX)
			memcpy(log->places[log->nplaces++], *p, strlen(*p) + 1);
	for (const char **p = o->links; *p && log->nplaces < PLACES; p++) { // what is below them, not themselves
		struct text t = text_in(log->places[log->nplaces++], PLACE_MAX);
		put(&t, *p);
		put(&t, "/");
	}
	log->still = (u32)o->still;
	log->ndir = (u32)strlen(o->dir);
	memcpy(log->dir, o->dir, log->ndir);
	return 1;
}

u64 in_process(const u8 *code)
{
	return SCRIBE_AT + 8 + (u64)(code - __start_scribe);
}

static int near(u64 from, u64 to)
{
	s64 d = (s64)(to - from);
	return d == (s32)d;
}

static void jump(u8 *at, u8 code, u64 from, u64 to)
{
	s32 d = (s32)(to - from - 5);
	at[0] = code;
	memcpy(at + 1, &d, 4);
}

int settle(struct observer *o, struct scribe *s, s32 listener, const struct seccomp_notif *n, s32 mem, u64 vdso)
{
	u64 ip = n->data.ip, at = vdso ? vdso + o->s->slot->vdso.end : find_vdso(o, n->pid);
	u8 now[5], code[LOADER_MAX];
	const u8 *around = peek_code(o, ip), *was = around + SITE_BEFORE;
	if (!at || !near(ip, at) || !around)
		return 0;
	jump(now, 0xe9, ip, at);
	if (!memcmp(was, now, 5))
		return 1; // the call was started again before it came so far
	if (!suits(o, s, n->pid) || !make_file(o, s) || !write_at(mem, ip, was, 5))
		return 0;
	struct {
		u64 id;
		u32 flags, srcfd, newfd, newfd_flags;
	} add = {n->id, 0, (u32)s->fd, 0, O_CLOEXEC};
	s32 fd = (s32)SYS(ioctl, listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add);
	u32 size = LOG_SIZE;
	if (fd < 0)
		return 0;
	memcpy(code, loader, (size_t)(loader_end - loader));
	memcpy(code + (loader_back - loader) - 8, &ip, 8);
	memcpy(code + (loader_fd - loader) - 4, &fd, 4);
	memcpy(code + (loader_size - loader) - 4, &size, 4);
	memcpy(code + (loader_bytes - loader) - 8, was, 8);
	// If one of these fails, the process is dying.
	s->loaded_tid = n->pid;
	s->loaded = at;
	return write_at(mem, at, code, (size_t)(loader_end - loader)) && write_at(mem, ip, now, 5);
}

// write_call writes what the process does in the place of the call at site, and runs at
// at.
static void write_call(u8 code[static CALL_SIZE], u64 at, const struct found *site)
{
	memset(code, 0, CALL_SIZE);
	memcpy(code, site->code + SITE_BEFORE - 7, 7); // the instruction that was there, and syscall
	memcpy(code + 7, "\x48\x8d\x64\x24\x80\x50\xb8", 7); // lea -128(%rsp), %rsp; push %rax; mov $nr, %eax
	memcpy(code + 14, &site->nr, 4);
	jump(code + 18, 0xe8, at + 18, in_process(scribe_common));
	code[23] = 0x58; // pop %rax
	memcpy(code + 24, "\x48\x8d\xa4\x24\x80\0\0\0", 8); // lea 128(%rsp), %rsp
	jump(code + 32, 0xe9, at + 32, site->ip);
}

static const struct iovec of_scribe[] = {
	{(void *)SCRIBE_AT, 4},
	{(void *)(SCRIBE_CALLS_AT + CALLS * CALL_SIZE), 4},
	{(void *)SCRIBE_LOG_AT, 4},
};

// understand says what size bytes of of_scribe mean.
static int understand(struct inside *in, const u32 *of, long size)
{
	if (size <= 0)
		return 0;
	in->text = of[0];
	in->calls = of[1];
	in->log = of[2];
	return size == 12 && in->text == MAGIC && in->log == MAGIC && in->calls <= CALLS ? 1 : -1;
}

// write_exec does that for execve, which is only made where access says that there is
// something: by the instruction that was there, so that it asks. A program of which only
// the name is known is looked for in all directories of PATH. Nobody in a sandbox can have
// another user for access than for execve.
static void write_exec(u8 code[static CALL_SIZE], u64 at, const struct found *site)
{
	static const u8 begin[] = {
		0x48, 0x8d, 0x64, 0x24, 0x80, // lea -128(%rsp), %rsp
		0x56, // push %rsi
		0xb8, ACCESS, 0, 0, 0, // mov $ACCESS, %eax
		0x31, 0xf6, // xor %esi, %esi
		0x0f, 0x05, // syscall
		0x5e, // pop %rsi
	};
	static const u8 end[] = {
		0x48, 0x8d, 0xa4, 0x24, 0x80, 0, 0, 0, // lea 128(%rsp), %rsp
		0x48, 0x83, 0xf8, (u8)-ENOENT, // cmp $-ENOENT, %rax
		0x74, 10, // je to the last jump
		0xb8, EXECVE, 0, 0, 0, // mov $EXECVE, %eax
	};
	memset(code, 0, CALL_SIZE);
	memcpy(code, begin, sizeof begin);
	jump(code + 16, 0xe8, at + 16, in_process(scribe_missing));
	memcpy(code + 21, end, sizeof end);
	jump(code + 40, 0xe9, at + 40, site->ip - 2);
	jump(code + 45, 0xe9, at + 45, site->ip);
	_Static_assert(sizeof begin == 16 && sizeof end == 19 && CALL_SIZE >= 50, "where the jumps are");
}

// write_memory does that for mmap, which no path is in: see scribe_memory.
static void write_memory(u8 code[static CALL_SIZE], u64 at, const struct found *site)
{
	memset(code, 0, CALL_SIZE);
	memcpy(code, site->code + SITE_BEFORE - 7, 7);
	memcpy(code + 7, "\x48\x8d\x64\x24\x80", 5); // lea -128(%rsp), %rsp
	jump(code + 12, 0xe8, at + 12, in_process(scribe_memory));
	memcpy(code + 17, "\x48\x8d\xa4\x24\x80\0\0\0", 8); // lea 128(%rsp), %rsp
	jump(code + 25, 0xe9, at + 25, site->ip);
}

int look_inside(struct observer *o, struct inside *in, int vdso_too)
{
	struct vdso *v = &o->s->slot->vdso;
	struct {
		u8 head[sizeof v->head];
		u32 of[3];
	} got;
	in->vdso = 0;
	if (vdso_too && v->at) {
		struct iovec parts[4] = {{(void *)v->at, sizeof got.head}, of_scribe[0], of_scribe[1], of_scribe[2]};
		long size = peek_parts(o, &got, sizeof got, parts, 4);
		if (size >= (long)sizeof got.head && !memcmp(got.head, v->head, sizeof got.head)) {
			in->vdso = v->at;
			return understand(in, got.of, size - (long)sizeof got.head);
		}
	}
	return understand(in, got.of, peek_parts(o, got.of, sizeof got.of, of_scribe, 3));
}

int redirect(struct observer *o, struct scribe *s, u64 ip, s32 mem, u32 used)
{
	// What is to be written is the rest of the page: the calls, and their number.
	u8 page[(CALLS + 1) * CALL_SIZE], *code = page + used * CALL_SIZE, go[5];
	struct found found[SITES];
	u32 n = 0, all = find_sites(o, s->sites, ip, found);
	int ok = 0;
	memset(code, 0, (size_t)(page + sizeof page - code));
	for (u32 i = 0; i < all && used + n < CALLS; i++) {
		u64 at = SCRIBE_CALLS_AT + (used + n) * CALL_SIZE;
		if (!near(found[i].ip, at))
			continue;
		(found[i].nr == EXECVE ? write_exec : found[i].nr == MMAP ? write_memory : write_call)(code + n * CALL_SIZE, at, &found[i]);
		ok |= found[i].ip == ip;
		found[n++] = found[i];
	}
	u32 last = used + n;
	memcpy(page + CALLS * CALL_SIZE, &last, 4);
	size_t size = (CALLS - used) * CALL_SIZE + 4;
	if (!ok || !write_at(mem, SCRIBE_CALLS_AT + used * CALL_SIZE, code, size))
		return 0;
	for (u32 i = 0; i < n; i++) {
		jump(go, 0xe9, found[i].ip - 7, SCRIBE_CALLS_AT + (used + i) * CALL_SIZE);
		ok &= write_at(mem, found[i].ip - 7, go, 5);
	}
	return ok;
}

// loaded makes the loader's jump again what it was.
int loaded(struct observer *o, struct scribe *s, s32 listener, const struct seccomp_notif *n, s64 *answer)
{
	u64 end = o->s->slot->vdso.end;
	if (!end || (n->data.ip & 4095) != ((end + (u64)(loader_asked - loader)) & 4095))
		return 0;
	u64 vdso = s->loaded_tid == n->pid ? s->loaded : find_vdso(o, n->pid);
	if (!vdso || n->data.ip != vdso + (u64)(loader_asked - loader))
		return 0;
	u64 ip = n->data.args[0];
	u8 now[5];
	struct {
		u8 code[SITE];
		u32 of[3];
	} got;
	struct iovec parts[4] = {{(void *)(ip - SITE_BEFORE), SITE}, of_scribe[0], of_scribe[1], of_scribe[2]};
	struct inside in;
	s32 mem = memory_of(o, s, listener, n), ok = 0;
	long size = mem < 0 ? 0 : peek_parts(o, &got, sizeof got, parts, 4) - SITE;
	jump(now, 0xe9, ip, vdso);
	if (mem >= 0 && size >= 0 && !memcmp(got.code + SITE_BEFORE, now, 5))
		ok = write_at(mem, ip, &n->data.args[3], 5);
	if (n->data.args[1] != SCRIBE_AT || n->data.args[2] != SCRIBE_LOG_AT) {
		s->off = 1; // there is no room, or it is not allowed
	} else if (ok && understand(&in, got.of, size) > 0) {
		memcpy(o->code, got.code, SITE);
		memcpy(o->code + SITE_BEFORE, &n->data.args[3], 5);
		o->code_ip = ip;
		redirect(o, s, ip, mem, in.calls);
		*answer = (s64)in_process(scribe_memory);
	}
	return 1;
}

#endif
