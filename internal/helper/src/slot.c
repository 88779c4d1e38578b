// The life of a slot.
//
// A slot is a process that lives in namespaces of its own (user if need be,
// mount, network, uts, cgroup), holds what all its sandboxes have in common,
// and clones a pid 1 for each action. That one builds the root, runs the
// command, and answers on the same socket; the slot only looks after it.
//
// While a command runs, the slot may prepare the sandbox of the next one, so
// that the next request finds everything but the root mounted.
#include "slot.h"

// default_signals comes first: what our caller ignores (nohup: SIGHUP) would be
// ignored by every command, and without SIGCHLD we would hear of no end.
void default_signals(void)
{
	struct kernel_sigaction dfl = {0};
	for (int sig = 1; sig <= NSIG; sig++)
		SYS(rt_sigaction, sig, &dfl, 0, 8);
	u64 chld = 1ull << (SIGCHLD - 1); // waited for with signalfd
	SYS(rt_sigprocmask, SIG_SETMASK, &chld, 0, 8);
}

// be_prompt asks for short slices of a processor, which makes the scheduler (since
// Linux 6.12) let us run soon after we have been woken: we never have much to do,
// and a command waits for it, while others compile. Children are as usual.
void be_prompt(void)
{
	long nice = 20 - SYS(getpriority, 0, 0);
	struct sched_attr a = {.size = sizeof a, .flags = SCHED_FLAG_RESET_ON_FORK, .nice = (s32)nice, .runtime = 100000};
	SYS(sched_setattr, 0, &a, 0); // where it is not to be had, we wait as others do
}

static void limit(int resource, u64 soft)
{
	struct rlimit l;
	SYS(prlimit64, 0, resource, 0, &l);
	l.soft = soft < l.hard ? soft : l.hard;
	if (resource == RLIMIT_CORE)
		l.hard = 0;
	SYS(prlimit64, 0, resource, &l, 0);
}

// drop_bounding gives up the capabilities that a program could give us.
void drop_bounding(void)
{
	for (int cap = 0; SYS(prctl, PR_CAPBSET_DROP, cap) >= 0; cap++)
		;
}

// harden does once what every command would otherwise have to do for itself,
// and all of it is inherited. What else is, is deny's.
void harden(struct slot *z)
{
	SYS(umask, 022);
	// A command sees the same limits whoever calls, and the same addresses.
	limit(RLIMIT_CORE, 0);
	limit(RLIMIT_STACK, 8 << 20);
	limit(RLIMIT_NOFILE, 1024);
	limit(RLIMIT_AS, ~0ull);
	limit(RLIMIT_CPU, ~0ull);
	limit(RLIMIT_DATA, ~0ull);
	limit(RLIMIT_FSIZE, ~0ull);
	SYS(personality, ADDR_NO_RANDOMIZE);
	SYS(prctl, PR_SET_NO_NEW_PRIVS, 1);
	drop_bounding();
	// Nobody may read or trace us, and with us every pid 1: in a user
	// namespace the command has the same uid.
	SYS(prctl, PR_SET_DUMPABLE, 0);
	SYS(getrandom, &cookie, sizeof cookie, 0);
}

// deny puts the deny list in force for all that we do and make from now on. s is told
// if that fails.
void deny(struct slot *z, struct sandbox *s)
{
	static struct sock_filter filter[FILTER_MAX];
	long err = install(filter, deny_filter(filter, 1, z->sealed), 0);
	if (err < 0)
		fail(s, "install the seccomp filter", 0, err);
	z->denied = 1;
}

// pid1 is the life of a sandbox.
static void pid1(void *arg)
{
	struct sandbox *s = arg;
	struct slot *z = s->slot;
	be_prompt();
	SYS(prctl, PR_SET_PDEATHSIG, SIGKILL);
	SYS(close, z->alive[1]);
	struct pollfd alive = {z->alive[0], 0, 0};
	struct timespec now = {0, 0};
	if (SYS(ppoll, &alive, 1, &now, 0, 0) != 0)
		quit(1); // the slot died before it could take us with it
	SYS(close, FD_LIFE);
	if (z->watch)
		prepare_command(s);
	prepare_root(s);
	if (s->early)
		offer_scratch(s);
	do
		if (!receive(s))
			quit(0);
	while (begin_root(s));
	if (s->seq == __atomic_load_n(&z->cancelled, __ATOMIC_SEQ_CST))
		fail(s, "cancelled", 0, -ECANCELED);
	leave_used_network(s);
	if (s->req->flags & REQUEST_VARY)
		vary_sandbox(s);
	build_root(s);
	wait_network(s);
	run_command(s);
	quit(0);
}

static struct sandbox *free_sandbox(struct slot *z)
{
	for (int i = 0; i < SANDBOXES; i++)
		if (z->sandboxes[i].state == FREE)
			return &z->sandboxes[i];
	return 0;
}

static struct sandbox *new_sandbox(struct slot *z)
{
	struct sandbox *s = free_sandbox(z);
	if (!s)
		return 0;
	long err = slot_network(z);
	if (err < 0)
		fail(s, "make a network namespace", 0, err);
	// The first command that is observed has both filters in one: see both_filter.
	// Slots of one command never come further.
	if (!z->denied && (!z->watch || z->sandboxes_made))
		deny(z, s);
	z->sandboxes_made = 1;
	memset(s, 0, offsetof(struct sandbox, message));
	s->slot = z;
	s->denied = z->denied;
	s->net = z->net;
	s->lo_stats = z->lo_stats;
	s->early = z->begin;
	z->begin = 0;
	s->state = READY;
	// Set by pid 1's clone for it, too: it looks at it before it is told.
	s->pid = -1;
	long pid = clone_onto(CLONE_VM | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | SIGCHLD, s->stack + STACK, pid1, s);
	if (pid < 0) {
		s->pid = 0;
		fail(s, "make a sandbox", 0, pid);
	}
	s->pid = (s32)pid;
	return s;
}

static int claim(struct sandbox *s, u32 from, u32 to)
{
	return __atomic_compare_exchange_n(&s->state, &from, to, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

// reap answers for those who could not answer themselves.
static void reap(struct slot *z, struct sandbox **ready)
{
	struct rusage ru;
	s32 status;
	long pid;
	while ((pid = SYS(wait4, -1, &status, WNOHANG, &ru)) > 0) {
		struct sandbox *s = 0;
		for (int i = 0; i < SANDBOXES; i++)
			if (z->sandboxes[i].pid == pid)
				s = &z->sandboxes[i];
		if (!s)
			continue;
		u32 was = s->state;
		if (was == BUSY || was == CONDEMNED || (was == READY && s->early)) {
			s->reply_nfds = 0;
			s->reply.wait_status = status;
			s->reply.user_us = (u64)ru.utime.sec * 1000000 + (u64)ru.utime.usec;
			s->reply.system_us = (u64)ru.stime.sec * 1000000 + (u64)ru.stime.usec;
			s->reply.maxrss_kb = (u64)ru.maxrss;
			send_reply(s, REPLY_KILLED);
		}
		free_observer(s);
		free_varied(s);
		owners_free(s);
		if (s->big)
			SYS(munmap, s->big, s->big_size);
		if (s == *ready)
			*ready = 0;
		s->pid = 0;
		s->state = FREE;
	}
}

static void kill_sandbox(struct sandbox *s)
{
	if (s->pid > 0)
		SYS(kill, s->pid, SIGKILL);
}

// end kills everything and waits until it is dead: only then does our caller
// see the end of us.
static _Noreturn void end(struct slot *z)
{
	for (int i = 0; i < SANDBOXES; i++)
		kill_sandbox(&z->sandboxes[i]);
	long err;
	do
		err = SYS(wait4, -1, 0, 0, 0);
	while (err > 0 || err == -EINTR);
	quit(0);
}

// cancel kills the sandbox that works on request seq, now or when it begins.
static void cancel(struct slot *z, u64 seq)
{
	__atomic_store_n(&z->cancelled, seq, __ATOMIC_SEQ_CST);
	for (int i = 0; i < SANDBOXES; i++) {
		struct sandbox *s = &z->sandboxes[i];
		if (s->seq == seq && claim(s, BUSY, CONDEMNED))
			kill_sandbox(s);
	}
}

static void set_up(struct slot *z)
{
	struct sandbox *s = &z->sandboxes[0];
	s->slot = z;
	z->life = -1;
	be_prompt();
	SYS(prctl, PR_SET_NAME, "sbx-slot");
	// What our caller has inherited itself, without close-on-exec.
	if (z->null > FD_LIFE + 1)
		SYS(close_range, FD_LIFE + 1, z->null - 1, 0);
	SYS(close_range, z->null + 1, ~0u, 0);
	default_signals();
	prepare_host(z);
	harden(z);
	z->kick = (s32)SYS(eventfd2, 0, EFD_CLOEXEC | O_NONBLOCK);
	long err = SYS(pipe2, z->alive, O_CLOEXEC);
	if (err >= 0 && !z->host_network)
		err = sys6(SYS_socketpair, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, (long)z->net_socket, 0, 0);
	if (z->kick < 0 || err < 0)
		fail(s, "make a pipe", 0, err < 0 ? err : z->kick);
}

void serve(struct slot *z)
{
	enum { LIFE, CHILD, KICK, SOCKET };
	set_up(z);
	u64 chld = 1ull << (SIGCHLD - 1);
	struct sandbox *ready = z->begin ? new_sandbox(z) : 0;
	if (ready) {
		// It has more to do than we, and shall not wait for our processor.
		SYS(sched_yield);
		make_network(z);
	}
	struct pollfd fds[] = {
		{FD_LIFE, POLLIN, 0},
		{(s32)SYS(signalfd4, -1, &chld, 8, SFD_CLOEXEC | O_NONBLOCK), POLLIN, 0},
		{z->kick, POLLIN, 0},
		{FD_SOCKET, POLLIN, 0},
	};
	char buf[128]; // a signalfd_siginfo
	for (;;) {
		// As long as a sandbox is ready, the socket is its business.
		long n = SYS(ppoll, fds, ready || !free_sandbox(z) ? SOCKET : SOCKET + 1, 0, 0, 0);
		if (n < 0)
			continue;
		if (fds[LIFE].revents) {
			u64 seq;
			if (SYS(read, FD_LIFE, &seq, sizeof seq) != sizeof seq)
				end(z);
			if (seq != SEQ_PREPARE)
				cancel(z, seq);
			else
				z->begin = 1;
		}
		if (fds[CHILD].revents) {
			SYS(read, fds[CHILD].fd, buf, sizeof buf);
			reap(z, &ready);
		}
		if (fds[KICK].revents) {
			SYS(read, z->kick, buf, 8);
			if (ready && ready->state != READY) {
				int prewarm = ready->req && ready->req->flags & REQUEST_PREWARM;
				ready = prewarm ? new_sandbox(z) : 0;
			}
		}
		if (z->begin && !(ready && ready->state == READY) && free_sandbox(z)) {
			ready = new_sandbox(z);
			make_network(z);
		}
		if (!ready && fds[SOCKET].revents & POLLIN) {
			ready = new_sandbox(z);
			make_network(z);
		}
		else if (fds[SOCKET].revents & (POLLHUP | POLLERR) && !ready)
			end(z);
		fds[SOCKET].revents = 0;
	}
}
