// Roots for somebody else's sandbox: a tool makes that, and starts our init in it.
//
// Around (around_root) makes the command's root below a directory of ours, and
// executes the tool there, which puts it into its sandbox. Init, in there, leaves the
// tool's root for it (enter_root, enter_tree), and mounts what only it can: /proc and
// /dev (furnish).
#include "mounts.h"

// What the helper itself may need of /tmp: see put_init.
enum { PUT_INIT_ROOM = 256 << 10 };

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

// clone_root returns the root at path, with all that is mounted in it, mounted nowhere.
static s32 clone_root(struct sandbox *s, const char *path)
{
	long tree = SYS_COOKIE(open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | O_CLOEXEC | AT_RECURSIVE);
	must(s, "clone", path, tree);
	return (s32)tree;
}

// mount_tmp mounts /tmp in a root that is ours around a tool.
static void mount_tmp(struct sandbox *s, s32 root)
{
	char options[160], name[48];
	struct text t = text_in(options, sizeof options);
	// By descriptor: a link in the root must not lead out of it.
	s32 at = mount_point(s, root, "/tmp", 1);
	put(&t, s->slot->as_root ? "mode=1777" : "mode=1777,uid=65000,gid=65000");
	if (in_memory(s))
		put_size(&t, in_memory(s) + (s->req->flags & REQUEST_PUT_INIT ? PUT_INIT_ROOM : 0), 0);
	must(s, "mount", "/tmp", mount("tmpfs", proc_name(s, name, at), MS_NOSUID | MS_NODEV, options));
	SYS(close, at);
}

// fill_root mounts in the root at path what belongs there, but for what only init can.
static void fill_root(struct sandbox *s, const char *path)
{
	long root = SYS(openat, AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(s, "open", path, root);
	struct statx before;
	must(s, "look at", path, SYS(statx, root, "", AT_EMPTY_PATH, STATX_MTIME, &before));
	SYS(close, mount_point(s, (s32)root, "/proc", 1));
	SYS(close, mount_point(s, (s32)root, "/dev", 1));
	mount_tmp(s, (s32)root);
	bind_all(s, (s32)root);
	if (s->req->flags & REQUEST_PUT_INIT)
		put_init(s, (s32)root);
	finish_root(s, (s32)root, &before);
}

// hide_place covers what the tool shall not see.
static void hide_place(struct sandbox *s)
{
	while (SYS(umount2, s->hide, MNT_DETACH) >= 0) // and all that is mounted below it
		;
	must(s, "hide", s->hide, mount("tmpfs", s->hide, MS_NOSUID | MS_NODEV | MS_RDONLY, "mode=755,size=4k"));
}

// run_tool executes the tool, in job.
static _Noreturn void run_tool(struct sandbox *s, const char *job)
{
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

// around_root makes a place of three directories in a mount namespace that is
// otherwise the host's, and executes the program there: "root" is the whole root but for
// /proc and /dev, "job" is for files that the program reads and writes, and
// "scratch" is nobody's business. All of it ends with the namespace.
_Noreturn void around_root(struct sandbox *s)
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
	char scratch[PATH_MAX], root[PATH_MAX], job[PATH_MAX];
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
	fill_root(s, root);
	if (*s->hide)
		hide_place(s);
	if (s->req->flags & REQUEST_TREE)
		s->reply_fds[s->reply_nfds++] = clone_root(s, root);
	send_reply(s, REPLY_READY);
	await_go(s, "the sandbox was given up");
	if (s->req->flags & REQUEST_SHELL) {
		s32 tree = clone_root(s, root);
		attach(s, tree, place_name(s, root, "/job/shell/sbx"));
	}
	run_tool(s, job);
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
