// What a command looked for.
//
// The kernel stops each process of the command at each system call that names
// a path, and tells pid 1; pid 1 reads the path out of the process, writes it
// down, and lets the call continue. This is for finding out, not for guarding:
// another thread could change the path after we have read it.
//
// Written down is the path as it was named, made absolute. A link that the
// command has made may lead it somewhere else, and be gone when it ends; so a
// path that is not surely below a read-only bind is followed at once, up to
// where a read-only bind begins, and the result is written down, too.
#include "calls.h"
#include "observe.h"

enum {
	TABLE_MAX = 1 << 17,
	INTERPRETERS_MAX = 5,
};

void *map(size_t size, s32 fd, u64 offset)
{
	int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	long at = sys6(SYS_mmap, 0, (long)size, PROT_READ | PROT_WRITE, flags, fd, (long)offset);
	return at < 0 && at > -PATH_MAX ? 0 : (void *)at;
}

struct observer *new_observer(struct sandbox *s)
{
	struct observer *o = s->observer = map(sizeof *o, -1, 0);
	if (!o)
		fail(s, "observe", 0, -ENOMEM);
	o->s = s;
	o->complete = 1;
	o->log_fd = (s32)SYS(memfd_create, "sbx-lookups", MFD_CLOEXEC);
	if (o->log_fd < 0)
		fail(s, "make a file in memory", 0, o->log_fd);
	long err = SYS(ftruncate, o->log_fd, LOG_MAX);
	if (err < 0)
		fail(s, "make a file in memory", 0, err);
	o->log = map(LOG_MAX, o->log_fd, 0);
	o->table = o->first;
	o->size = TABLE_MIN;
	if (!o->log)
		fail(s, "observe", 0, -ENOMEM);
	o->log[0] = 0; // the page fault now, and not while a command waits
	o->table[0] = 0;
	return o;
}

// free_observer is called by the slot when pid 1 is dead, or dies here.
void free_observer(struct sandbox *s)
{
	struct observer *o = s->observer;
	if (!o)
		return;
	scribe_free(o);
	if (o->log)
		SYS(munmap, o->log, LOG_MAX);
	if (o->table && o->table != o->first)
		SYS(munmap, o->table, o->size * sizeof *o->table);
	SYS(munmap, o, sizeof *o);
	s->observer = 0;
}

static struct lookup *entry(struct observer *o, u32 at)
{
	return (struct lookup *)(o->log + at);
}

// note_stays marks what the command has made in places of the sandbox's own, and left
// there.
static void note_stays(struct observer *o)
{
	static const char *const own[] = {"/tmp", "/run", "/dev/shm"};
	struct lookup *l;
	for (u32 at = 0; at < o->used; at += (u32)(sizeof *l + l->length + 3) & ~3u) {
		l = entry(o, at);
		if (!(l->how & LOOKUP_MADE))
			continue;
		memcpy(o->name, l + 1, l->length);
		o->name[l->length] = 0;
		if (!below(o->name, own[0]) && !below(o->name, own[1]) && !below(o->name, own[2]))
			continue;
		long fd = SYS(openat, AT_FDCWD, o->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			continue;
		l->how |= LOOKUP_STAYS;
		SYS(close, fd);
	}
}

void finish_observer(struct sandbox *s)
{
	struct observer *o = s->observer;
	scribe_finish(o);
	note_stays(o);
	s->reply.log_size = o->used;
	if (o->complete)
		s->reply.flags |= DONE_COMPLETE;
	s->reply_fds[s->reply_nfds++] = o->log_fd;
}

static u32 hash(u8 op, const char *path, size_t n)
{
	const u64 factor = 0x9e3779b97f4a7c15ull;
	u64 h = op + n, part;
	for (; n >= 8; n -= 8, path += 8) {
		__builtin_memcpy(&part, path, 8);
		h = (h ^ part) * factor;
		h ^= h >> 32;
	}
	for (part = 0; n; n--)
		part = part << 8 | (u8)path[n - 1];
	h = (h ^ part) * factor;
	return (u32)(h >> 32);
}

static void grow(struct observer *o)
{
	u32 size = o->size * 4;
	if (size > TABLE_MAX)
		return;
	u32 *table = map(size * sizeof *table, -1, 0);
	if (!table)
		return;
	for (u32 i = 0; i < o->size; i++) {
		if (!o->table[i])
			continue;
		struct lookup *l = entry(o, o->table[i] - 1);
		u32 h = hash(l->op, (char *)(l + 1), l->length);
		while (table[h & (size - 1)])
			h++;
		table[h & (size - 1)] = o->table[i];
	}
	if (o->table != o->first)
		SYS(munmap, o->table, o->size * sizeof *table);
	o->table = table;
	o->size = size;
}

// note_part writes the look-up of a path of n bytes down, if it is new.
void note_part(struct observer *o, u8 op, u8 how, const char *path, size_t n)
{
	u32 h = hash(op, path, n), *place;
	for (;; h++) {
		place = &o->table[h & (o->size - 1)];
		if (!*place)
			break;
		struct lookup *l = entry(o, *place - 1);
		if (l->op == op && l->length == n && !memcmp(l + 1, path, n)) {
			l->how |= how;
			return;
		}
	}
	u32 total = (u32)(sizeof(struct lookup) + n + 3) & ~3u;
	if (o->used + total > LOG_MAX) {
		o->complete = 0;
		return;
	}
	struct lookup *l = entry(o, o->used);
	*l = (struct lookup){.length = (u16)n, .op = op, .how = how};
	memcpy(l + 1, path, n);
	if (o->count < o->size / 4 * 3) {
		*place = o->used + 1;
		o->count++;
	}
	o->used += total;
	if (o->count > o->size / 2)
		grow(o);
}

void note(struct observer *o, u8 op, u8 how, const char *path)
{
	note_part(o, op, how, path, strlen(path));
}

// presence says whether there is something at o->name, following links. Of a call
// that we are asked about before it is made, somebody else may remove it or put it
// there in the microseconds in between. We do not look for what is below the system's
// directories: whatever changes there shows in the times of a directory.
static u8 presence(struct observer *o)
{
	static const char *const system[] = {"/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc", "/opt"};
	if (o->result >= 0 && o->result != NOT_YET)
		return LOOKUP_FOUND;
	if (o->result == -ENOENT || o->result == -ENOTDIR || o->result == -ELOOP || o->result == -EACCES)
		return 0;
	for (u32 i = 0; i < sizeof system / sizeof *system; i++)
		if (below(o->name, system[i]))
			return 0;
	return SYS(faccessat, AT_FDCWD, o->name, 0) >= 0 ? LOOKUP_FOUND : 0;
}

// names_net says whether path has a part "net".
static int names_net(const char *path)
{
	for (; *path; path++)
		if (has_prefix(path, "/net") && (!path[4] || path[4] == '/'))
			return 1;
	return 0;
}

void look_path(struct observer *o, u8 op, u8 how, int follow_last)
{
	tidy(o->name);
	if (!how && follow_last && !below(o->name, "/proc"))
		how = presence(o);
	note(o, op, how, o->name);
	if (fixed(o, o->name))
		return;
	note_moved(o, o->name);
	if (o->s->slot->sealed && below(o->name, "/proc") && names_net(o->name))
		o->complete = 0; // what is there is the host's
	if (below(o->name, "/proc") || below(o->name, "/dev")) {
		note_magic(o, op, follow_last);
		return;
	}
	follow(o, o->name, follow_last);
	note_moved(o, o->real);
	if (!str_equal(o->real, o->name))
		note(o, op, how, o->real);
}

// base puts the directory that dirfd means in the process at hand into buf.
static int base(struct observer *o, s32 dirfd, char buf[static PATH_MAX])
{
	char name[64];
	struct text t = text_in(name, sizeof name);
	put_number(&t, o->tid);
	put(&t, dirfd == AT_FDCWD ? "/cwd" : "/fd/");
	if (dirfd != AT_FDCWD) {
		if (dirfd < 0)
			return 0; // EBADF for the command, too
		put_number(&t, (u32)dirfd);
	}
	long n = SYS(readlinkat, o->proc, name, buf, PATH_MAX - 1);
	if (n > 0 && n < PATH_MAX - 1 && buf[0] == '/') {
		buf[n] = 0;
		return 1;
	}
	// Before its first exec nobody may look at the command, as at us, but it is
	// where it starts.
	size_t len = strlen(o->s->dir);
	if (n == -EACCES && dirfd == AT_FDCWD && !o->begun && o->tid == (u32)o->s->prepared && len < PATH_MAX) {
		memcpy(buf, o->s->dir, len + 1);
		return 1;
	}
	// Not a file, or no descriptor: then the call fails. Anything else
	// means that we miss a path.
	if (n != -ENOENT && n != -ESRCH && n <= 0)
		o->complete = 0;
	else if (n > 0 && (n >= PATH_MAX - 1 || has_prefix(buf, "(unreachable)")))
		o->complete = 0;
	return 0;
}

// absolute puts path, relative to dirfd, into o->name.
static int absolute(struct observer *o, s32 dirfd, const char *path)
{
	char dir[PATH_MAX];
	if (path[0] == '/')
		return join(o->name, path, "", "");
	if (!base(o, dirfd, dir))
		return 0;
	return join(o->name, dir, *path ? "/" : "", path);
}

static void look_interpreters(struct observer *o)
{
	char path[PATH_MAX];
	int last = 0;
	for (int i = 0; i < INTERPRETERS_MAX && !last && interpreter(o, path, &last); i++) {
		if (!absolute(o, AT_FDCWD, path))
			return;
		look_path(o, OP_EXEC, 0, 1);
	}
}

static const struct path_call *find_call(u32 arch, s32 nr)
{
	for (u32 i = 0; i < PATH_CALLS; i++) {
		const struct path_call *c = &path_calls[i];
		if (nr == (arch == AUDIT_ARCH_I386 ? c->i386 : NR(c->amd64, c->arm64)))
			return c;
	}
	return 0;
}

static void look_socket(struct observer *o, const u64 *args)
{
	char path[PATH_MAX];
	u8 addr[111];
	u64 len = args[2] & 0xffffffff;
	if (len > 110)
		return; // EINVAL
	long n = peek(o, args[1], addr, len);
	if (n < 3 || (addr[0] | addr[1] << 8) != AF_UNIX || !addr[2])
		return;
	addr[n] = 0;
	memcpy(path, addr + 2, (size_t)n - 1);
	if (absolute(o, AT_FDCWD, path))
		look_path(o, OP_STAT, LOOKUP_MADE, 1); // bind makes it
}

// makes says whether the call may make what it names: by its number on amd64, which
// all of them have.
static int makes(const struct path_call *c)
{
	switch (c->amd64) {
	case 83: case 258: // mkdir
	case 88: case 266: // symlink
	case 133: case 259: // mknod
	case 85: // creat
		return 1;
	}
	return c->op == OP_MOVE;
}

// removes says whether the call takes a name away.
static int removes(const struct path_call *c)
{
	return c->amd64 == 84 || c->amd64 == 87 || c->amd64 == 263; // rmdir, unlink, unlinkat
}

// replaces says whether the call gives something a name whatever has that: link does not.
static int replaces(const struct path_call *c, const u64 *args)
{
	return c->amd64 == 82 || c->amd64 == 264 || (c->amd64 == 316 && !(u32)args[4]); // rename
}

static void look_call(struct observer *o, const struct path_call *c, const u64 *args)
{
	char path[PATH_MAX];
	if (c->how == SOCKET_NAME) {
		look_socket(o, args);
		return;
	}
	u64 flags = args[c->flags], how[3] = {0};
	u8 op = c->op, how_made = makes(c) ? LOOKUP_MADE : 0;
	if (c->how == DESCRIPTOR)
		return;
	int follow_last = c->how != NO_FOLLOW;
	o->changes = how_made || removes(c);
	if (c->how == OPEN_HOW) {
		if (peek(o, flags, how, sizeof how) < (long)sizeof how)
			return;
		flags = how[0];
	}
	if (c->how == OPEN_FLAGS || c->how == OPEN_HOW) {
		follow_last = !(flags & O_NOFOLLOW) && (flags & (O_CREAT | O_EXCL)) != (O_CREAT | O_EXCL);
		if (flags & O_CREAT)
			how_made = LOOKUP_MADE;
		if (flags & O_PATH)
			op = OP_STAT; // it cannot be read or listed through that
		if (OPENS_ANEW(flags))
			op = OP_ANEW;
	}
	if (c->how == AT_FLAGS || c->how == EXECUTE_AT)
		follow_last = !(flags & AT_SYMLINK_NOFOLLOW);
	if (c->how == LINK_FLAGS)
		follow_last = !!(flags & AT_SYMLINK_FOLLOW);
	if (peek_path(o, args[c->path], path)) {
		s32 dirfd = c->dir == CWD ? AT_FDCWD : (s32)args[c->dir];
		const char *p = path;
		if (how[2] & RESOLVE_IN_ROOT)
			while (*p == '/')
				p++;
		if ((path[0] || c->how == EXECUTE_AT) && absolute(o, dirfd, p) && !has_prefix(o->name, "/memfd:")) {
			look_path(o, op, how_made, follow_last);
			if (op == OP_EXEC)
				look_interpreters(o);
			stir_removed(o, c);
		}
	}
	if (c->path2 != NONE && peek_path(o, args[c->path2], path) && path[0]) {
		if (absolute(o, c->dir2 == CWD ? AT_FDCWD : (s32)args[c->dir2], path))
			look_path(o, replaces(c, args) ? OP_REPLACE : op, how_made, 0);
	}
}

// skip_missing notes the places on PATH in which there is no program of the
// command's name, so that it need not be asked about each of them.
static void skip_missing(struct observer *o)
{
	struct sandbox *s = o->s;
	const char *path = "", *name = s->argv[0];
	if (s->fence || !*name)
		return;
	for (const char *c = name; *c; c++)
		if (*c == '/')
			return;
	for (char **e = s->envp; *e && !*path; e++)
		if (has_prefix(*e, "PATH="))
			path = *e + 5;
	for (const char *p = path; *p == '/'; s->path_skip = (u32)(p - path)) {
		char *to = o->next;
		for (; *p && *p != ':'; p++) {
			if (to - o->next == PATH_MAX / 2)
				return;
			*to++ = *p;
		}
		*to = 0;
		if (strlen(o->next) + strlen(name) + 2 > PATH_MAX || !join(o->name, o->next, "/", name))
			return;
		if (SYS(faccessat, AT_FDCWD, o->name, 0) != -ENOENT)
			return;
		o->result = -ENOENT;
		look_path(o, OP_EXEC, 0, 1);
		o->result = NOT_YET;
		p += *p == ':';
	}
}

// begin_observing must be called when the root is the command's. It opens the
// directory in which the command will start: it looks that up, but has not to
// stop and ask for it.
s32 begin_observing(struct sandbox *s, const char *dir)
{
	struct observer *o = s->observer;
	o->proc = s->own_proc ? s->own_proc : (s32)SYS(openat, AT_FDCWD, "/proc", O_PATH | O_CLOEXEC);
	if (o->proc < 0)
		fail(s, "open", "/proc", o->proc);
	o->tid = (u32)s->prepared;
	o->result = NOT_YET;
	know_places(o);
	know_links(o);
	if (absolute(o, AT_FDCWD, dir))
		look_path(o, OP_STAT, 0, 1);
	long fd = SYS(openat, AT_FDCWD, dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		fail(s, "enter the working directory", fd == -ENOENT ? dir : 0, fd);
	know_dir(o, (s32)fd);
	skip_missing(o);
	return (s32)fd;
}

void look_up(struct observer *o, u32 arch, s32 nr, const u64 *args, s64 result)
{
	const struct path_call *c = find_call(arch, nr);
	if (!c)
		return;
	o->result = result;
	o->begun |= c->op != OP_EXEC && !o->s->searching;
	stir_before(o, c, args);
	look_call(o, c, args);
}

// observe answers one notification.
void observe(struct sandbox *s, s32 listener)
{
	struct observer *o = s->observer;
	struct seccomp_notif n = {0};
	if (SYS(ioctl, listener, SECCOMP_IOCTL_NOTIF_RECV, &n) < 0)
		return; // its process has died meanwhile
	struct seccomp_notif_resp resp = {.id = n.id};
	int observed = s->req->flags & REQUEST_OBSERVE;
	if (observed) {
		o->tid = n.pid;
		o->ip = n.data.arch == AUDIT_ARCH ? n.data.ip : 0;
		o->code_ip = 0;
	}
	if (!observed || !scribe_answer(o, listener, &n, &resp.val)) {
		if (observed)
			look_up(o, n.data.arch, n.data.nr, n.data.args, NOT_YET);
		if (observed && !s->owners) // what a scribe does, nobody could answer
			scribe_consider(o, listener, &n);
		if (!s->owners || !owners_answer(s->owners, &n, &resp))
			resp.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	}
	SYS(ioctl, listener, SECCOMP_IOCTL_NOTIF_SEND, &resp);
}
