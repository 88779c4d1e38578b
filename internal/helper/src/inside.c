// What runs inside of a process of the command: see scribe.c.
//
// Its code is copied there, so it calls nothing, has no data but the log, and uses
// no register that a system call could not change, but for those that it puts back.
#include "scribe.h"

#if defined __x86_64__

#define IN_PROCESS                                                                                                     \
	__attribute__((section("scribe"), used, noinline, target("general-regs-only"),                                 \
		       optimize("O2", "no-tree-loop-distribute-patterns")))

// scribe_look runs in a process of the command, after a call. It returns 1 if we
// must be asked. It must not touch anything but the stack, the log, and what the
// kernel has read, too: a bad pointer is the command's to notice, as EFAULT.
IN_PROCESS int scribe_look(struct frame *f)
{
	struct log *log = (struct log *)SCRIBE_LOG_AT;
	u32 nr = (u32)f->nr;
	s64 result = f->result;
	int link = nr == READLINK || nr == READLINKAT;
	u64 size = nr == READLINK ? f->rdx : f->r10;
	// Other errors may come before the path is read.
	if (result < 0 && result != -ENOENT && result != -ENOTDIR && result != -EACCES && result != -ELOOP &&
	    !(result == -EINVAL && link && (s32)size > 0))
		return 1;
	const char *path = (const char *)(nr >= OPENAT ? f->rsi : f->rdi);
	if (!path || !*path)
		return 0; // a descriptor alone
	u8 op = OP_STAT;
	if (nr == OPEN && !(f->rsi & O_PATH))
		op = OP_OPEN;
	if (nr == OPENAT && !(f->rdx & O_PATH))
		op = OP_OPEN;
	if ((nr == OPEN && OPENS_ANEW(f->rsi)) || (nr == OPENAT && OPENS_ANEW(f->rdx)))
		op = OP_ANEW;
	// What does not follow a link in the last place says nothing of what is there.
	u8 how = result >= 0 && !link && nr != LSTAT ? LOOKUP_FOUND : 0;
	if ((nr == NEWFSTATAT && f->r10 & AT_SYMLINK_NOFOLLOW) || (nr == STATX && f->rdx & AT_SYMLINK_NOFOLLOW) ||
	    (nr == FACCESSAT2 && f->r10 & AT_SYMLINK_NOFOLLOW))
		how = 0;
	if ((nr == OPEN && f->rsi & O_CREAT) || (nr == OPENAT && f->rdx & O_CREAT))
		how = LOOKUP_MADE;
	if ((nr == OPEN && f->rsi & O_NOFOLLOW) || (nr == OPENAT && f->rdx & O_NOFOLLOW))
		how &= LOOKUP_MADE;
	// Where the kernel has written.
	u64 out = 0, written = 0;
	if (result >= 0) {
		if (nr == STAT || nr == LSTAT)
			out = f->rsi, written = 144;
		if (nr == NEWFSTATAT)
			out = f->rdx, written = 144;
		if (nr == STATX)
			out = f->r8, written = 256;
		if (nr == READLINK)
			out = f->rsi, written = (u64)result;
		if (nr == READLINKAT)
			out = f->rdx, written = (u64)result;
	}
	u32 n = 0, h = op, dots = 0;
	for (u8 before = 0; path[n]; n++) {
		if (n == LONGEST)
			return 1;
		dots |= path[n] == '.' && before == '.';
		before = (u8)path[n];
		h = (h << 5 | h >> 27) ^ before;
	}
	h *= 2654435761u;
	h ^= h >> 15;
	if (written && (out - (u64)path <= n || (u64)path - out < written)) {
		log->lost = 1; // over the path
		return 0;
	}
	u32 later = log->still && !dots;
	if (path[0] != '/') {
		if (!later || (nr >= OPENAT && (s32)f->rdi != AT_FDCWD))
			return 1;
		goto add;
	}
	// With ".." in it, it may lead out of there.
	u32 depth = 0;
	for (u32 from = 0, to; dots && from < n; from = to) {
		while (from < n && path[from] == '/')
			from++;
		for (to = from; to < n && path[to] != '/'; to++)
			;
		u32 dot = path[from] == '.', up = dot && to - from == 2 && path[from + 1] == '.';
		if (up && depth < 2)
			return 1;
		depth += up ? ~0u : to - from > dot;
	}
	u32 i = 0, nplaces = log->nplaces;
	for (; i < nplaces && i < PLACES; i++) {
		const char *place = log->places[i];
		u32 j = 0;
		while (place[j] && place[j] == path[j])
			j++;
		if (j && !place[j] && (!path[j] || path[j] == '/' || place[j - 1] == '/'))
			break;
	}
	if (i == nplaces || i == PLACES) {
		if (!later)
			return 1;
		u32 ndir = log->ndir, j = 0;
		while (j < ndir && j < LONGEST && log->dir[j] == path[j])
			j++;
		int tmp = path[1] == 't' && path[2] == 'm' && path[3] == 'p' && path[4] == '/';
		if (!tmp && !(j == ndir && j && path[j] == '/'))
			return 1;
	} else {
		later = 0;
	}
add:
	if (later) {
		u64 flags = nr == OPEN ? f->rsi : nr == OPENAT ? f->rdx : 0;
		int no = link || nr == LSTAT || flags & O_NOFOLLOW || (flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL) ||
			 ((nr == NEWFSTATAT || nr == FACCESSAT2) && f->r10 & AT_SYMLINK_NOFOLLOW) || (nr == STATX && f->rdx & AT_SYMLINK_NOFOLLOW);
		how = !no ? how | LATER_FOLLOW : how & LOOKUP_MADE ? LATER_NO_FOLLOW | LATER_MADE : LATER_NO_FOLLOW;
	}
	for (u32 tries = 0; tries < TABLE; h++) {
		u32 *slot = &log->table[h & (TABLE - 1)], at = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
		if (!at) {
			if (++tries > 64)
				return 1;
			u32 total = (u32)(sizeof(struct lookup) + n + 3) & ~3u;
			if (log->used > ENTRIES - 2 * LONGEST)
				return 1;
			u32 mine = __atomic_fetch_add(&log->used, total, __ATOMIC_RELAXED);
			if (mine > ENTRIES - 2 * LONGEST)
				return 1;
			struct lookup *l = (struct lookup *)(log->entries + mine);
			*l = (struct lookup){.length = (u16)n, .op = op, .how = how};
			char *to = (char *)(l + 1);
			for (u32 j = 0; j < n; j++)
				to[j] = path[j];
			u32 none = 0;
			if (__atomic_compare_exchange_n(slot, &none, mine + 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
				goto added;
			at = none; // somebody was faster: ours is lost room
		}
		if (at > ENTRIES - 2 * LONGEST)
			return 1;
		struct lookup *l = (struct lookup *)(log->entries + at - 1);
		const char *have = (const char *)(l + 1);
		u32 j = l->op == op && l->length == n ? 0 : ~0u;
		while (j < n && have[j] == path[j])
			j++;
		if (j == n) {
			if (!(how & ~__atomic_load_n(&l->how, __ATOMIC_RELAXED)))
				return 0;
			__atomic_fetch_or(&l->how, how, __ATOMIC_SEQ_CST);
			goto added;
		}
		if (++tries > 64)
			return 1;
	}
	return 1;
added: // but if something stirs at this moment, scribe_follow may not have seen it
	return later && !__atomic_load_n(&log->still, __ATOMIC_SEQ_CST);
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

// The loader, with gaps to be filled in. It runs right after a system call, so
// rcx and r11 are free.
__asm__(".section .rodata\n"
	".globl loader, loader_back, loader_fd, loader_size, loader_bytes, loader_nr, loader_asked, loader_end\n"
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
	"	mov $0x11111111, %eax\n"
	"loader_nr:\n"
	"	syscall\n" // done: see scribe_answer
	"loader_asked:\n"
	"	pop %r9\n	pop %r8\n	pop %r10\n	pop %rdx\n	pop %rsi\n	pop %rdi\n	pop %rax\n	pop %rcx\n"
	"	lea 128(%rsp), %rsp\n"
	"	jmp *%rcx\n"
	"loader_end:\n"
	".text\n");

#endif
