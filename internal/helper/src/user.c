// A user namespace of the command's own, for those that are root there (see
// owners.c) and those whose programs are another machine's.
#include "slot.h"

int own_namespace(struct sandbox *s)
{
	return s->req && (s->req->flags & REQUEST_OWNERS || *s->emulator);
}

static void tell(u32 *flag)
{
	__atomic_store_n(flag, 1, __ATOMIC_SEQ_CST);
	SYS(futex, flag, FUTEX_WAKE, 1, 0);
}

// await waits until the command's process has told us, or is dead.
void await(struct sandbox *s, u32 *flag)
{
	const struct timespec a_while = {0, 100 * 1000 * 1000}, now = {0, 0};
	while (!__atomic_load_n(flag, __ATOMIC_SEQ_CST)) {
		if (SYS(futex, flag, FUTEX_WAIT, 0, &a_while) != -ETIMEDOUT)
			continue;
		struct pollfd ended = {(s32)SYS(pidfd_open, s->prepared, 0), POLLIN, 0};
		long n = SYS(ppoll, &ended, 1, &now, 0, 8);
		if (ended.fd >= 0)
			SYS(close, ended.fd);
		if (n > 0 && !__atomic_load_n(flag, __ATOMIC_SEQ_CST))
			fail(s, s->setup_text ? s->setup_text : "start the command: its process was killed", 0, -s->setup_errno);
	}
}

// emulate tells the kernel, for this user namespace alone, how to execute the
// programs of another machine. The emulator is opened now: it need not be in the
// root. What was told holds as long as the file system is mounted.
static void emulate(struct sandbox *s)
{
	char line[512];
	long fs = SYS_COOKIE(fsopen, "binfmt_misc", FSOPEN_CLOEXEC);
	need(s, "emulate another machine: mount binfmt_misc (it needs Linux 6.7)", fs);
	need(s, "emulate another machine: mount binfmt_misc (it needs Linux 6.7)", SYS_COOKIE(fsconfig, fs, FSCONFIG_CMD_CREATE, 0, 0, 0));
	long m = SYS_COOKIE(fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	need(s, "emulate another machine: mount binfmt_misc", m);
	struct text t = text_in(line, sizeof line);
	put(&t, s->binfmt);
	put(&t, "/proc/self/fd/");
	put_number(&t, (u64)s->emulator_fd);
	put(&t, ":PF"); // keep argv[0]; open the emulator now
	long fd = SYS(openat, m, "register", O_WRONLY | O_CLOEXEC);
	need(s, "emulate another machine: open register", fd);
	need(s, "emulate another machine: register the emulator", SYS(write, fd, line, strlen(line)));
	SYS(close, fd);
	struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY};
	need(s, "emulate another machine: protect binfmt_misc", SYS_COOKIE(mount_setattr, m, "", AT_EMPTY_PATH, &ro, sizeof ro));
	need(s, "emulate another machine: mount on /proc/sys/fs/binfmt_misc",
	     SYS_COOKIE(move_mount, m, "", AT_FDCWD, "/proc/sys/fs/binfmt_misc", MOVE_MOUNT_F_EMPTY_PATH));
	SYS(close, m);
	SYS(close, fs);
}

// write_proc writes to a file of /proc, also where that is read-only.
static long write_proc(struct sandbox *s, const char *file, const char *text)
{
	char name[48];
	struct text t = text_in(name, sizeof name);
	put(&t, "/proc/");
	put(&t, file);
	long fd = SYS(openat, s->own_proc ? s->own_proc : AT_FDCWD, s->own_proc ? file : name, O_WRONLY | O_CLOEXEC);
	long err = fd < 0 ? fd : SYS(write, fd, text, strlen(text));
	if (fd >= 0)
		SYS(close, fd);
	return err;
}

// map_line says who the number inside is outside, alone.
static const char *map_line(char *line, size_t size, u32 inside, u32 outside)
{
	struct text t = text_in(line, size);
	put_number(&t, inside);
	put(&t, " ");
	put_number(&t, outside);
	put(&t, " 1");
	return line;
}

// be_plain makes root of the namespace the user that commands usually are, by
// another namespace in it. In one without a root nobody could have registered.
static void be_plain(struct sandbox *s)
{
	char line[48];
	u32 id = s->req->id, gid = s->req->gid;
	need(s, "make a user namespace for the command", SYS_COOKIE(unshare, CLONE_NEWUSER));
	SYS(prctl, PR_SET_DUMPABLE, 1); // as in map_own_user
	need(s, "map the user of the command", write_proc(s, "self/uid_map", map_line(line, sizeof line, id, 0)));
	need(s, "map the group of the command", write_proc(s, "self/gid_map", map_line(line, sizeof line, gid, 0)));
	need(s, "become the group", SYS(setresgid, gid, gid, gid));
	need(s, "become the user", SYS(setresuid, id, id, id));
}

// await_map waits until pid 1 has said who we are in the user namespace that
// was just made.
static void await_map(struct sandbox *s)
{
	tell(&s->user_asked);
	while (!__atomic_load_n(&s->user_mapped, __ATOMIC_SEQ_CST))
		SYS(futex, &s->user_mapped, FUTEX_WAIT, 0, 0);
}

static void drop_bounds(u64 keep)
{
	for (int cap = 0; cap < 64; cap++)
		if (!(keep >> cap & 1))
			SYS(prctl, PR_CAPBSET_DROP, cap);
}

// as_caller gives the command the numbers that its caller has on the host, in a user
// namespace of its own: in that of the sandbox it is 65000.
void as_caller(struct sandbox *s)
{
	need(s, "make a user namespace for the command", SYS_COOKIE(unshare, CLONE_NEWUSER));
	await_map(s);
	drop_bounds(0);
}

// own_user makes the namespace, in the command's process.
void own_user(struct sandbox *s)
{
	if (!s->slot->unprivileged)
		need(s, "drop groups", SYS(setgroups, 0, 0));
	need(s, "make a user namespace for the command", SYS_COOKIE(unshare, CLONE_NEWUSER | (*s->emulator ? CLONE_NEWNS : 0)));
	await_map(s);
	need(s, "become the group", SYS(setresgid, 0, 0, 0));
	need(s, "become the user", SYS(setresuid, 0, 0, 0));
	if (*s->emulator)
		emulate(s);
	if (!(s->req->flags & REQUEST_OWNERS))
		be_plain(s);
	drop_bounds(s->req->flags & REQUEST_OWNERS ? OWNER_CAPS : 0);
	SYS(prctl, PR_SET_DUMPABLE, 0); // another user may be
}

static void map_id(struct sandbox *s, const char *file, const char *text)
{
	char name[48];
	struct text t = text_in(name, sizeof name);
	put_number(&t, (u64)s->prepared);
	put(&t, file);
	long err = write_proc(s, name, text);
	if (err < 0)
		fail(s, "map the user of the command: write", name, err);
}

// map_command says who the user of the command is in its namespace. For the moment
// in which its files in /proc are opened, we are no secret: nothing but our own
// processes is there yet.
static void map_command(struct sandbox *s, u32 id, u32 gid)
{
	char line[48];
	await(s, &s->user_asked);
	if (s->setup_errno) // it gave up before: see run_command
		return;
	SYS(prctl, PR_SET_DUMPABLE, 1);
	map_id(s, "/setgroups", "deny");
	map_id(s, "/uid_map", map_line(line, sizeof line, id, s->req->id));
	map_id(s, "/gid_map", map_line(line, sizeof line, gid, s->req->gid));
	SYS(prctl, PR_SET_DUMPABLE, 0);
	tell(&s->user_mapped);
}

void map_own_user(struct sandbox *s) { map_command(s, 0, 0); }

// map_caller is for as_caller.
void map_caller(struct sandbox *s) { map_command(s, s->slot->uid, s->slot->gid); }
