// A command without any namespace: what Landlock and a second filter of system
// calls keep from it.
//
// The kernel lets nobody else than a process itself give up access to files, so
// this is done here, in the process that becomes the command. Landlock decides
// by what is opened, not by what is named: so the request's binds are the files
// and directories of the host that may be used, under their own names.
#include "slot.h"

enum {
	FS_EXECUTE = 1 << 0,
	FS_WRITE_FILE = 1 << 1,
	FS_READ_FILE = 1 << 2,
	FS_READ_DIR = 1 << 3,
	FS_TRUNCATE = 1 << 14, // ABI 3, Linux 6.2
	FS_IOCTL_DEV = 1 << 15, // ABI 5, Linux 6.10
	FS_READ = FS_EXECUTE | FS_READ_FILE | FS_READ_DIR,
	FS_OF_FILES = FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV,
	NET_TCP = 3, // ABI 4: bind, connect
	SCOPE_ALL = 3, // ABI 6, Linux 6.12: abstract sockets, signals
	CREATE_RULESET_VERSION = 1,
	RULE_PATH_BENEATH = 1,
	ABI_NEEDED = 3, // before, a file could be truncated in spite of all
};

struct ruleset {
	u64 fs, net, scoped;
};

struct path_beneath {
	u64 allowed;
	s32 parent;
} __attribute__((packed));

static void must(struct sandbox *s, const char *what, const char *name, long err)
{
	if (err < 0)
		fail(s, what, name, err);
}

static void allow(struct sandbox *s, s32 rules, const char *path, u64 access)
{
	long fd = SYS(openat, AT_FDCWD, path, O_PATH | O_CLOEXEC);
	must(s, "open", path, fd);
	struct statx st;
	must(s, "look at", path, SYS(statx, fd, "", AT_EMPTY_PATH, STATX_TYPE, &st));
	if ((st.mode & S_IFMT) != S_IFDIR)
		access &= FS_OF_FILES;
	struct path_beneath rule = {access, (s32)fd};
	must(s, "allow", path, SYS(landlock_add_rule, rules, RULE_PATH_BENEATH, &rule, 0));
	SYS(close, fd);
}

// make_fence makes the rules that the command's process will put in force. An
// abstract socket, a TCP port and a signal are refused where the kernel can.
void make_fence(struct sandbox *s)
{
	long abi = SYS(landlock_create_ruleset, 0, 0, CREATE_RULESET_VERSION);
	must(s, "use Landlock, which this kernel has not, or not switched on (lsm=landlock)", 0, abi);
	if (abi < ABI_NEEDED)
		fail(s, "use Landlock, which Linux 6.2 or newer has what is needed of", 0, -ENOSYS);
	struct ruleset r = {.fs = FS_TRUNCATE * 2 - 1};
	size_t size = 8;
	if (abi >= 4) {
		size = 16;
		r.net = s->slot->host_network ? 0 : NET_TCP;
	}
	if (abi >= 5)
		r.fs |= FS_IOCTL_DEV;
	if (abi >= 6) {
		size = 24;
		r.scoped = SCOPE_ALL;
	}
	long rules = SYS(landlock_create_ruleset, &r, size, 0);
	must(s, "make Landlock rules", 0, rules);
	const char *p = s->binds;
	for (u32 i = 0; i < s->req->nbinds; i++) {
		const char *source = p;
		if (*source == '=')
			allow(s, (s32)rules, source + 1, r.fs);
		else
			allow(s, (s32)rules, source, FS_READ);
		p = next_string(next_string(p));
	}
	s->fence = (s32)rules;
}

// enter_fence puts the rules in force for this process and all its children.
// Landlock says nothing of UDP, and of sockets in the file system, such as that of
// a daemon which would do as it is told; so there are no sockets but pairs.
long enter_fence(struct sandbox *s)
{
	static struct sock_filter filter[FILTER_MAX];
	long err = SYS(landlock_restrict_self, s->fence, 0);
	if (err < 0)
		return err;
	return install(filter, socket_filter(filter, s->slot->host_network), 0);
}

static u32 digits(const char *p, const char **end)
{
	u32 n = 0;
	while (*p >= '0' && *p <= '9')
		n = n * 10 + (u32)(*p++ - '0');
	*end = p;
	return n;
}

struct dirent {
	u64 ino;
	s64 off;
	u16 reclen;
	u8 type;
	char name[];
};

// A process_list is the processes of the machine with their parents.
struct process_list {
	u32 n;
	struct {
		s32 pid, parent;
		int ours;
	} p[32 << 10];
};

// parent_of reads the fourth field of /proc/PID/stat, behind a name in brackets
// which may have brackets of its own. It is 0 for who is dead.
static s32 parent_of(s32 proc, const char *pid)
{
	char name[32], text[512];
	struct text t = text_in(name, sizeof name);
	put(&t, pid);
	put(&t, "/stat");
	long fd = SYS(openat, proc, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	long n = SYS(read, fd, text, sizeof text - 1);
	SYS(close, fd);
	while (n > 0 && text[n - 1] != ')')
		n--;
	if (n <= 0 || text[n] != ' ' || text[n + 1] == 'Z' || text[n + 1] == 'X')
		return 0;
	const char *end;
	return (s32)digits(text + n + 3, &end);
}

static void list_processes(struct process_list *l)
{
	static char buf[32 << 10] __attribute__((aligned(8)));
	l->n = 0;
	long proc = SYS(openat, AT_FDCWD, "/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC), n;
	while (proc >= 0 && (n = SYS(getdents64, proc, buf, sizeof buf)) > 0)
		for (long at = 0; at < n; at += ((struct dirent *)(buf + at))->reclen) {
			const char *name = ((struct dirent *)(buf + at))->name, *end;
			s32 pid = (s32)digits(name, &end), parent = *end ? 0 : parent_of((s32)proc, name);
			if (!parent || l->n == sizeof l->p / sizeof *l->p)
				continue;
			l->p[l->n].pid = pid;
			l->p[l->n].parent = parent;
			l->p[l->n++].ours = 0;
		}
	if (proc >= 0)
		SYS(close, proc);
}

// kill_descendants kills whatever is below us. Who loses its parent becomes our
// child, as we are its reaper, and whoever has been found can make no more
// processes, even if it is not dead yet: so there are fewer each time.
void kill_descendants(void)
{
	static struct process_list l;
	const struct rlimit none = {0, 0};
	s32 self = (s32)SYS(getpid);
	list_processes(&l);
	for (int more = 1; more;) {
		more = 0;
		for (u32 i = 0; i < l.n; i++) {
			int below = l.p[i].parent == self;
			for (u32 j = 0; j < l.n && !below; j++)
				below = l.p[j].pid == l.p[i].parent && l.p[j].ours;
			if (!below || l.p[i].ours)
				continue;
			l.p[i].ours = more = 1;
			SYS(prlimit64, l.p[i].pid, RLIMIT_NPROC, &none, 0);
			SYS(kill, l.p[i].pid, SIGKILL);
		}
	}
}

// remove_below empties the directory dir, whose processes are all dead. It does
// not follow links. What is in a directory that its owner may not enter goes, too.
static void remove_below(s32 dir)
{
	char buf[4096] __attribute__((aligned(8)));
	long n;
	for (int again = 1; again;) { // the listing of a directory that changes is not whole
		again = 0;
		SYS(lseek, dir, 0, 0);
		while ((n = SYS(getdents64, dir, buf, sizeof buf)) > 0)
			for (long at = 0; at < n; at += ((struct dirent *)(buf + at))->reclen) {
				const char *name = ((struct dirent *)(buf + at))->name;
				if (str_equal(name, ".") || str_equal(name, ".."))
					continue;
				long err = SYS(unlinkat, dir, name, 0);
				if (err == -EISDIR || err == -EPERM) {
					SYS(fchmodat, dir, name, 0700);
					long sub = SYS(openat, dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
					if (sub >= 0) {
						SYS(fchmodat, sub, ".", 0700);
						remove_below((s32)sub);
						SYS(close, sub);
						err = SYS(unlinkat, dir, name, AT_REMOVEDIR);
					}
				}
				again |= err >= 0;
			}
	}
}

// abandon is called when our caller is gone, and everything has been killed: then
// nobody else removes the scratch.
void abandon(struct sandbox *s)
{
	if (!*s->target)
		return;
	long dir = SYS(openat, AT_FDCWD, s->target, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir >= 0)
		remove_below((s32)dir);
	SYS(unlinkat, AT_FDCWD, s->target, AT_REMOVEDIR);
}
