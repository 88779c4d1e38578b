// How the command starts: its process, from what pid 1 makes of itself to the exec.
#include "slot.h"

static void give_up(struct sandbox *s, const char *what, long err)
{
	s->setup_errno = (s32)-err;
	s->setup_text = what;
	u32 *waits[] = {&s->listener_ready, &s->user_asked}; // for nothing, then
	for (u32 i = 0; i < 2; i++) {
		__atomic_store_n(waits[i], 1, __ATOMIC_SEQ_CST);
		SYS(futex, waits[i], FUTEX_WAKE, 1, 0);
	}
	quit(125);
}

void need(struct sandbox *s, const char *what, long err)
{
	if (err < 0)
		give_up(s, what, err);
}

static void set_limits(struct sandbox *s)
{
	const struct {
		int resource;
		u64 value;
	} limits[] = {
		{RLIMIT_FSIZE, s->req->file_size},
		{RLIMIT_DATA, s->req->data},
		{RLIMIT_NPROC, s->req->nproc},
	};
	for (u32 i = 0; i < sizeof limits / sizeof *limits; i++) {
		if (limits[i].value == 0)
			continue;
		struct rlimit l = {limits[i].value, limits[i].value}, now;
		// An ordinary user cannot raise the limit of our caller.
		if (SYS(prlimit64, 0, limits[i].resource, 0, &now) >= 0 && now.hard < l.hard)
			l.soft = l.hard = now.hard;
		need(s, "set a limit", SYS(prlimit64, 0, limits[i].resource, &l, 0));
	}
}

// drop gives up every privilege. What is common to all commands of a slot has
// been given up there: see harden.
static void drop(struct sandbox *s)
{
	const struct {
		u32 version;
		s32 pid;
	} header = {CAP_VERSION_3, 0};
	const u32 none[6] = {0}, own[6] = {OWNER_CAPS, OWNER_CAPS};
	u32 id = s->req->id, gid = s->req->gid;
	if (!s->slot->unprivileged && !own_namespace(s)) {
		need(s, "drop groups", SYS(setgroups, 0, 0));
		need(s, "become the group", SYS(setresgid, gid, gid, gid));
		need(s, "become the user", SYS(setresuid, id, id, id));
	}
	SYS(prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	need(s, "drop capabilities", SYS(capset, &header, s->req->flags & REQUEST_OWNERS ? own : none));
}

// binary says whether a file that is not executable by the kernel is no script
// either. Shells look at its first line; a NUL anywhere near is as good.
static int binary(const char *path)
{
	char head[128];
	long fd = SYS(openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 1;
	long n = SYS(read, fd, head, sizeof head);
	SYS(close, fd);
	for (long i = 0; i < n; i++)
		if (!head[i])
			return 1;
	return n < 0;
}

// execute returns the errno for which path was not executed. What this process looks at
// after that is no program's look-up yet: see base.
static s32 execute(struct sandbox *s, const char *path, char **argv)
{
	s->searching = 0;
	s32 err = (s32)-SYS(execve, path, argv, s->envp);
	s->searching = 1;
	return err;
}

// try_exec returns the errno for which path was not executed. A script without
// #! is run by /bin/sh, as shells and execvp do.
static s32 try_exec(struct sandbox *s, const char *path)
{
	s32 err = execute(s, path, s->argv);
	if (err == ENOENT && SYS(faccessat, AT_FDCWD, path, 0) >= 0)
		s->start_flags |= DONE_NO_INTERPRETER;
	if (err != ENOEXEC || binary(path))
		return err;
	char *name = s->argv[0];
	s->argv[-1] = "/bin/sh";
	s->argv[0] = (char *)path;
	err = execute(s, "/bin/sh", s->argv - 1);
	s->argv[0] = name;
	return err;
}

// search_exec looks for the program in the PATH of its own environment. Like
// shells it goes on after what is not there or may not be executed, and
// prefers to report the latter. Without PATH nothing is found.
static s32 search_exec(struct sandbox *s)
{
	const char *name = s->fence && *s->hide ? s->hide : s->argv[0], *path = "";
	char full[PATH_MAX];
	s32 result = ENOENT;
	if (!*name)
		return ENOENT;
	for (const char *c = name; *c; c++)
		if (*c == '/')
			return try_exec(s, name);
	for (char **e = s->envp; *e; e++)
		if (has_prefix(*e, "PATH=")) {
			path = *e + 5 + s->path_skip;
			break;
		}
	while (*path) {
		struct text t = text_in(full, sizeof full);
		const char *from = path;
		while (*path && *path != ':' && t.at < t.end)
			*t.at++ = *path++;
		if (path != from) // an empty part is the working directory
			put(&t, "/");
		put(&t, name);
		if (t.at < t.end) {
			s32 err = try_exec(s, full);
			if (err == EACCES)
				result = err;
			else if (err != ENOENT && err != ENOTDIR && err != ENODEV && err != ESTALE && err != ETIMEDOUT)
				return err;
		}
		while (*path && *path != ':')
			path++;
		if (*path == ':')
			path++;
	}
	if (s->path_skip) { // it is as if there were nothing at all, or we may not look there
		s->path_skip = 0;
		return search_exec(s);
	}
	return result;
}

// listen lets pid 1 watch this process and its children. The descriptor must
// get to pid 1 before the first system call that is watched, which waits for
// it; so until then the two share their descriptors.
static void listen(struct sandbox *s)
{
	// Both are shared with the other sandboxes of the slot; the one is always the same.
	static struct sock_filter observing[FILTER_MAX], other[FILTER_MAX];
	static u32 observing_n;
	struct sock_filter *filter = other;
	u32 n;
	if (!s->early_child && s->req->flags & REQUEST_VARY) {
		n = vary_filter(filter, &s->req->vary);
	} else if (!s->early_child && s->req->flags & REQUEST_OWNERS) {
		n = owners_filter(filter, s->req->flags & REQUEST_OBSERVE);
	} else if (!s->denied) {
		n = both_filter(filter, s->slot->sealed);
		s->denied_command = 1;
	} else {
		if (!observing_n)
			observing_n = observe_filter(observing);
		filter = observing;
		n = observing_n;
	}
	u32 flags = SECCOMP_FILTER_FLAG_NEW_LISTENER;
	// Without it (before 5.19) a signal with a handler, as Go programs get
	// many, makes the kernel forget that we were told, and tell us again.
	long fd = install(filter, n, flags | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
	if (fd == -EINVAL)
		fd = install(filter, n, flags);
	if (fd >= 0) // since 6.6: the process runs on our processor while we wait for it
		SYS(ioctl, fd, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
	s->listener = (s32)fd;
	__atomic_store_n(&s->listener_ready, 1, __ATOMIC_SEQ_CST);
	SYS(futex, &s->listener_ready, FUTEX_WAKE, 1, 0);
	need(s, "watch the command", fd);
}

// deny_command puts the deny list in force, if it is not yet.
static void deny_command(struct sandbox *s)
{
	static struct sock_filter filter[FILTER_MAX];
	if (s->denied || s->denied_command)
		return;
	need(s, "install the seccomp filter", install(filter, deny_filter(filter, 0, s->slot->sealed), 0));
	s->denied_command = 1;
}

static void enter_groups(struct sandbox *s)
{
	for (u32 i = 0; i < s->req->ngroups; i++)
		need(s, "enter the control group", SYS(write, s->groups[i], "0", 1));
}

static void enter_network(struct sandbox *s)
{
	if (s->net_fd)
		need(s, "enter the network", SYS_COOKIE(setns, s->net_fd, CLONE_NEWNET));
}

// become makes this process, which nothing distinguishes yet, the command's.
static void become(struct sandbox *s)
{
	SYS(setsid);
	// Not earlier, or the memory of this exec would not be counted, and not
	// later, as only our caller may do it.
	if (!own_namespace(s))
		enter_groups(s);
	for (int fd = 0; fd < 3; fd++)
		need(s, "pass a descriptor", SYS(dup3, s->stdio[fd], fd, 0));
	if (s->req->flags & REQUEST_TERMINAL)
		need(s, "make it the controlling terminal", SYS(ioctl, 0, TIOCSCTTY, 0));
	set_limits(s);
	if (*s->label) {
		long fd = SYS(openat, AT_FDCWD, "/proc/self/attr/exec", O_WRONLY | O_CLOEXEC);
		need(s, "label the command", fd);
		need(s, "label the command", SYS(write, fd, s->label, strlen(s->label)));
		SYS(close, fd);
	}
	if (s->req->vary.flags & VARY_CALLER)
		as_caller(s);
	drop(s);
	deny_command(s);
	long err = s->prepared ? SYS_COOKIE(fchdir, s->dir_fd) : SYS(chdir, s->dir);
	if (err < 0)
		give_up(s, "enter the working directory", err);
	if (s->req->vary.flags & VARY_UMASK)
		SYS(umask, s->req->vary.umask);
	if (s->req->flags & REQUEST_VARY && s->req->vary.flags & VARY_LAYOUT)
		SYS(personality, 0);
	if (s->fence)
		need(s, "put the Landlock rules in force", enter_fence(s));
	// One at a time: a slot runs one command, and the rest of it is dying.
	static struct sock_filter filter[USER_FILTER_MAX];
	long size = 0;
	if (s->req->flags & REQUEST_FILTER)
		need(s, "read the filter of system calls", size = SYS(pread64, s->filter, filter, sizeof filter, 0));
	SYS(close_range, 3, ~0u, 0);
	u64 none = 0;
	SYS(rt_sigprocmask, SIG_SETMASK, &none, 0, 8);
	if (size) { // last, as it may forbid anything else
		struct sock_fprog program = {(u16)(size / sizeof *filter), filter};
		need(s, "install the filter of system calls: the kernel does not take it", SYS(seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
	}
	s->start_errno = search_exec(s);
	quit(s->start_errno == ENOENT ? 127 : 126);
}

static void child(void *arg)
{
	become(arg);
}

// watched_child is the command's process where it is observed. What it shares
// with pid 1 until it knows its command are descriptors, root and directory:
// those that pid 1 has then are the command's. An early one knows nothing of the
// request, which pid 1 may be reading at the moment, before it is told to go.
static void watched_child(void *arg)
{
	struct sandbox *s = arg;
	int early = s->early_child;
	if (!early && own_namespace(s)) { // what needs privileges comes before it
		enter_network(s);
		enter_groups(s);
		own_user(s);
	}
	if (early || s->req->flags & (REQUEST_OBSERVE | REQUEST_VARY | REQUEST_OWNERS))
		listen(s);
	while (!__atomic_load_n(&s->go, __ATOMIC_SEQ_CST))
		SYS(futex, &s->go, FUTEX_WAIT, 0, 0);
	need(s, "part from pid 1", SYS(unshare, CLONE_FILES | CLONE_FS));
	if (!own_namespace(s))
		enter_network(s);
	become(s);
}

// prepare_command makes the process of a command that will be observed. To be
// watched takes 0.2 ms, which need not wait for anything.
void prepare_command(struct sandbox *s)
{
	if (!s->observer && !(s->req && !(s->req->flags & REQUEST_OBSERVE)))
		s->observer = new_observer(s);
	s->early_child = !s->req;
	u64 flags = CLONE_VM | CLONE_FILES | CLONE_FS | SIGCHLD;
	long pid = clone_onto(flags, s->child_stack + sizeof s->child_stack, watched_child, s);
	if (pid < 0)
		fail(s, "make a process", 0, pid);
	s->prepared = (s32)pid;
}

// start_watched lets the prepared process begin. Its first system call with a
// path waits for us.
static s32 start_watched(struct sandbox *s)
{
	if (!s->prepared)
		prepare_command(s);
	if (own_namespace(s))
		map_own_user(s);
	if (s->req->flags & (REQUEST_OBSERVE | REQUEST_VARY | REQUEST_OWNERS))
		await(s, &s->listener_ready);
	if (s->req->flags & REQUEST_OWNERS)
		owners_begin(s);
	if (s->req->flags & REQUEST_OBSERVE) {
		s->dir_fd = begin_observing(s, s->dir);
	} else {
		s->dir_fd = (s32)SYS(openat, AT_FDCWD, s->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (s->dir_fd < 0)
			fail(s, "enter the working directory", s->dir_fd == -ENOENT ? s->dir : 0, s->dir_fd);
	}
	__atomic_store_n(&s->go, 1, __ATOMIC_SEQ_CST);
	SYS(futex, &s->go, FUTEX_WAKE, 1, 0);
	if (s->req->vary.flags & VARY_CALLER)
		map_caller(s);
	return s->prepared;
}

// own_pipes lets the command open its standard streams again by name, as in
// "echo oops > /dev/stderr": pipes belong to who made them. Files of the
// caller stay as they are.
static void own_pipes(struct sandbox *s)
{
	for (int i = 0; i < 3; i++) {
		u64 statfs[16] = {0};
		if (s->stdio[i] == s->slot->null)
			continue;
		if (SYS(fstatfs, s->stdio[i], statfs) >= 0 && statfs[0] == PIPEFS_MAGIC)
			SYS(fchown, s->stdio[i], s->req->id, s->req->gid);
	}
}

// close_stdio closes the command's descriptors once it has its own: whoever
// reads its pipes waits for the last writer's end.
void close_stdio(struct sandbox *s)
{
	for (int i = 0; i < 3 && s->stdio_open; i++)
		if (s->stdio[i] != s->slot->null)
			SYS(close, s->stdio[i]);
	s->stdio_open = 0;
}

// open_terminal makes a terminal of the sandbox's own, gives its far end to the
// caller, and lets it be the command's standard streams.
static void open_terminal(struct sandbox *s)
{
	char name[32];
	u32 zero = 0, number = 0;
	long far = SYS(openat, AT_FDCWD, "/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	long err = far;
	if (err >= 0)
		err = SYS(ioctl, far, TIOCSPTLCK, &zero);
	if (err >= 0)
		err = SYS(ioctl, far, TIOCGPTN, &number);
	struct text t = text_in(name, sizeof name);
	put(&t, "/dev/pts/");
	put_number(&t, number);
	for (int i = 0; i < 3 && err >= 0; i++) // three, as each is closed
		s->stdio[i] = (s32)(err = SYS(openat, AT_FDCWD, name, O_RDWR | O_NOCTTY | O_CLOEXEC));
	if (err >= 0 && !s->slot->unprivileged)
		err = SYS(fchown, s->stdio[0], s->req->id, s->req->gid);
	if (err < 0)
		fail(s, "make a terminal", 0, err);
	s->reply_fds[0] = (s32)far;
	s->reply_nfds = 1;
	send_reply(s, REPLY_TERMINAL);
	SYS(close, far);
}

s32 start_command(struct sandbox *s)
{
	if (s->req->flags & REQUEST_TERMINAL)
		open_terminal(s);
	s->stdio_open = 1;
	if (!s->slot->unprivileged)
		own_pipes(s);
	int other = s->req->flags & (REQUEST_VARY | REQUEST_OWNERS) || own_namespace(s);
	if (s->prepared && (other || !(s->req->flags & REQUEST_OBSERVE))) { // nobody meant it
		SYS(kill, s->prepared, SIGKILL);
		SYS(wait4, s->prepared, 0, 0, 0);
		// Its end is not the command's: who is told of that closes what the
		// command may not have yet.
		u64 chld = 1ull << (SIGCHLD - 1);
		struct timespec now = {0, 0};
		SYS(rt_sigtimedwait, &chld, 0, &now, 8);
		s->prepared = 0;
		s->listener_ready = 0;
		s->denied_command = 0;
		s->setup_errno = 0;
	}
	long pid;
	if (other || s->req->flags & REQUEST_OBSERVE) {
		pid = start_watched(s);
	} else {
		// vfork: the command's process runs in our memory until its
		// exec. One that is watched cannot, because its exec waits for us.
		pid = clone_onto(CLONE_VM | CLONE_VFORK | SIGCHLD, s->child_stack + sizeof s->child_stack, child, s);
		if (pid < 0)
			fail(s, "make a process", 0, pid);
		close_stdio(s);
	}
	u64 one = 1;
	if (s->slot->kick > 0)
		SYS(write, s->slot->kick, &one, sizeof one);
	return (s32)pid;
}
