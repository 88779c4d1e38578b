// What runs inside of a process of the command: see scribe.c.
//
// Its code is copied there, so it calls nothing, has no data but the log, and uses
// no register that a system call could not change, but for those that it puts back.
#include "scribe.h"

#if defined __x86_64__

// PIECE is a part of scribe_look: compiled into it, and as it is.
#define COMPILED target("general-regs-only"), optimize("O2", "no-tree-loop-distribute-patterns")
#define IN_PROCESS __attribute__((section("scribe"), used, noinline, COMPILED))
#define PIECE static inline __attribute__((always_inline, COMPILED))

// A call is what a process has asked the kernel.
struct call {
	u32 nr;
	s64 result;
	const char *path;
	int link; // it reads a link
	u64 open_flags, at_flags; // or 0
	u8 op, how;

	// By measure: the path's length and hash, and whether it has ".." in it, perhaps.
	u32 n, hash, dots;
};

PIECE struct call call_of(const struct frame *f)
{
	u32 nr = (u32)f->nr;
	struct call c = {.nr = nr, .result = f->result, .op = OP_STAT};
	c.path = (const char *)(nr >= OPENAT ? f->rsi : f->rdi);
	c.link = nr == READLINK || nr == READLINKAT;
	c.open_flags = nr == OPEN ? f->rsi : nr == OPENAT ? f->rdx : 0;
	c.at_flags = nr == NEWFSTATAT || nr == FACCESSAT2 ? f->r10 : nr == STATX ? f->rdx : 0;
	if ((nr == OPEN || nr == OPENAT) && !(c.open_flags & O_PATH))
		c.op = OP_OPEN;
	if (OPENS_ANEW(c.open_flags))
		c.op = OP_ANEW;
	// What does not follow a link in the last place says nothing of what is there.
	c.how = c.result >= 0 && !c.link && nr != LSTAT && !(c.at_flags & AT_SYMLINK_NOFOLLOW) ? LOOKUP_FOUND : 0;
	if (c.open_flags & O_CREAT)
		c.how = LOOKUP_MADE;
	if (c.open_flags & O_NOFOLLOW)
		c.how &= LOOKUP_MADE;
	return c;
}

// failed_early says whether the error is one that may come before the path is read.
PIECE int failed_early(const struct frame *f, const struct call *c)
{
	u64 size = c->nr == READLINK ? f->rdx : f->r10;
	return c->result < 0 && c->result != -ENOENT && c->result != -ENOTDIR && c->result != -EACCES && c->result != -ELOOP &&
	       !(c->result == -EINVAL && c->link && (s32)size > 0);
}

// measure returns 0 if the path is too long.
PIECE int measure(struct call *c)
{
	u32 n = 0, h = c->op, dots = 0;
	for (u8 before = 0; c->path[n]; n++) {
		if (n == LONGEST)
			return 0;
		dots |= c->path[n] == '.' && before == '.';
		before = (u8)c->path[n];
		h = (h << 5 | h >> 27) ^ before;
	}
	h *= 2654435761u;
	h ^= h >> 15;
	c->n = n, c->hash = h, c->dots = dots;
	return 1;
}

// overwritten says whether the kernel has written its answer over the path.
PIECE int overwritten(const struct frame *f, const struct call *c)
{
	u64 out = 0, written = 0, path = (u64)c->path;
	if (c->result < 0)
		return 0;
	if (c->nr == STAT || c->nr == LSTAT)
		out = f->rsi, written = 144;
	if (c->nr == NEWFSTATAT)
		out = f->rdx, written = 144;
	if (c->nr == STATX)
		out = f->r8, written = 256;
	if (c->nr == READLINK)
		out = f->rsi, written = (u64)c->result;
	if (c->nr == READLINKAT)
		out = f->rdx, written = (u64)c->result;
	return written && (out - path <= c->n || path - out < written);
}

// climbs says whether a path with ".." in it may lead out of the directory in the root
// that it begins with.
PIECE int climbs(const struct call *c)
{
	const char *path = c->path;
	u32 depth = 0;
	for (u32 from = 0, to; from < c->n; from = to) {
		while (from < c->n && path[from] == '/')
			from++;
		for (to = from; to < c->n && path[to] != '/'; to++)
			;
		u32 dot = path[from] == '.', up = dot && to - from == 2 && path[from + 1] == '.';
		if (up && depth < 2)
			return 1;
		depth += up ? ~0u : to - from > dot;
	}
	return 0;
}

// in_places says whether the path is in one of the places where it means the same
// whenever it is looked at.
PIECE int in_places(const struct log *log, const char *path)
{
	u32 nplaces = log->nplaces;
	for (u32 i = 0; i < nplaces && i < PLACES; i++) {
		const char *place = log->places[i];
		u32 j = 0;
		while (place[j] && place[j] == path[j])
			j++;
		if (j && !place[j] && (!path[j] || path[j] == '/' || place[j - 1] == '/'))
			return 1;
	}
	return 0;
}

// in_dir says whether the path is below the directory of the command, or is /tmp, or below that.
PIECE int in_dir(const struct log *log, const char *path)
{
	u32 ndir = log->ndir, j = 0;
	while (j < ndir && j < LONGEST && log->dir[j] == path[j])
		j++;
	return (path[1] == 't' && path[2] == 'm' && path[3] == 'p' && (path[4] == '/' || !path[4])) || (j == ndir && j && path[j] == '/');
}

enum when { NOW, LATER_ON, ASK };

// when says whether the path can be written down for good, for later, or not at all.
PIECE enum when when(const struct log *log, const struct frame *f, const struct call *c)
{
	int can_later = log->still && !c->dots;
	if (c->path[0] != '/')
		return can_later && (c->nr < OPENAT || (s32)f->rdi == AT_FDCWD) ? LATER_ON : ASK;
	if (c->dots && climbs(c))
		return ASK;
	if (in_places(log, c->path))
		return NOW;
	return can_later && in_dir(log, c->path) ? LATER_ON : ASK;
}

// how_later says how the path is to be followed later, in the place of c->how.
PIECE u8 how_later(const struct call *c)
{
	int no_follow = c->link || c->nr == LSTAT || c->open_flags & O_NOFOLLOW ||
			(c->open_flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL) || c->at_flags & AT_SYMLINK_NOFOLLOW;
	if (!no_follow)
		return c->how | LATER_FOLLOW;
	return c->how & LOOKUP_MADE ? LATER_NO_FOLLOW | LATER_MADE : LATER_NO_FOLLOW;
}

// append returns the place of a new entry + 1, or 0 if there is no room.
PIECE u32 append(struct log *log, const struct call *c)
{
	u32 total = (u32)(sizeof(struct lookup) + c->n + 3) & ~3u;
	if (log->used > ENTRIES - 2 * LONGEST)
		return 0;
	u32 mine = __atomic_fetch_add(&log->used, total, __ATOMIC_RELAXED);
	if (mine > ENTRIES - 2 * LONGEST)
		return 0;
	struct lookup *l = (struct lookup *)(log->entries + mine);
	*l = (struct lookup){.length = (u16)c->n, .op = c->op, .how = c->how};
	char *to = (char *)(l + 1);
	for (u32 j = 0; j < c->n; j++)
		to[j] = c->path[j];
	return mine + 1;
}

enum added { FULL, ADDED, KNOWN };

PIECE enum added add(struct log *log, const struct call *c)
{
	u32 h = c->hash;
	for (u32 tries = 0; tries < 64; h++) {
		u32 *slot = &log->table[h & (TABLE - 1)], at = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
		tries++;
		if (!at) {
			u32 mine = append(log, c), none = 0;
			if (!mine)
				return FULL;
			if (__atomic_compare_exchange_n(slot, &none, mine, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
				return ADDED;
			at = none; // somebody was faster: ours is lost room
		}
		if (at > ENTRIES - 2 * LONGEST)
			return FULL;
		struct lookup *l = (struct lookup *)(log->entries + at - 1);
		const char *have = (const char *)(l + 1);
		u32 j = l->op == c->op && l->length == c->n ? 0 : ~0u;
		while (j < c->n && have[j] == c->path[j])
			j++;
		if (j != c->n)
			continue;
		if (!(c->how & ~__atomic_load_n(&l->how, __ATOMIC_RELAXED)))
			return KNOWN;
		__atomic_fetch_or(&l->how, c->how, __ATOMIC_SEQ_CST);
		return ADDED;
	}
	return FULL;
}

// scribe_look runs in a process of the command, after a call. It returns 1 if we
// must be asked. It must not touch anything but the stack, the log, and what the
// kernel has read, too: a bad pointer is the command's to notice, as EFAULT.
IN_PROCESS int scribe_look(struct frame *f)
{
	struct log *log = (struct log *)SCRIBE_LOG_AT;
	struct call c = call_of(f);
	if (failed_early(f, &c))
		return 1;
	if (!c.path || !*c.path)
		return 0; // a descriptor alone
	if (!measure(&c))
		return 1;
	if (overwritten(f, &c)) {
		log->lost = 1;
		return 0;
	}
	enum when at = when(log, f, &c);
	if (at == ASK)
		return 1;
	if (at == LATER_ON)
		c.how = how_later(&c);
	switch (add(log, &c)) {
	case FULL:
		return 1;
	case KNOWN:
		return 0;
	default: // but if something stirs at this moment, scribe_follow may not have seen it
		return at == LATER_ON && !__atomic_load_n(&log->still, __ATOMIC_SEQ_CST);
	}
}

// scribe_missed runs in a process of the command that wants to execute something, where
// there is nothing of that name. It returns 1 if that is written down.
IN_PROCESS int scribe_missed(struct frame *f)
{
	struct log *log = (struct log *)SCRIBE_LOG_AT;
	u8 op = OP_EXEC;
	__asm__("" : "+r"(op)); // what is known would be read from where no process has it
	struct call c = {.nr = ACCESS, .result = -ENOENT, .path = (const char *)f->rdi, .op = op};
	return *c.path && measure(&c) && when(log, f, &c) == NOW && add(log, &c) != FULL;
}

// scribe_common is called by each of the calls that scribe_consider writes, with
// the number of the system call in rax, the result on the stack, and all other
// registers but rcx and r11 as they were.
__asm__(".section scribe,\"ax\",@progbits\n"
	".globl scribe_common, scribe_asked\n"
	"scribe_common:\n"
	"	push %rdi\n	push %rsi\n	push %rdx\n	push %r8\n	push %r9\n	push %r10\n	push %rax\n"
	"	mov %rsp, %rdi\n"
	"	call scribe_look\n"
	"	test %eax, %eax\n"
	"	jz 1f\n"
	// The question is the call again, which nobody makes, with the result in r9: none of
	// them has a sixth argument.
	"	mov (%rsp), %rax\n	mov 8(%rsp), %r10\n	mov 24(%rsp), %r8\n	mov 32(%rsp), %rdx\n"
	"	mov 40(%rsp), %rsi\n	mov 48(%rsp), %rdi\n	mov 64(%rsp), %r9\n"
	"	syscall\n"
	"scribe_asked:\n"
	"1:	add $8, %rsp\n"
	"	pop %r10\n	pop %r9\n	pop %r8\n	pop %rdx\n	pop %rsi\n	pop %rdi\n"
	"	ret\n"
	".text\n");

// scribe_missing is called in the place of execve, with what access says of its path in
// rax. That is still -ENOENT when it returns if that is the answer.
__asm__(".section scribe,\"ax\",@progbits\n"
	".globl scribe_missing\n"
	"scribe_missing:\n"
	"	cmp $-2, %rax\n"
	"	jne 1f\n"
	"	push %rdi\n	push %rsi\n	push %rdx\n	push %r8\n	push %r9\n	push %r10\n	push %rax\n"
	"	mov %rsp, %rdi\n"
	"	call scribe_missed\n"
	"	cltq\n"
	"	neg %rax\n"
	"	add %rax, %rax\n"
	"	add $8, %rsp\n"
	"	pop %r10\n	pop %r9\n	pop %r8\n	pop %rdx\n	pop %rsi\n	pop %rdi\n"
	"1:	ret\n"
	".text\n");

// scribe_memory is called after mmap, with what that says in rax, and asks for huge pages.
// The heap of a compiler comes in pieces of 2 MiB: to fill one with huge pages takes one
// page fault in the place of 512, 2 to 5 % of what a compile of C takes. Where the kernel
// has none, or it was no memory, nothing happens. Where the command has filters of its
// own, which may end who calls madvise, it is not called.
__asm__(".section scribe,\"ax\",@progbits\n"
	".globl scribe_memory\n"
	"scribe_memory:\n"
	"	cmp $3, %edx\n	jne 1f\n"
	"	cmp $0x22, %r10d\n	jne 1f\n"
	"	cmp $0x200000, %rsi\n	jb 1f\n"
	"	cmp $0x800000, %rsi\n	ja 1f\n"
	"	movabs $0x7ffffa010018, %rcx\n	cmpl $0, (%rcx)\n	jne 1f\n" // filters of the log
	"	push %rdi\n	push %rdx\n	push %rax\n"
	"	mov %rax, %rdi\n	mov $14, %edx\n	mov $28, %eax\n	syscall\n" // madvise, MADV_HUGEPAGE
	"	pop %rax\n	pop %rdx\n	pop %rdi\n"
	"1:	ret\n"
	".text\n");
_Static_assert(SCRIBE_LOG_AT + offsetof(struct log, filters) == 0x7ffffa010018, "where the filters are");
_Static_assert(HUGE_PROTECTION == 3 && HUGE_FLAGS == 0x22 && HUGE_LEAST == 0x200000 && HUGE_MOST == 0x800000, "what scribe_memory compares with");

// The loader, with gaps to be filled in. It runs right after a system call, so
// rcx and r11 are free.
__asm__(".section .rodata\n"
	".globl loader, loader_back, loader_fd, loader_size, loader_bytes, loader_asked, loader_end\n"
	"loader:\n"
	"	lea -128(%rsp), %rsp\n" // the red zone
	"	movabs $0x1111111111111111, %rcx\n"
	"loader_back:\n" // where the call returns to
	"	push %rcx\n	push %rax\n	push %rdi\n	push %rsi\n	push %rdx\n	push %r10\n	push %r8\n	push %r9\n"
	"	mov $9, %eax\n	movabs $0x7ffffa000000, %rdi\n	mov $0x2000, %esi\n"
	"	mov $5, %edx\n	mov $0x100002, %r10d\n" // PROT_READ|PROT_EXEC, MAP_PRIVATE|MAP_FIXED_NOREPLACE
	"	mov $0x11111111, %r8d\n"
	"loader_fd:\n"
	"	xor %r9d, %r9d\n"
	"	syscall\n"
	"	push %rax\n"
	"	mov $9, %eax\n	movabs $0x7ffffa010000, %rdi\n	mov $0x11111111, %esi\n"
	"loader_size:\n"
	"	mov $3, %edx\n	mov $0x100001, %r10d\n" // PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED_NOREPLACE
	"	mov $0x10000, %r9d\n"
	"	syscall\n"
	"	push %rax\n"
	"	mov $3, %eax\n	mov %r8d, %edi\n	syscall\n" // close
	"	pop %rdx\n	pop %rsi\n"
	"	mov 56(%rsp), %rdi\n"
	"	movabs $0x1111111111111111, %r10\n"
	"loader_bytes:\n" // what was there
	"	mov $21, %eax\n	syscall\n" // access, which asks: done, see scribe_answer
	"loader_asked:\n"
	"	mov %rax, %rcx\n" // scribe_memory, or 0
	"	pop %r9\n	pop %r8\n	pop %r10\n	pop %rdx\n	pop %rsi\n	pop %rdi\n	pop %rax\n"
	"	jrcxz 1f\n"
	"	call *%rcx\n"
	"1:	pop %rcx\n"
	"	lea 128(%rsp), %rsp\n"
	"	jmp *%rcx\n"
	"loader_end:\n"
	".text\n");

#endif
