// The scribe: look-ups that need not stop and ask.
//
// A notification costs 2.7 µs, of which the two changes of process are most,
// and a compiler makes thousands of look-ups, all from a handful of places in
// its C library. So a process of the command that has asked a few times, and asks from
// the same place again, or from one that another process of it has asked from, gets a
// scribe: a page of our code, and a log that it shares with us. The instruction that loads the number of
// the system call there,
//
//	mov $NUMBER, %eax
//	syscall
//
// or another one in front of it (see sites.c) becomes a jump to the scribe, which makes the call, and writes down what it
// named: 0.2 µs. The filter lets calls pass that come from the scribe's page. All
// others, of programs without a C library like that, of other places, before
// there is a scribe and where one cannot be, ask as they always did. So nothing is
// missed that would have been told without it; who jumps into the scribe's page to
// hide something could as well have raced with us (see observe.c).
//
// The scribe itself writes down only what needs no thought: absolute paths below
// the binds of the root directory, which mean the same whenever they are looked
// at, and those through the usual links of the root directory into such binds: who
// removes one of these has to ask. Relative ones, and those of places in which the
// command may write, it writes down as they are, as long as that can be followed later:
// see later.c. For others it asks after the call, with its registers.
//
// How it gets in: the process waits for our answer to a call. We give it a
// descriptor (SECCOMP_IOCTL_NOTIF_ADDFD), write the loader, 200 bytes, into what
// is unused at the end of its vDSO, and a jump to it over the instruction to which
// the call returns. The loader maps the scribe, closes the descriptor, and tells
// us; we put the instruction back. All of that is in the process's own copies of
// the pages.
//
// It is not done to processes with threads, with a tracer, with filters of their
// own, or with handlers of signals that may come at any time: they might run
// what is just being changed. A system call that is started again after a signal,
// or that somebody jumps to, finds the syscall instruction where it was.
//
// A command can find out: two more mappings in /proc/self/maps, and the bytes of
// its own code.
#include "scribe.h"

#if defined __x86_64__

// Below this the kernel does not put libraries without address randomization, and
// with a stack that may grow to 128 MiB.
#define LIBRARIES_AT 0x7ffff0000000ull

struct scribe {
	int off; // it did not work, and will not
	struct sites sites;
	s32 fd;
	struct log *log;
	s32 mem; // memory of the process mem_tid; or -1
	u32 mem_tid;
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

static s32 open_of(struct observer *o, u32 tid, const char *what, int flags)
{
	char name[40];
	struct text t = text_in(name, sizeof name);
	put_number(&t, tid);
	put(&t, what);
	return (s32)SYS(openat, o->proc, name, flags | O_CLOEXEC);
}

// field returns the value in the line "\nNAME:\t" of a status file.
static u64 field(const char *status, const char *name, u32 radix)
{
	for (const char *p = status; *p; p++) {
		if (*p != '\n' || !has_prefix(p + 1, name))
			continue;
		p += 1 + strlen(name);
		while (*p == ' ' || *p == '\t')
			p++;
		u64 v = 0;
		for (;; p++) {
			u32 digit = *p >= '0' && *p <= '9' ? (u32)(*p - '0') : *p >= 'a' && *p <= 'f' ? (u32)(*p - 'a' + 10) : 99;
			if (digit >= radix)
				return v;
			v = v * radix + digit;
		}
	}
	return ~0ull;
}

static int read_status(struct observer *o, u32 tid, char *buf, size_t size)
{
	s32 fd = open_of(o, tid, "/status", O_RDONLY);
	if (fd < 0)
		return 0;
	long n = SYS(read, fd, buf, size - 1);
	SYS(close, fd);
	buf[n > 0 ? n : 0] = 0;
	return n > 0;
}

// suits says whether nothing but one thread of control, which waits for us, can
// run in the process.
static int suits(struct observer *o, struct scribe *s, u32 tid)
{
	// Faults, and what asks a process to end: their handlers do not come back.
	const u64 fine = 1ull << (4 - 1) | 1ull << (6 - 1) | 1ull << (7 - 1) | 1ull << (8 - 1) | 1ull << (11 - 1) | // ILL ABRT BUS FPE SEGV
			 1ull << (1 - 1) | 1ull << (2 - 1) | 1ull << (3 - 1) | 1ull << (13 - 1) | 1ull << (15 - 1) | // HUP INT QUIT PIPE TERM
			 1ull << (24 - 1) | 1ull << (25 - 1) | 1ull << (31 - 1); // XCPU XFSZ SYS
	char status[4096];
	u32 *own = &o->s->slot->filters[!!o->s->denied];
	if (!*own) {
		u64 n = read_status(o, (u32)SYS(getpid), status, sizeof status) ? field(status, "Seccomp_filters:", 10) : ~0ull;
		if (n == ~0ull) {
			s->off = 1;
			return 0;
		}
		*own = (u32)n;
	}
	if (!read_status(o, tid, status, sizeof status))
		return 0;
	return field(status, "Threads:", 10) == 1 && field(status, "TracerPid:", 10) == 0 && field(status, "Pid:", 10) == tid &&
	       field(status, "Tgid:", 10) == tid && field(status, "Seccomp_filters:", 10) == *own + 1 &&
	       !(field(status, "SigCgt:", 16) & ~fine);
}

// alone says whether the process, which has a scribe, still has one thread.
static int alone(struct observer *o, u32 tid)
{
	char name[40];
	struct statx st;
	struct text t = text_in(name, sizeof name);
	put_number(&t, tid);
	put(&t, "/task");
	// Two links, and one for each thread.
	return SYS(statx, o->proc, name, 0, STATX_NLINK, &st) >= 0 && st.nlink == 3;
}

// forget_memory is for when a process may have been given another memory.
static void forget_memory(struct scribe *s)
{
	if (s->mem >= 0)
		SYS(close, s->mem);
	s->mem = -1;
}

// memory_of returns a descriptor for the memory of the process that waits, or -1.
static s32 memory_of(struct observer *o, struct scribe *s, s32 listener, const struct seccomp_notif *n)
{
	if (s->mem >= 0 && s->mem_tid == n->pid)
		return s->mem; // if that has ended meanwhile, nothing can be written
	forget_memory(s);
	s->mem = open_of(o, n->pid, "/mem", O_RDWR);
	s->mem_tid = n->pid;
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
	if (v->at && peek(o, v->at, head, sizeof head) == sizeof head && !memcmp(head, v->head, sizeof head))
		return v->at + v->end;
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

static u64 in_process(const u8 *code)
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

// settle puts a scribe into the process. It returns 0 if none can be put there.
static int settle(struct observer *o, struct scribe *s, s32 listener, const struct seccomp_notif *n, s32 mem)
{
	u64 ip = n->data.ip, at = find_vdso(o, n->pid);
	u8 was[8], now[5], code[LOADER_MAX];
	if (!at || !near(ip, at) || peek(o, ip, was, 8) != 8)
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
	s32 fd = (s32)SYS(ioctl, listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add), nr = n->data.nr;
	u32 size = LOG_SIZE;
	if (fd < 0)
		return 0;
	memcpy(code, loader, (size_t)(loader_end - loader));
	memcpy(code + (loader_back - loader) - 8, &ip, 8);
	memcpy(code + (loader_fd - loader) - 4, &fd, 4);
	memcpy(code + (loader_size - loader) - 4, &size, 4);
	memcpy(code + (loader_bytes - loader) - 8, was, 8);
	memcpy(code + (loader_nr - loader) - 4, &nr, 4);
	// If one of these fails, the process is dying.
	s->loaded_tid = n->pid;
	s->loaded = at;
	return write_at(mem, at, code, (size_t)(loader_end - loader)) && write_at(mem, ip, now, 5);
}

// write_call writes what the process does in the place of the call at site, which
// ends at ip, and runs at at.
static void write_call(u8 code[static CALL_SIZE], u64 at, u64 ip, const struct site *site)
{
	memset(code, 0, CALL_SIZE);
	memcpy(code, site->code + SITE_BEFORE - 7, 7); // the instruction that was there, and syscall
	memcpy(code + 7, "\x48\x8d\x64\x24\x80\x50\xb8", 7); // lea -128(%rsp), %rsp; push %rax; mov $nr, %eax
	memcpy(code + 14, &site->nr, 4);
	jump(code + 18, 0xe8, at + 18, in_process(scribe_common));
	code[23] = 0x58; // pop %rax
	memcpy(code + 24, "\x48\x8d\xa4\x24\x80\0\0\0", 8); // lea 128(%rsp), %rsp
	jump(code + 32, 0xe9, at + 32, ip);
}

// What of a process shows that it has a scribe.
struct inside {
	u32 text, calls, log; // calls: how many are in use
};

// look_inside reads that, and returns 1 if there is a whole scribe, 0 if there is
// nothing in its place, and -1 if there is something else.
static int look_inside(struct observer *o, struct inside *in)
{
	const struct iovec parts[] = {
		{(void *)SCRIBE_AT, 4},
		{(void *)(SCRIBE_CALLS_AT + CALLS * CALL_SIZE), 4},
		{(void *)SCRIBE_LOG_AT, 4},
	};
	long got = peek_parts(o, in, sizeof *in, parts, 3);
	if (got <= 0)
		return 0;
	return got == sizeof *in && in->text == MAGIC && in->log == MAGIC && in->calls <= CALLS ? 1 : -1;
}

// redirect makes the site whose call ends at ip go through the scribe, and with it
// its neighbours.
static int redirect(struct observer *o, struct scribe *s, u64 ip, s32 mem, u32 used)
{
	// What is to be written is the rest of the page: the calls, and their number.
	u8 page[(CALLS + 1) * CALL_SIZE], *code = page + used * CALL_SIZE, go[5];
	struct found found[SITES];
	u32 n = 0, all = find_sites(o, &s->sites, ip, found);
	int ok = 0;
	memset(code, 0, (size_t)(page + sizeof page - code));
	for (u32 i = 0; i < all && used + n < CALLS; i++) {
		u64 at = SCRIBE_CALLS_AT + (used + n) * CALL_SIZE;
		if (!near(found[i].ip, at))
			continue;
		write_call(code + n * CALL_SIZE, at, found[i].ip, found[i].site);
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

// take does something about a site from which we are asked often. It returns 0
// if nothing can be done.
static int take(struct observer *o, struct scribe *s, s32 listener, const struct seccomp_notif *n)
{
	struct inside in;
	int has = look_inside(o, &in);
	u64 secret = 0;
	// The process that will be the command is in our memory until its exec.
	if (has < 0 || (!has && n->pid == (u32)o->s->prepared && peek(o, (u64)&cookie, &secret, sizeof secret) == sizeof secret && secret == cookie))
		return 0;
	s32 mem = memory_of(o, s, listener, n);
	if (mem < 0)
		return 0;
	if (has)
		return alone(o, n->pid) && redirect(o, s, n->data.ip, mem, in.calls);
	return settle(o, s, listener, n, mem);
}

static struct scribe *new_scribe(struct observer *o)
{
	struct scribe *s = o->scribe = map(sizeof *s, -1, 0);
	if (!s)
		return 0;
	s->fd = s->mem = -1;
	s->off = o->s->slot->no_scribe || loader_end - loader > LOADER_MAX;
	return s;
}

// forget_counters is for a process that has another program now, or of which it is not
// known any more how often it has asked. One that has not asked has no counters.
static void forget_counters(struct scribe *s, u32 tid)
{
	for (u32 i = 0; i < COUNTERS; i++)
		if (s->counters[i].tid == tid)
			s->counters[i].count = 0;
}

// asks counts how often the process has asked.
static u32 *asks(struct scribe *s, u32 tid)
{
	u32 i = tid & (ASKED - 1);
	if (s->asked[i].tid != tid) {
		if (s->asked[i].count)
			forget_counters(s, s->asked[i].tid);
		s->asked[i].tid = tid;
		s->asked[i].count = 0;
	}
	return &s->asked[i].count;
}

void scribe_consider(struct observer *o, s32 listener, const struct seccomp_notif *n)
{
	struct scribe *s = o->scribe;
	if (!s)
		s = new_scribe(o);
	if (!s || s->off)
		return;
	if (n->data.arch != AUDIT_ARCH || n->data.nr == SYS_execve || n->data.nr == SYS_execveat)
		forget_memory(s);
	if (n->data.arch != AUDIT_ARCH)
		return;
	if (n->data.nr == SYS_execve || n->data.nr == SYS_execveat) {
		u32 *asked = asks(s, n->pid);
		if (*asked)
			forget_counters(s, n->pid);
		*asked = 0;
		if (s->sites.tid == n->pid)
			s->sites.tid = 0;
		return;
	}
	u32 *asked = asks(s, n->pid);
	++*asked;
	u32 i = ((u32)n->data.ip * 2654435761u ^ n->pid * 40503u) >> 8 & (COUNTERS - 1);
	if (s->counters[i].tid != n->pid || s->counters[i].ip != n->data.ip) {
		s->counters[i].tid = n->pid;
		s->counters[i].ip = n->data.ip;
		s->counters[i].count = 0;
	}
	u8 *count = &s->counters[i].count;
	if (*count == NEVER)
		return;
	int known = *count ? 1 : consider_site(o, &s->sites, n->data.ip, n->data.nr);
	*count = known < 0 || (known && *asked >= PATIENCE && !take(o, s, listener, n)) ? NEVER : 1;
}

int scribe_answer(struct observer *o, s32 listener, const struct seccomp_notif *n)
{
	struct scribe *s = o->scribe;
	if (!s || n->data.arch != AUDIT_ARCH)
		return 0;
	if (n->data.ip == in_process(scribe_asked)) {
		o->ip = 0; // its code is no site's
		look_up(o, AUDIT_ARCH, n->data.nr, n->data.args, (s64)n->data.args[5]);
		return 1;
	}
	u64 end = o->s->slot->vdso.end;
	if (!end || (n->data.ip & 4095) != ((end + (u64)(loader_asked - loader)) & 4095))
		return 0;
	u64 vdso = s->loaded_tid == n->pid ? s->loaded : find_vdso(o, n->pid);
	if (!vdso || n->data.ip != vdso + (u64)(loader_asked - loader))
		return 0;
	// The loader is done: its jump becomes again what it was.
	u64 ip = n->data.args[0];
	u8 now[5], there[5];
	struct inside in;
	s32 mem = memory_of(o, s, listener, n), ok = 0;
	jump(now, 0xe9, ip, vdso);
	if (mem >= 0 && peek(o, ip, there, 5) == 5 && !memcmp(there, now, 5))
		ok = write_at(mem, ip, &n->data.args[3], 5);
	if (n->data.args[1] != SCRIBE_AT || n->data.args[2] != SCRIBE_LOG_AT)
		s->off = 1; // there is no room, or it is not allowed
	else if (ok && look_inside(o, &in) > 0)
		redirect(o, s, ip, mem, in.calls);
	return 1;
}

// note_target notes where o->name leads, if a link of the root directory is in it.
static void note_target(struct observer *o, u8 op, u8 how)
{
	u32 from;
	const char *target = leads(o, o->name, &from);
	if (!target)
		return;
	if (o->links_moved)
		o->complete = 0; // it may have led somewhere else
	struct text t = text_in(o->real, sizeof o->real);
	put(&t, target);
	put(&t, o->name + from);
	note(o, op, how, o->real);
}

// plain says whether tidy would do nothing to the path of n bytes, which goes through no
// link of the root directory, as far as can be told eight bytes at a time. Up to eight
// bytes behind it are read, too.
static int plain(struct observer *o, const char *path, size_t n)
{
	const u64 ones = 0x0101010101010101ull, tops = ones << 7;
	u32 from;
	if (n < 8 || leads(o, path, &from)) // no link's name is longer
		return 0;
	for (size_t i = 0; i < n; i += 8) {
		u64 here, next;
		__builtin_memcpy(&here, path + i, 8);
		__builtin_memcpy(&next, path + i + 1, 8);
		if (n - i < 8) // what is behind the end is as good as a letter
			here |= ~0ull << 8 * (n - i);
		if (n - i <= 8)
			next |= ~0ull << 8 * (n - i - 1);
		// The top bit of each byte that is a slash, and then of those that are a slash or a dot.
		u64 slash = here ^ ones * '/', dot = next ^ ones * '.', again = next ^ ones * '/';
		slash = (slash - ones) & ~slash & tops;
		again = ((again - ones) & ~again) | ((dot - ones) & ~dot);
		if (slash & again || (here - ones) & ~here & tops)
			return 0;
	}
	return 1;
}

void scribe_finish(struct observer *o)
{
	struct scribe *s = o->scribe;
	if (!s || !s->log)
		return;
	struct log *log = s->log;
	for (u32 i = 0; i < TABLE; i++) {
		u32 at = log->table[i];
		if (!at)
			continue;
		if (at - 1 > ENTRIES - 2 * LONGEST) {
			o->complete = 0;
			continue;
		}
		struct lookup *l = (struct lookup *)(log->entries + at - 1);
		if (l->length > LONGEST || (l->op != OP_STAT && l->op != OP_OPEN && l->op != OP_ANEW)) {
			o->complete = 0;
			continue;
		}
		u8 how = l->how & (LOOKUP_FOUND | LOOKUP_MADE);
		const char *path = (const char *)(l + 1);
		if (l->how & LATER) {
			follow_entry(o, l->op, l->how, path, l->length);
			continue;
		}
		if (plain(o, path, l->length)) {
			note_part(o, l->op, how, path, l->length);
			continue;
		}
		memcpy(o->name, path, l->length);
		o->name[l->length] = 0;
		tidy(o->name);
		note(o, l->op, how, o->name);
		note_target(o, l->op, how);
	}
	if (log->lost)
		o->complete = 0;
}

// scribe_follow runs beside processes that write to the log: what is looked at is a
// copy.
void scribe_follow(struct observer *o)
{
	struct scribe *s = o->scribe;
	char path[LONGEST];
	if (!s || !s->log)
		return;
	__atomic_store_n(&s->log->still, 0, __ATOMIC_SEQ_CST);
	for (u32 i = 0; i < TABLE; i++) {
		u32 at = __atomic_load_n(&s->log->table[i], __ATOMIC_ACQUIRE);
		if (!at || at - 1 > ENTRIES - 2 * LONGEST)
			continue; // scribe_finish says what is wrong
		struct lookup *l = (struct lookup *)(s->log->entries + at - 1);
		u16 n = __atomic_load_n(&l->length, __ATOMIC_RELAXED);
		u8 op = __atomic_load_n(&l->op, __ATOMIC_RELAXED);
		if (!(__atomic_load_n(&l->how, __ATOMIC_RELAXED) & LATER) || n > LONGEST || (op != OP_STAT && op != OP_OPEN && op != OP_ANEW))
			continue;
		memcpy(path, l + 1, n);
		follow_entry(o, op, __atomic_exchange_n(&l->how, LATER_DONE, __ATOMIC_SEQ_CST), path, n);
	}
}

void scribe_free(struct observer *o)
{
	struct scribe *s = o->scribe;
	if (!s)
		return;
	if (s->log)
		SYS(munmap, s->log, LOG_SIZE);
	SYS(munmap, s, sizeof *s);
	o->scribe = 0;
}

#else

int scribe_answer(struct observer *o, s32 listener, const struct seccomp_notif *n)
{
	return 0;
}

void scribe_consider(struct observer *o, s32 listener, const struct seccomp_notif *n)
{
}

void scribe_finish(struct observer *o)
{
}

void scribe_follow(struct observer *o)
{
}

void scribe_free(struct observer *o)
{
}

#endif
