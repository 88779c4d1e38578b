// The ownership recorder: a command that is root, as far as it can tell.
//
// The command runs in a user namespace of its own, in which the one user that it
// is is called 0, and has there the capabilities that let it do with its own files
// what root may (see OWNER_CAPS in run.c). What no user can do without being root,
// the kernel stops and asks pid 1:
//
//   - chown writes an owner down, and changes nothing but the bits that chown
//     clears;
//   - mknod makes an empty file, and writes the device down;
//   - stat answers with what is written down. Whatever is not belongs to 0:0;
//   - setuid and its like succeed and do nothing.
//
// So it works for static programs and for those of 32 bits, and nothing of it is
// in the command's processes or in its root. fakeroot's rules hold: what is
// written down is a matter of stat, and gives and takes no right.
//
// What is written down belongs to an inode: to the file with all its names,
// wherever they are moved. Each such inode is held open, so that its number
// cannot become another file's, until its last name is gone.
//
// All that is done to files on behalf of the command, is done as the user that the
// command is: see be_command. Another thread can change a path between our look at it
// and the answer; it fools only itself.
//
// Not answered: the type in directory entries (a device is a file there), and
// bits and groups that new files inherit from directories with owners of their own.
#include "owners.h"
#include "slot.h"

enum {
	OWNERS_MIN = 1 << 10, // size of the table
	NO_ID = -1,
	SPARE_FDS = 128, // that are not used to hold inodes
	SWEEP = 8, // entries that are looked at for each one that is new
	EBADF = 9,
	ST_RDONLY = 1,
	S_ISUID = 04000,
	S_ISGID = 02000,
	S_IFBLK = 0060000,
	S_IFIFO = 0010000,
	S_IFSOCK = 0140000,
	PROC_MAGIC = 0x9fa0,
};

// An owned is what is written down of one inode.
struct owned {
	u64 dev, ino;
	u32 uid, gid;
	u32 kind; // S_IFCHR or S_IFBLK, or 0: what it is
	u32 major, minor;
	s32 fd; // holds it; -1: nothing does
	u32 used; // 0: a free place; 1: in use; 2: was in use
};

struct owners {
	struct sandbox *s;
	s32 proc;
	u32 tid; // of the call at hand
	struct owned *table; // open addressing
	u32 size, count; // count: with those that were in use
	u32 hand; // of the sweep
	u64 calls;
	s32 held, most; // descriptors

	s32 log_fd;
	u32 log_size, log_used;
	u8 log[16 << 10];

	char path[PATH_MAX + 64], name[PATH_MAX];
};

static u64 device_of(const struct statx *st)
{
	const u32 *rest = (const u32 *)st->rest; // rdev_major, rdev_minor, dev_major, dev_minor
	return (u64)rest[2] << 32 | rest[3];
}

static u32 old_device(u32 major, u32 minor) // as struct stat has it
{
	return (minor & 0xff) | major << 8 | (minor & ~0xffu) << 12;
}

static u32 place(struct owners *o, u64 dev, u64 ino)
{
	u64 h = (ino ^ dev * 0x9e3779b97f4a7c15ull) * 0xff51afd7ed558ccdull;
	return (u32)(h >> 32) & (o->size - 1);
}

static struct owned *find(struct owners *o, const struct statx *st)
{
	u64 dev = device_of(st);
	if (!o->count)
		return 0;
	for (u32 i = place(o, dev, st->ino); o->table[i].used; i = (i + 1) & (o->size - 1))
		if (o->table[i].used == 1 && o->table[i].ino == st->ino && o->table[i].dev == dev)
			return &o->table[i];
	return 0;
}

static void release(struct owners *o, struct owned *w)
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
static void sweep(struct owners *o, u32 n)
{
	for (u32 i = 0; i < o->size && n; i++) {
		struct owned *w = &o->table[o->hand = (o->hand + 1) & (o->size - 1)];
		if (w->used != 1)
			continue;
		n--;
		if (dead(w))
			release(o, w);
	}
}

static void *room(size_t size)
{
	long at = sys6(SYS_mmap, 0, (long)size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return at < 0 && at > -PATH_MAX ? 0 : (void *)at;
}

// grow makes a table with room, of what is still there.
static int grow(struct owners *o)
{
	u32 live = 0, size = OWNERS_MIN;
	for (u32 i = 0; i < o->size; i++) {
		struct owned *w = &o->table[i];
		if (w->used == 1 && dead(w))
			release(o, w);
		live += w->used == 1;
	}
	while (size < live * 4)
		size *= 2;
	struct owned *old = o->table, *table = room(size * sizeof *table);
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
static struct owned *write_down(struct owners *o, s32 fd, const struct statx *st)
{
	struct owned *w = find(o, st);
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

// Looking at what a call names.

static const char *of_process(struct owners *o, const char *what, s64 number, const char *rest)
{
	struct text t = text_in(o->path, sizeof o->path);
	put_number(&t, o->tid);
	put(&t, what);
	if (number >= 0)
		put_number(&t, (u64)number);
	put(&t, rest);
	return o->path;
}

static const char *self_fd(char buf[static 32], s32 fd)
{
	struct text t = text_in(buf, 32);
	put(&t, "self/fd/");
	put_number(&t, (u64)fd);
	return buf;
}

enum { CONTINUE = 1 }; // in the place of an error: the kernel shall do it

// base returns a descriptor of the directory that a relative path starts in, or
// AT_FDCWD for an absolute one.
static long base(struct owners *o, s32 dirfd, const char *path)
{
	if (path[0] == '/')
		return AT_FDCWD;
	int cwd = dirfd == AT_FDCWD;
	if (!cwd && dirfd < 0)
		return CONTINUE; // EBADF
	long fd = SYS(openat, o->proc, of_process(o, cwd ? "/cwd" : "/fd/", cwd ? -1 : dirfd, ""), O_PATH | O_CLOEXEC);
	return fd < 0 ? CONTINUE : fd + 2; // 0 to 2 are taken, and CONTINUE is 1
}

static s32 base_fd(long base)
{
	return base == AT_FDCWD ? AT_FDCWD : (s32)base - 2;
}

static void close_base(long base)
{
	if (base != AT_FDCWD)
		SYS(close, base_fd(base));
}

// own_link turns a path through the links of /proc that mean whoever looks into
// one that does not.
static const char *own_link(struct owners *o, const char *path)
{
	static const struct {
		const char *from, *to;
	} links[] = {{"/proc/self/", "/"}, {"/proc/thread-self/", "/"}, {"/dev/fd/", "/fd/"}};
	for (u32 i = 0; i < sizeof links / sizeof *links; i++)
		if (has_prefix(path, links[i].from))
			return of_process(o, links[i].to, -1, path + strlen(links[i].from));
	return 0;
}

// open_descriptor opens what the process has open.
static long open_descriptor(struct owners *o, s32 fd)
{
	if (fd < 0)
		return CONTINUE;
	long got = SYS(openat, o->proc, of_process(o, "/fd/", fd, ""), O_PATH | O_CLOEXEC);
	return got < 0 ? CONTINUE : got + 2;
}

// open_named opens what a call names, for looking at it: its descriptor + 2, an
// error, or CONTINUE.
static long open_named(struct owners *o, s32 dirfd, u64 at, u32 flags)
{
	if (flags & AT_EMPTY_PATH && !at) // since 6.11
		return dirfd == AT_FDCWD ? CONTINUE : open_descriptor(o, dirfd);
	if (!peek_string(o->tid, at, o->name))
		return CONTINUE; // EFAULT, or it is too long
	if (!o->name[0]) {
		if (!(flags & AT_EMPTY_PATH))
			return CONTINUE; // ENOENT
		if (dirfd != AT_FDCWD)
			return open_descriptor(o, dirfd);
	}
	u32 how = O_PATH | O_CLOEXEC | (flags & AT_SYMLINK_NOFOLLOW ? O_NOFOLLOW : 0);
	const char *link = own_link(o, o->name);
	if (link) {
		long fd = SYS(openat, o->proc, link, how);
		return fd < 0 ? fd : fd + 2;
	}
	long dir = base(o, dirfd, o->name);
	if (dir == CONTINUE)
		return CONTINUE;
	long fd = SYS(openat, base_fd(dir), o->name[0] ? o->name : ".", how);
	close_base(dir);
	return fd < 0 ? fd : fd + 2;
}

static int read_only(s32 fd)
{
	u64 statfs[16] = {0};
	return SYS(fstatfs, fd, statfs) >= 0 && statfs[10] & ST_RDONLY;
}

static int on_proc(s32 fd)
{
	u64 statfs[16] = {0};
	return SYS(fstatfs, fd, statfs) < 0 || statfs[0] == PROC_MAGIC;
}

static long look(s32 fd, struct statx *st)
{
	enum { BASIC = 0x7ff };
	return SYS(statx, fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, BASIC, st);
}

// touch does what changing the owner does besides: bits that a new owner must not
// have are cleared. It also has the file copied into the layer that takes the
// writes: that changes its number, and in the layers below files with the same
// contents may be one.
static void touch(struct owners *o, s32 fd, const struct statx *st, int clear)
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

// The calls. Each returns what the process gets, or CONTINUE.

static long give(struct owners *o, long fd, u32 uid, u32 gid)
{
	struct statx st;
	if (fd == CONTINUE || fd < 0)
		return fd;
	fd -= 2;
	long err = look((s32)fd, &st);
	if (err >= 0 && read_only((s32)fd))
		err = -EROFS;
	if (err < 0) {
		SYS(close, fd);
		return err;
	}
	struct owned *w = find(o, &st);
	u32 was_uid = w ? w->uid : 0, was_gid = w ? w->gid : 0;
	uid = uid == (u32)NO_ID ? was_uid : uid;
	gid = gid == (u32)NO_ID ? was_gid : gid;
	touch(o, (s32)fd, &st, 1);
	if (uid == was_uid && gid == was_gid) {
		SYS(close, fd);
		return 0;
	}
	err = look((s32)fd, &st);
	if (err < 0) {
		SYS(close, fd);
		return err;
	}
	w = write_down(o, (s32)fd, &st);
	if (!w)
		return -ENOMEM;
	w->uid = uid;
	w->gid = gid;
	return 0;
}

static u32 wide_id(u64 id)
{
	return (id & 0xffff) == 0xffff ? (u32)NO_ID : (u32)id & 0xffff;
}

static u32 umask_of(struct owners *o)
{
	char status[512];
	long fd = SYS(openat, o->proc, of_process(o, "/status", -1, ""), O_RDONLY | O_CLOEXEC), n = 0;
	if (fd >= 0) {
		n = SYS(read, fd, status, sizeof status - 1);
		SYS(close, fd);
	}
	status[n > 0 ? n : 0] = 0;
	for (const char *p = status; *p; p++)
		if (has_prefix(p, "\nUmask:\t")) {
			u32 mask = 0;
			for (p += 8; *p >= '0' && *p <= '7'; p++)
				mask = mask * 8 + (u32)(*p - '0');
			return mask;
		}
	return 022;
}

// make makes an empty file in the place of a device.
static long make(struct owners *o, s32 dirfd, u64 at, u32 mode, u32 device)
{
	u32 kind = mode & S_IFMT;
	struct statx st;
	if (kind != S_IFCHR && kind != S_IFBLK)
		return CONTINUE; // everybody may make those
	if (!peek_string(o->tid, at, o->name) || !o->name[0])
		return CONTINUE;
	long dir = base(o, dirfd, o->name);
	if (dir == CONTINUE)
		return CONTINUE;
	u32 mask = umask_of(o);
	SYS(umask, mask);
	long fd = 0, err = SYS(mknodat, base_fd(dir), o->name, S_IFREG | (mode & 07777), 0);
	SYS(umask, 022);
	if (err >= 0)
		err = fd = SYS(openat, base_fd(dir), o->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	close_base(dir);
	if (err < 0)
		return err;
	err = look((s32)fd, &st);
	if (err < 0) {
		SYS(close, fd);
		return err;
	}
	struct owned *w = write_down(o, (s32)fd, &st);
	if (!w)
		return -ENOMEM;
	w->uid = w->gid = 0;
	w->kind = kind;
	w->major = device >> 8 & 0xfff;
	w->minor = (device & 0xff) | (device >> 12 & 0xfff00);
	return 0;
}

// tell changes what statx said into what the command is told, and says whether it
// is something else than the kernel would tell it.
static int tell(struct owners *o, s32 fd, struct statx *st)
{
	struct owned *w = find(o, st);
	u32 id = o->s->req->id;
	if (!w && st->uid == id && st->gid == id)
		return 0;
	if (!w && on_proc(fd))
		return 0; // processes are whose they are
	st->uid = w ? w->uid : 0;
	st->gid = w ? w->gid : 0;
	if (w && w->kind) {
		u32 *rest = (u32 *)st->rest;
		st->mode = (u16)((st->mode & 07777) | w->kind);
		rest[0] = w->major;
		rest[1] = w->minor;
	}
	return 1;
}

// struct stat of this machine, and the 32-bit one (stat64).
struct native_stat {
#if defined __x86_64__
	u64 dev, ino, nlink;
	u32 mode, uid, gid, pad;
	u64 rdev;
	s64 size, blksize, blocks;
	struct {
		s64 sec, nsec;
	} atime, mtime, ctime;
	s64 unused[3];
#else
	u64 dev, ino;
	u32 mode, nlink, uid, gid;
	u64 rdev, pad;
	s64 size;
	s32 blksize, pad2;
	s64 blocks;
	struct {
		s64 sec, nsec;
	} atime, mtime, ctime;
	u32 unused[2];
#endif
};

struct stat_32 {
	u64 dev;
	u32 pad, short_ino, mode, nlink, uid, gid;
	u64 rdev;
	u32 pad2;
	s64 size;
	u32 blksize;
	u64 blocks;
	u32 atime, atime_nsec, mtime, mtime_nsec, ctime, ctime_nsec;
	u64 ino;
} __attribute__((packed));

static s32 poke_stat(struct owners *o, u32 arch, u64 at, const struct statx *st)
{
	const u32 *rest = (const u32 *)st->rest;
	u32 dev = old_device(rest[2], rest[3]), rdev = old_device(rest[0], rest[1]);
	if (arch == AUDIT_ARCH_I386) {
		struct stat_32 out = {
			.dev = dev, .short_ino = (u32)st->ino, .ino = st->ino, .mode = st->mode, .nlink = st->nlink, .uid = st->uid, .gid = st->gid,
			.rdev = rdev, .size = (s64)st->size, .blksize = st->blksize, .blocks = st->blocks,
			.atime = (u32)st->atime.sec, .atime_nsec = st->atime.nsec, .mtime = (u32)st->mtime.sec, .mtime_nsec = st->mtime.nsec,
			.ctime = (u32)st->ctime.sec, .ctime_nsec = st->ctime.nsec,
		};
		return poke_process(o->tid, at, &out, sizeof out);
	}
	struct native_stat out = {
		.dev = dev, .ino = st->ino, .nlink = st->nlink, .mode = st->mode, .uid = st->uid, .gid = st->gid, .rdev = rdev,
		.size = (s64)st->size, .blksize = (s32)st->blksize, .blocks = (s64)st->blocks,
		.atime = {st->atime.sec, st->atime.nsec}, .mtime = {st->mtime.sec, st->mtime.nsec}, .ctime = {st->ctime.sec, st->ctime.nsec},
	};
	return poke_process(o->tid, at, &out, sizeof out);
}

static long stat(struct owners *o, u32 arch, long fd, u64 at)
{
	struct statx st;
	if (fd == CONTINUE || fd < 0)
		return CONTINUE; // the kernel finds the same error
	fd -= 2;
	long result = look((s32)fd, &st) >= 0 && tell(o, (s32)fd, &st) ? poke_stat(o, arch, at, &st) : CONTINUE;
	SYS(close, fd);
	return result;
}

static long statx(struct owners *o, const u64 *args)
{
	enum { SYNC_TYPE = 0x6000, MASK_RESERVED = 0x80000000u };
	struct statx st;
	u32 flags = (u32)args[2], mask = (u32)args[3];
	if (mask & MASK_RESERVED || flags & ~(u32)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | 0x800 | SYNC_TYPE))
		return CONTINUE; // EINVAL
	long fd = open_named(o, (s32)args[0], args[1], flags);
	if (fd == CONTINUE || fd < 0)
		return CONTINUE;
	fd -= 2;
	long result = CONTINUE;
	memset(&st, 0, sizeof st);
	if (SYS(statx, fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | (flags & SYNC_TYPE), mask | 0x7ff, &st) >= 0 && tell(o, (s32)fd, &st))
		result = poke_process(o->tid, args[4], &st, sizeof st);
	SYS(close, fd);
	return result;
}

static long respond(struct owners *o, const struct owner_call *c, u32 arch, const u64 *args)
{
	switch (c->how) {
	case OWN_CHOWN:
		return give(o, open_named(o, AT_FDCWD, args[0], 0), (u32)args[1], (u32)args[2]);
	case OWN_LCHOWN:
		return give(o, open_named(o, AT_FDCWD, args[0], AT_SYMLINK_NOFOLLOW), (u32)args[1], (u32)args[2]);
	case OWN_FCHOWN:
		return give(o, open_descriptor(o, (s32)args[0]), (u32)args[1], (u32)args[2]);
	case OWN_CHOWN_AT:
		if ((u32)args[4] & ~(u32)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
			return CONTINUE; // EINVAL
		return give(o, open_named(o, (s32)args[0], args[1], (u32)args[4]), (u32)args[2], (u32)args[3]);
	case OWN_CHOWN_16:
		return give(o, open_named(o, AT_FDCWD, args[0], 0), wide_id(args[1]), wide_id(args[2]));
	case OWN_LCHOWN_16:
		return give(o, open_named(o, AT_FDCWD, args[0], AT_SYMLINK_NOFOLLOW), wide_id(args[1]), wide_id(args[2]));
	case OWN_FCHOWN_16:
		return give(o, open_descriptor(o, (s32)args[0]), wide_id(args[1]), wide_id(args[2]));
	case OWN_MKNOD:
		return make(o, AT_FDCWD, args[0], (u32)args[1], (u32)args[2]);
	case OWN_MKNOD_AT:
		return make(o, (s32)args[0], args[1], (u32)args[2], (u32)args[3]);
	case OWN_STAT:
		return stat(o, arch, open_named(o, AT_FDCWD, args[0], 0), args[1]);
	case OWN_LSTAT:
		return stat(o, arch, open_named(o, AT_FDCWD, args[0], AT_SYMLINK_NOFOLLOW), args[1]);
	case OWN_FSTAT:
		return stat(o, arch, open_descriptor(o, (s32)args[0]), args[1]);
	case OWN_STAT_AT:
		if ((u32)args[3] & ~(u32)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | 0x800)) // AT_NO_AUTOMOUNT
			return CONTINUE; // EINVAL
		return stat(o, arch, open_named(o, (s32)args[0], args[1], (u32)args[3]), args[2]);
	case OWN_STATX:
		return statx(o, args);
	case OWN_FAKE:
		return 0;
	}
	return CONTINUE;
}

// owners_answer answers a notification, if it is about owners, and says whether
// it did.
int owners_answer(struct owners *o, const struct seccomp_notif *n, struct seccomp_notif_resp *resp)
{
	u32 arch = n->data.arch;
	for (u32 i = 0; i < OWNER_CALLS; i++) {
		const struct owner_call *c = &owner_calls[i];
		s16 nr = arch == AUDIT_ARCH_I386 ? c->i386 : NR(c->amd64, c->arm64);
		if (nr == NONE || nr != n->data.nr)
			continue;
		if (!(++o->calls & 63))
			sweep(o, 1); // who deletes a large file gets its room back
		// In a root without anything of the host all belongs to the command.
		if (!o->count && !o->s->req->nbinds && c->how >= OWN_STAT && c->how <= OWN_STATX)
			return 0;
		o->tid = n->pid;
		long result = respond(o, c, arch, n->data.args);
		if (result == CONTINUE)
			return 0;
		resp->error = (s32)result;
		return 1;
	}
	return 0;
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
	struct owners *o = s->owners = room(sizeof *o);
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

// The log.

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
