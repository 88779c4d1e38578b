// The network of a slot: a namespace with nothing but lo.
//
// Making one costs 0.3 ms, ten times that on a busy machine, so the actions of
// a slot use the same one after the other. They may not notice each other:
// sockets die with their processes, but what TCP leaves behind (TIME_WAIT) and
// the counters of lo do not. So whenever anything has gone over lo, the next
// action gets a new network.
#include "slot.h"

long lo_up(void)
{
	struct {
		char name[16];
		s16 flags;
		char rest[22];
	} ifr = {.name = "lo"};
	long fd = SYS(socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	ifr.flags = IFF_UP;
	long err = SYS(ioctl, fd, SIOCSIFFLAGS, &ifr);
	SYS(close, fd);
	return err;
}

// make_network makes the first network of a slot, after the first sandbox has
// been cloned: that one can do most of its work without, and gets it through a
// socket, because it has descriptors of its own.
void make_network(struct slot *z)
{
	struct {
		struct cmsghdr h;
		s32 fds[2];
	} control = {{sizeof control, SOL_SOCKET, SCM_RIGHTS}, {-1, -1}};
	if (z->host_network || z->net)
		return;
	long err = SYS_COOKIE(unshare, CLONE_NEWNET);
	if (err >= 0)
		err = lo_up();
	if (err >= 0)
		err = control.fds[0] = (s32)SYS(openat, AT_FDCWD, "/host/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (err >= 0)
		err = control.fds[1] = (s32)SYS(openat, AT_FDCWD, "/host/proc/self/net/dev", O_RDONLY | O_CLOEXEC);
	s32 result = err < 0 ? (s32)err : 0;
	struct iovec iov = {&result, sizeof result};
	struct msghdr m = {.iov = &iov, .iovlen = 1, .control = &control, .controllen = result ? 0 : sizeof control};
	SYS(sendmsg, z->net_socket[1], &m, MSG_NOSIGNAL);
	SYS(close, control.fds[0]);
	z->lo_stats = control.fds[1];
	z->net = result ? 0 : 1; // after a failure the next sandbox tries again
}

// wait_network moves a sandbox that was made before the slot had its network
// into it.
void wait_network(struct sandbox *s)
{
	struct slot *z = s->slot;
	struct {
		struct cmsghdr h;
		s32 fds[2];
	} control;
	s32 result = 0;
	struct iovec iov = {&result, sizeof result};
	struct msghdr m = {.iov = &iov, .iovlen = 1, .control = &control, .controllen = sizeof control};
	if (z->host_network || s->net)
		return;
	long err = SYS(recvmsg, z->net_socket[0], &m, MSG_CMSG_CLOEXEC);
	if (err == sizeof result)
		err = result;
	if (err >= 0 && m.controllen < sizeof control)
		err = -EINVAL;
	if (err >= 0)
		err = SYS_COOKIE(setns, control.fds[0], CLONE_NEWNET);
	if (err < 0)
		fail(s, "make a network namespace", 0, err);
	s->net_fd = control.fds[0];
	s->net = 1; // the slot's first
	s->lo_stats = control.fds[1];
}

// slot_network gives the slot the network that its next sandbox shall have.
long slot_network(struct slot *z)
{
	if (z->host_network || z->net == 0)
		return 0; // the first sandbox waits for it: see make_network
	if (z->net != __atomic_load_n(&z->dirty_net, __ATOMIC_SEQ_CST))
		return 0;
	long err = SYS_COOKIE(unshare, CLONE_NEWNET);
	if (err < 0)
		return err;
	SYS(close, z->lo_stats);
	z->lo_stats = (s32)SYS(openat, AT_FDCWD, "/host/proc/self/net/dev", O_RDONLY | O_CLOEXEC);
	z->net++;
	return lo_up();
}

// note_network_use must be called when the command and all its children are
// dead, and before the reply, so that the next request finds the note.
void note_network_use(struct sandbox *s)
{
	struct slot *z = s->slot;
	char buf[1024];
	if (z->host_network || s->net == OWN_NETWORK)
		return;
	long n = SYS(pread64, s->lo_stats, buf, sizeof buf - 1, 0);
	int used = 1; // if in doubt
	for (long i = 0; i + 3 < n; i++) {
		if (memcmp(buf + i, "lo:", 3))
			continue;
		for (i += 3; buf[i] == ' '; i++)
			;
		used = buf[i] != '0'; // received bytes
		break;
	}
	if (used)
		s->reply.flags |= DONE_NETWORK;
	if (used)
		__atomic_store_n(&z->dirty_net, s->net, __ATOMIC_SEQ_CST);
}

// leave_used_network is for a sandbox that was made ready while an earlier one
// was still using the network of the slot.
void leave_used_network(struct sandbox *s)
{
	struct slot *z = s->slot;
	if (z->host_network || !s->net || s->net != __atomic_load_n(&z->dirty_net, __ATOMIC_SEQ_CST))
		return;
	s->net = OWN_NETWORK;
	long err = SYS_COOKIE(unshare, CLONE_NEWNET);
	if (err >= 0)
		err = lo_up();
	if (err < 0)
		fail(s, "make a network namespace", 0, err);
}
