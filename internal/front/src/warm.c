// Gives a call that no memo answers to a warm worker, if there is one: a process
// that has Go started, and a sandbox prepared, of "sbx-action warm" or of a session that
// has begun by itself. SBX_WARM, or build_dir, is the
// directory in which they listen: a socket N for each, and N.lock, on which whoever
// talks to it holds a lock, so that nobody waits for one that is busy. A directory that
// is somebody else's, or that others may write to, is none of a session.
//
// We send an ask with our descriptors 0 to 2 and that of the working directory, and
// then our arguments and environment as the kernel gave them to us. What else a call
// depends on (who we are, namespaces, limits …), the worker asks the kernel: see
// facts_linux.go in internal/warm. It answers with an answer, or, if it dies, with nothing; in
// every case but "done" Go starts, as if we had not asked.
enum {
	WARM_MAGIC = 0x32787773,
	WARM_WORKERS = 64, // at most; as in internal/warm
	WARM_MAX = 1 << 20, // bytes of arguments and environment
	WARM_PROOF = 6, // a descriptor of who listens; as in proof_linux.go
	WARM_BASE = 58, // bytes of a directory's name; as in build_linux.go
};

struct warm_ask {
	u32 magic, why, argc, envc, mask, slack; // slack: of our timers, in ns
	u64 size; // of what follows
	char proof[64]; // see warm_proof
};

struct warm_answer {
	u8 kind; // 'x' done, 's' done, and ended by a signal, 'd' declined; 'r': it reads our standard input, and an answer follows
	u8 value; // of the exit, or the number of the signal
	u8 unused[6];
};

struct iovec {
	const void *base;
	u64 len;
};

struct msghdr {
	void *name;
	u32 name_len, pad;
	struct iovec *iov;
	u64 iov_len;
	void *control;
	u64 control_len;
	int flags, pad2;
};

struct cmsg {
	u64 len;
	int level, type;
	int fds[4];
};

// warm_strings says where our arguments and environment are: the kernel puts them
// one behind the other. It says no if somebody else did it otherwise.
static int warm_strings(struct front *f, struct warm_ask *ask)
{
	char *at = f->argv[0];
	for (u64 i = 0; i < f->argc; i++) {
		if (f->argv[i] != at)
			return 0;
		at += length(at) + 1;
	}
	ask->envc = 0;
	for (char **e = f->env; *e; e++, ask->envc++) {
		if (*e != at)
			return 0;
		at += length(at) + 1;
	}
	ask->argc = (u32)f->argc;
	ask->mask = (u32)sys(NR_umask, 077, 0, 0, 0, 0);
	sys(NR_umask, ask->mask, 0, 0, 0, 0);
	ask->slack = (u32)sys(NR_prctl, 30 /* PR_GET_TIMERSLACK */, 0, 0, 0, 0);
	ask->size = (u64)(at - f->argv[0]);
	return ask->size <= WARM_MAX;
}

static u64 decimal(char *to, u32 number)
{
	char digits[10];
	u64 n = 0, at = 0;
	do
		digits[n++] = (char)('0' + number % 10);
	while (number /= 10);
	while (n)
		to[at++] = digits[--n];
	return at;
}

// parent_of returns the parent of a process, or 0: the second field behind the name in
// /proc/PID/stat, which is in parentheses and may hold some itself.
static u32 parent_of(u32 pid)
{
	char path[32] = "/proc/", text[512];
	u64 at = 6 + decimal(path + 6, pid);
	memcpy(path + at, "/stat", 6);
	i64 fd = f_open(AT_FDCWD, path, O_RDONLY, 0);
	if (fd < 0)
		return 0;
	i64 n = f_read(fd, text, sizeof text - 1), end = n;
	f_close(fd);
	while (end > 0 && text[end - 1] != ')')
		end--;
	u32 parent = 0;
	for (i64 i = end + 3; end > 0 && i < n && text[i] >= '0' && text[i] <= '9'; i++)
		parent = parent * 10 + (u32)(text[i] - '0');
	return parent;
}

// dir_of finds the session that has begun by itself for a process: buildDirs in
// build_linux.go.
static int dir_of(struct front *f, u32 pid, char *to)
{
	const char *base = variable(f, "XDG_RUNTIME_DIR=");
	int usable = base && *base == '/' && length(base) <= WARM_BASE;
	for (int i = !usable; i < 3; i++) {
		if (i)
			base = i == 1 ? "/dev/shm" : "/tmp";
		u64 at = length(base);
		memcpy(to, base, at);
		memcpy(to + at, "/sbx-warm-", 10);
		at += 10;
		at += decimal(to + at, (u32)sys(NR_geteuid, 0, 0, 0, 0, 0));
		to[at++] = '-';
		to[at + decimal(to + at, pid)] = 0;
		struct stat st;
		if (f_stat(AT_FDCWD, to, &st, AT_NOFOLLOW) == 0)
			return 1;
	}
	return 0;
}

// build_dir finds the session that has begun by itself for the build that we are a part
// of: that of our process group's leader or, where there is none, of the leader's parent.
static int build_dir(struct front *f, char *to)
{
	u32 leader = (u32)sys(NR_getpgrp, 0, 0, 0, 0, 0), parent;
	if (!leader)
		return 0;
	if (leader == (u32)sys(NR_getpid, 0, 0, 0, 0, 0))
		parent = (u32)sys(NR_getppid, 0, 0, 0, 0, 0);
	else if (dir_of(f, leader, to))
		return 1;
	else
		parent = parent_of(leader);
	return parent > 1 && dir_of(f, parent, to);
}

// warm_proof reads what only those can read who may look into the process that
// listens: the name of a file without a place, which is random. It stays empty for a
// process that Landlock, or the like, keeps from that: a worker, which is kept from
// nothing, must not do anything for it.
static void warm_proof(struct warm_ask *ask, int pid)
{
	char path[32] = "/proc/";
	u64 at = 6 + decimal(path + 6, (u32)pid);
	memcpy(path + at, "/fd/", 4);
	path[at + 4] = '0' + WARM_PROOF;
	sys(NR_readlinkat, AT_FDCWD, P(path), P(ask->proof), sizeof ask->proof, 0);
}

// warm_connect finds a worker that is free. lock becomes the descriptor that keeps
// others away.
static i64 warm_connect(const char *dir, struct warm_ask *ask, i64 *lock)
{
	struct {
		unsigned short family;
		char path[108];
	} to = {1 /* AF_UNIX */, {0}};
	u64 n = length(dir);
	u32 uid = (u32)sys(NR_geteuid, 0, 0, 0, 0, 0);
	struct stat st;
	if (dir[0] != '/' || n > 90 || f_stat(AT_FDCWD, dir, &st, 0) < 0 || st.uid != uid || st.mode & 077)
		return -1;
	memcpy(to.path, dir, n);
	to.path[n++] = '/';
	for (u64 i = 0; i < WARM_WORKERS; i++) {
		u64 at = n;
		if (i >= 10)
			to.path[at++] = (char)('0' + i / 10);
		to.path[at++] = (char)('0' + i % 10);
		memcpy(to.path + at, ".lock", 6);
		i64 l = f_open(AT_FDCWD, to.path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
		to.path[at] = 0;
		if (l < 0)
			return -1; // there are no more
		if (sys(NR_flock, l, 2 | 4 /* exclusive, do not wait */, 0, 0, 0) < 0) {
			f_close(l);
			continue;
		}
		struct {
			int pid;
			u32 uid, gid;
		} peer;
		u32 size = sizeof peer;
		i64 fd = sys(NR_socket, 1, 1 /* SOCK_STREAM */ | O_CLOEXEC, 0, 0, 0);
		if (fd >= 0 && sys(NR_connect, fd, P(&to), sizeof to, 0, 0) == 0 &&
		    sys(NR_getsockopt, fd, 1, 17 /* SO_PEERCRED */, P(&peer), P(&size)) == 0 &&
		    peer.uid == uid) {
			warm_proof(ask, peer.pid);
			*lock = l;
			return fd;
		}
		if (fd >= 0)
			f_close(fd);
		f_close(l);
	}
	return -1;
}

static int warm_send(struct front *f, i64 fd, struct warm_ask *ask)
{
	i64 cwd = f_open(AT_FDCWD, ".", O_PATH | O_DIRECTORY, 0);
	if (cwd < 0)
		return 0;
	struct cmsg c = {sizeof c, 1 /* SOL_SOCKET */, 1 /* SCM_RIGHTS */, {0, 1, 2, (int)cwd}};
	struct iovec iov[2] = {{ask, sizeof *ask}, {f->argv[0], ask->size}};
	struct msghdr m = {0, 0, 0, iov, 2, &c, sizeof c, 0, 0};
	u64 left = sizeof *ask + ask->size;
	i64 r = sys(NR_sendmsg, fd, P(&m), 0x4000 /* MSG_NOSIGNAL */, 0, 0);
	f_close(cwd);
	while (r > 0 && (left -= (u64)r)) // longer than what a socket takes at a time
		r = sys6(NR_sendto, fd, P(f->argv[0] + ask->size - left), P(left), 0x4000, 0, 0);
	return r > 0;
}

// warm_signals blocks the signals that end us, but for those that we ignore, and
// returns a descriptor that tells of them.
static i64 warm_signals(u64 *before)
{
	static const int signals[] = {1, 2, 15};
	u64 set = 0;
	for (int i = 0; i < 3; i++) {
		u64 action[4];
		if (sys(NR_sigaction, signals[i], 0, P(action), 8, 0) == 0 && action[0] != 1)
			set |= 1UL << (signals[i] - 1);
	}
	sys(NR_sigprocmask, 0 /* block */, P(&set), P(before), 8, 0);
	set &= ~*before; // who has blocked them waits, as without us
	return sys(NR_signalfd4, -1, P(&set), 8, O_CLOEXEC, 0);
}

static void warm_die(int signal, u64 *before)
{
	u64 dfl[4] = {0}, open = *before & ~(1UL << (signal - 1));
	sys(NR_sigaction, signal, P(dfl), 0, 8, 0);
	sys(NR_kill, sys(NR_getpid, 0, 0, 0, 0, 0), signal, 0, 0, 0);
	sys(NR_sigprocmask, 2 /* set */, P(&open), 0, 8, 0);
	call6(NR_exit_group, 128 + signal, 0, 0, 0, 0, 0);
}

// warm_wait waits for the answer, and passes signals on: the first one to the worker,
// which gives up what it does, as Go would; the second one ends us. The first one does
// where the worker has not given up for it: Go does not hear of it any more.
static void warm_wait(i64 fd, i64 signals, u64 *before)
{
	struct warm_answer answer = {0};
	struct cmsg c = {0};
	int told = 0; // the first signal
	int taken = 0; // what was to be read as standard input is there no more
	for (;;) {
		struct { int fd; short events, seen; } wait[2] = {{(int)fd, 1, 0}, {(int)signals, 1, 0}};
		if (signals >= 0 && sys(NR_poll, P(wait), 2, -1, 0, 0) < 0)
			return;
		if (signals >= 0 && wait[1].seen) {
			u8 info[128];
			if (f_read(signals, info, sizeof info) != sizeof info)
				return;
			if (told)
				warm_die(info[0], before);
			told = info[0];
			sys6(NR_sendto, fd, P(info), 1, 0x4000, 0, 0);
			continue;
		}
		struct iovec iov = {&answer, sizeof answer};
		struct msghdr m = {0, 0, 0, &iov, 1, &c, sizeof c, 0, 0};
		i64 r = sys(NR_recvmsg, fd, P(&m), O_CLOEXEC | 0x100 /* wait for all of it */, 0, 0);
		if (told && (r != sizeof answer || answer.kind == 'd'))
			warm_die(told, before);
		if (r == sizeof answer && answer.kind == 'r') {
			taken = 1;
			continue;
		}
		if (r != sizeof answer && taken) {
			static const char text[] = "sbx-action: a warm worker ended, and what it has read of standard input is lost: start this again\n";
			f_write(2, text, sizeof text - 1);
			call6(NR_exit_group, 125, 0, 0, 0, 0, 0);
		}
		if (r != sizeof answer) {
			static const char text[] = "sbx-action: a warm worker ended; this call goes on without it\n";
			f_write(2, text, sizeof text - 1);
			return;
		}
		if (answer.kind == 'x')
			call6(NR_exit_group, answer.value, 0, 0, 0, 0, 0);
		if (answer.kind == 's')
			warm_die(answer.value, before);
		// What it has read of standard input comes back.
		if (m.control_len >= sizeof c - 3 * sizeof c.fds[0] && c.type == 1) {
			sys(NR_dup3, c.fds[0], 0, 0, 0, 0);
			f_close(c.fds[0]);
		}
		return;
	}
}

// warm answers the call, or returns, and then nothing has happened.
__attribute__((noinline)) static void warm(struct front *f, enum reason why)
{
	const char *dir = variable(f, "SBX_WARM=");
	struct warm_ask ask = {.magic = WARM_MAGIC, .why = why};
	i64 lock = -1, signals = -1;
	u64 before = 0;
	char own[96];
	if (!dir || !*dir)
		dir = build_dir(f, own) ? own : 0;
	if (!dir || !warm_strings(f, &ask))
		return;
	i64 fd = warm_connect(dir, &ask, &lock);
	if (fd < 0)
		return;
	const char *run = f->argc > 1 ? f->argv[1] : ""; // of a compiler, signals end us
	if (starts(run, "run") && !run[3]) {
		signals = warm_signals(&before);
		if (signals < 0)
			goto out;
	}
	if (warm_send(f, fd, &ask))
		warm_wait(fd, signals, &before);
out:
	f_close(fd);
	if (signals >= 0) {
		f_close(signals);
		sys(NR_sigprocmask, 2 /* set */, P(&before), 0, 8, 0);
	}
	f_close(lock);
}
