// The monitor: the process that was called. It tells whoever asked for it which the child
// is, and ends as the command does.
#include "plan.h"

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

_Noreturn void outside(s32 pid)
{
	if (pids[0] >= 0) {
		SYS(close, pids[1]);
		pid = receive_pid();
	}
	read_namespaces(pid);
	long err;
	if (the_plan->userns2_fd >= 0 && (err = SYS(setns, the_plan->userns2_fd, CLONE_NEWUSER)))
		die(err, "Setting userns2 failed");
	drop_caps(0);
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
