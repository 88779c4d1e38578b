// The memory of the processes of a command, which wait for our answer, and what the
// kernel says of them.
#include "slot.h"

long peek_process(u32 tid, u64 at, void *to, size_t n)
{
	struct iovec local = {to, n}, remote = {(void *)at, n};
	return sys6(SYS_process_vm_readv, tid, (long)&local, 1, (long)&remote, 1, 0);
}

s32 poke_process(u32 tid, u64 at, const void *from, size_t n)
{
	struct iovec local = {(void *)from, n}, remote = {(void *)at, n};
	long got = sys6(SYS_process_vm_writev, tid, (long)&local, 1, (long)&remote, 1, 0);
	return got == (long)n ? 0 : -EFAULT;
}

// peek_string reads a path, up to its end and not beyond what is mapped.
int peek_string(u32 tid, u64 at, char buf[static PATH_MAX])
{
	size_t done = 0;
	while (at && done < PATH_MAX) {
		size_t part = 256 - ((at + done) & 255);
		if (part > PATH_MAX - done)
			part = PATH_MAX - done;
		if (peek_process(tid, at + done, buf + done, part) != (long)part)
			return 0;
		for (size_t i = 0; i < part; i++)
			if (!buf[done + i])
				return 1;
		done += part;
	}
	return 0;
}

int read_status(s32 proc, const char *path, char *buf, size_t size)
{
	long fd = SYS(openat, proc, path, O_RDONLY | O_CLOEXEC), n = 0;
	if (fd >= 0) {
		n = SYS(read, fd, buf, size - 1);
		SYS(close, fd);
	}
	buf[n > 0 ? n : 0] = 0;
	return n > 0;
}

s64 field(const char *status, const char *name, u32 base)
{
	for (const char *p = status; *p; p++) {
		if (*p != '\n' || !has_prefix(p, name))
			continue;
		u64 number = 0;
		for (p += strlen(name);; p++) {
			u32 digit = *p >= '0' && *p <= '9' ? (u32)(*p - '0') : *p >= 'a' && *p <= 'f' ? (u32)(*p - 'a' + 10) : 99;
			if (digit >= base)
				return (s64)number;
			number = number * base + digit;
		}
	}
	return -1;
}

s64 status_number(s32 proc, const char *path, const char *name, u32 base)
{
	char status[512];
	read_status(proc, path, status, sizeof status);
	return field(status, name, base);
}
