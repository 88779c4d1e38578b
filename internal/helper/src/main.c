// sbx-helper: what sbx-action runs around a command that is not Go.
//
//	slot UID GID [user] [hostnet|sealed] [noscribe] [begin [watch]]	makes sandboxes and runs one command after the other
//	around UID GID [user [root]]	makes one root below a directory and executes a program
//	vm				process 1 of a virtual machine
//	fence UID GID [user] [hostnet]	runs one command without any namespace
//	init [user] [nest] [name] [stdio] [gone] [old] [connect NAME]	runs one command, as the init of somebody else's sandbox
//
// It takes its orders from a socket: see wire.h. Read slot.c (the life of a
// slot), root.c and binds.c (what is mounted; around.c, for somebody else's sandbox),
// start.c and run.c (the command), filter.c and rules.h (what it may not do), observe.c,
// places.c and programs.c (what it looked for), scribe.c and later.c (how that is made
// cheap), in this order. owners.c and vary.c are for commands that are told something
// else than the truth.
#include "slot.h"

u64 cookie;

static struct slot the_slot;

_Noreturn void quit(int code)
{
	for (;;)
		SYS(exit_group, code);
}

// send_reply sends s->reply as it is, with the descriptors of s->reply_fds.
void send_reply(struct sandbox *s, u32 kind)
{
	s->reply.kind = kind;
	s->reply.version = WIRE_VERSION;
	s->reply.seq = s->seq;
	struct {
		struct cmsghdr h;
		s32 fds[4];
	} control = {{sizeof(struct cmsghdr) + 4 * s->reply_nfds, SOL_SOCKET, SCM_RIGHTS}, {0}};
	for (u32 i = 0; i < s->reply_nfds; i++)
		control.fds[i] = s->reply_fds[i];
	struct iovec iov = {&s->reply, sizeof s->reply};
	struct msghdr m = {.iov = &iov, .iovlen = 1};
	if (s->reply_nfds) {
		m.control = &control;
		m.controllen = sizeof control;
	}
	SYS(sendmsg, FD_SOCKET, &m, MSG_NOSIGNAL);
	s->reply_nfds = 0;
}

// fail answers the request with an error, unless the slot does, and ends this
// process: either the pid 1 of s, or a helper that has no sandbox yet. A pid 1
// that could not even get ready waits for a request that it can answer, unless its
// caller waits for it to be ready.
_Noreturn void fail(struct sandbox *s, const char *what, const char *name, long err)
{
	if (s->pid && s->state == READY && !s->early && !receive(s))
		quit(1);
	struct text t = text_in(s->reply.text, sizeof s->reply.text);
	put(&t, what);
	if (name) {
		put(&t, " ");
		put(&t, name);
	}
	s->reply.error = (s32)-err;
	s->reply_nfds = 0;
	u32 busy = BUSY;
	if (!s->pid || s->state == READY || __atomic_compare_exchange_n(&s->state, &busy, REPLIED, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		send_reply(s, REPLY_ERROR);
	quit(1);
}

const char *next_string(const char *p)
{
	return p + strlen(p) + 1;
}

// strings checks that n strings lie between p and end, and returns what is
// behind them.
static const char *strings(struct sandbox *s, const char *p, const char *end, u32 n)
{
	while (n--) {
		while (p < end && *p)
			p++;
		if (p++ >= end)
			fail(s, "the request is too short", 0, -EINVAL);
	}
	return p;
}

static char **pointers(char **to, const char **p, u32 n)
{
	for (; n; n--, *p = next_string(*p))
		*to++ = (char *)*p;
	*to++ = 0;
	return to;
}

// unpack finds the parts of the request in s->req, and builds argv and envp in
// the gap that the sender left for them.
static void unpack(struct sandbox *s)
{
	struct request *r = s->req;
	if (r->version != WIRE_VERSION)
		fail(s, "the request has another version", 0, -EINVAL);
	u64 gap = 8 * ((u64)r->nargs + r->nenv + 3);
	const char *p = (char *)(r + 1) + gap, *end = (char *)r + r->size;
	if (r->size < sizeof *r + gap || r->nargs == 0)
		fail(s, "the request is too short", 0, -EINVAL);
	s->dir = p;
	s->data = p = strings(s, p, end, 1);
	s->scratch_dir = p = strings(s, p, end, 1);
	s->target = p = strings(s, p, end, 1);
	s->hide = p = strings(s, p, end, 1);
	s->host_name = p = strings(s, p, end, 1);
	s->alias = p = strings(s, p, end, 1);
	s->binfmt = p = strings(s, p, end, 1);
	s->emulator = p = strings(s, p, end, 1);
	s->label = p = strings(s, p, end, 1);
	s->context = p = strings(s, p, end, 1);
	s->lowers = p = strings(s, p, end, 1);
	s->binds = p = strings(s, p, end, r->nlowers);
	s->known = p = strings(s, p, end, 2 * r->nbinds);
	p = strings(s, p, end, r->nknown);
	strings(s, p, end, r->nargs + r->nenv);
	// The first pointer stays free, for the shell of a script without #!.
	s->argv = (char **)(r + 1) + 1;
	s->envp = pointers(s->argv, &p, r->nargs);
	pointers(s->envp, &p, r->nenv);
}

// receive waits for a request. It returns 0 when there will be no more.
int receive(struct sandbox *s)
{
	struct {
		struct cmsghdr h;
		s32 fds[FDS_MAX + 5];
	} control;
	struct iovec iov = {s->message, sizeof s->message};
	struct msghdr m = {.iov = &iov, .iovlen = 1, .control = &control};
	long n;
	do { // eight bytes answer a Fill, of a sandbox that was killed meanwhile
		m.controllen = sizeof control; // each call says how much it used
		n = SYS(recvmsg, FD_SOCKET, &m, MSG_CMSG_CLOEXEC);
	} while (n == -EINTR || n == 8);
	if (n <= 0)
		return 0;
	struct request *r = s->req = (struct request *)s->message;
	s->seq = r->seq;
	__atomic_store_n(&s->state, BUSY, __ATOMIC_SEQ_CST);
	if (n < (long)sizeof *r || (m.flags & MSG_CTRUNC))
		fail(s, "the request is cut off", 0, -EINVAL);
	u32 nfds = m.controllen > sizeof control.h ? (u32)(control.h.len - sizeof control.h) / 4 : 0, used = 0;
	for (u32 i = 0; i < 3; i++)
		s->stdio[i] = r->flags & REQUEST_STDIN << i && used < nfds ? control.fds[used++] : s->slot->null;
	if (r->ngroups > FDS_MAX || used + r->ngroups + !!(r->flags & REQUEST_FILTER) + !!(r->flags & REQUEST_BIG) != nfds)
		fail(s, "the request has another number of descriptors", 0, -EINVAL);
	for (u32 i = 0; i < r->ngroups; i++)
		s->groups[i] = control.fds[used++];
	if (r->flags & REQUEST_FILTER)
		s->filter = control.fds[used++];
	if (r->flags & REQUEST_BIG) {
		long at = sys6(SYS_mmap, 0, r->size, PROT_READ | PROT_WRITE, MAP_PRIVATE, control.fds[used], 0);
		if (at < 0 && at > -4096)
			fail(s, "map the request", 0, at);
		s->big = (void *)at;
		s->big_size = r->size;
		s->req = s->big;
		SYS(close, control.fds[used]);
	} else if (n != r->size) {
		fail(s, "the request is cut off", 0, -EINVAL);
	}
	s->tree = -1;
	if (s->req->flags & REQUEST_TREE && s->req->ngroups) // around is asked for one, and sent none
		s->tree = s->groups[--s->req->ngroups];
	unpack(s);
	return 1;
}

static u32 number(const char *p)
{
	u32 n = 0;
	while (*p >= '0' && *p <= '9')
		n = 10 * n + (u32)(*p++ - '0');
	return n;
}

// around makes one root and executes the program that wants it.
static _Noreturn void around(struct slot *z)
{
	struct sandbox *s = &z->sandboxes[0];
	s->slot = z;
	around_root(s);
}

// finish_namespaces does what some tools leave to whom they start.
static void finish_namespaces(struct sandbox *s)
{
	long err = 0;
	if (s->req->flags & REQUEST_SET_NAME)
		err = SYS_COOKIE(sethostname, "sbx", 3);
	if (err >= 0 && s->req->flags & REQUEST_OWN_NET)
		err = SYS_COOKIE(unshare, CLONE_NEWNET);
	if (err >= 0 && s->req->flags & (REQUEST_LO_UP | REQUEST_OWN_NET))
		err = lo_up();
	if (err < 0)
		fail(s, "finish the namespaces", 0, err);
}

// init runs one command as the init of a sandbox that somebody else has made:
// as pid 1, or under a pid 1 that does nothing but reap.
_Noreturn void init(struct slot *z, char *name)
{
	struct sandbox *s = &z->sandboxes[0];
	s->slot = z;
	z->life = FD_SOCKET;
	z->unprivileged |= SYS(getuid) != 0;
	z->host_network = 1; // no business of ours
	if (SYS(getpid) > 3) // it kills all processes in sight when the command ends
		fail(s, "init must be one of the first three processes of a pid namespace", 0, -EPERM);
	if (z->name)
		SYS(sethostname, "sbx", 3);
	if (z->nest)
		nest(s, name);
	if (z->child)
		SYS(prctl, PR_SET_PDEATHSIG, SIGKILL);
	SYS(prctl, PR_SET_CHILD_SUBREAPER, 1);
	default_signals();
	harden(z);
	deny(z, s);
	s->denied = 1;
	static struct sock_filter filter[FILTER_MAX];
	long err = z->old ? install(filter, old_filter(filter), 0) : 0;
	if (err < 0)
		fail(s, "install the seccomp filter", 0, err);
	if (!receive(s))
		quit(1);
	finish_namespaces(s);
	if (s->tree >= 0)
		enter_tree(s);
	else if (*s->target)
		enter_root(s, s->target);
	if (z->null < 0) { // the tool's root had none, the command's has
		z->null = (s32)SYS(openat, AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC);
		for (int i = 0; i < 3; i++)
			s->stdio[i] = s->stdio[i] < 0 ? z->null : s->stdio[i];
	}
	run_command(s);
	quit(0);
}

// fence runs one command that has the host's namespaces, and whatever of the
// host's files the request names.
static _Noreturn void fence(struct slot *z)
{
	struct sandbox *s = &z->sandboxes[0];
	s->slot = z;
	z->life = FD_SOCKET;
	if (z->null > FD_SOCKET + 1) // what our caller has inherited itself
		SYS(close_range, FD_SOCKET + 1, z->null - 1, 0);
	SYS(close_range, z->null + 1, ~0u, 0);
	SYS(prctl, PR_SET_NAME, "sbx-fence");
	SYS(prctl, PR_SET_CHILD_SUBREAPER, 1);
	default_signals();
	harden(z);
	deny(z, s);
	s->denied = 1;
	if (!receive(s))
		quit(1);
	make_fence(s);
	run_command(s);
	quit(0);
}

// connect_caller makes FD_SOCKET, where nobody could give it to us: a connection to
// the abstract socket of that name, in the network namespace that we begin in.
static void connect_caller(const char *name)
{
	struct {
		u16 family;
		char path[108];
	} address = {.family = AF_UNIX};
	size_t n = strlen(name);
	if (n > sizeof address.path - 1)
		n = sizeof address.path - 1;
	memcpy(address.path + 1, name, n);
	long fd = SYS(socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	long err = fd < 0 ? fd : SYS(connect, fd, &address, 3 + n);
	if (err < 0) {
		static const char text[] = "whoever is to tell what to run cannot be reached\n";
		SYS(write, 2, text, sizeof text - 1);
		quit(125);
	}
	if (fd != FD_SOCKET)
		SYS(dup3, fd, FD_SOCKET, O_CLOEXEC);
}

__attribute__((used)) _Noreturn void start(long *sp)
{
	long argc = sp[0];
	char **argv = (char **)(sp + 1);
	struct slot *z = &the_slot;
	const char *mode = argc > 1 ? argv[1] : "";
	SYS(prctl, PR_SET_TIMERSLACK, 50000); // ns, as the kernel has it at its start, whatever our caller's is
	for (long i = 2; i < argc; i++) {
		z->unprivileged |= str_equal(argv[i], "user");
		z->host_network |= str_equal(argv[i], "hostnet");
		z->sealed |= str_equal(argv[i], "sealed");
		z->begin |= str_equal(argv[i], "begin");
		z->watch |= str_equal(argv[i], "watch");
		z->no_scribe |= str_equal(argv[i], "noscribe");
		z->as_root |= str_equal(argv[i], "root");
		z->nest |= str_equal(argv[i], "nest");
		z->name |= str_equal(argv[i], "name");
		z->stdio |= str_equal(argv[i], "stdio");
		z->child |= str_equal(argv[i], "child");
		z->old |= str_equal(argv[i], "old");
		if (str_equal(argv[i], "connect") && i + 1 < argc)
			connect_caller(argv[++i]);
		if (str_equal(argv[i], "gone"))
			SYS(unlinkat, AT_FDCWD, argv[0], 0);
	}
	z->host_network |= z->sealed;
	for (int fd = 0; z->stdio && fd < 2; fd++) // before anything else gets the number
		SYS(dup3, fd, FD_SOCKET + fd, O_CLOEXEC);
	do // a slot starts without standard streams; nothing else may get their numbers
		z->null = (s32)SYS(openat, AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC);
	while (z->null >= 0 && z->null <= 2);
	for (int fd = 0; z->stdio && fd < 2; fd++)
		SYS(dup3, z->null, fd, 0);
	long *aux = sp + 1 + argc + 1;
	while (*aux++) // the environment
		;
	for (; aux[0]; aux += 2)
		if (aux[0] == 33) // AT_SYSINFO_EHDR
			own_vdso = (const char *)aux[1];
	if (argc > 3) {
		z->uid = number(argv[2]);
		z->gid = number(argv[3]);
	}
	if (str_equal(mode, "slot"))
		serve(z);
	else if (str_equal(mode, "around"))
		around(z);
	else if (str_equal(mode, "init"))
		init(z, argv[0]);
	else if (str_equal(mode, "vm"))
		guest(z);
	else if (str_equal(mode, "fence"))
		fence(z);
	static const char usage[] = "sbx-helper: started by sbx-action, not by hand\n";
	SYS(write, 2, usage, sizeof usage - 1);
	quit(125);
}

#if defined __x86_64__
__asm__(".text\n.global _start\n_start:\n	xor %ebp, %ebp\n	mov %rsp, %rdi\n	and $-16, %rsp\n	call start\n");
#else
__asm__(".text\n.global _start\n_start:\n	mov x29, xzr\n	mov x0, sp\n	bl start\n");
#endif
