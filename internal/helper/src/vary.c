// What a command is told that is not so: to find out what its outputs depend on.
//
// The kernel stops each process at the system calls of vary.h and tells pid 1,
// which answers in its place, or lets it continue. So it works for static
// programs, too, and needs nothing of ours in the command's root. The answers are
// made in clock.c (the time of day, and that of files), order.c (directories) and
// turns.c (who goes first).
//
// Not varied: programs of 32 bits, the clocks that do not tell the time of day,
// the change times of files, and /proc/uptime and its like. Whoever sleeps until a time
// of day sleeps too long.
#include "varied.h"

static void use_one_cpu(void)
{
	u64 mask[16] = {0};
	long n = SYS(sched_getaffinity, 0, sizeof mask, mask);
	for (u32 i = 0, found = 0; n > 0 && i < sizeof mask / sizeof *mask; i++) {
		mask[i] = found ? 0 : mask[i] & -mask[i];
		found |= !!mask[i];
	}
	SYS(sched_setaffinity, 0, sizeof mask, mask);
}

// vary_sandbox does what pid 1 can do for the whole sandbox, before its root
// is built.
void vary_sandbox(struct sandbox *s)
{
	struct varied *v = s->varied = map_memory(sizeof *v);
	if (!v)
		fail(s, "vary", 0, -ENOMEM);
	v->s = s;
	v->began = wall_clock();
	v->mono = now_ns();
	find_functions(v);
	long err = 0;
	if (*s->host_name) {
		err = SYS_COOKIE(unshare, CLONE_NEWUTS);
		if (err >= 0)
			err = SYS_COOKIE(sethostname, s->host_name, strlen(s->host_name));
	}
	if (err < 0)
		fail(s, "set the host name", s->host_name, err);
	if (s->req->vary.flags & VARY_ONE_CPU)
		use_one_cpu();
	if (s->req->vary.flags & (VARY_SHIFT | VARY_FREEZE) && !v->function[0])
		s->reply.flags |= DONE_UNVARIED;
}

// free_varied is called by the slot when pid 1 is dead.
void free_varied(struct sandbox *s)
{
	struct varied *v = s->varied;
	if (!v)
		return;
	if (v->entries)
		SYS(munmap, v->entries, ENTRIES_SIZE);
	if (v->order)
		SYS(munmap, v->order, v->order_size);
	SYS(munmap, v, sizeof *v);
	s->varied = 0;
}

const char *proc_path(struct varied *v, u32 tid, const char *what, s64 number)
{
	struct text t = text_in(v->path, sizeof v->path);
	put_number(&t, tid);
	put(&t, what);
	if (number >= 0)
		put_number(&t, (u64)number);
	return v->path;
}

u32 status_of(struct varied *v, u32 tid, const char *name)
{
	s64 number = status_number(v->proc, proc_path(v, tid, "/status", -1), name, 10);
	return number > 0 ? (u32)number : 0;
}

static s64 tell_cpus(struct varied *v, u32 tid, const u64 *args)
{
	u32 n = v->s->req->vary.cpus;
	u64 mask[16] = {0}, size = args[1] & ~7ull;
	if (size > sizeof mask)
		size = sizeof mask;
	if (size * 8 < n)
		return -EINVAL;
	for (u32 i = 0; i < n; i++)
		mask[i / 64] |= 1ull << i % 64;
	size = size < 8 ? size : (n + 63) / 64 * 8;
	return poke_process(tid, args[2], mask, size) ? -EFAULT : (s64)size;
}

static const struct vary_call *find(s32 nr)
{
	for (u32 i = 0; i < VARY_CALLS; i++)
		if (NR(vary_calls[i].amd64, vary_calls[i].arm64) == nr)
			return &vary_calls[i];
	return 0;
}

// respond answers one call. The answer "continue" is a value of 0 and true.
static int respond(struct varied *v, const struct vary_call *c, u32 tid, const u64 *args, s64 *value)
{
	switch (c->how) {
	case VARY_CLOCK_CALL:
	case VARY_TIMEVAL:
		*value = tell_time(v, tid, c->how, args);
		return 0;
	case VARY_TIME:
		*value = told_time(v) / SECOND;
		if (args[0] && poke_process(tid, args[0], value, sizeof *value) < 0)
			*value = -EFAULT;
		return 0;
	case VARY_FIRST:
		if (varied_by(&v->s->req->vary) & BY_CLOCK)
			no_vdso(v, tid);
		return 1;
	case VARY_FSTAT:
		date_descriptor(v, tid, (s32)args[0]);
		return 1;
	case VARY_STAT:
		date_path(v, tid, AT_FDCWD, args[0], 0);
		return 1;
	case VARY_LSTAT:
		date_path(v, tid, AT_FDCWD, args[0], AT_SYMLINK_NOFOLLOW);
		return 1;
	case VARY_STAT_AT:
		date_path(v, tid, (s32)args[0], args[1], (u32)args[3]);
		return 1;
	case VARY_STATX:
		date_path(v, tid, (s32)args[0], args[1], (u32)args[2]);
		return 1;
	case VARY_GETDENTS:
	case VARY_OLD_GETDENTS:
		return list_in_order(v, tid, args, c->how == VARY_OLD_GETDENTS, value);
	case VARY_AFFINITY:
		*value = tell_cpus(v, tid, args);
		return 0;
	}
	return 1;
}

static void answer(struct varied *v, s32 listener)
{
	struct seccomp_notif n = {0};
	if (SYS(ioctl, listener, SECCOMP_IOCTL_NOTIF_RECV, &n) < 0)
		return; // its process has died meanwhile
	const struct vary_call *c = find(n.data.nr);
	struct seccomp_notif_resp resp = {.id = n.id};
	if (!c || respond(v, c, n.pid, n.data.args, &resp.val)) {
		// Who made it by vfork waits until it has executed something.
		if ((c && c->how == VARY_EXEC) || !hold_back(v, n.id, n.pid))
			go_on(listener, n.id);
		return;
	}
	if (resp.val < 0) {
		resp.error = (s32)resp.val;
		resp.val = 0;
	}
	SYS(ioctl, listener, SECCOMP_IOCTL_NOTIF_SEND, &resp);
}

// wait_varied waits until pid has ended, or until the deadline, and answers
// what the command asks.
int wait_varied(struct sandbox *s, s32 pid, u64 deadline, s32 *status)
{
	struct varied *v = s->varied;
	u64 chld = 1ull << (SIGCHLD - 1);
	struct pollfd fds[3] = {
		{s->listener, POLLIN, 0},
		{(s32)SYS(signalfd4, -1, &chld, 8, SFD_CLOEXEC | O_NONBLOCK), POLLIN, 0},
		{s->slot->life, POLLIN, 0},
	};
	v->proc = (s32)SYS(openat, AT_FDCWD, "/proc", O_PATH | O_CLOEXEC);
	if (v->proc < 0)
		fail(s, "open", "/proc", v->proc);
	while (!reap_all(pid, status)) {
		do {
			u64 due = release_held(v, s->listener), now = now_ns();
			if (deadline && now >= deadline)
				return 0;
			if (deadline && (!due || deadline < due))
				due = deadline;
			u64 left = due > now ? due - now : 0;
			struct timespec timeout = {(s64)(left / SECOND), (s64)(left % SECOND)};
			if (SYS(ppoll, fds, 3, due ? &timeout : 0, 0, 8) <= 0)
				continue;
			close_stdio(s); // it has parted from us before its first call, or is dead
			if (fds[0].revents & POLLIN)
				answer(v, s->listener);
			else if (fds[0].revents)
				fds[0].fd = -1; // nobody is left who could ask
		} while (!fds[1].revents && !fds[2].revents);
		if (fds[2].revents) { // our caller has changed its mind, or is gone
			SYS(kill, -1, SIGKILL);
			quit(1);
		}
		char info[128];
		SYS(read, fds[1].fd, info, sizeof info);
	}
	return 1;
}
