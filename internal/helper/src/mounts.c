// How something is mounted: file systems, what is missing of the way to where they
// go, names that the kernel takes, and user namespaces in which that is allowed.
#include "mounts.h"

void must(struct sandbox *s, const char *what, const char *name, long err)
{
	if (err < 0)
		fail(s, what, name, err);
}

static void write_file(struct sandbox *s, const char *name, const char *text)
{
	long fd = SYS(openat, AT_FDCWD, name, O_WRONLY | O_CLOEXEC);
	must(s, "open", name, fd);
	must(s, "write", name, SYS(write, fd, text, strlen(text)));
	SYS(close, fd);
}

static void map_id(struct sandbox *s, const char *name, u32 id)
{
	char buf[64];
	struct text t = text_in(buf, sizeof buf);
	put_number(&t, s->slot->as_root ? 0 : 65000); // backends.ID, whoever calls
	put(&t, " ");
	put_number(&t, id);
	put(&t, " 1");
	write_file(s, name, buf);
}

void map_user(struct sandbox *s, u32 uid, u32 gid)
{
	// The kernel wants this before it lets an ordinary user map a group.
	write_file(s, "/proc/self/setgroups", "deny");
	map_id(s, "/proc/self/uid_map", uid);
	map_id(s, "/proc/self/gid_map", gid);
}

void user_namespace(struct sandbox *s)
{
	must(s, "make a user namespace", 0, SYS(unshare, CLONE_NEWUSER));
	map_user(s, s->slot->uid, s->slot->gid);
}

long mount(const char *type, const char *at, u64 flags, const char *options)
{
	return SYS_COOKIE(mount, type, at, type, flags, options);
}

// device puts the host's device name into dev. Who owns the host makes a
// node; in a user namespace only the host's own node works, so it is bound.
static void device(struct sandbox *s, s32 dev, const char *name, u32 number)
{
	char from[PATH_MAX];
	if (!s->slot->unprivileged) {
		must(s, "make /dev/", name, SYS(mknodat, dev, name, S_IFCHR | 0666, number));
		return;
	}
	struct text t = text_in(from, sizeof from);
	put(&t, s->host);
	put(&t, "/dev/");
	put(&t, name);
	must(s, "make /dev/", name, SYS(mknodat, dev, name, S_IFREG | 0666, 0));
	long tree = SYS_COOKIE(open_tree, AT_FDCWD, from, OPEN_TREE_CLONE | O_CLOEXEC);
	must(s, "clone", from, tree);
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, .propagation = MS_PRIVATE};
	must(s, "protect", from, SYS_COOKIE(mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof attr));
	must(s, "mount /dev/", name, SYS_COOKIE(move_mount, tree, "", dev, name, MOVE_MOUNT_F_EMPTY_PATH));
	SYS(close, tree);
}

void make_dev(struct sandbox *s, s32 dev)
{
	static const struct {
		const char *name;
		u32 number;
	} devices[] = {{"null", 0x103}, {"zero", 0x105}, {"full", 0x107}, {"random", 0x108}, {"urandom", 0x109}, {"tty", 0x500}};
	static const char *const links[][2] = {
		{"/proc/self/fd", "fd"},
		{"fd/0", "stdin"},
		{"fd/1", "stdout"},
		{"fd/2", "stderr"},
		{"pts/ptmx", "ptmx"},
	};
	for (u32 i = 0; i < sizeof devices / sizeof *devices; i++)
		device(s, dev, devices[i].name, devices[i].number);
	for (u32 i = 0; i < sizeof links / sizeof *links; i++)
		must(s, "link /dev/", links[i][1], SYS(symlinkat, links[i][0], dev, links[i][1]));
	must(s, "make", "/dev/pts", SYS(mkdirat, dev, "pts", 0755));
	must(s, "make", "/dev/shm", SYS(mkdirat, dev, "shm", 0755));
	// Shared by all sandboxes of a slot, and in a user namespace the
	// command owns it: so it is read-only, which devices do not mind.
	struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY};
	must(s, "protect", "/dev", SYS_COOKIE(mount_setattr, dev, "", AT_EMPTY_PATH, &ro, sizeof ro));
}

void open_host(struct sandbox *s, const char *host, const char *place)
{
	s->host = host;
	s->place = place;
	s->host_root = (s32)SYS(openat, AT_FDCWD, *host ? host : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	must(s, "open", host, s->host_root);
}

long try_host_path(struct sandbox *s, const char *path, u32 flags)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC | flags, .resolve = RESOLVE_IN_ROOT};
	return SYS(openat2, s->host_root, path, &how, sizeof how);
}

s32 host_path(struct sandbox *s, const char *path)
{
	long fd = try_host_path(s, path, 0);
	must(s, "open", path, fd);
	return (s32)fd;
}

const char *proc_name(struct sandbox *s, char buf[static 48], s32 fd)
{
	struct text t = text_in(buf, 48);
	put(&t, s->host);
	put(&t, "/proc/self/fd/");
	put_number(&t, (u32)fd);
	return buf;
}

const char *place_name(struct sandbox *s, char buf[static PATH_MAX], const char *name)
{
	struct text t = text_in(buf, PATH_MAX);
	put(&t, s->place);
	put(&t, name);
	return buf;
}

static void fs_must(struct new_fs *f, const char *what, long err)
{
	if (err >= 0)
		return;
	static char why[256]; // static: one sandbox per process builds its root, and then fails
	char log[200];
	struct text t = text_in(why, sizeof why);
	put(&t, f->type);
	put(&t, " ");
	put(&t, what);
	long n = SYS(read, f->fd, log, sizeof log - 1);
	if (n > 2) {
		log[n] = 0;
		put(&t, ": ");
		put(&t, log + 2); // after "e "
	}
	fail(f->s, "mount", why, err);
}

struct new_fs fs_open(struct sandbox *s, const char *type)
{
	struct new_fs f = {s, type, SYS_COOKIE(fsopen, type, FSOPEN_CLOEXEC)};
	fs_must(&f, "", f.fd);
	return f;
}

void fs_set(struct new_fs *f, const char *key, const char *value)
{
	fs_must(f, key, SYS_COOKIE(fsconfig, f->fd, value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, key, value, 0));
}

u64 in_memory(struct sandbox *s)
{
	u64 memory = s->req->data, scratch = s->req->scratch;
	return memory && (!scratch || memory < scratch) ? memory : scratch;
}

void fs_set_size(struct new_fs *f)
{
	char number[24];
	u64 most = in_memory(f->s);
	if (!most)
		return;
	struct text t = text_in(number, sizeof number);
	put_number(&t, most);
	fs_set(f, "size", number);
	t = text_in(number, sizeof number);
	put_number(&t, most / 1024 + 1024);
	fs_set(f, "nr_inodes", number);
}

s32 fs_mount(struct new_fs *f, u32 attributes)
{
	fs_must(f, "", SYS_COOKIE(fsconfig, f->fd, FSCONFIG_CMD_CREATE, 0, 0, 0));
	long m = SYS_COOKIE(fsmount, f->fd, FSMOUNT_CLOEXEC, attributes);
	fs_must(f, "", m);
	SYS(close, f->fd);
	return (s32)m;
}

void attach(struct sandbox *s, s32 tree, const char *at)
{
	must(s, "mount on", at, SYS_COOKIE(move_mount, tree, "", AT_FDCWD, at, MOVE_MOUNT_F_EMPTY_PATH));
	SYS(close, tree);
}

void put_size(struct text *t, u64 bytes, u64 files)
{
	put(t, ",size=");
	put_number(t, bytes);
	put(t, ",nr_inodes=");
	put_number(t, files + bytes / 1024 + 1024);
}

void make_dir(struct sandbox *s, const char *name)
{
	long err = SYS(mkdirat, AT_FDCWD, name, 0755);
	if (err != -EEXIST)
		must(s, "make", name, err);
}

long open_in(s32 root, const char *path)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
	return SYS(openat2, root, path, &how, sizeof how);
}

static long make_bare(s32 dir, const char *name, int directory)
{
	return directory ? SYS(mkdirat, dir, name, 0755) : SYS(mknodat, dir, name, S_IFREG | 0644, 0);
}

long make_in(struct sandbox *s, s32 dir, const char *name, int directory)
{
	long err = make_bare(dir, name, directory);
	if (err < 0)
		return err;
	if (!s->slot->unprivileged)
		SYS(fchownat, dir, name, 65000, 65000, AT_SYMLINK_NOFOLLOW);
	SYS(utimensat, dir, name, constant_times, AT_SYMLINK_NOFOLLOW);
	return 0;
}

// make_below makes path, whose last part is missing, below root. The time of
// the directory that it is made in stays, but for the root's: see build_root.
static long make_below(struct sandbox *s, s32 root, const char *path, int directory)
{
	char parent[PATH_MAX];
	size_t n = strlen(path);
	while (path[n - 1] != '/')
		n--;
	memcpy(parent, path, n);
	parent[n] = 0;
	struct open_how how = {.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
	long dir = SYS(openat2, root, parent, &how, sizeof how);
	if (dir < 0)
		return dir;
	struct statx st;
	long err = SYS(statx, dir, "", AT_EMPTY_PATH, STATX_MTIME, &st);
	if (err >= 0)
		err = make_in(s, (s32)dir, path + n, directory);
	if (err >= 0) {
		struct timespec before[2] = {{0, UTIME_OMIT}, {st.mtime.sec, st.mtime.nsec}};
		SYS(utimensat, dir, 0, before, 0);
	}
	SYS(close, dir);
	return err;
}

s32 mount_point(struct sandbox *s, s32 root, const char *path, int directory)
{
	char prefix[PATH_MAX];
	size_t n = 0, len = strlen(path);
	if (len >= PATH_MAX)
		fail(s, "mount on", path, -ENAMETOOLONG);
	long fd = open_in(root, path);
	for (; fd == -ENOENT && n < len;) {
		// Each prefix that ends before a slash, or with the path.
		for (n++; n < len && path[n] != '/'; n++)
			;
		memcpy(prefix, path, n);
		prefix[n] = 0;
		fd = open_in(root, prefix);
		if (fd == -ENOENT) {
			must(s, "make the mount point", prefix, make_below(s, root, prefix, directory || n < len));
			fd = open_in(root, prefix);
		}
		if (fd >= 0 && n < len) {
			SYS(close, fd);
			fd = -ENOENT;
		}
	}
	must(s, "mount on", path, fd);
	return (s32)fd;
}

void mount_in(struct sandbox *s, s32 tree, const char *path, s32 root, const char *target, int directory)
{
	u32 flags = *path ? 0 : MOVE_MOUNT_F_EMPTY_PATH;
	size_t n = 1;
	while (target[n] && target[n] != '/')
		n++;
	// What nobody will see needs neither owner nor time.
	if (n > 1 && !target[n] && (s->covered ? make_bare(root, target + 1, directory) : make_in(s, root, target + 1, directory)) >= 0) {
		must(s, "mount on", target, SYS_COOKIE(move_mount, tree, path, root, target + 1, flags));
		return;
	}
	s32 to = mount_point(s, root, target, directory);
	must(s, "mount on", target, SYS_COOKIE(move_mount, tree, path, to, "", flags | MOVE_MOUNT_T_EMPTY_PATH));
	SYS(close, to);
}
