// The command: how it is watched, killed and reported.
#include "slot.h"

// reap_all waits for everything that has ended. It says whether pid did.
int reap_all(s32 pid, s32 *status)
{
	s32 st, found = 0;
	long p;
	while ((p = SYS(wait4, -1, &st, WNOHANG, 0)) > 0)
		if (p == pid) {
			*status = st;
			found = 1;
		}
	return found;
}

// kill_all kills everybody in our pid namespace but us and, for init, its pid 1. A
// command without namespaces has the host's, in which nobody else may be killed.
static void kill_all(struct sandbox *s)
{
	if (s->fence)
		kill_descendants();
	else
		SYS(kill, -1, SIGKILL);
}

// reap_rest waits until all that was killed is dead.
static void reap_rest(struct sandbox *s, s32 pid, s32 *status)
{
	s32 st;
	long p;
	while ((p = SYS(wait4, -1, &st, 0, 0)) > 0 || p == -EINTR) {
		if (p == pid)
			*status = st;
		if (s->fence) // its children are ours now
			kill_descendants();
	}
}

// wait_command waits until pid has ended, or until the deadline.
static int wait_command(struct sandbox *s, s32 pid, u64 deadline, s32 *status)
{
	u64 chld = 1ull << (SIGCHLD - 1);
	int watched = s->req->flags & (REQUEST_OBSERVE | REQUEST_OWNERS);
	struct pollfd fds[3] = {{watched ? s->listener : -1, POLLIN, 0}, {-1, POLLIN, 0}, {s->slot->life, POLLIN, 0}};
	if (watched || s->slot->life >= 0)
		fds[1].fd = (s32)SYS(signalfd4, -1, &chld, 8, SFD_CLOEXEC | O_NONBLOCK);
	else if (!deadline) // the usual case, and the cheapest
		for (;;) {
			long p = SYS(wait4, -1, status, 0, 0);
			if (p == pid)
				return 1;
		}
	while (!reap_all(pid, status)) {
		struct timespec left, *timeout = 0;
		if (deadline) {
			u64 now = now_ns();
			if (now >= deadline)
				return 0;
			left = (struct timespec){(s64)((deadline - now) / 1000000000), (s64)((deadline - now) % 1000000000)};
			timeout = &left;
		}
		if (fds[1].fd < 0) {
			SYS(rt_sigtimedwait, &chld, 0, timeout, 8);
			continue;
		}
		// While look-ups come in, that is all that is looked at.
		for (;;) {
			long n = SYS(ppoll, fds, 3, timeout, 0, 8);
			// A watched command has parted from us before its first call
			// with a path, or is dead.
			if (n > 0)
				close_stdio(s);
			if (n <= 0 || fds[1].revents || fds[2].revents)
				break;
			if (fds[0].revents & POLLIN)
				observe(s, s->listener);
			else
				fds[0].fd = -1; // nobody is left who could be watched
			if (deadline && now_ns() >= deadline)
				break;
		}
		if (fds[2].revents) {
			// Our caller has changed its mind, or is gone.
			kill_all(s);
			if (s->fence) {
				reap_rest(s, pid, status);
				abandon(s);
			}
			quit(1);
		}
		char info[128];
		SYS(read, fds[1].fd, info, sizeof info);
	}
	return 1;
}

// kill_rest ends all that the command has left behind.
static void kill_rest(struct sandbox *s, s32 pid, s32 *status)
{
	// Whoever has lost its parents is a child of pid 1: if that has none, nobody is
	// left. To kill everybody takes a look at each process of the host.
	s32 st;
	long p = 0;
	if (!s->fence && SYS(getpid) == 1)
		while ((p = SYS(wait4, -1, &st, WNOHANG | WALL, 0)) > 0)
			if (p == pid)
				*status = st;
	if (p == -ECHILD)
		return;
	s->reply.flags |= DONE_LEFT;
	kill_all(s);
	reap_rest(s, pid, status);
}

static void report_usage(struct reply *r)
{
	struct rusage ru;
	SYS(getrusage, RUSAGE_CHILDREN, &ru);
	r->user_us = (u64)ru.utime.sec * 1000000 + (u64)ru.utime.usec;
	r->system_us = (u64)ru.stime.sec * 1000000 + (u64)ru.stime.usec;
	r->maxrss_kb = (u64)ru.maxrss;
}

// run_command runs the command of s, whose root is ours, and reports.
void run_command(struct sandbox *s)
{
	u64 start = now_ns();
	struct reply *r = &s->reply;
	s32 status = 0, pid = start_command(s);
	u64 deadline = s->req->wall_ns ? start + s->req->wall_ns : 0;
	int varied = s->req->flags & REQUEST_VARY;
	if (!(varied ? wait_varied(s, pid, deadline, &status) : wait_command(s, pid, deadline, &status)))
		r->flags |= DONE_TIMED_OUT;
	r->wall_ns = now_ns() - start;
	kill_rest(s, pid, &status);
	if (s->setup_errno)
		fail(s, s->setup_text, s->setup_errno == ENOENT ? s->dir : 0, -s->setup_errno);
	r->wait_status = status;
	r->start_errno = s->start_errno;
	if (s->start_errno)
		r->flags |= (u32)s->start_flags;
	report_usage(r);
	if (s->req->flags & REQUEST_KEEP_ROOT)
		keep_root(s);
	if (s->req->flags & REQUEST_OBSERVE)
		finish_observer(s);
	if (s->req->flags & REQUEST_OWNERS)
		owners_finish(s);
	note_network_use(s);
	u32 busy = BUSY;
	if (__atomic_compare_exchange_n(&s->state, &busy, REPLIED, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		send_reply(s, REPLY_DONE);
}
