// Sites: the places from which programs make system calls, as far as a scribe can
// get in there. See scribe.h.
//
// What is patched is always the five bytes in front of the syscall instruction, if
// they are one instruction that loads a constant into a register, and the
// number of the call is a constant, too: that is what the C library's wrappers look
// like.
//
// A program makes its calls from a dozen of such places in the C library, and the
// next program, of which a compiler has three, from the same ones, but at another
// address. So a site that has asked is kept in mind with the code around it. Where
// the same code asks again, in whatever process, it is known at once; and so are its
// neighbours: what was found as far from it as they were, with the code that they
// had, are they.
#include "scribe.h"

#if defined __x86_64__

static const s16 taken_calls[] = {MMAP, OPEN, STAT, LSTAT, ACCESS, READLINK, OPENAT, NEWFSTATAT, READLINKAT, FACCESSAT, STATX, FACCESSAT2};

// suitable says whether code, around the end of a syscall instruction for nr, can be
// patched.
static int suitable(const u8 *code, s32 nr)
{
	const u8 *end = code + SITE_BEFORE;
	// mov $nr, %eax; syscall
	if (end[-7] == 0xb8 && !memcmp(end - 6, &nr, 4) && end[-2] == 0x0f && end[-1] == 0x05)
		return 1;
	// mov $nr, %eax; mov %rdi, %rsi; mov $AT_FDCWD, %edi; syscall
	return nr == OPENAT && end[-15] == 0xb8 && !memcmp(end - 14, &nr, 4) &&
	       !memcmp(end - 10, "\x48\x89\xfe\xbf\x9c\xff\xff\xff\x0f\x05", 10);
}

static u32 in_mind(const struct sites *s)
{
	return s->n < SITES ? s->n : SITES;
}

static struct site *find_site(struct sites *s, const u8 *code)
{
	for (struct site *k = s->list; k < s->list + in_mind(s); k++)
		if (!memcmp(k->code, code, SITE))
			return k;
	return 0;
}

int consider_site(struct observer *o, struct sites *s, u64 ip, s32 nr)
{
	const u8 *code;
	int taken = 0;
	for (u32 i = 0; i < sizeof taken_calls / sizeof *taken_calls; i++)
		taken |= taken_calls[i] == nr;
	if (!taken || !(code = peek_code(o, ip)) || !suitable(code, nr))
		return -1;
	struct site *k = find_site(s, code);
	int known = k != 0;
	if (!known) { // in the place of the oldest, if there is no room
		k = &s->list[s->n++ % SITES];
		k->nr = nr;
		// Where it is from the neighbour that was seen last.
		k->ip = s->tid == o->tid && ip - s->ip + FAMILY <= 2 * FAMILY ? ip - s->moved : ip;
		memcpy(k->code, code, SITE);
	}
	// Code that two libraries have is where it was first seen. Who stands beside it
	// belongs there, too.
	if (known && s->last && s->tid == o->tid && ip - s->ip + FAMILY <= 2 * FAMILY)
		s->last->ip = s->ip - (ip - k->ip);
	s->tid = o->tid;
	s->ip = ip;
	s->moved = ip - k->ip;
	s->last = k;
	return known;
}

// Who executes something is mostly a process that has just been made, and what it calls
// from is where the one that made it has it.
void consider_exec(struct observer *o, struct sites *s, u64 ip)
{
	const u8 *code = peek_code(o, ip);
	if (!code || !suitable(code, EXECVE) || find_site(s, code))
		return;
	int beside = s->last && ip - s->ip + FAMILY <= 2 * FAMILY && (s->tid == o->tid || as_made(o, o->tid, s->tid));
	struct site *k = &s->list[s->n++ % SITES];
	k->nr = EXECVE;
	k->ip = beside ? ip - s->moved : ip;
	memcpy(k->code, code, SITE);
}

u32 find_sites(struct observer *o, struct sites *s, u64 ip, struct found out[static SITES])
{
	u8 code[SITES][SITE];
	struct iovec remote[SITES];
	u32 n = 0, found = 0;
	const u8 *own = peek_code(o, ip);
	if (!own)
		return 0;
	struct site *k = find_site(s, own), *of[SITES];
	if (!k)
		return 0;
	for (struct site *other = s->list; other < s->list + in_mind(s); other++) {
		u64 distance = other->ip - k->ip;
		if (distance + FAMILY > 2 * FAMILY)
			continue;
		remote[n] = (struct iovec){(void *)(ip + distance - SITE_BEFORE), SITE};
		of[n++] = other;
	}
	memset(code, 0, n * SITE);
	// What is not mapped ends it: then the others will be found later.
	peek_parts(o, code, n * SITE, remote, n);
	for (u32 i = 0; i < n; i++) {
		struct found *f = &out[found];
		f->ip = (u64)remote[i].base + SITE_BEFORE;
		f->nr = of[i]->nr;
		memcpy(f->code, code[i], SITE);
		if (!memcmp(of[i]->code, code[i], SITE) && suitable(f->code, f->nr))
			found++;
	}
	return found;
}

void forget_process(struct sites *s)
{
	s->tid = 0;
	s->last = 0;
}

#endif
