// The network of a slot: a namespace with nothing but lo.
//
// Making one costs 0.3 ms, ten times that on a busy machine, so the actions of
// a slot use the same one after the other. They may not notice each other:
// sockets die with their processes, but what TCP leaves behind (TIME_WAIT) and
// the counters of lo do not. So whenever anything has gone over lo, the next
// action gets a new network.
#include "slot.h"

static long lo_up(void)
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

// new_network moves the calling slot into a network of its own.
long new_network(struct slot *z)
{
	long err = SYS_COOKIE(unshare, CLONE_NEWNET);
	if (err < 0)
		return err;
	if (z->lo_stats >= 0)
		SYS(close, z->lo_stats);
	// Before pivot_root the host's /proc is at /proc, afterwards below /host.
	z->lo_stats = (s32)SYS(openat, AT_FDCWD, "/proc/self/net/dev", O_RDONLY | O_CLOEXEC);
	if (z->lo_stats < 0)
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
	if (z->host_network || z->net != s->net)
		return;
	long n = SYS(pread64, z->lo_stats, buf, sizeof buf - 1, 0);
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
		__atomic_store_n(&z->dirty_net, s->net, __ATOMIC_SEQ_CST);
}

// leave_used_network is for a sandbox that was made ready while an earlier one
// was still using the network of the slot.
void leave_used_network(struct sandbox *s)
{
	struct slot *z = s->slot;
	if (z->host_network || s->net != __atomic_load_n(&z->dirty_net, __ATOMIC_SEQ_CST))
		return;
	s->net = 0; // none of the slot's
	long err = SYS_COOKIE(unshare, CLONE_NEWNET);
	if (err >= 0)
		err = lo_up();
	if (err < 0)
		fail(s, "make a network namespace", 0, err);
}
