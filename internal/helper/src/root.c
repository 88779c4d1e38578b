// What is mounted, where, and by whom.
//
// The slot (prepare_host) moves into a mount namespace whose root is a small
// tmpfs. Sandboxes get a copy of it, so all of them see:
//
//	/host		the host's tree as it is now: mounts that come and go there
//			come and go here, too
//	/dev		the sandboxes' /dev, read-only, without pts and shm
//	/proc, /tmp	mount points for those of the sandbox, and
//	/scratch	for its scratch, which is its root when there are no layers
//	/new		for its root when there are
//	/over		for what takes the writes to directories of the host
//	/imageN		for layers that are images
//
// A sandbox (prepare_root, build_root) mounts its own in this copy, puts its root
// over "/" and changes its root to it. As switch_root does, and unlike
// pivot_root and umount, this waits for no RCU grace period: 30 µs, and several
// ms on a busy machine. What lies below the new root stays mounted but nobody
// can name it, since no process has a descriptor outside, and the command has
// neither CAP_SYS_CHROOT nor a way to get it.
#include "slot.h"

// Staged files have this time, so mount points do, too: 2011-11-11 11:11:11 UTC.
enum { CONSTANT_TIME = 1321009871 };

// What the helper itself may need of /tmp: see put_init.
enum { PUT_INIT_ROOM = 256 << 10 };

#define SCRATCH_OPTIONS "mode=755,uid=65000,gid=65000"

static const struct timespec constant_times[2] = {{CONSTANT_TIME, 0}, {CONSTANT_TIME, 0}};

static void must(struct sandbox *s, const char *what, const char *name, long err)
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

// map_user makes the user of the outer namespace the command's.
static void map_user(struct sandbox *s, u32 uid, u32 gid)
{
	// The kernel wants this before it lets an ordinary user map a group.
	write_file(s, "/proc/self/setgroups", "deny");
	map_id(s, "/proc/self/uid_map", uid);
	map_id(s, "/proc/self/gid_map", gid);
}

static void user_namespace(struct sandbox *s)
{
	must(s, "make a user namespace", 0, SYS(unshare, CLONE_NEWUSER));
	map_user(s, s->slot->uid, s->slot->gid);
}

static long mount(const char *type, const char *at, u64 flags, const char *options)
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

// make_dev fills a fresh /dev with the devices of s->host.
static void make_dev(struct sandbox *s, s32 dev)
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

// prepare_host makes the namespaces that all sandboxes of a slot share.
void prepare_host(struct slot *z)
{
	struct sandbox *s = &z->sandboxes[0];
	if (z->unprivileged)
		user_namespace(s);
	must(s, "make namespaces", 0, SYS(unshare, CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWCGROUP));
	must(s, "set the host name", 0, SYS(sethostname, "sbx", 3));
	SYS(setdomainname, "(none)", 6);
	// Slave: nothing of ours shows on the host, what the host mounts and
	// unmounts while we live shows here.
	must(s, "detach from the host's mounts", 0, SYS(mount, 0, "/", 0, MS_REC | MS_SLAVE, 0));
	// Any directory that surely exists will do: pivot_root makes it the root.
	must(s, "mount", "/proc", SYS(mount, "tmpfs", "/proc", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=64k"));
	must(s, "enter", "/proc", SYS(chdir, "/proc"));
	SYS(umask, 0);
	static const char *const dirs[] = {"host", "dev", "proc", "tmp", "scratch", "new", "over"};
	for (u32 i = 0; i < sizeof dirs / sizeof *dirs; i++)
		must(s, "make", dirs[i], SYS(mkdirat, AT_FDCWD, dirs[i], 0755));
	must(s, "pivot_root", 0, SYS(pivot_root, ".", "host"));
	must(s, "enter", "/", SYS(chdir, "/"));
	s->host = "/host";
	must(s, "mount", "/dev", mount("tmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=755,size=64k"));
	long dev = SYS(openat, AT_FDCWD, "/dev", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(s, "open", "/dev", dev);
	make_dev(s, (s32)dev);
	SYS(close, dev);
}

static void open_host(struct sandbox *s, const char *host, const char *place)
{
	s->host = host;
	s->place = place;
	s->host_root = (s32)SYS(openat, AT_FDCWD, *host ? host : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	must(s, "open", host, s->host_root);
}

// host_path opens a path of the host. Symbolic links are the host's, so they
// must not be followed from our own root.
static long try_host_path(struct sandbox *s, const char *path, u32 flags)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC | flags, .resolve = RESOLVE_IN_ROOT};
	return SYS(openat2, s->host_root, path, &how, sizeof how);
}

static s32 host_path(struct sandbox *s, const char *path)
{
	long fd = try_host_path(s, path, 0);
	must(s, "open", path, fd);
	return (s32)fd;
}

// proc_name is a name for a descriptor where the kernel wants a path. It goes
// through the host's /proc, because it must work before ours is in place.
static const char *proc_name(struct sandbox *s, char buf[static 48], s32 fd)
{
	struct text t = text_in(buf, 48);
	put(&t, s->host);
	put(&t, "/proc/self/fd/");
	put_number(&t, (u32)fd);
	return buf;
}

// place_name is the path of something that only stands somewhere because the
// kernel wants it to.
static const char *place_name(struct sandbox *s, char buf[static PATH_MAX], const char *name)
{
	struct text t = text_in(buf, PATH_MAX);
	put(&t, s->place);
	put(&t, name);
	return buf;
}

// A new_fs is a file system that is being configured; mistakes end the sandbox
// with what the kernel has to say about them.
struct new_fs {
	struct sandbox *s;
	const char *type;
	long fd;
};

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

static struct new_fs fs_open(struct sandbox *s, const char *type)
{
	struct new_fs f = {s, type, SYS_COOKIE(fsopen, type, FSOPEN_CLOEXEC)};
	fs_must(&f, "", f.fd);
	return f;
}

static void fs_set(struct new_fs *f, const char *key, const char *value)
{
	fs_must(f, key, SYS_COOKIE(fsconfig, f->fd, value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, key, value, 0));
}

// in_memory is how much one file system in memory may hold, in bytes; 0: no limit of
// ours. What is written there is memory, which "data" limits where no control group
// does: it would count for no process.
static u64 in_memory(struct sandbox *s)
{
	u64 memory = s->req->data, scratch = s->req->scratch;
	return memory && (!scratch || memory < scratch) ? memory : scratch;
}

// fs_set_size bounds a file system in memory as in_memory says.
static void fs_set_size(struct new_fs *f)
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

static s32 fs_mount(struct new_fs *f, u32 attributes)
{
	fs_must(f, "", SYS_COOKIE(fsconfig, f->fd, FSCONFIG_CMD_CREATE, 0, 0, 0));
	long m = SYS_COOKIE(fsmount, f->fd, FSMOUNT_CLOEXEC, attributes);
	fs_must(f, "", m);
	SYS(close, f->fd);
	return (s32)m;
}

static void attach(struct sandbox *s, s32 tree, const char *at)
{
	must(s, "mount on", at, SYS_COOKIE(move_mount, tree, "", AT_FDCWD, at, MOVE_MOUNT_F_EMPTY_PATH));
	SYS(close, tree);
}

// put_size adds the options of a file system in memory of so many bytes. Empty files use
// no page, but memory all the same.
static void put_size(struct text *t, u64 bytes, u64 files)
{
	put(t, ",size=");
	put_number(t, bytes);
	put(t, ",nr_inodes=");
	put_number(t, files + bytes / 1024 + 1024);
}

// resize gives the file system in memory that is mounted at "at" another size.
static void resize(struct sandbox *s, const char *at, u64 bytes, u64 files)
{
	char options[128];
	struct text t = text_in(options, sizeof options);
	put_size(&t, bytes, files);
	must(s, "limit", at, mount("tmpfs", at, MS_REMOUNT | MS_NOSUID | MS_NODEV, options + 1));
}

// limit_scratch bounds what the command may add to what a scratch in memory holds
// now: the inputs, which no limit of memory counts.
static void limit_scratch(struct sandbox *s, const char *at)
{
	u64 memory = s->req->data, scratch = s->req->scratch;
	if (!memory || *s->scratch_dir)
		return;
	enum { BSIZE = 1, BLOCKS, BFREE, FILES = 5, FFREE };
	u64 statfs[16];
	long fd = SYS(openat, AT_FDCWD, at, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(s, "open", at, fd);
	must(s, "look at", at, SYS(fstatfs, fd, statfs));
	SYS(close, fd);
	u64 most = (statfs[BLOCKS] - statfs[BFREE]) * statfs[BSIZE] + memory;
	if (most >= memory && (!scratch || most < scratch))
		resize(s, at, most, statfs[FILES] - statfs[FFREE]);
}

// mount_scratch mounts what takes the writes.
static void mount_scratch(struct sandbox *s, const char *at)
{
	if (*s->scratch_dir) {
		s32 dir = host_path(s, s->scratch_dir);
		long tree = SYS_COOKIE(open_tree, dir, "", OPEN_TREE_CLONE | O_CLOEXEC | AT_EMPTY_PATH);
		must(s, "clone", s->scratch_dir, tree);
		struct mount_attr attr = {.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, .propagation = MS_PRIVATE};
		must(s, "protect", s->scratch_dir, SYS_COOKIE(mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof attr));
		attach(s, (s32)tree, at);
		SYS(close, dir);
		return;
	}
	char options[512];
	struct text t = text_in(options, sizeof options);
	put(&t, s->slot->as_root ? "mode=755" : SCRATCH_OPTIONS);
	if (s->req->scratch)
		put_size(&t, s->req->scratch, 0);
	if (*s->context) {
		put(&t, ",context=\"");
		put(&t, s->context);
		put(&t, "\"");
	}
	if (*s->place || *s->context) // around: nothing has been prepared; and labels cannot be changed
		must(s, "mount the scratch on", at, mount("tmpfs", at, MS_NOSUID | MS_NODEV, options));
	else if (s->req->scratch)
		must(s, "limit the scratch", 0, mount("tmpfs", at, MS_REMOUNT | MS_NOSUID | MS_NODEV, options));
}

static s32 mount_image(struct sandbox *s, const char *path)
{
	char name[48];
	s32 file = host_path(s, path);
	struct new_fs f = fs_open(s, "erofs");
	fs_set(&f, "source", proc_name(s, name, file));
	s32 m = fs_mount(&f, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
	SYS(close, file);
	return m;
}

static void make_dir(struct sandbox *s, const char *name)
{
	long err = SYS(mkdirat, AT_FDCWD, name, 0755);
	if (err != -EEXIST)
		must(s, "make", name, err);
}

static void add_layers(struct sandbox *s, struct new_fs *overlay)
{
	char name[48], place[PATH_MAX], image[24];
	const char *layer = s->lowers;
	for (u32 i = 0; i < s->req->nlowers; i++, layer = next_string(layer)) {
		if (*layer != 'i') {
			// The descriptors stay open until our end, or the command's exec.
			fs_set(overlay, "lowerdir+", proc_name(s, name, host_path(s, layer + 1)));
			continue;
		}
		// Only what is mounted somewhere can be a layer (before 6.15).
		struct text t = text_in(image, sizeof image);
		put(&t, "/image");
		put_number(&t, i);
		make_dir(s, place_name(s, place, image));
		attach(s, mount_image(s, layer + 1), place);
		fs_set(overlay, "lowerdir+", place);
	}
	if (*s->data)
		fs_set(overlay, "datadir+", proc_name(s, name, host_path(s, s->data)));
}

// mount_overlay puts the layers under the directories upper and work.
static s32 mount_overlay(struct sandbox *s, const char *upper, const char *work)
{
	struct new_fs f = fs_open(s, "overlay");
	add_layers(s, &f);
	fs_set(&f, "upperdir", upper);
	fs_set(&f, "workdir", work);
	if (s->slot->unprivileged) {
		fs_set(&f, "userxattr", 0);
	} else {
		fs_set(&f, "redirect_dir", "on"); // so that directories of a layer can be renamed
		if (*s->data)
			fs_set(&f, "metacopy", "on");
	}
	if (*s->context)
		fs_set(&f, "context", s->context);
	if (*s->scratch_dir)
		fs_set(&f, "volatile", 0); // no sync of what is read once and thrown away
	return fs_mount(&f, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
}

// send_directory gives the caller a directory to put files into.
static void send_directory(struct sandbox *s, const char *dir)
{
	long fd = SYS(openat, AT_FDCWD, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(s, "open the scratch", 0, fd);
	s->reply_fds[0] = (s32)fd;
	s->reply_nfds = 1;
	send_reply(s, REPLY_FILL);
	SYS(close, fd);
}

// offer_scratch lets the caller fill the scratch before it has sent a request:
// if that turns out to have layers, it was for nothing.
void offer_scratch(struct sandbox *s)
{
	send_directory(s, "/scratch");
}

// await_go waits until our caller lets us go on.
static void await_go(struct sandbox *s, const char *what)
{
	for (;;) {
		u64 go = 0;
		struct iovec iov = {&go, sizeof go};
		struct msghdr m = {.iov = &iov, .iovlen = 1};
		long n = SYS(recvmsg, FD_SOCKET, &m, 0);
		if (n == sizeof go && go == s->seq)
			return;
		if ((n == sizeof go && go == ~s->seq) || (n <= 0 && n != -EINTR))
			fail(s, what, 0, -ECANCELED);
		// Else it is the answer to a sandbox that was killed meanwhile.
	}
}

// fill lets the caller put files into dir, and waits until it has.
static void fill(struct sandbox *s, const char *dir)
{
	// The mtime of the root is not the time of the day.
	SYS(utimensat, AT_FDCWD, dir, constant_times, 0);
	if (!(s->req->flags & REQUEST_FILL))
		return;
	send_directory(s, dir);
	await_go(s, "filling was given up");
}

// own gives dir to the command. In a user namespace all belongs to one user, who
// need not have the command's number here: a tool is root of its own.
static void own(struct sandbox *s, const char *dir)
{
	if (!s->slot->unprivileged)
		must(s, "own", dir, SYS(fchownat, AT_FDCWD, dir, s->req->id, s->req->gid, 0));
}

// mount_root mounts what the command may write to and the layers, if any, below
// it, and returns where.
static const char *mount_root(struct sandbox *s, const char *scratch, const char *root)
{
	char upper[PATH_MAX], work[PATH_MAX];
	mount_scratch(s, scratch);
	if (s->req->nlowers == 0) {
		fill(s, scratch);
		limit_scratch(s, scratch);
		return scratch;
	}
	make_dir(s, place_name(s, upper, "/scratch/upper"));
	make_dir(s, place_name(s, work, "/scratch/work"));
	own(s, upper);
	fill(s, upper);
	limit_scratch(s, scratch);
	attach(s, mount_overlay(s, upper, work), root);
	// The kernel makes directories in it that an ordinary owner could not look
	// into, and so not remove. In a scratch in memory nobody has to.
	static const char *const shut[] = {"/work", "/incompat", "/volatile"};
	struct text t = text_in(work, sizeof work);
	put(&t, scratch);
	put(&t, "/work");
	for (u32 i = 0; i < 3 && *s->scratch_dir; i++) {
		put(&t, shut[i]);
		SYS(fchmodat, AT_FDCWD, work, 0700);
	}
	return root;
}

static long open_in(s32 root, const char *path)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
	return SYS(openat2, root, path, &how, sizeof how);
}

// make_in makes name in the directory dir, for something to be mounted there.
static long make_in(struct sandbox *s, s32 dir, const char *name, int directory)
{
	long err = directory ? SYS(mkdirat, dir, name, 0755) : SYS(mknodat, dir, name, S_IFREG | 0644, 0);
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

// mount_point opens path, which is absolute and clean, below root, and makes
// what is missing of it.
static s32 mount_point(struct sandbox *s, s32 root, const char *path, int directory)
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

// mount_in puts the tree, which may be a descriptor with a path below it, at target
// below root. In the usual case that is a new name in the root, quickly.
static void mount_in(struct sandbox *s, s32 tree, const char *path, s32 root, const char *target, int directory)
{
	u32 flags = *path ? 0 : MOVE_MOUNT_F_EMPTY_PATH;
	size_t n = 1;
	while (target[n] && target[n] != '/')
		n++;
	if (n > 1 && !target[n] && make_in(s, root, target + 1, directory) >= 0) {
		must(s, "mount on", target, SYS_COOKIE(move_mount, tree, path, root, target + 1, flags));
		return;
	}
	s32 to = mount_point(s, root, target, directory);
	must(s, "mount on", target, SYS_COOKIE(move_mount, tree, path, to, "", flags | MOVE_MOUNT_T_EMPTY_PATH));
	SYS(close, to);
}

// place moves the mounts /proc, /dev and /tmp from the directory "from" of our
// root to the root at "at".
static void place(struct sandbox *s, const char *at, const char *from)
{
	static const char *const names[] = {"/proc", "/dev", "/tmp"};
	char path[32];
	long root = SYS(openat, AT_FDCWD, at, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(s, "open", at, root);
	for (u32 i = 0; i < 3; i++) {
		struct text t = text_in(path, sizeof path);
		put(&t, from);
		put(&t, names[i]);
		mount_in(s, AT_FDCWD, path, (s32)root, names[i], 1);
	}
	SYS(close, root);
}

// prepare_root does what needs no request.
void prepare_root(struct sandbox *s)
{
	// In this sandbox's own namespace: mounts of the slot's cannot be cloned.
	open_host(s, "/host", "");
	must(s, "mount", "/proc", mount("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0));
	must(s, "mount", "/tmp", mount("tmpfs", "/tmp", MS_NOSUID | MS_NODEV, "mode=1777,uid=65000,gid=65000"));
	must(s, "mount", "/dev/shm", mount("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777,uid=65000,gid=65000"));
	must(s, "mount", "/scratch", mount("tmpfs", "/scratch", MS_NOSUID | MS_NODEV, SCRATCH_OPTIONS));
	must(s, "mount", "/dev/pts", mount("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"));
	place(s, "/scratch", "");
	s->placed = 1;
}

// bind_over shows a directory of the host below a fresh one that takes what the
// command writes: number n of /over, which is of this sandbox alone.
static void bind_over(struct sandbox *s, s32 root, const char *source, const char *target, u32 n)
{
	char name[48], upper[32], work[32];
	const struct {
		char *buf;
		const char *prefix;
	} names[] = {{upper, "/over/"}, {work, "/over/work"}};
	for (u32 i = 0; i < 2; i++) {
		struct text t = text_in(names[i].buf, sizeof upper);
		put(&t, names[i].prefix);
		put_number(&t, n);
	}
	if (!s->over) {
		char options[160];
		struct text t = text_in(options, sizeof options);
		put(&t, SCRATCH_OPTIONS);
		if (in_memory(s))
			put_size(&t, in_memory(s), 0);
		must(s, "mount", "/over", mount("tmpfs", "/over", MS_NOSUID | MS_NODEV, options));
		// The directories are all that is ever seen of it: see keep_root.
		long fd = SYS(openat, AT_FDCWD, "/over", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		must(s, "open", "/over", fd);
		s->over = (s32)fd;
	}
	s32 from = (s32)try_host_path(s, source, O_DIRECTORY);
	must(s, "open", source, from);
	struct statx st;
	must(s, "look at", source, SYS(statx, from, "", AT_EMPTY_PATH, STATX_MTIME | STATX_MODE, &st));
	make_dir(s, upper);
	make_dir(s, work);
	own(s, upper);
	must(s, "open up", upper, SYS(fchmodat, AT_FDCWD, upper, (st.mode & 07777) | 0700));
	struct timespec times[2] = {{st.mtime.sec, st.mtime.nsec}, {st.mtime.sec, st.mtime.nsec}};
	SYS(utimensat, AT_FDCWD, upper, times, 0);
	struct new_fs f = fs_open(s, "overlay");
	fs_set(&f, "lowerdir+", proc_name(s, name, from));
	fs_set(&f, "upperdir", upper);
	fs_set(&f, "workdir", work);
	if (s->slot->unprivileged)
		fs_set(&f, "userxattr", 0);
	s32 m = fs_mount(&f, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
	mount_in(s, m, "", root, target, 1);
	SYS(close, m);
	SYS(close, from);
}

// protect_tree makes what is bound as a command may see it.
static void protect_tree(struct sandbox *s, const char *source, s32 tree, int writable, u64 propagation)
{
	struct mount_attr attr = {
		.attr_set = (writable ? 0 : MOUNT_ATTR_RDONLY) | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
		.propagation = propagation,
	};
	must(s, "protect", source, SYS_COOKIE(mount_setattr, tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof attr));
}

// bind_in shows source at target: read-only, unless writable is set. It returns a
// descriptor of the mount.
static s32 bind_tree(struct sandbox *s, s32 root, const char *source, const char *target, int writable, u64 propagation)
{
	int directory = 1;
	long from = try_host_path(s, source, O_DIRECTORY);
	if (from == -ENOTDIR) {
		directory = 0;
		from = try_host_path(s, source, 0);
	}
	must(s, "open", source, from);
	// Recursive, as a user namespace may not see what lies below a mount.
	long tree = SYS_COOKIE(open_tree, from, "", OPEN_TREE_CLONE | O_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE);
	must(s, "clone", source, tree);
	protect_tree(s, source, (s32)tree, writable, propagation);
	mount_in(s, (s32)tree, "", root, target, directory);
	SYS(close, from);
	return (s32)tree;
}

static void bind_in(struct sandbox *s, s32 root, const char *source, const char *target, int writable)
{
	SYS(close, bind_tree(s, root, source, target, writable, MS_PRIVATE));
}

// tmpfs_in mounts an empty directory in memory at target.
static void tmpfs_in(struct sandbox *s, s32 root, const char *target)
{
	struct new_fs f = fs_open(s, "tmpfs");
	fs_set(&f, "mode", "1777");
	fs_set_size(&f);
	s32 m = fs_mount(&f, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
	mount_in(s, m, "", root, target, 1);
	SYS(close, m);
}

// except_in makes target, which must be there, a mount of its own, so that it
// stays as it is when the root becomes read-only.
static void except_in(struct sandbox *s, s32 root, const char *target)
{
	long at = open_in(root, target);
	must(s, "open", target, at);
	long tree = SYS_COOKIE(open_tree, at, "", OPEN_TREE_CLONE | O_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE);
	must(s, "clone", target, tree);
	must(s, "keep writable", target, SYS_COOKIE(move_mount, tree, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH));
	SYS(close, tree);
	SYS(close, at);
}

// bind_all mounts what the request wants in the root: the first byte of a source
// that is no slash says what else than a read-only bind it is.
static void bind_all(struct sandbox *s, s32 root)
{
	const char *p = s->binds;
	for (u32 i = 0; i < s->req->nbinds; i++) {
		const char *source = p, *target = next_string(source);
		switch (*source) {
		case '+':
			bind_over(s, root, source + 1, target, i);
			break;
		case '=':
			bind_in(s, root, source + 1, target, 1);
			break;
		case '%':
			tmpfs_in(s, root, target);
			break;
		case '!':
			except_in(s, root, target);
			break;
		default:
			bind_in(s, root, source, target, 0);
		}
		p = next_string(target);
	}
}

// finish_root gives the root the time that it had before mount points were made
// in it, as the command may not see the time of day, and protects it.
static void finish_root(struct sandbox *s, s32 root, const struct statx *before)
{
	struct timespec times[2] = {{0, UTIME_OMIT}, {before->mtime.sec, before->mtime.nsec}};
	SYS(utimensat, root, 0, times, 0);
	if (s->req->flags & REQUEST_READ_ONLY) {
		struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY};
		must(s, "protect", "/", SYS_COOKIE(mount_setattr, root, "", AT_EMPTY_PATH, &ro, sizeof ro));
	}
}

// alias_in shows the directory source of the root at the alias of a varied
// command, too.
static void alias_in(struct sandbox *s, s32 root, const char *source)
{
	long tree = SYS_COOKIE(open_tree, root, source, OPEN_TREE_CLONE | O_CLOEXEC);
	must(s, "clone", source, tree);
	mount_in(s, (s32)tree, "", root, s->alias, 1);
	SYS(close, tree);
}

// begin_root binds in the scratch what the next command will likely want to see, if
// that is what the request asks for, and says whether it was. While nobody uses it, it
// follows what is unmounted on the host, so that nothing is kept there.
int begin_root(struct sandbox *s)
{
	if (!(s->req->flags & REQUEST_BEGIN))
		return 0;
	long root = SYS(openat, AT_FDCWD, "/scratch", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(s, "open", "/scratch", root);
	if (!s->placed || s->nbegun || s->req->nbinds > BEGUN_MAX)
		fail(s, "begin the root", 0, -EINVAL);
	const char *p = s->binds;
	for (u32 i = 0; i < s->req->nbinds; i++) {
		const char *source = p, *target = next_string(source);
		if (*source != '/')
			fail(s, "begin the root", 0, -EINVAL);
		s->begun[s->nbegun++] = bind_tree(s, (s32)root, source, target, 0, MS_SLAVE);
		p = next_string(target);
	}
	SYS(close, root);
	__atomic_store_n(&s->state, READY, __ATOMIC_SEQ_CST); // there will be another request
	send_reply(s, REPLY_READY);
	return 1;
}

// take_begun makes what was bound in advance what it would be if that were done now.
static void take_begun(struct sandbox *s)
{
	for (u32 i = 0; i < s->nbegun; i++) {
		protect_tree(s, "what was bound", s->begun[i], 0, MS_PRIVATE);
		SYS(close, s->begun[i]);
	}
}

// limit_tmp bounds /tmp and /dev/shm, which have been mounted before there was a request.
static void limit_tmp(struct sandbox *s)
{
	static const char *const names[2][2] = {{"/tmp", "/dev/shm"}, {"/scratch/tmp", "/scratch/dev/shm"}};
	if (!in_memory(s))
		return;
	for (u32 i = 0; i < 2; i++)
		resize(s, names[!!s->placed][i], in_memory(s), 0);
}

// leave_begun makes another scratch, over the one in which something was begun that
// is not wanted.
static void leave_begun(struct sandbox *s)
{
	for (u32 i = 0; i < s->nbegun; i++)
		SYS(close, s->begun[i]);
	if (*s->scratch_dir || *s->context) // that is made later
		return;
	must(s, "mount", "/scratch", mount("tmpfs", "/scratch", MS_NOSUID | MS_NODEV, SCRATCH_OPTIONS));
	place(s, "/scratch", "");
	s->placed = 1;
}

// build_root makes the root of the request, and our root.
void build_root(struct sandbox *s)
{
	int begun = s->req->flags & REQUEST_BEGUN, leave = s->nbegun && !begun;
	// What has been placed in advance is in the way of another scratch.
	if (s->placed && (*s->scratch_dir || *s->context || leave)) {
		place(s, "/", "/scratch");
		s->placed = 0;
	}
	if (leave)
		leave_begun(s);
	if (begun)
		take_begun(s);
	limit_tmp(s);
	if (*s->emulator)
		s->emulator_fd = host_path(s, s->emulator);
	const char *at = mount_root(s, "/scratch", "/new");
	long root = SYS(openat, AT_FDCWD, at, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(s, "open", at, root);
	struct statx before;
	must(s, "look at", at, SYS(statx, root, "", AT_EMPTY_PATH, STATX_MTIME, &before));
	if (!s->placed || s->req->nlowers)
		place(s, at, s->placed ? "/scratch" : "");
	bind_all(s, (s32)root);
	if (s->req->flags & REQUEST_VARY) {
		// Or each file that is read would have another time.
		struct mount_attr attr = {.attr_set = MOUNT_ATTR_NOATIME, .attr_clr = MOUNT_ATTR__ATIME};
		must(s, "remount", at, SYS_COOKIE(mount_setattr, root, "", AT_EMPTY_PATH, &attr, sizeof attr));
		if (*s->alias)
			alias_in(s, (s32)root, "build");
	}
	finish_root(s, (s32)root, &before);
	must(s, "enter", at, SYS(chdir, at));
	must(s, "switch root", 0, SYS_COOKIE(mount, ".", "/", 0, MS_MOVE, 0));
	must(s, "change root", 0, SYS_COOKIE(chroot, "."));
	must(s, "enter", "/", SYS(chdir, "/"));
	SYS(close, root);
	if (s->req->id != 65000) { // the host's root may write to /proc/sys without a capability
		struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY};
		// One for ourselves, to write into the memory of processes: see scribe.c.
		if (s->req->flags & REQUEST_OBSERVE || own_namespace(s)) {
			long own = SYS_COOKIE(open_tree, AT_FDCWD, "/proc", OPEN_TREE_CLONE | O_CLOEXEC);
			must(s, "clone", "/proc", own);
			s->own_proc = (s32)own;
		}
		must(s, "protect", "/proc", SYS_COOKIE(mount_setattr, AT_FDCWD, "/proc", 0, &ro, sizeof ro));
	}
}

// keep adds the root at path, as the command leaves it, to the reply: without what is
// mounted on it, and good for longer than this sandbox. The clone that it
// stands on is not closed here, as that would wait for a grace period; it goes
// with our process.
static void keep(struct sandbox *s, const char *path)
{
	long tree = SYS_COOKIE(open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | O_CLOEXEC);
	must(s, "clone", path, tree);
	long fd = SYS(openat, tree, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(s, "open", path, fd);
	s->reply_fds[s->reply_nfds++] = (s32)fd;
}

// keep_root keeps the root, or where directories of the host were shown below
// fresh ones, the fresh ones, in directories named after the bind's number.
void keep_root(struct sandbox *s)
{
	if (!s->over) {
		keep(s, "/");
		return;
	}
	long tree = SYS_COOKIE(open_tree, s->over, "", OPEN_TREE_CLONE | O_CLOEXEC | AT_EMPTY_PATH);
	must(s, "clone", "/over", tree);
	long fd = SYS(openat, tree, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(s, "open", "/over", fd);
	s->reply_fds[s->reply_nfds++] = (s32)fd;
}

// mount_new mounts a new file system, of which options are pairs of a key and a
// value, and a null pointer, at name in the directory dir, or on dir itself. It
// returns a descriptor of it.
static s32 mount_new(struct sandbox *s, const char *type, const char *const *options, u32 attributes, s32 dir, const char *name)
{
	struct new_fs f = fs_open(s, type);
	for (; *options; options += 2)
		fs_set(&f, options[0], options[1]);
	s32 m = fs_mount(&f, MOUNT_ATTR_NOSUID | attributes);
	u32 flags = MOVE_MOUNT_F_EMPTY_PATH | (*name ? 0 : MOVE_MOUNT_T_EMPTY_PATH);
	must(s, "mount", type, SYS_COOKIE(move_mount, m, "", dir, name, flags));
	return m;
}

// furnish mounts /dev and /proc in a root that has everything else. The devices
// are those of "/dev" as we see it. With hide, /proc shows those processes only that
// a user may look into.
static void furnish(struct sandbox *s, s32 root, int hide)
{
	static const char *const dev_options[] = {"mode", "755", "size", "64k", 0};
	static const char *const pts_options[] = {"newinstance", 0, "ptmxmode", "0666", "mode", "0620", 0};
	static const char *const proc_options[] = {"hidepid", "invisible", 0};
	s->host = "";
	SYS(umask, 0);
	s32 at = mount_point(s, root, "/dev", 1);
	s32 dev = mount_new(s, "tmpfs", dev_options, MOUNT_ATTR_NOEXEC, at, "");
	SYS(close, at);
	make_dev(s, dev);
	SYS(umask, 022);
	struct new_fs f = fs_open(s, "tmpfs");
	fs_set(&f, "mode", "1777");
	fs_set_size(&f);
	s32 shm = fs_mount(&f, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
	must(s, "mount", "/dev/shm", SYS_COOKIE(move_mount, shm, "", dev, "shm", MOVE_MOUNT_F_EMPTY_PATH));
	if (!s->slot->unprivileged)
		must(s, "own", "/dev/shm", SYS(fchownat, shm, "", 65000, 65000, AT_EMPTY_PATH));
	SYS(close, shm);
	SYS(close, mount_new(s, "devpts", pts_options, MOUNT_ATTR_NOEXEC, dev, "pts"));
	SYS(close, dev);
	at = mount_point(s, root, "/proc", 1);
	s32 proc = mount_new(s, "proc", proc_options + (hide ? 0 : 2), MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, at, "");
	if (s->req->id != 65000) { // see build_root
		struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY};
		must(s, "protect", "/proc", SYS_COOKIE(mount_setattr, proc, "", AT_EMPTY_PATH, &ro, sizeof ro));
	}
	SYS(close, proc);
	SYS(close, at);
}

// put_init puts this program into the root, for a tool that cannot execute a
// descriptor. It removes itself.
static void put_init(struct sandbox *s, s32 root)
{
	struct open_how how = {.flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, .mode = 0755, .resolve = RESOLVE_IN_ROOT};
	long to = SYS(openat2, root, "/tmp/.sbx-init", &how, sizeof how), n;
	must(s, "make", "/tmp/.sbx-init", to);
	static char buf[64 << 10];
	for (u64 at = 0; (n = SYS(pread64, FD_SOCKET + 1, buf, sizeof buf, at)) != 0; at += (u64)n) {
		must(s, "read", "the helper", n);
		if (SYS(write, to, buf, n) != n)
			fail(s, "write", "/tmp/.sbx-init", -EIO);
	}
	SYS(close, to);
}

// become_user lets root go on as the user of the command.
static void become_user(struct sandbox *s, int keep_capabilities)
{
	if (s->slot->unprivileged)
		return;
	SYS(prctl, PR_SET_KEEPCAPS, keep_capabilities, 0, 0, 0);
	must(s, "drop groups", 0, SYS(setgroups, 0, 0));
	must(s, "become the group", 0, SYS(setresgid, 65000, 65000, 65000));
	must(s, "become the user", 0, SYS(setresuid, 65000, 65000, 65000));
}

// host_shell shows the host's programs in the shell, read-only, and whole sandboxes
// below /sbx, and makes the shell our root: for tools that only pretend to change it.
static void host_shell(struct sandbox *s, s32 shell)
{
	static const char *const dirs[] = {"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"};
	char link[PATH_MAX];
	for (u32 i = 0; i < sizeof dirs / sizeof *dirs; i++) {
		long n = SYS(readlinkat, AT_FDCWD, dirs[i], link, sizeof link - 1);
		if (n > 0) {
			link[n] = 0;
			must(s, "link", dirs[i], SYS(symlinkat, link, shell, dirs[i] + 1));
		} else if (SYS(faccessat, AT_FDCWD, dirs[i], 0) >= 0) {
			bind_in(s, shell, dirs[i], dirs[i], 0);
		}
	}
	must(s, "make", "/tmp", make_in(s, shell, "tmp", 1));
	must(s, "enter", "the shell", SYS(fchdir, shell));
	must(s, "change root", 0, SYS_COOKIE(chroot, "."));
	// The tool traces our init, which nobody else may, and with this capability
	// nobody may trace the tool. It has to be inherited before it is out of bounds.
	struct {
		u32 version;
		s32 pid;
	} header = {CAP_VERSION_3, 0};
	u32 caps[6] = {0};
	must(s, "look at capabilities", 0, SYS(capget, &header, caps));
	caps[2] = 1 << CAP_SYS_PTRACE;
	must(s, "keep a capability", 0, SYS(capset, &header, caps));
	drop_bounding();
	// The tool and our init are the user of the command: what the tool makes for
	// the command to execute is for nobody else.
	become_user(s, 1);
	caps[0] = caps[1] = caps[2];
	caps[3] = caps[4] = caps[5] = 0;
	must(s, "keep a capability", 0, SYS(capset, &header, caps));
	must(s, "keep a capability", 0, SYS(prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_PTRACE, 0, 0));
}

// own_pid goes on in a child that is the first of a pid namespace, for tools that
// make none; we wait for its end. The tool's root, which is the shell, gets what
// our init needs to be started there.
static void own_pid(struct sandbox *s)
{
	static const struct {
		u32 flag;
		u64 namespaces;
	} more[] = {{REQUEST_OWN_REST, CLONE_NEWIPC | CLONE_NEWUTS}, {REQUEST_OWN_NET, CLONE_NEWNET}};
	char path[PATH_MAX];
	u64 flags = CLONE_NEWPID | SIGCHLD;
	for (u32 i = 0; i < 2; i++)
		if (s->req->flags & more[i].flag)
			flags |= more[i].namespaces;
	long pid = SYS(clone, flags, 0, 0, 0, 0);
	must(s, "make a pid namespace", 0, pid);
	if (pid) {
		SYS(close, FD_SOCKET); // its end is the end of the child
		s32 status = 0;
		while (SYS(wait4, pid, &status, 0, 0) == -EINTR)
			;
		quit(status & 0x7f ? 128 + (status & 0x7f) : status >> 8 & 0xff);
	}
	SYS(prctl, PR_SET_PDEATHSIG, SIGKILL);
	if (s->req->flags & REQUEST_OWN_REST)
		must(s, "set the host name", 0, SYS(sethostname, "sbx", 3));
	if (s->req->flags & REQUEST_OWN_NET)
		must(s, "start the network", 0, lo_up());
	long shell = SYS(openat, AT_FDCWD, place_name(s, path, "/job/shell"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(s, "open", path, shell);
	furnish(s, (s32)shell, 0);
	if (!(s->req->flags & REQUEST_HOST_SHELL))
		return;
	long root = SYS(openat, AT_FDCWD, place_name(s, path, "/job/shell/sbx"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(s, "open", path, root);
	furnish(s, (s32)root, 1);
	SYS(close, root);
	host_shell(s, (s32)shell);
}

// keep_capabilities lets the program that we are about to execute have those that we
// have in our user namespace, where nobody is root.
static void keep_capabilities(struct sandbox *s)
{
	const struct {
		u32 version;
		s32 pid;
	} header = {CAP_VERSION_3, 0};
	u32 all[6]; // effective, permitted, inheritable; and again, the upper halves
	must(s, "look at capabilities", 0, SYS(capget, &header, all));
	all[2] = all[1];
	all[5] = all[4];
	must(s, "pass capabilities on", 0, SYS(capset, &header, all));
	for (int cap = 0; cap < 64; cap++)
		SYS(prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0);
	struct sock_filter filter[8];
	must(s, "install a filter", 0, install(filter, groups_filter(filter), 0));
}

// around_root makes a place of three directories in a mount namespace that is
// otherwise the host's, and executes the program there: "root" is the whole root but for
// /proc and /dev, "job" is for files that the program reads and writes, and
// "scratch" is nobody's business. All of it ends with the namespace.
void around_root(struct sandbox *s)
{
	if (s->slot->unprivileged)
		user_namespace(s);
	must(s, "make a mount namespace", 0, SYS(unshare, CLONE_NEWNS));
	must(s, "detach from the host's mounts", 0, SYS(mount, 0, "/", 0, MS_REC | MS_SLAVE, 0));
	if (!receive(s))
		quit(1);
	SYS(umask, 022);
	if (s->slot->as_root)
		s->req->id = 0;
	open_host(s, "", s->target);
	char scratch[PATH_MAX], root[PATH_MAX], job[PATH_MAX], tmp[48];
	must(s, "mount on", s->target, mount("tmpfs", s->target, MS_NOSUID | MS_NODEV, "mode=755"));
	make_dir(s, place_name(s, scratch, "/scratch"));
	make_dir(s, place_name(s, root, "/root"));
	make_dir(s, place_name(s, job, "/job"));
	if (s->req->nlowers)
		mount_root(s, scratch, root);
	else
		mount_root(s, root, 0);
	keep(s, root);
	long fd = SYS(openat, AT_FDCWD, job, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(s, "open", job, fd);
	s->reply_fds[s->reply_nfds++] = (s32)fd;
	fd = SYS(openat, AT_FDCWD, root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(s, "open", root, fd);
	struct statx before;
	must(s, "look at", root, SYS(statx, fd, "", AT_EMPTY_PATH, STATX_MTIME, &before));
	SYS(close, mount_point(s, (s32)fd, "/proc", 1));
	SYS(close, mount_point(s, (s32)fd, "/dev", 1));
	// By descriptor: a link in the root must not lead out of it.
	s32 at = mount_point(s, (s32)fd, "/tmp", 1);
	char options[160];
	struct text t = text_in(options, sizeof options);
	put(&t, s->slot->as_root ? "mode=1777" : "mode=1777,uid=65000,gid=65000");
	if (in_memory(s))
		put_size(&t, in_memory(s) + (s->req->flags & REQUEST_PUT_INIT ? PUT_INIT_ROOM : 0), 0);
	must(s, "mount", "/tmp", mount("tmpfs", proc_name(s, tmp, at), MS_NOSUID | MS_NODEV, options));
	SYS(close, at);
	bind_all(s, (s32)fd);
	if (s->req->flags & REQUEST_PUT_INIT)
		put_init(s, (s32)fd);
	finish_root(s, (s32)fd, &before);
	if (*s->hide) { // and all that is mounted below it
		while (SYS(umount2, s->hide, MNT_DETACH) >= 0)
			;
		must(s, "hide", s->hide, mount("tmpfs", s->hide, MS_NOSUID | MS_NODEV | MS_RDONLY, "mode=755,size=4k"));
	}
	if (s->req->flags & REQUEST_TREE) {
		long tree = SYS_COOKIE(open_tree, AT_FDCWD, root, OPEN_TREE_CLONE | O_CLOEXEC | AT_RECURSIVE);
		must(s, "clone", root, tree);
		s->reply_fds[s->reply_nfds++] = (s32)tree;
	}
	send_reply(s, REPLY_READY);
	await_go(s, "the sandbox was given up");
	if (s->req->flags & REQUEST_SHELL) {
		long tree = SYS_COOKIE(open_tree, AT_FDCWD, root, OPEN_TREE_CLONE | O_CLOEXEC | AT_RECURSIVE);
		must(s, "clone", root, tree);
		attach(s, (s32)tree, place_name(s, root, "/job/shell/sbx"));
	}
	must(s, "enter", job, SYS(chdir, job));
	long program = SYS(openat, AT_FDCWD, s->argv[0], O_PATH | O_CLOEXEC);
	must(s, "execute", s->argv[0], program);
	if (s->req->flags & REQUEST_OWN_PID)
		own_pid(s);
	if (s->req->flags & REQUEST_AS_USER)
		become_user(s, 0);
	for (int fd = 0; s->req->flags & REQUEST_STDIO && fd < 2; fd++)
		must(s, "pass a descriptor", 0, SYS(dup3, FD_SOCKET + fd, fd, 0));
	if (s->req->flags & REQUEST_KEEP_CAPS && s->slot->unprivileged)
		keep_capabilities(s);
	if (s->req->flags & REQUEST_HOST_SHELL) // the path may lead elsewhere now
		fail(s, "execute", s->argv[0], SYS(execveat, program, "", s->argv, s->envp, AT_EMPTY_PATH));
	fail(s, "execute", s->argv[0], SYS(execve, s->argv[0], s->argv, s->envp));
}

// enter_root leaves the root that a tool has made for the one that is in it:
// that has everything but /proc and /dev.
void enter_root(struct sandbox *s, const char *at)
{
	// What is shared cannot be moved. After a chroot "/" may be no mount, and nothing is shared.
	long err = SYS_COOKIE(mount, 0, "/", 0, MS_REC | MS_PRIVATE, 0);
	if (err != -EINVAL)
		must(s, "detach from the tool's mounts", 0, err);
	long root = SYS(openat, AT_FDCWD, at, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(s, "open", at, root);
	furnish(s, (s32)root, 0);
	must(s, "enter", at, SYS(chdir, at));
	must(s, "switch root", 0, SYS_COOKIE(mount, ".", "/", 0, MS_MOVE, 0));
	must(s, "change root", 0, SYS_COOKIE(chroot, "."));
	must(s, "enter", "/", SYS(chdir, "/"));
}

// enter_tree leaves the root that a tool has made for one that is mounted nowhere:
// that has everything but /proc and /dev.
void enter_tree(struct sandbox *s)
{
	must(s, "detach from the tool's mounts", 0, SYS_COOKIE(mount, 0, "/", 0, MS_REC | MS_PRIVATE, 0));
	// Over "/": who has that as root goes on to see what was there before.
	must(s, "mount", "/", SYS_COOKIE(move_mount, s->tree, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH));
	furnish(s, s->tree, 0);
	must(s, "enter", "/", SYS(fchdir, s->tree));
	must(s, "change root", 0, SYS_COOKIE(chroot, "."));
	SYS(close, s->tree);
}

// nest goes on as the user of the command, from being root of the tool's user
// namespace, who may well be no root outside: in one more user namespace, and in a
// pid namespace of it, because the tool's processes may be the command's user for
// the kernel. We execute ourselves, so that /proc/1 is not the command's, either.
_Noreturn void nest(struct sandbox *s, char *name)
{
	long pid = SYS(clone, CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0);
	must(s, "make namespaces", 0, pid);
	if (pid) {
		SYS(close, FD_SOCKET); // its end is the end of the child
		while (SYS(wait4, pid, 0, 0, 0) == -EINTR)
			;
		quit(0);
	}
	map_user(s, 0, 0);
	struct {
		u32 version;
		s32 pid;
	} header = {CAP_VERSION_3, 0};
	u32 caps[6] = {0};
	must(s, "look at capabilities", 0, SYS(capget, &header, caps));
	caps[2] = caps[1], caps[5] = caps[4]; // what we have is inherited
	must(s, "keep capabilities", 0, SYS(capset, &header, caps));
	for (int cap = 0; SYS(prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) >= 0; cap++)
		;
	char *argv[] = {name, "init", "user", "child", 0}, *envp[] = {0};
	for (int fd = FD_SOCKET; fd <= FD_SOCKET + 1; fd++)
		must(s, "pass a descriptor", 0, SYS(fcntl, fd, F_SETFD, 0));
	fail(s, "execute", "the helper again", SYS(execveat, FD_SOCKET + 1, "", argv, envp, AT_EMPTY_PATH));
}
