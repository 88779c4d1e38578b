// What the ownership recorder has written down: the table of inodes, what it begins
// with, and the log that it ends as.
#include "owned.h"

enum {
	OWNERS_MIN = 1 << 10, // size of the table
	SPARE_FDS = 128, // that are not used to hold inodes
	SWEEP = 8, // entries that are looked at for each one that is new
	S_ISUID = 04000,
	S_ISGID = 02000,
};

static u64 device_of(const struct statx *st)
{
	const u32 *rest = (const u32 *)st->rest; // rdev_major, rdev_minor, dev_major, dev_minor
	return (u64)rest[2] << 32 | rest[3];
}

static u32 place(struct owners *o, u64 dev, u64 ino)
{
	u64 h = (ino ^ dev * 0x9e3779b97f4a7c15ull) * 0xff51afd7ed558ccdull;
	return (u32)(h >> 32) & (o->size - 1);
}

struct owned *find_owned(struct owners *o, const struct statx *st)
{
	u64 dev = device_of(st);
	if (!o->count)
		return 0;
	for (u32 i = place(o, dev, st->ino); o->table[i].used; i = (i + 1) & (o->size - 1))
		if (o->table[i].used == 1 && o->table[i].ino == st->ino && o->table[i].dev == dev)
			return &o->table[i];
	return 0;
}

static void let_go(struct owners *o, struct owned *w)
{
	if (w->fd >= 0) {
		SYS(close, w->fd);
		o->held--;
	}
	w->used = 2;
}

// dead says whether the last name of an inode is gone.
static int dead(struct owned *w)
{
	struct statx st;
	return w->fd >= 0 && SYS(statx, w->fd, "", AT_EMPTY_PATH, STATX_NLINK, &st) >= 0 && st.nlink == 0;
}

// sweep looks at the next n entries.
void sweep(struct owners *o, u32 n)
{
	for (u32 i = 0; i < o->size && n; i++) {
		struct owned *w = &o->table[o->hand = (o->hand + 1) & (o->size - 1)];
		if (w->used != 1)
			continue;
		n--;
		if (dead(w))
			let_go(o, w);
	}
}

// grow makes a table with room, of what is still there.
static int grow(struct owners *o)
{
	u32 live = 0, size = OWNERS_MIN;
	for (u32 i = 0; i < o->size; i++) {
		struct owned *w = &o->table[i];
		if (w->used == 1 && dead(w))
			let_go(o, w);
		live += w->used == 1;
	}
	while (size < live * 4)
		size *= 2;
	struct owned *old = o->table, *table = map_memory(size * sizeof *table);
	u32 old_size = o->size;
	if (!table)
		return -ENOMEM;
	o->table = table;
	o->size = size;
	o->count = live;
	for (u32 i = 0; i < old_size; i++) {
		if (old[i].used != 1)
			continue;
		u32 at = place(o, old[i].dev, old[i].ino);
		while (table[at].used)
			at = (at + 1) & (size - 1);
		table[at] = old[i];
	}
	if (old)
		SYS(munmap, old, old_size * sizeof *old);
	return 0;
}

// write_down returns the entry of an inode, which fd is open for; a new one
// belongs to 0:0. It takes fd over.
struct owned *write_down(struct owners *o, s32 fd, const struct statx *st)
{
	struct owned *w = find_owned(o, st);
	if (w) {
		SYS(close, fd);
		return w;
	}
	sweep(o, SWEEP);
	if ((o->count + 1) * 2 > o->size && grow(o) < 0) {
		SYS(close, fd);
		return 0;
	}
	u32 i = place(o, device_of(st), st->ino);
	while (o->table[i].used == 1)
		i = (i + 1) & (o->size - 1);
	w = &o->table[i];
	o->count += !w->used;
	*w = (struct owned){.dev = device_of(st), .ino = st->ino, .fd = fd, .used = 1};
	if (o->held < o->most) {
		o->held++;
	} else { // in memory an inode's number is not used again
		SYS(close, fd);
		w->fd = -1;
	}
	return w;
}

static const char *self_fd(char buf[static 32], s32 fd)
{
	struct text t = text_in(buf, 32);
	put(&t, "self/fd/");
	put_number(&t, (u64)fd);
	return buf;
}

long look(s32 fd, struct statx *st)
{
	enum { BASIC = 0x7ff };
	return SYS(statx, fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, BASIC, st);
}

// touch does what changing the owner does besides: bits that a new owner must not
// have are cleared. It also has the file copied into the layer that takes the
// writes: that changes its number, and in the layers below files with the same
// contents may be one.
void touch(struct owners *o, s32 fd, const struct statx *st, int clear)
{
	char name[32];
	u32 mode = st->mode & 07777;
	if ((st->mode & S_IFMT) == S_IFLNK) {
		struct timespec times[2] = {{st->atime.sec, st->atime.nsec}, {st->mtime.sec, st->mtime.nsec}};
		SYS(utimensat, fd, "", times, AT_EMPTY_PATH);
		return;
	}
	if (clear && (st->mode & S_IFMT) == S_IFREG)
		mode &= ~(S_ISUID | (mode & 010 ? S_ISGID : 0));
	SYS(fchmodat, o->proc, self_fd(name, fd), mode);
}

// be_command makes this process, as far as files are concerned, the user that the
// command is, or itself again.
static void be_command(struct sandbox *s, u32 id)
{
	if (s->slot->unprivileged)
		return;
	SYS(setfsgid, id);
	SYS(setfsuid, id);
}

// known reads what is known of a file before the command starts: five numbers, uid,
// gid, kind, major, minor, and its path in the root. Devices are made.
static void known(struct owners *o, const char *p)
{
	u32 number[5];
	struct statx st;
	for (u32 i = 0; i < 5; i++, p++)
		for (number[i] = 0; *p >= '0' && *p <= '9'; p++)
			number[i] = number[i] * 10 + (u32)(*p - '0');
	char *name = o->name;
	struct text t = text_in(name, sizeof o->name);
	put(&t, p);
	long fd = SYS(openat, AT_FDCWD, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return;
	long err = look((s32)fd, &st);
	if (err >= 0) {
		touch(o, (s32)fd, &st, 0);
		err = look((s32)fd, &st);
	}
	if (err < 0) {
		SYS(close, fd);
		return;
	}
	struct owned *w = write_down(o, (s32)fd, &st);
	if (!w)
		fail(o->s, "record owners", 0, -ENOMEM);
	w->uid = number[0];
	w->gid = number[1];
	w->kind = number[2];
	w->major = number[3];
	w->minor = number[4];
}

// owners_begin makes the recorder. The root must be the command's.
void owners_begin(struct sandbox *s)
{
	struct owners *o = s->owners = map_memory(sizeof *o);
	if (!o)
		fail(s, "record owners", 0, -ENOMEM);
	o->s = s;
	o->proc = s->own_proc ? s->own_proc : (s32)SYS(openat, AT_FDCWD, "/proc", O_PATH | O_CLOEXEC);
	if (o->proc < 0)
		fail(s, "open", "/proc", o->proc);
	struct rlimit l;
	long err = SYS(prlimit64, 0, RLIMIT_NOFILE, 0, &l);
	l.soft = l.hard < 1 << 20 ? l.hard : 1 << 20;
	if (err >= 0)
		err = SYS(prlimit64, 0, RLIMIT_NOFILE, &l, 0);
	o->most = err < 0 ? 512 : (s32)l.soft - SPARE_FDS;
	be_command(s, s->req->id);
	const char *p = s->known;
	for (u32 i = 0; i < s->req->nknown; i++, p = next_string(p))
		known(o, p);
}

static void flush(struct owners *o)
{
	for (u32 done = 0; done < o->log_used;) {
		long n = SYS(write, o->log_fd, o->log + done, o->log_used - done);
		if (n < 0 && n != -EINTR)
			fail(o->s, "write down owners", 0, n);
		done += n > 0 ? (u32)n : 0;
	}
	o->log_size += o->log_used;
	o->log_used = 0;
}

// report adds an inode to the log: see helper.Owned.
static void report(struct owners *o, struct owned *w)
{
	struct statx st;
	char name[32];
	long n = 0;
	if (w->fd >= 0) {
		if (look(w->fd, &st) < 0 || st.nlink == 0)
			return;
		n = SYS(readlinkat, o->proc, self_fd(name, w->fd), o->path, PATH_MAX);
	}
	if (o->log_used + sizeof(struct owner_entry) + PATH_MAX + 8 > sizeof o->log)
		flush(o);
	struct owner_entry e = {
		.ino = w->ino, .uid = w->uid, .gid = w->gid, .kind = w->kind, .major = w->major, .minor = w->minor,
		.dev_major = (u32)(w->dev >> 32), .dev_minor = (u32)w->dev, .length = n > 0 ? (u32)n : 0,
	};
	memcpy(o->log + o->log_used, &e, sizeof e);
	memcpy(o->log + o->log_used + sizeof e, o->path, e.length);
	o->log_used += (u32)((sizeof e + e.length + 7) & ~7ul);
}

// owners_finish adds what was written down to the reply. No process of the
// command may be alive. The inodes stay held until we end.
void owners_finish(struct sandbox *s)
{
	struct owners *o = s->owners;
	be_command(s, 0);
	o->log_fd = (s32)SYS(memfd_create, "sbx-owners", MFD_CLOEXEC);
	if (o->log_fd < 0)
		fail(s, "make a file in memory", 0, o->log_fd);
	for (u32 i = 0; i < o->size; i++)
		if (o->table[i].used == 1)
			report(o, &o->table[i]);
	flush(o);
	s->reply.owners_size = o->log_size;
	s->reply_fds[s->reply_nfds++] = o->log_fd;
}

// owners_free is called by the slot when pid 1 is dead.
void owners_free(struct sandbox *s)
{
	struct owners *o = s->owners;
	if (!o)
		return;
	if (o->table)
		SYS(munmap, o->table, o->size * sizeof *o->table);
	SYS(munmap, o, sizeof *o);
	s->owners = 0;
}
