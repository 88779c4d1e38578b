// What the ownership recorder answers to stat and its like.
#include "owned.h"

enum { PROC_MAGIC = 0x9fa0 };

static int on_proc(s32 fd)
{
	u64 statfs[16] = {0};
	return SYS(fstatfs, fd, statfs) < 0 || statfs[0] == PROC_MAGIC;
}

// tell changes what statx said into what the command is told, and says whether it
// is something else than the kernel would tell it.
static int tell(struct owners *o, s32 fd, struct statx *st)
{
	struct owned *w = find_owned(o, st);
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

static u32 old_device(u32 major, u32 minor) // as struct stat has it
{
	return (minor & 0xff) | major << 8 | (minor & ~0xffu) << 12;
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

long tell_stat(struct owners *o, u32 arch, long fd, u64 at)
{
	struct statx st;
	if (fd == CONTINUE || fd < 0)
		return CONTINUE; // the kernel finds the same error
	fd -= 2;
	long result = look((s32)fd, &st) >= 0 && tell(o, (s32)fd, &st) ? poke_stat(o, arch, at, &st) : CONTINUE;
	SYS(close, fd);
	return result;
}

long tell_statx(struct owners *o, const u64 *args)
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
