#include "lib.h"

void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
	char *t = to;
	const char *f = from;
#if defined __x86_64__
	__asm__ volatile("rep movsb" : "+D"(t), "+S"(f), "+c"(n) : : "memory");
#else
	while (n--)
		*t++ = *f++;
#endif
	return to;
}

void *memset(void *to, int c, size_t n)
{
	char *t = to;
#if defined __x86_64__
	__asm__ volatile("rep stosb" : "+D"(t), "+c"(n) : "a"(c) : "memory");
#else
	while (n--)
		*t++ = (char)c;
#endif
	return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const u8 *x = a, *y = b;
	for (; n >= 8; n -= 8, x += 8, y += 8) {
		u64 v, w;
		__builtin_memcpy(&v, x, 8);
		__builtin_memcpy(&w, y, 8);
		if (v != w)
			break;
	}
	for (; n; n--, x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}

size_t strlen(const char *s)
{
	size_t n = 0;
	while (s[n])
		n++;
	return n;
}

int str_equal(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

int has_prefix(const char *s, const char *prefix)
{
	while (*prefix && *s == *prefix)
		s++, prefix++;
	return !*prefix;
}

struct text text_in(char *buf, size_t size)
{
	*buf = 0;
	return (struct text){buf, buf + size - 1};
}

void put(struct text *t, const char *s)
{
	while (*s && t->at < t->end)
		*t->at++ = *s++;
	*t->at = 0;
}

void put_number(struct text *t, u64 n)
{
	char digits[24], *p = digits + sizeof digits;
	*--p = 0;
	do
		*--p = (char)('0' + n % 10);
	while (n /= 10);
	put(t, p);
}

u64 now_ns(void)
{
	struct timespec t;
	SYS(clock_gettime, CLOCK_MONOTONIC, &t);
	return (u64)t.sec * 1000000000 + (u64)t.nsec;
}

void *map_memory(size_t size)
{
	enum { MAP_NORESERVE = 0x4000 };
	long at = sys6(SYS_mmap, 0, (long)size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return at < 0 && at > -PATH_MAX ? 0 : (void *)at;
}

// The new process finds fn and arg on its stack, because the registers that
// carry them there are a matter of the machine.
#if defined __x86_64__
__asm__(".text\n.global clone_onto\n.type clone_onto,@function\nclone_onto:\n"
	"	sub $16, %rsi\n"
	"	mov %rdx, (%rsi)\n" // fn
	"	mov %rcx, 8(%rsi)\n" // arg
	"	xor %edx, %edx\n" // no parent_tid, child_tid, tls
	"	xor %r10d, %r10d\n"
	"	xor %r8d, %r8d\n"
	"	mov cookie(%rip), %r9\n"
	"	mov $56, %eax\n"
	"	syscall\n"
	"	test %rax, %rax\n"
	"	jz 1f\n"
	"	ret\n"
	"1:	xor %ebp, %ebp\n"
	"	pop %rax\n"
	"	pop %rdi\n"
	"	call *%rax\n"
	"	ud2\n"
	".size clone_onto, .-clone_onto\n");
#else
__asm__(".text\n.global clone_onto\n.type clone_onto,%function\nclone_onto:\n"
	"	stp x2, x3, [x1, #-16]!\n"
	"	mov x2, xzr\n"
	"	mov x3, xzr\n"
	"	mov x4, xzr\n"
	"	adrp x5, cookie\n"
	"	ldr x5, [x5, #:lo12:cookie]\n"
	"	mov x8, #220\n"
	"	svc #0\n"
	"	cbz x0, 1f\n"
	"	ret\n"
	"1:	mov x29, xzr\n"
	"	ldp x1, x0, [sp], #16\n"
	"	blr x1\n"
	"	brk #1\n"
	".size clone_onto, .-clone_onto\n");
#endif
