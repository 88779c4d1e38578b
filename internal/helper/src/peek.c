// The memory of the process at hand, which waits for our answer.
#include "observe.h"

long peek(struct observer *o, u64 at, void *to, size_t n)
{
	size_t done = 0;
	while (done < n) {
		size_t page = PATH_MAX - ((at + done) & (PATH_MAX - 1)), part = n - done < page ? n - done : page;
		struct iovec local = {(char *)to + done, part}, remote = {(void *)(at + done), part};
		long got = sys6(SYS_process_vm_readv, o->tid, (long)&local, 1, (long)&remote, 1, 0);
		if (got == -EPERM || got == -ENOSYS)
			o->complete = 0;
		if (got <= 0)
			return done ? (long)done : got;
		done += (size_t)got;
	}
	return (long)done;
}

long peek_parts(struct observer *o, void *to, size_t size, const struct iovec *parts, u32 n)
{
	struct iovec local = {to, size};
	long got = sys6(SYS_process_vm_readv, o->tid, (long)&local, 1, (long)parts, n, 0);
	if (got == -EPERM || got == -ENOSYS)
		o->complete = 0;
	return got;
}

const u8 *peek_code(struct observer *o, u64 ip)
{
	if (o->code_ip != ip)
		o->code_ip = peek(o, ip - SITE_BEFORE, o->code, SITE) == SITE ? ip : 0;
	return o->code_ip ? o->code : 0;
}

int peek_path(struct observer *o, u64 at, char buf[static PATH_MAX])
{
	enum { FIRST = 256 };
	size_t done = 0;
	if (!at)
		return 0;
	size_t page = PATH_MAX - (at & (PATH_MAX - 1)), here = page < FIRST ? page : FIRST;
	struct iovec parts[3] = {{(void *)at, here}};
	u32 n = 1;
	if (here < FIRST)
		parts[n++] = (struct iovec){(void *)(at + here), FIRST - here};
	if (o->ip)
		parts[n++] = (struct iovec){(void *)(o->ip - SITE_BEFORE), SITE};
	long got = peek_parts(o, buf, FIRST + (o->ip ? SITE : 0), parts, n);
	if (got == FIRST + SITE) {
		memcpy(o->code, buf + FIRST, SITE);
		o->code_ip = o->ip;
	}
	o->ip = 0;
	while (got > 0) {
		size_t end = done + (size_t)got;
		if (!done && end > FIRST)
			end = FIRST;
		for (; done < end; done++)
			if (!buf[done])
				return 1;
		if (done == PATH_MAX)
			return 0; // ENAMETOOLONG
		got = peek(o, at + done, buf + done, PATH_MAX - done);
	}
	return 0; // EFAULT for the command, too
}
