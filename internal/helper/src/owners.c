// The ownership recorder: a command that is root, as far as it can tell.
//
// The command runs in a user namespace of its own, in which the one user that it
// is is called 0, and has there the capabilities that let it do with its own files
// what root may (see OWNER_CAPS in slot.h). What no user can do without being root,
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
#include "owned.h"

enum { ST_RDONLY = 1 };

// Looking at what a call names.

static const char *proc_name(struct owners *o, const char *what, s64 number, const char *rest)
{
	struct text t = text_in(o->path, sizeof o->path);
	put_number(&t, o->tid);
	put(&t, what);
	if (number >= 0)
		put_number(&t, (u64)number);
	put(&t, rest);
	return o->path;
}

// base returns a descriptor of the directory that a relative path starts in, or
// AT_FDCWD for an absolute one.
static long base(struct owners *o, s32 dirfd, const char *path)
{
	if (path[0] == '/')
		return AT_FDCWD;
	int cwd = dirfd == AT_FDCWD;
	if (!cwd && dirfd < 0)
		return CONTINUE; // EBADF
	long fd = SYS(openat, o->proc, proc_name(o, cwd ? "/cwd" : "/fd/", cwd ? -1 : dirfd, ""), O_PATH | O_CLOEXEC);
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
			return proc_name(o, links[i].to, -1, path + strlen(links[i].from));
	return 0;
}

// open_descriptor opens what the process has open.
static long open_descriptor(struct owners *o, s32 fd)
{
	if (fd < 0)
		return CONTINUE;
	long got = SYS(openat, o->proc, proc_name(o, "/fd/", fd, ""), O_PATH | O_CLOEXEC);
	return got < 0 ? CONTINUE : got + 2;
}

// open_named opens what a call names, for looking at it: its descriptor + 2, an
// error, or CONTINUE.
long open_named(struct owners *o, s32 dirfd, u64 at, u32 flags)
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
	struct owned *w = find_owned(o, &st);
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
	s64 mask = status_number(o->proc, proc_name(o, "/status", -1, ""), "\nUmask:\t", 8);
	return mask < 0 ? 022 : (u32)mask;
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
		return tell_stat(o, arch, open_named(o, AT_FDCWD, args[0], 0), args[1]);
	case OWN_LSTAT:
		return tell_stat(o, arch, open_named(o, AT_FDCWD, args[0], AT_SYMLINK_NOFOLLOW), args[1]);
	case OWN_FSTAT:
		return tell_stat(o, arch, open_descriptor(o, (s32)args[0]), args[1]);
	case OWN_STAT_AT:
		if ((u32)args[3] & ~(u32)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | 0x800)) // AT_NO_AUTOMOUNT
			return CONTINUE; // EINVAL
		return tell_stat(o, arch, open_named(o, (s32)args[0], args[1], (u32)args[3]), args[2]);
	case OWN_STATX:
		return tell_statx(o, args);
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
