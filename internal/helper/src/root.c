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
#include "mounts.h"

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

void await_go(struct sandbox *s, const char *what)
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
void own(struct sandbox *s, const char *dir)
{
	if (!s->slot->unprivileged)
		must(s, "own", dir, SYS(fchownat, AT_FDCWD, dir, s->req->id, s->req->gid, 0));
}

const char *mount_root(struct sandbox *s, const char *scratch, const char *root)
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

void finish_root(struct sandbox *s, s32 root, const struct statx *before)
{
	struct timespec times[2] = {{0, UTIME_OMIT}, {before->mtime.sec, before->mtime.nsec}};
	SYS(utimensat, root, 0, times, 0);
	if (s->req->flags & REQUEST_READ_ONLY) {
		struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY};
		must(s, "protect", "/", SYS_COOKIE(mount_setattr, root, "", AT_EMPTY_PATH, &ro, sizeof ro));
	}
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
	s->covered = !(s->req->flags & REQUEST_KEEP_ROOT) || has_over(s);
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

void keep(struct sandbox *s, const char *path)
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
