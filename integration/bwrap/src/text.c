// Memory that is never given back, texts, messages, and errors by name.
#include "plan.h"
#include <stdarg.h>

_Noreturn void quit(int code)
{
	for (;;)
		SYS(exit_group, code);
}

static char *room;
static size_t room_left;

void *alloc(size_t n)
{
	n = (n + 15) & ~(size_t)15;
	if (n > room_left) {
		size_t size = n > 1 << 20 ? n : 1 << 20;
		long at = sys6(SYS_mmap, 0, (long)size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (at < 0 && at > -4096) {
			write_all(2, "bwrap: Out of memory\n");
			quit(1);
		}
		room = (char *)at;
		room_left = size;
	}
	void *p = room;
	room += n;
	room_left -= n;
	return p;
}

char *join(const char *a, const char *b, const char *c)
{
	size_t x = strlen(a), y = strlen(b), z = strlen(c);
	char *s = alloc(x + y + z + 1);
	memcpy(s, a, x);
	memcpy(s + x, b, y);
	memcpy(s + x + y, c, z + 1);
	return s;
}

static char *number_text(u64 n, u32 base)
{
	char digits[32], *p = digits + sizeof digits;
	*--p = 0;
	do
		*--p = (char)('0' + n % base);
	while (n /= base);
	return join(p, "", "");
}

// format knows %s, %d of an int, %u of a u64, and %o, which is an octal number
// with a 0 before it.
static char *vformat(const char *f, va_list args)
{
	char *s = "";
	while (*f) {
		const char *p = f;
		while (*p && *p != '%')
			p++;
		char *part = alloc((size_t)(p - f) + 1);
		memcpy(part, f, (size_t)(p - f));
		part[p - f] = 0;
		s = join(s, part, "");
		if (!*p)
			break;
		if (p[1] == 's') {
			s = join(s, va_arg(args, const char *), "");
		} else if (p[1] == 'u') {
			s = join(s, number_text(va_arg(args, u64), 10), "");
		} else if (p[1] == 'o') {
			u32 n = va_arg(args, u32);
			s = join(s, n ? "0" : "", number_text(n, 8));
		} else {
			int n = va_arg(args, int);
			s = join(s, n < 0 ? "-" : "", number_text(n < 0 ? -(u64)n : (u64)n, 10));
		}
		f = p + 2;
	}
	return s;
}

char *format(const char *f, ...)
{
	va_list args;
	va_start(args, f);
	char *s = vformat(f, args);
	va_end(args);
	return s;
}

_Noreturn void die(long err, const char *f, ...)
{
	va_list args;
	va_start(args, f);
	char *s = vformat(f, args);
	va_end(args);
	if (err)
		s = join(s, ": ", error_text(err));
	// One write: the line stays whole among those of others.
	s = join(the_plan ? str(the_plan->name) : "sbx-bwrap", ": ", s);
	write_all(2, join(the_plan && on(LEVEL_PREFIX) ? "<3>" : "", s, "\n"));
	quit(1);
}

// error_text is the C library's text of the error -err.
const char *error_text(long err)
{
	static const char *const texts[] = {
		[1] = "Operation not permitted", "No such file or directory", "No such process", "Interrupted system call",
		"Input/output error", "No such device or address", "Argument list too long", "Exec format error",
		"Bad file descriptor", "No child processes", "Resource temporarily unavailable", "Cannot allocate memory",
		"Permission denied", "Bad address", "Block device required", "Device or resource busy", "File exists",
		"Invalid cross-device link", "No such device", "Not a directory", "Is a directory", "Invalid argument",
		"Too many open files in system", "Too many open files", "Inappropriate ioctl for device", "Text file busy",
		"File too large", "No space left on device", "Illegal seek", "Read-only file system", "Too many links",
		"Broken pipe", "Numerical argument out of domain", "Numerical result out of range",
		"Resource deadlock avoided", "File name too long", "No locks available", "Function not implemented",
		"Directory not empty", "Too many levels of symbolic links",
		[87] = "Too many users",
		[95] = "Operation not supported",
		[107] = "Transport endpoint is not connected",
		[110] = "Connection timed out",
		[111] = "Connection refused",
		[116] = "Stale file handle",
		[122] = "Disk quota exceeded",
	};
	long n = -err;
	if (n > 0 && n < (long)(sizeof texts / sizeof *texts) && texts[n])
		return texts[n];
	return format("Unknown error %d", (int)n);
}

// mount_error_text says what mount means by an error that others mean otherwise.
const char *mount_error_text(long err)
{
	if (err == -ENOSPC)
		return "Limit exceeded (ENOSPC). (Hint: Check that /proc/sys/fs/mount-max is sufficient, typically 100000)";
	return error_text(err);
}

void write_all(s32 fd, const char *s)
{
	size_t n = strlen(s);
	while (n) {
		long done = SYS(write, fd, s, n);
		if (done == -EINTR)
			continue;
		if (done <= 0)
			return;
		s += done;
		n -= (size_t)done;
	}
}

long write_file(s32 dir, const char *name, const char *text)
{
	s32 fd = (s32)SYS(openat, dir, name, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return fd;
	long n = SYS(write, fd, text, strlen(text));
	SYS(close, fd);
	return n < 0 ? n : 0;
}

// close_all_but closes everything from 3 on but the three, of which -1 are none.
void close_all_but(s32 a, s32 b, s32 c)
{
	u32 from = 3;
	for (;;) {
		u32 next = ~0u;
		s32 keep[] = {a, b, c};
		for (int i = 0; i < 3; i++)
			if (keep[i] >= 0 && (u32)keep[i] >= from && (u32)keep[i] < next)
				next = (u32)keep[i];
		if (next > from)
			SYS(close_range, from, next == ~0u ? next : next - 1, 0);
		if (next == ~0u)
			return;
		from = next + 1;
	}
}
