// sbx-bwrap: carries out a plan that sbx-action made of bubblewrap's options.
//
// Its processes are: the monitor (monitor.c), which was called, and ends as the command
// does; the child of the monitor (child.c), in the new namespaces, which makes the root
// (setup.c) and is process 1; and the command, which is a child of that one unless it shall
// be process 1 itself, or nobody needs a process 1.
//
// It is called as "bwrap DESCRIPTOR", of the plan (plan.c). exec.c executes the command.
#include "plan.h"

u64 cookie; // lib.c of the helper wants it

s32 proc_fd;

s32 exit_event = -1, go[2] = {-1, -1}, ready[2] = {-1, -1}, pids[2] = {-1, -1};

long set_caps(u64 set)
{
	struct cap_header h = {CAP_VERSION_3, 0};
	struct cap_data d[2] = {{(u32)set, (u32)set, (u32)set}, {(u32)(set >> 32), (u32)(set >> 32), (u32)(set >> 32)}};
	return SYS(capset, &h, d);
}

void drop_caps(int keep)
{
	// capset is forbidden in some containers: do without where it changes nothing.
	if (!keep || on(CAPS_GIVEN) || the_plan->real_uid != 0) {
		long err = set_caps(keep ? caps : 0);
		if (err && !(err == -EPERM && the_plan->real_uid == 0))
			die(err, "capset failed");
	}
	SYS(prctl, PR_SET_DUMPABLE, 1);
}

void die_with_parent(void)
{
	if (on(DIE_WITH_PARENT))
		SYS(prctl, PR_SET_PDEATHSIG, SIGKILL);
}

void mask_child(int how)
{
	u64 mask = SIG_CHLD_MASK;
	SYS(rt_sigprocmask, how, &mask, 0, 8);
}

int exit_code(s32 status)
{
	if (!(status & 0x7f))
		return status >> 8 & 0xff;
	return on(SIGNALS_ARE_1) ? 1 : 128 + (status & 0x7f);
}

void wait_byte(s32 fd)
{
	char b;
	while (SYS(read, fd, &b, 1) == -EINTR)
		;
	SYS(close, fd);
}

long fork_child(u64 flags)
{
	return SYS(clone, flags | SIGCHLD, 0, 0, 0, 0);
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
