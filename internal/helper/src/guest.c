// Process 1 of a virtual machine: see package backends/vm, which is at the other
// end of the ports.
//
// It mounts the root, which the host offers, runs an init in namespaces of its own,
// so that the command sees neither us nor the kernel's threads, and carries the
// command's streams between pipes and ports. The host ends the machine: there is
// nothing to clean up here.
#include "slot.h"

enum {
	PORT_CONTROL = 1,
	PORT_STDIN = 2, // of the three streams, the first
	PATIENCE = 120, // seconds, for devices to appear
	FINIT_COMPRESSED = 4,
};

// A call begins what the host sends: the request follows, as wire.h has it.
struct call {
	u32 size; // of the request
	u32 joined; // standard error goes where standard output does
};

// A word begins what we answer, once: the reply follows, as wire.h has it, and the log.
struct word {
	u64 written[2]; // to the ports of standard output and error
	u32 log_size, spare;
};

static void demand(const char *what, long err)
{
	if (err >= 0)
		return;
	char buf[128];
	struct text t = text_in(buf, sizeof buf);
	put(&t, "sbx: ");
	put(&t, what);
	put(&t, ": error ");
	put_number(&t, (u64)-err);
	put(&t, "\n");
	long console = SYS(openat, AT_FDCWD, "/dev/console", O_WRONLY | O_NOCTTY);
	SYS(write, console, buf, strlen(buf));
	quit(1); // the kernel panics, and the machine ends
}

static void nap(void)
{
	struct timespec t = {0, 1000000};
	SYS(ppoll, 0, 0, &t, 0, 0);
}

// load_modules loads those of the initramfs, in the order of their names.
static void load_modules(void)
{
	char name[] = "/modules/00";
	for (int i = 0; i < 100; i++) {
		name[9] = (char)('0' + i / 10);
		name[10] = (char)('0' + i % 10);
		long fd = SYS(openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return;
		long err = SYS(finit_module, fd, "", 0);
		if (err == -ENOEXEC)
			err = SYS(finit_module, fd, "", FINIT_COMPRESSED);
		if (err != -EEXIST)
			demand(name, err);
		SYS(close, fd);
	}
}

static s32 open_port(u32 n)
{
	char name[] = "/dev/vport0p0";
	name[12] = (char)('0' + n);
	u64 end = now_ns() + PATIENCE * 1000000000ull;
	long fd;
	while ((fd = SYS(openat, AT_FDCWD, name, O_RDWR | O_CLOEXEC)) < 0 && now_ns() < end)
		nap();
	demand(name, fd);
	return (s32)fd;
}

// get reads all of n bytes. It returns 0 at the end.
static int get(s32 fd, void *to, u64 n)
{
	char *p = to;
	while (n) {
		long got = SYS(read, fd, p, n);
		if (got == -EINTR || got == -EAGAIN)
			continue;
		if (got <= 0)
			return 0;
		p += got;
		n -= (u64)got;
	}
	return 1;
}

static int give(s32 fd, const void *from, u64 n)
{
	const char *p = from;
	while (n) {
		long done = SYS(write, fd, p, n > 32 << 10 ? 32 << 10 : n);
		if (done == -EINTR || done == -EAGAIN)
			continue;
		if (done <= 0)
			return 0;
		p += done;
		n -= (u64)done;
	}
	return 1;
}

static char buffer[64 << 10]; // each process has its own

// feed carries what the host sends, in pieces with their size before them, of which
// the last has none, to the command.
static _Noreturn void feed(s32 port, s32 to)
{
	u32 n;
	while (get(port, &n, sizeof n) && n && n <= sizeof buffer && get(port, buffer, n))
		if (!give(to, buffer, n))
			break;
	quit(0);
}

static _Noreturn void drain(s32 from, s32 port, u64 *count)
{
	long n;
	while ((n = SYS(read, from, buffer, sizeof buffer)) > 0 || n == -EINTR) {
		if (n < 0)
			continue;
		if (!give(port, buffer, (u64)n))
			break;
		*count += (u64)n;
	}
	quit(0);
}

static void *memory(u64 size, u32 flags)
{
	long at = sys6(SYS_mmap, 0, (long)size, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
	demand("memory", at < 0 && at > -4096 ? at : 0);
	return (void *)at;
}

// hand gives the request to the init, with the command's ends of the pipes.
static void hand(s32 socket, struct request *r, const s32 *fds, u32 nfds)
{
	struct {
		struct cmsghdr h;
		s32 fds[4];
	} control = {{0, SOL_SOCKET, SCM_RIGHTS}, {0}};
	for (u32 i = 0; i < nfds; i++)
		control.fds[i] = fds[i];
	struct iovec iov = {r, r->size};
	if (r->size > MESSAGE_MAX) { // as the sender of a request does
		long fd = SYS(memfd_create, "request", 1);
		demand("a file in memory", fd);
		r->flags |= REQUEST_BIG;
		if (!give((s32)fd, r, r->size))
			demand("write the request", -ENOMEM);
		control.fds[nfds++] = (s32)fd;
		iov.len = sizeof *r;
	}
	control.h.len = sizeof control.h + 4 * nfds;
	struct msghdr m = {.iov = &iov, .iovlen = 1, .control = nfds ? &control : 0, .controllen = nfds ? control.h.len : 0};
	demand("hand the request over", SYS(sendmsg, socket, &m, MSG_NOSIGNAL));
}

// answer sends the reply of the init, when all output is on its way, to the host.
static void answer(s32 socket, s32 port, const u64 *written, const s32 *drains)
{
	static struct reply reply;
	struct {
		struct cmsghdr h;
		s32 fds[2];
	} control = {{0}, {-1, -1}};
	struct iovec iov = {&reply, sizeof reply};
	struct msghdr m = {.iov = &iov, .iovlen = 1, .control = &control, .controllen = sizeof control};
	long n;
	do
		n = SYS(recvmsg, socket, &m, 0);
	while (n == -EINTR);
	if (n != sizeof reply) {
		memset(&reply, 0, sizeof reply);
		reply.kind = REPLY_KILLED;
		reply.version = WIRE_VERSION;
	}
	for (int i = 0; i < 2; i++)
		if (drains[i])
			while (SYS(wait4, drains[i], 0, 0, 0) == -EINTR)
				;
	struct word w = {.written = {written[0], written[1]}};
	char *log = 0;
	if (n == sizeof reply && m.controllen > sizeof control.h && reply.log_size) {
		log = memory(reply.log_size, MAP_PRIVATE);
		SYS(lseek, control.fds[0], 0, 0);
		w.log_size = get(control.fds[0], log, reply.log_size) ? reply.log_size : 0;
	}
	give(port, &w, sizeof w);
	give(port, &reply, sizeof reply);
	give(port, log, w.log_size);
}

// begin_machine makes of a machine that has just started a place to run things.
static void begin_machine(struct slot *z)
{
	demand("mount /dev", SYS_COOKIE(mount, "devtmpfs", "/dev", "devtmpfs", 0, 0));
	demand("mount /proc", SYS_COOKIE(mount, "proc", "/proc", "proc", 0, 0));
	for (long fd = 0; fd >= 0 && fd <= 8;) // the low numbers have their meaning
		fd = SYS(openat, AT_FDCWD, "/dev/null", O_RDWR);
	z->null = (s32)SYS(openat, AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC);
	// Programs reserve more than the machine has, and use little of it.
	long over = SYS(openat, AT_FDCWD, "/proc/sys/vm/overcommit_memory", O_WRONLY | O_CLOEXEC);
	demand("allow reservations", SYS(write, over, "1", 1));
	SYS(close, over);
	load_modules();
}

// Streams are the standard streams of the command, which are pipes here: processes carry
// what is in them from and to the ports.
struct streams {
	s32 fds[3]; // those that it has
	u32 n;
	s32 drains[2]; // processes, of stdout and stderr; or 0
};

// carry starts the process for stream i, at port, and adds the command's end of it.
static void carry(struct streams *t, int i, s32 port, u64 *written)
{
	s32 p[2];
	demand("make a pipe", SYS(pipe2, p, O_CLOEXEC));
	long pid = SYS(clone, SIGCHLD, 0, 0, 0, 0);
	demand("make a process", pid);
	if (pid == 0) {
		u64 all = ~0ull;
		SYS(rt_sigprocmask, SIG_BLOCK, &all, 0, 8); // a closed pipe is no reason to die
		for (u32 k = 0; k < t->n; k++)
			SYS(close, t->fds[k]);
		SYS(close, p[i == 0 ? 0 : 1]);
		if (i == 0)
			feed(port, p[1]);
		drain(p[0], port, &written[i - 1]);
	}
	SYS(close, p[i == 0 ? 1 : 0]);
	if (i)
		t->drains[i - 1] = (s32)pid;
	t->fds[t->n++] = p[i == 0 ? 0 : 1];
}

_Noreturn void guest(struct slot *z)
{
	begin_machine(z);
	s32 control = open_port(PORT_CONTROL), ports[3], sockets[2];
	for (u32 i = 0; i < 3; i++)
		ports[i] = open_port(PORT_STDIN + i);
	demand("mount the root", SYS_COOKIE(mount, "root", "/root", "virtiofs", MS_NOSUID | MS_NODEV, 0));
	give(control, "sbx boot", 8);
	struct call c;
	if (!get(control, &c, sizeof c) || c.size < sizeof(struct request))
		demand("hear from the host", -EINVAL);
	struct request *r = memory(c.size, MAP_PRIVATE);
	if (!get(control, r, c.size) || r->size != c.size)
		demand("read the request", -EINVAL);
	u64 *written = memory(4096, MAP_SHARED);
	struct streams streams = {0};
	demand("make a socket", sys6(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, (long)sockets, 0, 0));
	for (int i = 0; i < 3; i++) {
		if (!(r->flags & REQUEST_STDIN << i))
			continue;
		if (i == 2 && c.joined) {
			streams.fds[streams.n] = streams.fds[streams.n - 1];
			streams.n++;
			continue;
		}
		carry(&streams, i, ports[i], written);
	}
	long pid = SYS(clone, CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0);
	demand("make namespaces", pid);
	if (pid == 0) {
		SYS(dup3, sockets[1], FD_SOCKET, 0);
		SYS(close_range, FD_SOCKET + 1, z->null - 1, 0);
		SYS(close_range, z->null + 1, ~0u, 0);
		init(z, "/init");
	}
	hand(sockets[0], r, streams.fds, streams.n);
	SYS(close, sockets[1]);
	for (u32 i = 0; i < streams.n; i++)
		SYS(close, streams.fds[i]);
	answer(sockets[0], control, written, streams.drains);
	for (;;) // until the host ends the machine
		SYS(ppoll, 0, 0, 0, 0, 0);
}
