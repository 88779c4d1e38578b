// What the kernel executes besides a program: the interpreter of a script, the dynamic
// loader of an ELF file.
#include "observe.h"

static u16 get16(const u8 *p)
{
	return (u16)(p[0] | p[1] << 8);
}

static u32 get32(const u8 *p)
{
	return get16(p) | (u32)get16(p + 2) << 16;
}

static u64 get64(const u8 *p)
{
	return get32(p) | (u64)get32(p + 4) << 32;
}

// An elf_file is a program, of which the beginning has been read: mostly that is all
// that we want to see.
struct elf_file {
	long fd, n; // n bytes of head
	u8 head[1025];
};

static int read_elf(struct elf_file *f, void *to, size_t n, u64 at)
{
	if (at <= (u64)f->n && n <= (u64)f->n - at) {
		memcpy(to, f->head + at, n);
		return 1;
	}
	return SYS(pread64, f->fd, to, n, at) == (long)n;
}

// elf_interpreter finds the dynamic loader that a program asks for.
static int elf_interpreter(struct elf_file *f, char out[static PATH_MAX])
{
	const u8 *head = f->head;
	int wide = head[4] == 2;
	u64 at = wide ? get64(head + 32) : get32(head + 28);
	u32 each = get16(head + (wide ? 54 : 42)), n = get16(head + (wide ? 56 : 44));
	u8 ph[64];
	if (each < (wide ? 56u : 32u))
		return 0;
	for (u32 i = 0; i < n && i < 256; i++) {
		if (!read_elf(f, ph, wide ? 56 : 32, at + (u64)i * each))
			return 0;
		if (get32(ph) != 3) // PT_INTERP
			continue;
		u64 offset = wide ? get64(ph + 8) : get32(ph + 4), size = wide ? get64(ph + 32) : get32(ph + 16);
		if (size >= PATH_MAX)
			return 0;
		if (!read_elf(f, out, size, offset)) {
			long got = SYS(pread64, f->fd, out, size, offset); // it is cut off
			if (got <= 0)
				return 0;
			size = (u64)got;
		}
		out[size] = 0;
		return out[0] != 0;
	}
	return 0;
}

// interpreter finds out what the kernel executes on behalf of o->name. *last says that
// it asks that for no interpreter of its own.
int interpreter(struct observer *o, char out[static PATH_MAX], int *last)
{
	enum { SCRIPT = 256 }; // bytes of a script's first line that count
	struct elf_file f;
	u8 *head = f.head;
	const char *name = own_proc(o, o->name) ? o->next : o->name;
	long fd = f.fd = SYS(openat, AT_FDCWD, name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	long n = f.n = SYS(pread64, fd, head, sizeof f.head - 1, 0);
	int found = 0;
	if (n > 0)
		memset(head + n, 0, n < 64 ? 64 : 1);
	if (n > 52 && !memcmp(head, "\177ELF", 4)) {
		found = elf_interpreter(&f, out);
		*last = 1;
	} else if (n > 2 && head[0] == '#' && head[1] == '!') {
		u8 *p = head + 2;
		if (n > SCRIPT)
			head[SCRIPT] = 0;
		while (*p == ' ' || *p == '\t')
			p++;
		size_t len = 0;
		while (p[len] && p[len] != ' ' && p[len] != '\t' && p[len] != '\n')
			len++;
		memcpy(out, p, len);
		out[len] = 0;
		found = len > 0;
	}
	SYS(close, fd);
	return found;
}
