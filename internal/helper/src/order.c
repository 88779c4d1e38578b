// The order in which a command finds the names in a directory.
//
// A name's place is a hash of it, and the offset of a directory that is open is
// the smallest place that has not been told yet. So it does not matter what is made
// or removed meanwhile, and seekdir works.
#include "varied.h"

static u64 entry_next(const u8 *e)
{
	u16 n;
	memcpy(&n, e + 16, 2);
	return n;
}

static const char *entry_name(const u8 *e)
{
	return (const char *)e + 19;
}

static u32 place_of(const char *name, u32 seed)
{
	if (str_equal(name, ".") || str_equal(name, ".."))
		return name[1] == '.';
	u32 h = 2166136261u ^ seed;
	for (const u8 *p = (const u8 *)name; *p; p++)
		h = (h ^ *p) * 16777619u;
	h ^= h >> 15;
	h *= 0x2c1b3c6du;
	h ^= h >> 13;
	return 2 + h % 0x7ffffff0u; // an offset that every file system takes
}

static int compare(struct varied *v, struct entry a, struct entry b)
{
	if (a.key != b.key)
		return a.key < b.key ? -1 : 1;
	const char *x = entry_name(v->entries + a.at), *y = entry_name(v->entries + b.at);
	while (*x && *x == *y)
		x++, y++;
	return (u8)*x - (u8)*y;
}

static void sift(struct varied *v, u32 root, u32 n)
{
	struct entry *o = v->order;
	for (u32 child; (child = 2 * root + 1) < n; root = child) {
		if (child + 1 < n && compare(v, o[child], o[child + 1]) < 0)
			child++;
		if (compare(v, o[root], o[child]) >= 0)
			return;
		struct entry t = o[root];
		o[root] = o[child];
		o[child] = t;
	}
}

static void sort(struct varied *v)
{
	for (u32 i = v->n / 2; i-- > 0;)
		sift(v, i, v->n);
	for (u32 i = v->n; i-- > 1;) {
		struct entry t = v->order[0];
		v->order[0] = v->order[i];
		v->order[i] = t;
		sift(v, 0, i);
	}
}

// read_directory reads all entries whose place is from or behind it, and sorts
// them.
static int read_directory(struct varied *v, s32 fd, u32 from)
{
	enum { PART = 64 << 10 };
	if (!v->entries && !(v->entries = map_memory(ENTRIES_SIZE)))
		return 0;
	u32 used = 0, n = 0, seed = v->s->req->vary.order;
	long got;
	do {
		if (used + PART > ENTRIES_SIZE)
			return 0;
		got = SYS(getdents64, fd, v->entries + used, PART);
		used += got > 0 ? (u32)got : 0;
	} while (got > 0);
	if (got < 0)
		return 0;
	for (u32 at = 0; at < used; at += (u32)entry_next(v->entries + at))
		n++;
	if (n * sizeof *v->order > v->order_size) {
		if (v->order)
			SYS(munmap, v->order, v->order_size);
		v->order_size = n * (u32)sizeof *v->order + PART;
		if (!(v->order = map_memory(v->order_size)))
			return v->order_size = 0;
	}
	v->n = 0;
	for (u32 at = 0; at < used; at += (u32)entry_next(v->entries + at)) {
		u32 key = place_of(entry_name(v->entries + at), seed);
		if (key >= from)
			v->order[v->n++] = (struct entry){key, at};
	}
	sort(v);
	return 1;
}

// add_entry writes one entry into out, if there is room for it.
static u32 add_entry(struct varied *v, struct entry e, u32 at, u32 size, int old)
{
	const u8 *from = v->entries + e.at;
	u32 head = old ? 18 : 19, len = (u32)strlen(entry_name(from));
	u32 total = (head + len + (old ? 2 : 1) + 7) & ~7u;
	if (at + total > size)
		return 0;
	u8 *to = v->out + at;
	memset(to, 0, total);
	memcpy(to, from, 8);
	u64 next = e.key + 1;
	memcpy(to + 8, &next, 8);
	u16 n = (u16)total;
	memcpy(to + 16, &n, 2);
	memcpy(to + head, entry_name(from), len);
	to[old ? total - 1 : 18] = from[18];
	return total;
}

// fill_out fills out with the entries that have room, and returns its size.
// Entries with the same place are told at once, or a part would be lost.
static s64 fill_out(struct varied *v, u32 size, int old, u32 *next)
{
	u32 at = 0;
	for (u32 i = 0; i < v->n;) {
		u32 begin = at, key = v->order[i].key;
		for (; i < v->n && v->order[i].key == key; i++) {
			u32 n = add_entry(v, v->order[i], at, size, old);
			if (!n)
				return begin ? (s64)begin : -EINVAL;
			at += n;
		}
		*next = key + 1;
	}
	return at;
}

// take_descriptor returns a descriptor for what is open in the process as fd.
static long take_descriptor(struct varied *v, u32 tid, s32 fd)
{
	long process = SYS(pidfd_open, tid, 0);
	if (process == -EINVAL || process == -ENOENT) // not the first thread
		process = SYS(pidfd_open, status_of(v, tid, "\nTgid:\t"), 0);
	if (process < 0)
		return process;
	long got = SYS(pidfd_getfd, process, fd, 0);
	SYS(close, process);
	return got;
}

// list_in_order answers getdents64. It returns 1 if the call has to continue.
int list_in_order(struct varied *v, u32 tid, const u64 *args, int old, s64 *value)
{
	enum { SEEK_SET = 0, SEEK_CUR = 1 };
	long shared = take_descriptor(v, tid, (s32)args[0]);
	if (shared < 0)
		return 1;
	long own = SYS(openat, v->proc, proc_path(v, tid, "/fd/", (s64)(u32)args[0]), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	long from = SYS(lseek, shared, 0, SEEK_CUR);
	u32 size = (u32)args[2] < OUT_MAX ? (u32)args[2] : OUT_MAX, next = 0;
	int truth = 1;
	if (own >= 0 && from >= 0 && from < 0x7fffffff && read_directory(v, (s32)own, (u32)from)) {
		*value = fill_out(v, size, old, &next);
		if (*value > 0 && SYS(lseek, shared, next, SEEK_SET) != (long)next)
			v->s->reply.flags |= DONE_UNVARIED; // this file system cannot
		else
			truth = 0;
		if (!truth && *value > 0 && poke_process(tid, args[1], v->out, (size_t)*value) < 0)
			*value = -EFAULT;
	}
	if (own >= 0)
		SYS(close, own);
	SYS(close, shared);
	return truth;
}
