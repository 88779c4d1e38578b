// The operations on the new root, which is /newroot here; what there was before
// is below /oldroot, and the working directory is /.
#include "plan.h"

static long stat_of(const char *path, struct statx *st)
{
	return SYS(statx, AT_FDCWD, path, AT_NO_AUTOMOUNT, STATX_BASIC, st);
}

static int is_dir(const struct statx *st)
{
	return (st->mode & S_IFMT) == S_IFDIR;
}

// ensure_dir makes a directory unless there is one, or a link to one.
static long ensure_dir(const char *path, u32 mode)
{
	struct statx st;
	if (!stat_of(path, &st)) // first: mkdir says EROFS of what is there
		return is_dir(&st) ? 0 : -ENOTDIR;
	long err = SYS(mkdirat, AT_FDCWD, path, mode);
	return err == -EEXIST ? 0 : err;
}

static long create(const char *path, u32 mode)
{
	return SYS(openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
}

// ensure_file makes an empty file unless something is there on which a file can be
// mounted. A link that leads nowhere leads to a file then.
static long ensure_file(const char *path, u32 mode)
{
	struct statx st;
	if (!stat_of(path, &st) && !is_dir(&st))
		return 0;
	long fd = create(path, mode);
	if (fd < 0)
		return fd == -EEXIST ? 0 : fd;
	SYS(close, fd);
	return 0;
}

static long make_parents(const char *path, u32 mode)
{
	char *copy = join(path, "", ""), *p = copy;
	while (*p == '/')
		p++;
	for (;;) {
		while (*p && *p != '/')
			p++;
		if (!*p)
			return 0;
		*p = 0;
		long err = ensure_dir(copy, mode);
		if (err)
			return err;
		*p++ = '/';
		while (*p == '/')
			p++;
	}
}

static char *below(const char *top, const char *path)
{
	while (*path == '/')
		path++;
	return join(top, path, "");
}

static long set_flags(const char *dest, u64 flags, u32 recursive)
{
	struct mount_attr attr = {.attr_set = flags};
	return sys6(SYS_mount_setattr, AT_FDCWD, (long)dest, recursive | AT_NO_AUTOMOUNT, (long)&attr, sizeof attr, 0);
}

// bind mounts source on dest with everything below it.
static void bind(const char *source, const char *dest, u64 flags)
{
	long err = SYS(mount, source, dest, 0, MS_SILENT | MS_BIND | MS_REC);
	if (err)
		die(0, "Can't bind mount %s on %s: Unable to mount source on destination: %s", source, dest, mount_error_text(err));
	err = set_flags(dest, flags | MOUNT_ATTR_NOSUID, AT_RECURSIVE);
	if (err)
		die(0, "Can't bind mount %s on %s: Unable to remount destination \"%s\" with correct flags: %s", source, dest, dest, mount_error_text(err));
}

static void remount_read_only(const char *dest)
{
	struct statx st;
	long err = stat_of(dest, &st);
	if (err)
		die(0, "Can't remount readonly on %s: realpath(destination): %s", dest, error_text(err));
	err = set_flags(dest, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, 0);
	if (err == -EINVAL)
		die(0, "Can't remount readonly on %s: Unable to find \"%s\" in mount table", dest, dest);
	if (err)
		die(0, "Can't remount readonly on %s: Unable to remount destination \"%s\" with correct flags: %s", dest, dest, mount_error_text(err));
}

static void mount_tmpfs(const char *dest, u32 mode, u64 size)
{
	char *options = format("mode=%o", mode);
	if (size)
		options = join(options, ",size=", format("%u", size));
	if (*str(the_plan->file_label))
		options = join(options, ",context=\"", join(str(the_plan->file_label), "\"", ""));
	long err = SYS(mount, "tmpfs", dest, "tmpfs", MS_NOSUID | MS_NODEV, options);
	if (err)
		die(0, "Can't mount tmpfs on %s: %s", dest, mount_error_text(err));
}

static void need_dir(struct op *o, const char *dest)
{
	if (o->flags & OP_MADE)
		return;
	long err = ensure_dir(dest, 0755);
	if (err)
		die(err, "Can't mkdir %s", str(o->dest));
}

static void mount_proc(struct op *o, const char *dest)
{
	need_dir(o, dest);
	if (on(UNSHARE_PID) || the_plan->pidns_fd >= 0) {
		long err = SYS(mount, "proc", dest, "proc", MS_NOSUID | MS_NOEXEC | MS_NODEV, 0);
		if (err)
			die(0, "Can't mount proc on %s: %s", dest, mount_error_text(err));
	} else {
		bind("oldroot/proc", dest, MOUNT_ATTR_NODEV);
	}
	// What root could do harm with.
	static const char *const cover[] = {"/sys", "/sysrq-trigger", "/irq", "/bus"};
	for (u32 i = 0; i < sizeof cover / sizeof *cover; i++) {
		char *name = join(dest, cover[i], "");
		long err = SYS(faccessat, AT_FDCWD, name, W_OK);
		if (err == -EACCES || err == -ENOENT || err == -EROFS)
			continue;
		if (err)
			die(err, "Can't access %s", name);
		bind(name, name, MOUNT_ATTR_NODEV | MOUNT_ATTR_RDONLY);
	}
}

static void link_in(const char *dest, const char *name, const char *target)
{
	long err = SYS(symlinkat, target, AT_FDCWD, join(dest, "/", name));
	if (err)
		die(err, "Can't create symlink %s/%s", dest, name);
}

static void bind_device(const char *source, const char *dest)
{
	long fd = create(dest, 0444);
	if (fd < 0)
		die(fd, "Can't create file %s", dest);
	SYS(close, fd);
	bind(source, dest, 0);
}

static void mount_dev(struct op *o, const char *dest)
{
	need_dir(o, dest);
	mount_tmpfs(dest, 0755, 0);
	static const char *const nodes[] = {"null", "zero", "full", "random", "urandom", "tty"};
	for (u32 i = 0; i < sizeof nodes / sizeof *nodes; i++)
		bind_device(join("/oldroot/dev/", nodes[i], ""), join(dest, "/", nodes[i]));
	link_in(dest, "stdin", "/proc/self/fd/0");
	link_in(dest, "stdout", "/proc/self/fd/1");
	link_in(dest, "stderr", "/proc/self/fd/2");
	link_in(dest, "fd", "/proc/self/fd");
	link_in(dest, "core", "/proc/kcore");
	long err = SYS(mkdirat, AT_FDCWD, join(dest, "/shm", ""), 0755);
	if (err)
		die(err, "Can't create %s/shm", str(o->dest));
	char *pts = join(dest, "/pts", "");
	err = SYS(mkdirat, AT_FDCWD, pts, 0755);
	if (err)
		die(err, "Can't create %s/devpts", str(o->dest));
	err = SYS(mount, "devpts", pts, "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620");
	if (err)
		die(0, "Can't mount devpts on %s: %s", pts, mount_error_text(err));
	link_in(dest, "ptmx", "pts/ptmx");
	if (*str(the_plan->tty)) // so that ttyname works
		bind_device(join("/oldroot", str(the_plan->tty), ""), join(dest, "/console", ""));
}

static void mount_overlay(struct op *o, const char *dest)
{
	static u32 used;
	need_dir(o, dest);
	const char *options = str(o->source);
	if (o->kind == TMP_OVERLAY) {
		char *n = format("%d", (int)used++);
		options = join(join("upperdir=/tmp-overlay-upper-", n, ",workdir=/tmp-overlay-work-"), join(n, ",", ""), options);
	}
	long err = SYS(mount, "overlay", dest, "overlay", 0, options);
	if (err == -ELOOP)
		die(0, "Can't make overlay mount on %s with options %s: Overlay directories may not overlap", dest, options);
	if (err)
		die(0, "Can't make overlay mount on %s with options %s: %s", dest, options, mount_error_text(err));
}

// copy moves everything from o->fd to fd, and closes both.
static void copy(struct op *o, s32 fd)
{
	static char buf[65536];
	for (;;) {
		long n = SYS(read, o->fd, buf, sizeof buf);
		if (n == -EINTR)
			continue;
		if (!n)
			break;
		for (long at = 0; n > 0 && at < n;) {
			long done = SYS(write, fd, buf + at, n - at);
			if (done == -EINTR)
				continue;
			if (done <= 0) {
				n = done ? done : -ENOSPC;
				break;
			}
			at += done;
		}
		if (n < 0)
			die(n, "Can't write data to file %s", str(o->dest));
	}
	SYS(close, fd);
	SYS(close, o->fd);
	o->fd = -1;
}

static void make_file(struct op *o, const char *dest)
{
	long fd = create(dest, o->perms);
	if (fd < 0)
		die(fd, "Can't create file %s", str(o->dest));
	copy(o, (s32)fd);
}

// bind_data makes a file beside the root, which nobody can get at but by the
// mount.
static void bind_data(struct op *o, const char *dest)
{
	static const char name[] = "/bindfile";
	long fd = SYS(openat, AT_FDCWD, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		die(fd, "Can't create tmpfile for %s", str(o->dest));
	long err = SYS(fchmodat, AT_FDCWD, name, o->perms);
	if (err)
		die(err, "Can't set mode %o on file to be used for %s", o->perms, str(o->dest));
	copy(o, (s32)fd);
	err = ensure_file(dest, 0444);
	if (err)
		die(err, "Can't create file at %s", str(o->dest));
	bind(name, dest, MOUNT_ATTR_NODEV | (o->kind == RO_BIND_DATA ? MOUNT_ATTR_RDONLY : 0));
	SYS(unlinkat, AT_FDCWD, name, 0);
}

static void make_symlink(struct op *o, const char *dest)
{
	const char *target = str(o->source);
	long err = SYS(symlinkat, target, AT_FDCWD, dest);
	if (!err)
		return;
	if (err != -EEXIST)
		die(err, "Can't make symlink at %s", str(o->dest));
	char *there = alloc(PATH_MAX + 1);
	long n = SYS(readlinkat, AT_FDCWD, dest, there, PATH_MAX);
	if (n == -EINVAL)
		die(0, "Can't make symlink at %s: destination exists and is not a symlink", str(o->dest));
	if (n < 0)
		die(n, "Can't make symlink at %s: destination exists, and cannot read symlink target", str(o->dest));
	there[n] = 0;
	if (!str_equal(there, target))
		die(0, "Can't make symlink at %s: existing destination is %s", str(o->dest), there);
}

// bind_source mounts what the host has. A descriptor may have become another file
// since its name was looked up.
static void bind_source(struct op *o, const char *dest, const char *source, int dir)
{
	long err = 0;
	if (!(o->flags & OP_MADE))
		err = dir ? ensure_dir(dest, 0755) : ensure_file(dest, 0444);
	if (err)
		die(err, dir ? "Can't mkdir %s" : "Can't create file at %s", str(o->dest));
	bind(source, dest, (o->kind == DEV_BIND ? 0 : MOUNT_ATTR_NODEV) | (o->kind == RO_BIND ? MOUNT_ATTR_RDONLY : 0));
	if (o->fd < 0)
		return;
	struct statx want, got;
	err = SYS(statx, o->fd, "", AT_EMPTY_PATH, STATX_BASIC, &want);
	if (err)
		die(err, "Can't stat fd %d", (int)o->fd);
	err = SYS(statx, AT_FDCWD, dest, AT_SYMLINK_NOFOLLOW, STATX_BASIC, &got);
	if (err)
		die(err, "Can't stat mount at %s", dest);
	if (want.ino != got.ino || want.rest[1] != got.rest[1])
		die(0, "Race condition binding dirfd");
	SYS(close, o->fd);
	o->fd = -1;
}

static void mount_mqueue(struct op *o, const char *dest)
{
	need_dir(o, dest);
	long err = SYS(mount, "mqueue", dest, "mqueue", 0, 0);
	if (err)
		die(0, "Can't mount mqueue on %s: %s", dest, mount_error_text(err));
}

// Simple operations are one system call, and what to say if it fails.
static void perform_simple(struct op *o, const char *dest)
{
	long err;
	switch (o->kind) {
	case MAKE_DIR:
		err = ensure_dir(dest, o->perms);
		if (err)
			die(err, "Can't mkdir %s", str(o->dest));
		break;
	case HOSTNAME:
		err = SYS(sethostname, str(o->dest), strlen(str(o->dest)));
		if (err)
			die(err, "Can't set hostname to %s", str(o->dest));
		break;
	case CHMOD:
		err = SYS(fchmodat, AT_FDCWD, dest, o->perms);
		if (err)
			die(err, "Can't chmod %o %s", o->perms, str(o->dest));
		break;
	default:
		die(0, "Unexpected type %d", (int)o->kind);
	}
}

// make_way makes the parents of dest. They are no more open than what is made in them,
// and those of mounts and links, which have no permissions, are the user's alone.
static void make_way(struct op *o, const char *dest)
{
	u32 mode = 0755;
	if (!(o->perms & 0070))
		mode &= ~0050u;
	if (!(o->perms & 0007))
		mode &= ~0005u;
	long err = make_parents(dest, mode);
	if (err)
		die(err, "Can't mkdir parents for %s", str(o->dest));
}

static void perform(struct op *o)
{
	char *source = "", *dest = below("/newroot/", str(o->dest));
	struct statx st = {0};
	if (o->kind == BIND || o->kind == RO_BIND || o->kind == DEV_BIND) {
		source = below("/oldroot/", str(o->source));
		long err = stat_of(source, &st);
		if (err == -ENOENT && o->flags & OP_TRY)
			return;
		if (err)
			die(err, "Can't get type of source %s", str(o->source));
	}
	if (!(o->flags & OP_EXISTS))
		make_way(o, dest);
	switch (o->kind) {
	case BIND: case RO_BIND: case DEV_BIND: bind_source(o, dest, source, is_dir(&st)); break;
	case OVERLAY: case TMP_OVERLAY: case RO_OVERLAY: mount_overlay(o, dest); break;
	case PROC: mount_proc(o, dest); break;
	case DEV: mount_dev(o, dest); break;
	case TMPFS:
		need_dir(o, dest);
		mount_tmpfs(dest, o->perms, o->size_low | (u64)o->size_high << 32);
		break;
	case MQUEUE: mount_mqueue(o, dest); break;
	case MAKE_FILE: make_file(o, dest); break;
	case BIND_DATA: case RO_BIND_DATA: bind_data(o, dest); break;
	case SYMLINK: make_symlink(o, dest); break;
	case REMOUNT_RO: remount_read_only(dest); break;
	case READ_ONLY: bind(dest, dest, MOUNT_ATTR_RDONLY); break;
	default: perform_simple(o, dest);
	}
}

void setup_root(void)
{
	for (u32 i = 0; i < op_count; i++)
		perform(&the_ops[i]);
	for (u32 i = 0; i < op_count; i++) // those of what was skipped
		if (the_ops[i].fd >= 0)
			SYS(close, the_ops[i].fd);
}
