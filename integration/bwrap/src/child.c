// The child of the monitor, in the new namespaces: it makes the root, and is process 1 or
// has one, and the command.
#include "plan.h"

static void bound_caps(void)
{
	for (u64 c = 0; c <= CAP_LAST; c++)
		if (!(caps & 1ull << c))
			SYS(prctl, PR_CAPBSET_DROP, c);
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

// await_maps waits until the monitor has done what it has to do for our namespaces.
static void await_maps(void)
{
	char b;
	long n;
	SYS(close, go[1]);
	while ((n = SYS(read, go[0], &b, 1)) == -EINTR)
		;
	if (n != 1) // the monitor has ended
		quit(1);
	SYS(close, go[0]);
}

// become_user takes the ids in a user namespace that somebody else has made.
static void become_user(void)
{
	if (the_plan->gid != the_plan->real_gid)
		must(SYS(setgid, the_plan->gid), "unable to switch to gid");
	if (the_plan->uid != the_plan->real_uid)
		must(SYS(setuid, the_plan->uid), "unable to switch to uid");
}

// enter_namespaces ends with the new root, and the ids and namespaces of the command.
static void enter_namespaces(void)
{
	int own_user = on(UNSHARE_USER), mapped = own_user && the_plan->userns_block_fd < 0;
	if (own_user || the_plan->userns_fd >= 0)
		bound_caps();
	if (the_plan->userns_fd >= 0)
		become_user();
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
	drop_caps(1);
	if (the_plan->block_fd >= 0)
		wait_byte(the_plan->block_fd);
	read_filter();
	SYS(umask, umask);
}

_Noreturn void inside(void)
{
	if (the_plan->pidns_fd >= 0)
		enter_pidns();
	if (the_plan->info_fd >= 0)
		SYS(close, the_plan->info_fd);
	if (the_plan->json_fd >= 0)
		SYS(close, the_plan->json_fd);
	await_maps();
	enter_namespaces();
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
