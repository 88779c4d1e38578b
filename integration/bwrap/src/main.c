// sbx-bwrap: carries out a plan that sbx-action made of bubblewrap's options.
//
// Its processes are: the monitor, which was called, and ends as the command does;
// the child of the monitor, in the new namespaces, which makes the root (setup.c)
// and is process 1; and the command, which is a child of that one unless it shall
// be process 1 itself, or nobody needs a process 1.
//
// It is called as "bwrap DESCRIPTOR", of the plan (plan.c). exec.c executes the command.
#include "plan.h"

u64 cookie; // lib.c of the helper wants it

s32 proc_fd;

static s32 exit_event = -1; // the exit status plus one, from process 1 to the monitor
static s32 go[2] = {-1, -1}; // a byte from the monitor to the child: the maps are there
static s32 ready[2] = {-1, -1}; // a byte before execve, and another if it failed
static s32 pids[2] = {-1, -1};

static long set_caps(u64 set)
{
	struct cap_header h = {CAP_VERSION_3, 0};
	struct cap_data d[2] = {{(u32)set, (u32)set, (u32)set}, {(u32)(set >> 32), (u32)(set >> 32), (u32)(set >> 32)}};
	return SYS(capset, &h, d);
}

// drop_caps leaves none, or with keep those that were asked for, and makes us
// readable for ourselves again.
static void drop_caps(int keep, int dumpable)
{
	// capset is forbidden in some containers: do without where it changes nothing.
	if (!keep || on(CAPS_GIVEN) || the_plan->real_uid != 0) {
		long err = set_caps(keep ? caps : 0);
		if (err && !(err == -EPERM && the_plan->real_uid == 0))
			die(err, "capset failed");
	}
	if (dumpable)
		SYS(prctl, PR_SET_DUMPABLE, 1);
}

static void bound_caps(void)
{
	for (u64 c = 0; c <= CAP_LAST; c++)
		if (!(caps & 1ull << c))
			SYS(prctl, PR_CAPBSET_DROP, c);
}

static void die_with_parent(void)
{
	if (on(DIE_WITH_PARENT))
		SYS(prctl, PR_SET_PDEATHSIG, SIGKILL);
}

static void mask_child(int how)
{
	u64 mask = SIG_CHLD_MASK;
	SYS(rt_sigprocmask, how, &mask, 0, 8);
}

static int exit_code(s32 status)
{
	if (!(status & 0x7f))
		return status >> 8 & 0xff;
	return on(SIGNALS_ARE_1) ? 1 : 128 + (status & 0x7f);
}

// wait_byte waits until there is something to read, or its end.
static void wait_byte(s32 fd)
{
	char b;
	while (SYS(read, fd, &b, 1) == -EINTR)
		;
	SYS(close, fd);
}

static long fork_child(u64 flags)
{
	return SYS(clone, flags | SIGCHLD, 0, 0, 0, 0);
}

// map_ids makes one user and one group of this process's user namespace what they
// are outside.
static void map_ids(u32 uid, u32 outer_uid, u32 gid, u32 outer_gid, int deny_groups)
{
	long err = write_file(proc_fd, "self/uid_map", format("%u %u 1\n", (u64)uid, (u64)outer_uid));
	if (err)
		die(err, "setting up uid map");
	if (deny_groups) {
		err = write_file(proc_fd, "self/setgroups", "deny\n");
		if (err && err != -ENOENT)
			die(err, "error writing to setgroups");
	}
	err = write_file(proc_fd, "self/gid_map", format("%u %u 1\n", (u64)gid, (u64)outer_gid));
	if (err)
		die(err, "setting up gid map");
}

// The monitor.

static struct namespace {
	const char *name;
	u32 flag; // or 0 for one that is always new
	u64 id;
} namespaces[] = {
	{"cgroup", UNSHARE_CGROUP, 0}, {"ipc", UNSHARE_IPC, 0}, {"mnt", 0, 0}, {"net", UNSHARE_NET, 0}, {"pid", UNSHARE_PID, 0}, {"uts", UNSHARE_UTS, 0},
};
enum { NAMESPACES = sizeof namespaces / sizeof *namespaces };

static void read_namespaces(s32 pid)
{
	for (u32 i = 0; i < NAMESPACES; i++) {
		struct namespace *n = &namespaces[i];
		struct statx st;
		if (n->flag && !on(n->flag))
			continue;
		if (!SYS(statx, proc_fd, format("%d/ns/%s", (int)pid, n->name), 0, STATX_BASIC, &st))
			n->id = st.ino;
	}
}

static char *namespace_text(const char *between)
{
	char *s = "";
	for (u32 i = 0; i < NAMESPACES; i++)
		if (namespaces[i].id)
			s = join(s, format(",%s\"%s-namespace\": %u", between, namespaces[i].name, namespaces[i].id), "");
	return s;
}

// checked_write is for what callers wait for.
static void checked_write(s32 fd, const char *s)
{
	size_t n = strlen(s);
	long done = SYS(write, fd, s, n);
	if (done < 0)
		die(done, "Write to info_fd");
	if ((size_t)done < n)
		write_all(fd, s + done);
}

// report tells the exit code, if the command was executed.
static void report(int code)
{
	char b[2];
	if (the_plan->json_fd < 0 || ready[0] < 0)
		return;
	long n = SYS(read, ready[0], b, 2);
	if (n == 1)
		write_all(the_plan->json_fd, format("{ \"exit-code\": %d }\n", code));
}

static _Noreturn void finish(int code)
{
	report(code);
	quit(code);
}

// monitor waits for the end of the command, which process 1 tells, or of the
// child.
static _Noreturn void monitor(s32 child)
{
	close_all_but(exit_event, the_plan->json_fd, ready[0]);
	u64 mask = SIG_CHLD_MASK;
	s32 signals = (s32)SYS(signalfd4, -1, &mask, 8, SFD_CLOEXEC | O_NONBLOCK);
	if (signals < 0)
		die(signals, "Can't create signalfd");
	struct pollfd fds[2] = {{signals, POLLIN, 0}, {exit_event, POLLIN, 0}};
	for (;;) {
		long err = SYS(ppoll, fds, exit_event < 0 ? 1 : 2, 0, 0, 8);
		if (err < 0 && err != -EINTR)
			die(err, "poll");
		// First: process 1 often ends right after the command.
		u64 value;
		if (exit_event >= 0 && SYS(read, exit_event, &value, 8) == 8)
			finish((int)value - 1);
		struct signalfd_info info;
		SYS(read, signals, &info, sizeof info);
		s32 status;
		for (long pid; (pid = SYS(wait4, -1, &status, WNOHANG, 0)) > 0;)
			if (pid == child) // and not one of who executed us
				finish(exit_code(status));
	}
}

static s32 receive_pid(void)
{
	struct {
		struct cmsghdr h;
		struct ucred c;
	} control = {0};
	char b;
	struct iovec iov = {&b, 1};
	struct msghdr m = {.iov = &iov, .iovlen = 1, .control = &control, .controllen = sizeof control};
	long n;
	do
		n = SYS(recvmsg, pids[0], &m, 0);
	while (n == -EINTR);
	if (n < 0)
		die(n, "Can't read pid from socket");
	if (control.h.type != SCM_CREDENTIALS || !n)
		die(0, "No pid returned on socket");
	SYS(close, pids[0]);
	return control.c.pid;
}

static _Noreturn void outside(s32 pid)
{
	if (pids[0] >= 0) {
		SYS(close, pids[1]);
		pid = receive_pid();
	}
	read_namespaces(pid);
	long err;
	if (the_plan->userns2_fd >= 0 && (err = SYS(setns, the_plan->userns2_fd, CLONE_NEWUSER)))
		die(err, "Setting userns2 failed");
	drop_caps(0, 1);
	die_with_parent();
	if (the_plan->info_fd >= 0) {
		checked_write(the_plan->info_fd, format("{\n    \"child-pid\": %d%s\n}\n", (int)pid, namespace_text("\n    ")));
		SYS(close, the_plan->info_fd);
	}
	if (the_plan->json_fd >= 0)
		checked_write(the_plan->json_fd, format("{ \"child-pid\": %d%s }\n", (int)pid, namespace_text(" ")));
	if (the_plan->userns_block_fd >= 0)
		wait_byte(the_plan->userns_block_fd);
	SYS(write, go[1], "", 1);
	SYS(close, go[1]);
	monitor(pid);
}

// The child.

static void enter_pidns(void)
{
	long err = SYS(setns, the_plan->pidns_fd, CLONE_NEWPID);
	if (err)
		die(err, "Setting pidns failed");
	for (int again = 0; again <= on(UNSHARE_PID); again++) {
		if (again && (err = SYS(unshare, CLONE_NEWPID)))
			die(err, "unshare pid ns");
		long pid = fork_child(0);
		if (pid < 0)
			die(pid, "Can't fork for --pidns");
		if (pid)
			quit(0);
	}
	SYS(close, pids[0]);
	struct {
		struct cmsghdr h;
		struct ucred c;
	} control = {{sizeof(struct cmsghdr) + sizeof(struct ucred), SOL_SOCKET, SCM_CREDENTIALS},
		{(s32)SYS(getpid), (u32)SYS(getuid), (u32)SYS(getgid)}};
	char b = 0;
	struct iovec iov = {&b, 1};
	struct msghdr m = {.iov = &iov, .iovlen = 1, .control = &control, .controllen = sizeof control};
	err = SYS(sendmsg, pids[1], &m, 0);
	if (err < 0)
		die(err, "Can't send pid");
	SYS(close, pids[1]);
}

// loopback raises lo, which gives it its address.
static void loopback(void)
{
	struct {
		char name[16];
		s16 flags;
		char rest[22];
	} request = {"lo", 0, {0}};
	s32 fd = (s32)SYS(socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die(fd, "loopback: Failed to create socket");
	long err = SYS(ioctl, fd, SIOCGIFFLAGS, &request);
	if (err)
		die(err, "loopback: Failed to look up lo");
	request.flags |= IFF_UP;
	err = SYS(ioctl, fd, SIOCSIFFLAGS, &request);
	if (err)
		die(err, "loopback: Failed to bring up lo");
	SYS(close, fd);
}

static void must_mount(long err, const char *what)
{
	if (err < 0)
		die(0, "%s: %s", what, mount_error_text(err));
}

// change_root makes the new root, in a tmpfs that will be out of sight: /newroot
// is the root to be, /oldroot everything there was.
static void change_root(void)
{
	for (u32 i = 0; i < op_count; i++)
		if (the_ops[i].failed)
			die(-(long)the_ops[i].failed, "Can't find source path %s", str(the_ops[i].failed_name));
	// What is mounted outside appears below /oldroot, and nothing the other way.
	must_mount(SYS(mount, 0, "/", 0, MS_SILENT | MS_SLAVE | MS_REC, 0), "Failed to make / slave");
	must_mount(SYS(mount, "tmpfs", "/tmp", "tmpfs", MS_NODEV | MS_NOSUID, 0), "Failed to mount tmpfs");
	must(SYS(chdir, "/tmp"), "chdir base_path");
	must(SYS(mkdirat, AT_FDCWD, "newroot", 0755), "Creating newroot failed");
	must_mount(SYS(mount, "newroot", "newroot", 0, MS_SILENT | MS_BIND | MS_REC, 0), "setting up newroot bind");
	must(SYS(mkdirat, AT_FDCWD, "oldroot", 0755), "Creating oldroot failed");
	for (u32 i = 0; i < the_plan->tmp_overlays; i++) {
		must(SYS(mkdirat, AT_FDCWD, format("tmp-overlay-upper-%d", (int)i), 0755), "Creating --tmp-overlay upperdir failed");
		must(SYS(mkdirat, AT_FDCWD, format("tmp-overlay-work-%d", (int)i), 0755), "Creating --tmp-overlay workdir failed");
	}
	must(SYS(pivot_root, "/tmp", "oldroot"), "pivot_root");
	must(SYS(chdir, "/"), "chdir / (base path)");
	setup_root();
	must_mount(SYS(mount, "oldroot", "oldroot", 0, MS_SILENT | MS_REC | MS_PRIVATE, 0), "Failed to make old root rprivate");
	must(SYS(umount2, "oldroot", MNT_DETACH), "unmount old root");
	s32 base = (s32)SYS(openat, AT_FDCWD, "/", O_DIRECTORY | O_CLOEXEC);
	must(base, "can't open /");
	must(SYS(chdir, "/newroot"), "chdir /newroot");
	must(SYS(pivot_root, ".", "."), "pivot_root(/newroot)");
	must(SYS(fchdir, base), "fchdir to oldroot");
	must(SYS(umount2, ".", MNT_DETACH), "umount old root");
	must(SYS(chdir, "/"), "chdir /");
	SYS(close, base);
}

// nest makes a second user namespace in the first, in which the ids are those that
// were asked for, and in which no third can be made if nobody shall.
static void nest(u32 uid, u32 gid)
{
	if (on(DISABLE_USERNS))
		must(write_file(proc_fd, "sys/user/max_user_namespaces", "1"), "cannot open /proc/sys/user/max_user_namespaces");
	must(SYS(unshare, CLONE_NEWUSER), "unshare user ns");
	bound_caps();
	map_ids(the_plan->uid, uid, the_plan->gid, gid, 0);
}

// enter_dir changes to where the command shall start, and tells it by PWD.
static void enter_dir(void)
{
	const char *dir = "/";
	if (*str(the_plan->chdir)) {
		dir = str(the_plan->chdir);
		long err = SYS(chdir, dir);
		if (err)
			die(err, "Can't chdir to %s", dir);
	} else if (*str(the_plan->old_dir) && !SYS(chdir, str(the_plan->old_dir))) {
		dir = str(the_plan->old_dir);
	} else if (*str(the_plan->home) && !SYS(chdir, str(the_plan->home))) {
		dir = str(the_plan->home);
	}
	if (on(KEEP_PWD))
		return;
	char *pwd = join("PWD=", dir, "");
	for (u32 i = 0; i < env_count; i++)
		if (has_prefix(the_env[i], "PWD=")) {
			the_env[i] = pwd;
			return;
		}
	the_env[env_count++] = pwd;
	the_env[env_count] = 0;
}

// process_1 reaps, tells how the command ended, and ends when there is nobody
// left.
static _Noreturn void process_1(long command)
{
	set_caps(0);
	close_all_but(exit_event, the_plan->sync_fd, -1);
	for (u32 i = 0; i < lock_count; i++) {
		s32 fd = (s32)SYS(openat, AT_FDCWD, locks[i], O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			die(fd, "Unable to open lock file %s", locks[i]);
		struct flock_ lock = {.type = F_RDLCK};
		long err = SYS(fcntl, fd, F_SETLK, &lock);
		if (err)
			die(err, "Unable to lock file %s", locks[i]);
	}
	die_with_parent();
	apply_filters();
	int code = 1;
	for (;;) {
		s32 status;
		long pid = SYS(wait4, -1, &status, 0, 0);
		if (pid == command) {
			code = exit_code(status);
			u64 value = (u64)code + 1;
			if (exit_event >= 0)
				SYS(write, exit_event, &value, 8);
			if (on(END_WITH_COMMAND))
				quit(code);
		}
		if (pid < 0 && pid != -EINTR) {
			if (pid != -ECHILD)
				die(pid, "init wait()");
			quit(code);
		}
	}
}

static _Noreturn void command(void)
{
	SYS(close, proc_fd);
	if (!on(AS_PID_1) && the_plan->sync_fd >= 0)
		SYS(close, the_plan->sync_fd);
	mask_child(SIG_UNBLOCK);
	die_with_parent();
	for (u64 c = 0; c <= CAP_LAST; c++)
		if (caps & 1ull << c)
			SYS(prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, c, 0, 0);
	apply_filters();
	if (ready[1] >= 0)
		SYS(write, ready[1], "", 1);
	long err = execute(str(the_plan->program));
	if (ready[1] >= 0)
		SYS(write, ready[1], "", 1);
	die(err, "execvp %s", str(the_plan->program));
}

static _Noreturn void inside(void)
{
	if (the_plan->pidns_fd >= 0)
		enter_pidns();
	if (the_plan->info_fd >= 0)
		SYS(close, the_plan->info_fd);
	if (the_plan->json_fd >= 0)
		SYS(close, the_plan->json_fd);
	SYS(close, go[1]);
	char b;
	long n;
	while ((n = SYS(read, go[0], &b, 1)) == -EINTR)
		;
	if (n != 1) // the monitor has ended
		quit(1);
	SYS(close, go[0]);

	int own_user = on(UNSHARE_USER), mapped = own_user && the_plan->userns_block_fd < 0;
	if (own_user || the_plan->userns_fd >= 0)
		bound_caps();
	if (the_plan->userns_fd >= 0) {
		if (the_plan->gid != the_plan->real_gid)
			must(SYS(setgid, the_plan->gid), "unable to switch to gid");
		if (the_plan->uid != the_plan->real_uid)
			must(SYS(setuid, the_plan->uid), "unable to switch to uid");
	}
	if (on(UNSHARE_NET))
		loopback();
	u32 uid = the_plan->uid, gid = the_plan->gid;
	if (mapped) {
		if (on(NEEDS_DEVPTS)) // which can be mounted only where there is a root
			uid = gid = 0;
		map_ids(uid, the_plan->real_uid, gid, the_plan->real_gid, 1);
	}
	u32 umask = (u32)SYS(umask, 0);
	if (*str(the_plan->file_label))
		must(write_file(proc_fd, "thread-self/attr/fscreate", str(the_plan->file_label)), "--file-label setup failed");
	change_root();
	if (the_plan->userns2_fd >= 0)
		must(SYS(setns, the_plan->userns2_fd, CLONE_NEWUSER), "Setting userns2 failed");
	if (mapped && (uid != the_plan->uid || gid != the_plan->gid || on(DISABLE_USERNS)))
		nest(uid, gid);
	if (on(DISABLE_USERNS | ASSERT_USERNS_DISABLED) && !SYS(unshare, CLONE_NEWUSER))
		die(0, "creation of new user namespaces was not disabled as requested");
	drop_caps(1, 1);
	if (the_plan->block_fd >= 0)
		wait_byte(the_plan->block_fd);
	read_filter();
	SYS(umask, umask);
	enter_dir();
	if (on(NEW_SESSION))
		must(SYS(setsid), "setsid");
	if (*str(the_plan->exec_label))
		must(write_file(proc_fd, "thread-self/attr/exec", str(the_plan->exec_label)), "label_exec");
	if (!on(AS_PID_1) && (on(UNSHARE_PID) || lock_count || the_plan->sync_fd >= 0)) {
		long pid = fork_child(0);
		must(pid, "Can't fork for pid 1");
		if (pid)
			process_1(pid);
	}
	command();
}

static u64 clone_flags(void)
{
	static const struct {
		u32 plan;
		u64 clone;
	} pairs[] = {
		{UNSHARE_USER, CLONE_NEWUSER}, {UNSHARE_NET, CLONE_NEWNET}, {UNSHARE_IPC, CLONE_NEWIPC}, {UNSHARE_UTS, CLONE_NEWUTS}, {UNSHARE_CGROUP, CLONE_NEWCGROUP},
	};
	u64 flags = CLONE_NEWNS;
	for (u32 i = 0; i < sizeof pairs / sizeof *pairs; i++)
		if (on(pairs[i].plan))
			flags |= pairs[i].clone;
	if (on(UNSHARE_PID) && the_plan->pidns_fd < 0)
		flags |= CLONE_NEWPID;
	return flags;
}

static _Noreturn void clone_failed(long err)
{
	if (on(UNSHARE_USER) && err == -EINVAL)
		die(0, "Creating new namespace failed, likely because the kernel does not support user namespaces.  bwrap must be installed setuid on such systems.");
	if (on(UNSHARE_USER) && err == -EPERM)
		die(0, "No permissions to create a new namespace, likely because the kernel does not allow non-privileged user namespaces. On e.g. debian this can be enabled with 'sysctl kernel.unprivileged_userns_clone=1'.");
	if (err == -ENOSPC)
		die(0, "Creating new namespace failed: nesting depth or /proc/sys/user/max_*_namespaces exceeded (ENOSPC)");
	die(err, "Creating new namespace failed");
}

static void check_caps(void)
{
	struct cap_header h = {CAP_VERSION_3, 0};
	struct cap_data d[2] = {0};
	must(SYS(capget, &h, d), "capget failed");
	if (the_plan->real_uid != 0 && (d[0].permitted || d[1].permitted))
		die(0, "Unexpected capabilities but not setuid, old file caps config?");
}

// prepare makes what the processes tell each other through.
static void prepare(void)
{
	struct kernel_sigaction standard = {0};
	SYS(rt_sigaction, SIGCHLD, &standard, 0, 8); // its caller may ignore it, but signalfd needs it
	SYS(prctl, PR_SET_NAME, str(the_plan->name));
	check_caps();
	must(SYS(prctl, PR_SET_NO_NEW_PRIVS, 1), "prctl(PR_SET_NO_NEW_PRIVS) failed");
	proc_fd = (s32)SYS(openat, AT_FDCWD, "/proc", O_PATH | O_CLOEXEC);
	must(proc_fd, "Can't open /proc");
	if (on(UNSHARE_PID) && !on(AS_PID_1))
		must(exit_event = (s32)SYS(eventfd2, 0, EFD_CLOEXEC | O_NONBLOCK), "eventfd()");
	mask_child(SIG_BLOCK);
	s32 status;
	while (SYS(wait4, -1, &status, WNOHANG, 0) > 0) // children of who executed us
		;
	must(SYS(pipe2, go, O_CLOEXEC), "pipe2()");
	if (the_plan->json_fd >= 0)
		must(SYS(pipe2, ready, O_CLOEXEC), "pipe2()");
	if (the_plan->userns_fd >= 0) {
		long err = SYS(setns, the_plan->userns_fd, CLONE_NEWUSER);
		if (err == -EINVAL)
			die(0, "Joining the specified user namespace failed, it might not be a descendant of the current user namespace.");
		must(err, "Joining specified user namespace failed");
	}
	if (the_plan->pidns_fd >= 0) {
		SYS(prctl, PR_SET_CHILD_SUBREAPER, 1); // for the child of a child that ends
		must(SYS(socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pids), "Can't create intermediate pids socket");
		s32 one = 1;
		must(SYS(setsockopt, pids[0], SOL_SOCKET, SO_PASSCRED, &one, sizeof one), "Can't set SO_PASSCRED");
	}
}

__attribute__((used)) _Noreturn void start(long *sp)
{
	char **argv = (char **)(sp + 1);
	if (sp[0] != 2)
		die(0, "started by sbx-action, not by hand");
	read_plan(argv[1]);
	prepare();
	long pid = fork_child(clone_flags());
	if (pid < 0)
		clone_failed(pid);
	if (pid)
		outside((s32)pid);
	inside();
}

#if defined __x86_64__
__asm__(".text\n.global _start\n_start:\n	xor %ebp, %ebp\n	mov %rsp, %rdi\n	and $-16, %rsp\n	call start\n");
#else
__asm__(".text\n.global _start\n_start:\n	mov x29, xzr\n	mov x0, sp\n	bl start\n");
#endif
