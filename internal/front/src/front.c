// Answers calls of sbx-action that are hits, before Go starts.
//
// The program's entry is sbx_front (front_linux_amd64.s), which calls
// sbx_front_main with the stack that the kernel made. If a memo says what the
// call gives, and everything in it holds, the outputs are put into their places
// and the process ends here. In every other case nothing has happened yet, and
// Go starts as if we had not been there. So a doubt costs a millisecond, and
// nothing else: whatever is unusual returns a reason.
//
// What is in a memo, and why it may be believed, is in memo_linux.go. It was written by
// this program, for this user; nevertheless no byte of it can make us read or
// write outside of our buffers. There is no memory but the stack and one mapping,
// and there are no variables: the code is position-independent, without
// relocations, because Go's linker copies it as it is (see build.sh).
#include "front.h"

enum {
	KEY_MAX = 256 << 10,  // bytes of a key
	MEMO_MAX = 4 << 20,   // bytes of a memo's file
	PATH_SIZE = 4096,     // of the kernel
	OUTPUTS_MAX = 64,     // outputs of a call
	APPENDS_MAX = 4,      // files that are appended to
	BLOCK = 64 << 10,     // what is copied at a time; less is not cloned, as in Go
	RECORD_HEAD = 4 + 32, // of a note: cache/record.go
	HEAD = 8 + 8 + 36 + 5 * 8 + 4 * 4,
	TOUCH_AFTER = 600,    // seconds, as in cache.Store
	MILLION = 1000000,
	STACK_MIN = 1 << 20,  // bytes; we need less than 600 KiB
	GROUPS_MAX = 64,      // supplementary groups
};

// ---- Bytes

#ifndef FRONT_TEST // where the sanitizers have their own
void *memcpy(void *restrict to, const void *restrict from, u64 n)
{
	void *t = to;
	__asm__ volatile("rep movsb" : "+D"(t), "+S"(from), "+c"(n) : : "memory");
	return to;
}

void *memset(void *to, int c, u64 n)
{
	void *t = to;
	__asm__ volatile("rep stosb" : "+D"(t), "+c"(n) : "a"(c) : "memory");
	return to;
}

#endif

static u64 word(const u8 *p)
{
	u64 w;
	__builtin_memcpy(&w, p, 8);
	return w;
}

static int same(const void *a, const void *b, u64 n)
{
	const u8 *x = a, *y = b;
	for (; n >= 8; n -= 8, x += 8, y += 8)
		if (word(x) != word(y))
			return 0;
	for (; n; n--)
		if (*x++ != *y++)
			return 0;
	return 1;
}

static u64 length(const char *s)
{
	u64 n = 0;
	while (s[n])
		n++;
	return n;
}

static int starts(const char *s, const char *with)
{
	while (*with && *s == *with)
		s++, with++;
	return !*with;
}

// sum is sum in memo_linux.go.
static u64 sum(const u8 *p, u64 n)
{
	u64 h = n * 0x9e3779b97f4a7c15;
	for (; n >= 8; n -= 8, p += 8) {
		h = (h ^ word(p)) * 0xff51afd7ed558ccd;
		h ^= h >> 32;
	}
	u64 last = 0;
	for (u64 i = 0; i < n; i++)
		last |= (u64)p[i] << 8 * i;
	h = (h ^ last) * 0xff51afd7ed558ccd;
	return h ^ h >> 29;
}

static char *hex(char *to, u64 byte)
{
	*to++ = "0123456789abcdef"[byte >> 4 & 15];
	*to++ = "0123456789abcdef"[byte & 15];
	return to;
}

// An in is what is left to be read of a memo. After the first read beyond its end
// it gives zeros.
struct in {
	const u8 *p;
	u64 left;
	int bad;
};

static const u8 *take(struct in *in, u64 n)
{
	if (in->bad || n > in->left) {
		in->bad = 1, in->left = 0;
		return 0;
	}
	const u8 *p = in->p;
	in->p += n, in->left -= n;
	return p;
}

static u64 number(struct in *in, u64 bytes)
{
	const u8 *p = take(in, bytes);
	u64 v = 0;
	for (u64 i = 0; p && i < bytes; i++)
		v |= (u64)p[i] << 8 * i;
	return v;
}

static struct in part(struct in *in, u64 n)
{
	const u8 *p = take(in, n);
	return (struct in){p, p ? n : 0, !p};
}

// join makes a path of two parts, and says no if it is too long.
static int join(char to[PATH_SIZE], const char *dir, u64 dir_len, const void *name, u64 len)
{
	if (dir_len + 1 + len >= PATH_SIZE)
		return 0;
	memcpy(to, dir, dir_len);
	if (dir_len && dir[dir_len - 1] != '/')
		to[dir_len++] = '/';
	memcpy(to + dir_len, name, len);
	to[dir_len + len] = 0;
	return 1;
}

// ---- The call

// A front is one call on its way.
struct front {
	u64 argc;
	char **argv, **env;
	char cwd[PATH_SIZE];   // where we are
	char store[PATH_SIZE]; // an absolute path
	u64 store_len;
	i64 now; // seconds since 1970
	struct in facts, records, outputs, tail;
};

// ignored says whether a variable says nothing of what a call gives. ignoredNames
// in memo_linux.go is the same list, and a test compares.
static int ignored(const char *v)
{
	static const char names[] = "COLORTERM=\0COLUMNS=\0DISPLAY=\0HISTFILE=\0HISTSIZE=\0INVOCATION_ID=\0JOURNAL_STREAM=\0LINES=\0"
		"LOGNAME=\0LS_COLORS=\0MAIL=\0MAKEFLAGS=\0MAKELEVEL=\0MAKE_TERMERR=\0MAKE_TERMOUT=\0MFLAGS=\0OLDPWD=\0PS1=\0PS2=\0"
		"SBX_WARM=\0SHLVL=\0STY=\0TMP=\0TEMP=\0TMPDIR=\0TMUX=\0TMUX_PANE=\0WAYLAND_DISPLAY=\0WINDOWID=\0XAUTHORITY=\0_=\0"
		"DBUS_\0GPG_\0NINJA_\0SSH_\0SUDO_\0VTE_\0XDG_SESSION_\0";
	for (const char *n = names; *n; n += length(n) + 1)
		if (*n == *v && starts(v, n))
			return 1;
	return 0;
}

static const char *variable(struct front *f, const char *name)
{
	for (char **e = f->env; *e; e++)
		if (starts(*e, name))
			return *e + length(name);
	return 0;
}

// find_store fills in where the store is, as wiring.CacheDir does. The flag may be
// the value of another one, or not ours: then the memo that is found there is not
// of this call, or there is none.
static int find_store(struct front *f)
{
	const char *dir = 0, *end = 0;
	for (u64 i = 1; i < f->argc && i < 64 && !dir; i++) {
		const char *a = f->argv[i];
		if (starts(a, "--cache=") && a[8])
			dir = a + 8;
		else if (starts(a, "--cache") && !a[7] && i + 1 < f->argc)
			dir = f->argv[i + 1];
		else if (starts(a, "--") && !a[2])
			break;
	}
	if (!dir && (dir = variable(f, "SBX_CACHE=")) && !*dir)
		dir = 0;
	if (!dir && (dir = variable(f, "XDG_CACHE_HOME="))) {
		end = "sbx-action";
		if (!*dir)
			dir = 0;
	}
	if (!dir && (dir = variable(f, "HOME=")))
		end = ".cache/sbx-action";
	if (!dir || !*dir)
		return 0;
	u64 n = length(dir);
	if (*dir == '/') {
		if (n >= PATH_SIZE)
			return 0;
		memcpy(f->store, dir, n + 1);
	} else if (end || !join(f->store, f->cwd, length(f->cwd), dir, n))
		return 0;
	if (end) {
		char whole[PATH_SIZE];
		if (!join(whole, f->store, length(f->store), end, length(end)))
			return 0;
		memcpy(f->store, whole, PATH_SIZE);
	}
	f->store_len = length(f->store);
	return f->store_len + 128 < PATH_SIZE;
}

static int put(u8 *to, u64 *at, const char *s)
{
	u64 n = length(s) + 1;
	if (n > KEY_MAX - *at)
		return 0;
	memcpy(to + *at, s, n);
	*at += n;
	return 1;
}

// who writes whom the kernel takes us for when it is asked for a file, as appendWho
// does in Go. It returns the length, or 0.
static u64 who(u8 *to)
{
	struct { u32 version; int pid; } of = {CAPABILITIES, 0};
	struct { u32 effective, permitted, inheritable; } caps[2] = {{0, 0, 0}, {0, 0, 0}};
	u32 list[5 + GROUPS_MAX];
	i64 n = sys(NR_getgroups, GROUPS_MAX, P(list + 5), 0, 0, 0);
	if (n < 0 || sys(NR_capget, P(&of), P(caps), 0, 0, 0) < 0)
		return 0;
	list[0] = (u32)sys(NR_geteuid, 0, 0, 0, 0, 0), list[1] = (u32)sys(NR_getegid, 0, 0, 0, 0, 0);
	list[2] = caps[0].effective, list[3] = caps[1].effective, list[4] = (u32)n;
	memcpy(to, list, (5 + (u64)n) * 4);
	return (5 + (u64)n) * 4;
}

// key_of writes the key of the call: front.Key in memo_linux.go. It returns its length,
// or 0.
static u64 key_of(struct front *f, u8 *to)
{
	u8 termios[64];
	u32 n = (u32)f->argc;
	__builtin_memcpy(to, &n, 4);
	to[4] = sys(NR_ioctl, 2, TCGETS, P(termios), 0, 0) == 0;
	u64 at = who(to + 5);
	if (!at)
		return 0;
	at += 5;
	if (!put(to, &at, f->cwd))
		return 0;
	for (u64 i = 0; i < f->argc; i++)
		if (!put(to, &at, f->argv[i]))
			return 0;
	for (char **e = f->env; *e; e++)
		if (!ignored(*e) && !put(to, &at, *e))
			return 0;
	return at;
}

// ours says whether there can be a memo of the call.
static int ours(struct front *f)
{
	if (!f->argc || !f->argv[0])
		return 0;
	const char *base = f->argv[0];
	for (const char *s = base; *s; s++)
		if (*s == '/')
			base = s + 1;
	if (!starts(base, "sbx-action"))
		return 1; // a link by the name of a compiler
	if (f->argc < 3)
		return 0;
	const char *c = f->argv[1];
	return starts(c, "cc") && !c[2] || starts(c, "run") && !c[3];
}

// ---- The memo

static i64 open_read(i64 dir, const char *path)
{
	i64 flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK, fd = f_open(dir, path, flags | O_NOATIME, 0);
	return fd == -EPERM ? f_open(dir, path, flags, 0) : fd;
}

// read_all reads a file of n bytes.
static int read_all(i64 fd, u8 *to, u64 n)
{
	for (u64 at = 0; at < n;) {
		i64 r = f_read(fd, to + at, n - at);
		if (r <= 0)
			return 0;
		at += (u64)r;
	}
	return 1;
}

// used marks a file as used, as cache.Store does. It says no only if the file is
// gone.
static int used(struct front *f, const char *path, const struct stat *st)
{
	i64 age = f->now - st->atime.sec;
	if (age < TOUCH_AFTER && age > -TOUCH_AFTER)
		return 1;
	struct timespec times[2] = {{0, UTIME_NOW}, {0, UTIME_OMIT}};
	return sys(NR_utimensat, AT_FDCWD, P(path), P(times), 0, 0) != -ENOENT;
}

static i64 nanoseconds(const struct timespec *t) { return t->sec * 1000 * MILLION + t->nsec; }

// is_file compares what of a file of ours stays as it is when it is marked as used.
static int is_file(struct in *in, const struct stat *st)
{
	int same_dev = number(in, 8) == st->dev, same_ino = number(in, 8) == st->ino;
	int same_size = number(in, 8) == (u64)st->size, same_time = number(in, 8) == (u64)nanoseconds(&st->mtime);
	return same_dev && same_ino && same_size && same_time && (st->mode & S_IFMT) == S_IFREG && !in->bad;
}

// is compares a staging.StatID.
static int is(struct in *in, const struct stat *st)
{
	int same_dev = number(in, 8) == st->dev, same_ino = number(in, 8) == st->ino, same_size = number(in, 8) == (u64)st->size;
	int same_mtime = number(in, 8) == (u64)nanoseconds(&st->mtime), same_ctime = number(in, 8) == (u64)nanoseconds(&st->ctime);
	int same_mode = number(in, 4) == st->mode;
	return same_dev && same_ino && same_size && same_mtime && same_ctime && same_mode && !in->bad;
}

// this_boot says whether the memo is of this boot: then no power cut can have left
// of it, or of a blob, another thing than was written.
static int this_boot(const u8 id[36])
{
	u8 now[40];
	i64 fd = f_open(AT_FDCWD, "/proc/sys/kernel/random/boot_id", O_RDONLY, 0);
	if (fd < 0)
		return 0;
	i64 n = f_read(fd, now, sizeof now);
	f_close(fd);
	return n >= 36 && same(now, id, 36);
}

// parse takes a memo's file apart. self becomes this program.
static enum reason parse(struct front *f, const u8 *key, u64 key_len, const u8 *buf, u64 size, struct stat *self)
{
	struct in in = {buf, size, 0};
	if (size < RECORD_HEAD + HEAD)
		return BAD_MEMO;
	take(&in, RECORD_HEAD);
	if (!same(buf, "sbN1", 4) || !same(take(&in, 8), "sbxmemo1", 8))
		return BAD_MEMO;
	u64 want = number(&in, 8);
	if (want != sum(in.p, in.left))
		return BAD_MEMO;
	if (!this_boot(take(&in, 36)))
		return STALE;
	if (f_stat(AT_FDCWD, "/proc/self/exe", self, 0) < 0)
		return UNABLE;
	struct in exe = part(&in, 5 * 8);
	if (number(&exe, 8) != self->dev || number(&exe, 8) != self->ino || number(&exe, 8) != (u64)self->size ||
	    number(&exe, 8) != (u64)nanoseconds(&self->mtime) || number(&exe, 8) != (u64)nanoseconds(&self->ctime))
		return STALE;
	u64 n[4];
	for (int i = 0; i < 4; i++)
		n[i] = number(&in, 4);
	const u8 *k = take(&in, n[0]);
	f->facts = part(&in, n[1]);
	f->records = part(&in, n[2]);
	f->outputs = part(&in, n[3]);
	f->tail = in;
	if (in.bad)
		return BAD_MEMO;
	return n[0] == key_len && same(k, key, key_len) ? 0 : NO_MEMO;
}

// load finds the memo of the call and takes it apart. buf, where it is, is given
// back by the caller.
static enum reason load(struct front *f, const u8 *key, u64 key_len, u8 **buf, u64 *size, struct stat *self)
{
	char path[PATH_SIZE], *p = path + f->store_len;
	memcpy(path, f->store, f->store_len);
	memcpy(p, "/note/blake3/", 13);
	p += 13;
	u64 h = sum(key, key_len);
	p = hex(p, h);
	*p++ = '/';
	for (u64 i = 0; i < 32; i++) // Name in memo_linux.go
		p = hex(p, (h >> 8 * (i % 8)) ^ (i / 8 * 0x55));
	*p = 0;
	i64 fd = open_read(AT_FDCWD, path);
	if (fd < 0)
		return NO_MEMO;
	struct stat st;
	if (f_fstat(fd, &st) < 0 || (st.mode & S_IFMT) != S_IFREG || st.uid != (u32)sys(NR_geteuid, 0, 0, 0, 0, 0) || st.mode & 022 ||
	    st.size < RECORD_HEAD || st.size > MEMO_MAX) {
		f_close(fd);
		return BAD_MEMO;
	}
	*size = (u64)st.size;
	i64 r = call6(NR_mmap, 0, P(*size), 3, 0x8022, -1, 0); // private, anonymous, populated
	if (r < 0 && r > -4096) {
		f_close(fd);
		return UNABLE;
	}
	*buf = (u8 *)r;
	r = read_all(fd, *buf, *size);
	f_close(fd);
	enum reason why = r ? parse(f, key, key_len, *buf, *size, self) : BAD_MEMO;
	return why ? why : used(f, path, &st) ? 0 : STALE;
}

// ---- Facts

static int absent(const char *path)
{
	struct stat st;
	i64 r = f_stat(AT_FDCWD, path, &st, AT_NOFOLLOW);
	return r == -ENOENT || r == -ENOTDIR;
}

// none says whether no name of the list, each with a NUL behind it, is in dir, which
// is known if that is unchanged.
static int none(char dir[PATH_SIZE], u64 len, struct in names, int unchanged)
{
	int ok = 1;
	if (unchanged)
		return !names.bad;
	u64 at = len && dir[len - 1] == '/' ? len : len + 1;
	while (names.left && ok) {
		u64 n = 0;
		while (n < names.left && names.p[n])
			n++;
		if (n == names.left || at + n >= PATH_SIZE)
			return 0;
		dir[at - 1] = '/';
		memcpy(dir + at, names.p, n);
		dir[at + n] = 0;
		take(&names, n + 1);
		ok = absent(dir);
	}
	dir[len] = 0;
	return ok && !names.bad;
}

// holds checks the facts: front.Fact in memo_linux.go.
static enum reason holds(struct front *f, const struct stat *self)
{
	char path[PATH_SIZE];
	u64 last = 0;
	for (struct in *in = &f->facts; in->left;) {
		u8 kind = (u8)number(in, 1);
		u64 shared = number(in, 2), len = number(in, 2);
		const u8 *rest = take(in, len);
		if (!rest || shared > last || shared + len >= PATH_SIZE)
			return BAD_MEMO;
		memcpy(path + shared, rest, len);
		last = shared + len;
		path[last] = 0;
		struct stat st;
		int ok = 0;
		i64 r = kind == 'a' || kind == 'n' ? 0 : f_stat(AT_FDCWD, path, &st, kind == 's' || kind == 'w' ? 0 : AT_NOFOLLOW);
		switch (kind) {
		case 'i': // a file, a link or a list of names, unchanged
			ok = is(in, &st) && !r;
			break;
		case 'd': // a directory with these permissions
			ok = (st.mode & 07777) == number(in, 4) && !r && (st.mode & S_IFMT) == S_IFDIR;
			break;
		case 'm': { // neither read nor followed: its mode, and the size of a regular file
			u64 mode = number(in, 4), size = number(in, 8);
			ok = !r && mode == st.mode && ((mode & S_IFMT) != S_IFREG || size == (u64)st.size);
			break;
		}
		case 'a': // nothing
			ok = absent(path);
			break;
		case 'p': // a directory with these permissions, and what 'g' says
			ok = (st.mode & 07777) == number(in, 4) && !r && (st.mode & S_IFMT) == S_IFDIR;
			if (!ok)
				break;
			// fall through
		case 'g': { // without these names, if it is unchanged, or else by a look
			int unchanged = is(in, &st) && !r;
			ok = none(path, last, part(in, number(in, 4)), unchanged);
			break;
		}
		case 'n': // without these names
			ok = none(path, last, part(in, number(in, 4)), 0);
			break;
		case 'e': // something
			ok = !r;
			break;
		case 'o': // nothing, or a regular file
			ok = r == -ENOENT || r == -ENOTDIR || (!r && (st.mode & S_IFMT) == S_IFREG);
			break;
		case 's': // this program, or not
			ok = (!r && st.dev == self->dev && st.ino == self->ino) == number(in, 1);
			break;
		case 'w': { // not the directory that we are in
			struct stat here;
			ok = f_stat(AT_FDCWD, ".", &here, 0) == 0 && (r || st.dev != here.dev || st.ino != here.ino);
			break;
		}
		default:
			return BAD_MEMO;
		}
		if (in->bad)
			return BAD_MEMO;
		if (!ok)
			return STALE;
	}
	// Files of the store.
	for (struct in *in = &f->records; in->left;) {
		u8 kind = (u8)number(in, 1);
		u64 len = number(in, 2);
		const u8 *name = take(in, len);
		struct stat st;
		if (!name || !join(path, f->store, f->store_len, name, len))
			return BAD_MEMO;
		if (f_stat(AT_FDCWD, path, &st, AT_NOFOLLOW) < 0)
			return STALE;
		if (kind != 't' && !is_file(in, &st))
			return in->bad ? BAD_MEMO : STALE;
		if (kind != 'k' && !used(f, path, &st))
			return STALE;
	}
	return 0;
}

// ---- Outputs

struct output {
	const char *name; // in dir, with a NUL
	i64 dir, fd;      // fd: the file, without a name; or -1: what is there is as it will be
	int clean;        // nothing is in its place
	char temp[32];    // its name while it waits to be moved; or empty
};

struct delivery {
	struct output list[OUTPUTS_MAX];
	i64 dirs[OUTPUTS_MAX];
	u64 n, n_dirs;
	char names[PATH_SIZE * 4]; // what the outputs are called
	u64 names_len;
};

static void undo(struct delivery *d)
{
	for (u64 i = 0; i < d->n; i++) {
		if (d->list[i].fd >= 0)
			f_close(d->list[i].fd);
		if (d->list[i].temp[0])
			sys(NR_unlinkat, d->list[i].dir, P(d->list[i].temp), 0, 0, 0);
	}
	for (u64 i = 0; i < d->n_dirs; i++)
		f_close(d->dirs[i]);
}

static int write_all(i64 fd, const u8 *p, u64 n)
{
	while (n) {
		i64 r = f_write(fd, p, n);
		if (r == -EAGAIN) { // somebody made the pipe one that does not wait
			struct { int fd; short events, seen; } wait = {(int)fd, 4, 0};
			sys(NR_poll, P(&wait), 1, -1, 0, 0);
			continue;
		}
		if (r <= 0)
			return 0;
		p += r, n -= (u64)r;
	}
	return 1;
}

// copy writes size bytes of the file from, from its start, to the new file to.
static int copy(i64 to, i64 from, u64 size, u8 *buf)
{
	if (size > BLOCK) {
		struct stat st;
		if (sys(NR_ioctl, to, FICLONE, from, 0, 0) == 0)
			return f_fstat(to, &st) == 0 && (u64)st.size == size;
		u64 left = size;
		while (left) {
			i64 r = call6(NR_copy_file_range, from, 0, to, 0, P(left), 0);
			if (r == -EINTR)
				continue;
			if (r <= 0 && left == size)
				break;
			if (r <= 0)
				return 0;
			left -= (u64)r;
		}
		if (!left)
			return 1;
	}
	while (size) {
		i64 r = f_read(from, buf, size < BLOCK ? size : BLOCK);
		if (r <= 0 || !write_all(to, buf, (u64)r))
			return 0;
		size -= (u64)r;
	}
	return 1;
}

// equal says whether the file fd has the bytes of the file from, or of data.
static int equal(i64 fd, i64 from, const u8 *data, u64 size, u8 *buf)
{
	u8 other[8192];
	for (u64 at = 0; at < size;) {
		u64 n = size - at < sizeof other ? size - at : sizeof other;
		if (!read_all(fd, other, n) || (from >= 0 && !read_all(from, buf, n)) || !same(other, from >= 0 ? buf : data + at, n))
			return 0;
		at += n;
	}
	return 1;
}

// as_it_will_be says whether the file in the place of an output has its content,
// and may be given a new time, as deliverer.same does in Go.
static int as_it_will_be(struct output *o, const struct stat *st, int executable, i64 from, const u8 *data, u64 size, u8 *buf)
{
	if ((u64)st->size != size || st->nlink != 1 || ((st->mode & 0111) != 0) != executable)
		return 0;
	if (sys(NR_faccessat2, o->dir, P(o->name), 2, 0x200, 0) != 0) // by effective ids
		return 0;
	i64 fd = f_open(o->dir, o->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	if (fd < 0)
		return 0;
	int ok = equal(fd, from, data, size, buf);
	f_close(fd);
	return ok;
}

// open_blob opens a file of the store, which must be what it was.
static i64 open_blob(struct front *f, struct in *in, u64 *size)
{
	char path[PATH_SIZE];
	u64 len = number(in, 2);
	const u8 *name = take(in, len);
	struct stat st;
	if (!name || !join(path, f->store, f->store_len, name, len))
		return -1;
	i64 fd = open_read(AT_FDCWD, path);
	if (fd < 0)
		return -1;
	if (f_fstat(fd, &st) < 0 || !is_file(in, &st) || !used(f, path, &st)) {
		f_close(fd);
		return -1;
	}
	*size = (u64)st.size;
	return fd;
}

// place opens the directory of an output, at a path below root, and notes the name.
static int place(struct delivery *d, struct output *o, i64 root, const u8 *path, u64 len, u64 *last, const u8 **last_path)
{
	u64 cut = len;
	while (cut && path[cut - 1] != '/')
		cut--;
	if (len - cut + 1 > sizeof d->names - d->names_len || cut == len || cut >= PATH_SIZE)
		return 0;
	char *name = d->names + d->names_len;
	memcpy(name, path + cut, len - cut);
	name[len - cut] = 0;
	d->names_len += len - cut + 1;
	o->name = name;
	if (length(name) != len - cut) // a NUL
		return 0;
	if (d->n_dirs && *last == cut && same(*last_path, path, cut)) {
		o->dir = d->dirs[d->n_dirs - 1];
		return 1;
	}
	char dir[PATH_SIZE] = ".";
	if (cut > 1) {
		memcpy(dir, path, cut - 1);
		dir[cut - 1] = 0;
	}
	struct open_how how = {O_PATH | O_DIRECTORY | O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
	o->dir = sys(NR_openat2, root, P(dir), P(&how), sizeof how, 0);
	if (o->dir < 0)
		return 0;
	d->dirs[d->n_dirs++] = o->dir;
	*last = cut, *last_path = path;
	return 1;
}

// prepare writes every output beside its place, or finds it there.
static int prepare(struct front *f, struct delivery *d, u8 *buf)
{
	struct in *in = &f->outputs;
	u64 last = 0;
	const u8 *last_path = 0;
	u64 len = number(in, 2);
	char root_path[PATH_SIZE];
	const u8 *p = take(in, len);
	if (!p || len >= PATH_SIZE)
		return 0;
	memcpy(root_path, p, len);
	root_path[len] = 0;
	i64 root = f_open(AT_FDCWD, root_path, O_PATH | O_DIRECTORY, 0);
	if (root < 0)
		return 0;
	int ok = 1;
	while (in->left && ok) {
		u64 kind = number(in, 1), executable = number(in, 1), size = 0;
		len = number(in, 2);
		p = take(in, len);
		if (!p || d->n == OUTPUTS_MAX) {
			ok = 0;
			break;
		}
		struct output *o = &d->list[d->n++];
		o->fd = -1, o->clean = 0, o->temp[0] = 0;
		const u8 *data = 0;
		i64 from = -1;
		ok = place(d, o, root, p, len, &last, &last_path);
		if (!ok)
			break;
		if (kind == 'b') {
			from = open_blob(f, in, &size);
			ok = from >= 0;
		} else {
			size = number(in, 4);
			data = take(in, size);
			ok = kind == 'i' && data;
		}
		struct stat st;
		i64 r = ok ? f_stat(o->dir, o->name, &st, AT_NOFOLLOW) : -1;
		o->clean = r == -ENOENT;
		u32 type = r == 0 ? st.mode & S_IFMT : 0;
		if (ok && (o->clean || type == S_IFREG || type == S_IFLNK)) {
			if (type != S_IFREG || !as_it_will_be(o, &st, executable != 0, from, data, size, buf)) {
				o->fd = f_open(o->dir, ".", O_TMPFILE | O_WRONLY, executable ? 0777 : 0666);
				ok = o->fd >= 0;
				if (ok && from >= 0) {
					ok = sys(8 /* lseek */, from, 0, 0, 0, 0) == 0 && copy(o->fd, from, size, buf);
				} else if (ok) {
					ok = write_all(o->fd, data, size);
				}
			}
		} else
			ok = 0; // Go knows what to do, or to say
		if (from >= 0)
			f_close(from);
	}
	f_close(root);
	return ok && !in->bad;
}

static void temp_name(struct front *f, struct output *o, u64 i)
{
	struct timespec t = {0, 0};
	call6(NR_clock_gettime, 1, P(&t), 0, 0, 0, 0);
	u64 salt[4] = {(u64)nanoseconds(&t), P(f) ^ i, (u64)o->fd, (u64)sys(39 /* getpid */, 0, 0, 0, 0, 0)};
	u64 h = sum((u8 *)salt, sizeof salt);
	memcpy(o->temp, ".sbx-", 5);
	char *p = o->temp + 5;
	for (int b = 0; b < 8; b++)
		p = hex(p, h >> 8 * b);
	*p = 0;
}

// commit gives the outputs their names, one after the other, while no signal that
// can be held back ends us.
static int commit(struct front *f, struct delivery *d)
{
	for (u64 i = 0; i < d->n; i++) {
		struct output *o = &d->list[i];
		if (o->fd < 0) {
			struct timespec times[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}};
			if (sys(NR_utimensat, o->dir, P(o->name), P(times), AT_NOFOLLOW, 0) < 0)
				return 0;
			continue;
		}
		char self[40] = "/proc/self/fd/", digits[16];
		u64 n = 0, at = 14;
		for (i64 v = o->fd; n == 0 || v; v /= 10)
			digits[n++] = (char)('0' + v % 10);
		while (n)
			self[at++] = digits[--n];
		self[at] = 0;
		i64 r = -EEXIST;
		if (o->clean)
			r = sys(NR_linkat, AT_FDCWD, P(self), o->dir, P(o->name), AT_FOLLOW);
		if (r == -EEXIST) {
			temp_name(f, o, i);
			r = sys(NR_linkat, AT_FDCWD, P(self), o->dir, P(o->temp), AT_FOLLOW);
			if (r < 0)
				o->temp[0] = 0;
			else if ((r = sys(NR_renameat, o->dir, P(o->temp), o->dir, P(o->name), 0)) == 0)
				o->temp[0] = 0;
		}
		if (r < 0)
			return 0;
		f_close(o->fd);
		o->fd = -1;
	}
	return 1;
}

// ---- What else a hit leaves behind

struct append {
	i64 fd;
	int dated;
	const u8 *data;
	u64 len;
};

// open_appends opens the files that records are appended to. One that is not there,
// or has grown so far that Go has to tidy it, is left to Go.
static int open_appends(struct front *f, struct append list[APPENDS_MAX], u64 *n)
{
	for (u64 count = number(&f->tail, 1); count; count--) {
		char path[PATH_SIZE];
		u64 len = number(&f->tail, 2);
		const u8 *name = take(&f->tail, len);
		u64 most = number(&f->tail, 8);
		int dated = (int)number(&f->tail, 1);
		u64 size = number(&f->tail, 4);
		const u8 *data = take(&f->tail, size);
		struct stat st;
		if (!name || !data || *n == APPENDS_MAX || !join(path, f->store, f->store_len, name, len))
			return 0;
		i64 fd = f_open(AT_FDCWD, path, O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK, 0); // a FIFO would wait
		if (fd < 0)
			return 0;
		list[(*n)++] = (struct append){fd, dated, data, size};
		if (f_fstat(fd, &st) < 0 || (st.mode & S_IFMT) != S_IFREG || (u64)st.size > most)
			return 0;
	}
	return !f->tail.bad;
}

// date puts the time of now into a record of the history, and its checksum: see
// cache/history.go.
static void date(u8 *rec, u64 len)
{
	struct timespec t = {0, 0};
	call6(NR_clock_gettime, 0, P(&t), 0, 0, 0, 0);
	i64 now = nanoseconds(&t);
	__builtin_memcpy(rec + 14, &now, 8);
	u32 crc = ~0u;
	for (u64 i = 4; i < len; i = i == 7 ? 12 : i + 1) {
		crc ^= rec[i];
		for (int b = 0; b < 8; b++)
			crc = crc >> 1 ^ (0xedb88320 & -(crc & 1));
	}
	crc = ~crc;
	__builtin_memcpy(rec + 8, &crc, 4);
}

// finish answers the call: from the first output that has appeared on, there is no
// way back to Go.
static enum reason finish(struct front *f, struct delivery *d)
{
	struct append appends[APPENDS_MAX];
	u64 n = 0;
	u64 out_len = number(&f->tail, 4);
	const u8 *out = take(&f->tail, out_len);
	u64 err_len = number(&f->tail, 4);
	const u8 *err = take(&f->tail, err_len);
	int ready = out && err && open_appends(f, appends, &n);
	u64 all = ~0UL, before = 0;
	if (ready) {
		sys(NR_sigprocmask, 0 /* block */, P(&all), P(&before), 8, 0);
		ready = commit(f, d);
		sys(NR_sigprocmask, 2 /* set */, P(&before), 0, 8, 0);
	}
	if (!ready) {
		for (u64 i = 0; i < n; i++)
			f_close(appends[i].fd);
		return UNABLE;
	}
	int said = write_all(1, out, out_len) && write_all(2, err, err_len);
	for (u64 i = 0; i < n; i++) {
		u8 rec[BLOCK];
		u64 len = appends[i].len;
		if (appends[i].dated && len >= 22 && len <= sizeof rec) {
			memcpy(rec, appends[i].data, len);
			date(rec, len);
			f_write(appends[i].fd, rec, len); // lost where the disk is full
		} else
			f_write(appends[i].fd, appends[i].data, len);
	}
	if (!said) {
		static const char text[] = "sbx-action: the command's output could not be passed on\n";
		f_write(2, text, sizeof text - 1);
	}
	call6(NR_exit_group, said ? 0 : 125, 0, 0, 0, 0, 0);
	return UNABLE;
}

// answer is apart from its caller so that its large frame is there only where there
// is a memo.
__attribute__((noinline)) static enum reason answer(struct front *f)
{
	struct delivery d;
	u8 buf[BLOCK];
	d.n = d.n_dirs = d.names_len = 0;
	enum reason why = UNABLE;
	// A limit of the size of files ends no program that was not asked to write so much.
	u64 too_large = 1UL << (SIGXFSZ - 1), before = 0;
	sys(NR_sigprocmask, 0 /* block */, P(&too_large), P(&before), 8, 0);
	if (prepare(f, &d, buf))
		why = finish(f, &d);
	undo(&d);
	if (!(before & too_large)) {
		struct timespec at_once = {0, 0};
		call6(NR_sigtimedwait, P(&too_large), 0, P(&at_once), 8, 0, 0);
		sys(NR_sigprocmask, 2 /* set */, P(&before), 0, 8, 0);
	}
	return why;
}

__attribute__((noinline)) static enum reason try(struct front *f)
{
	u8 key[KEY_MAX], *memo = 0;
	u64 size = 0, key_len = key_of(f, key);
	if (!key_len)
		return NOT_OURS;
	struct stat self;
	enum reason why = load(f, key, key_len, &memo, &size, &self);
	if (!why)
		why = holds(f, &self);
	if (!why)
		why = answer(f);
	if (memo)
		call6(NR_munmap, P(memo), P(size), 0, 0, 0, 0);
	return why;
}

#include "warm.c"

// sbx_front_main is called with what the kernel put on the stack: the number of
// arguments, the arguments, a 0, the environment, a 0.
enum reason sbx_front_main(i64 *stack)
{
	struct front f;
	f.argc = (u64)stack[0];
	f.argv = (char **)(stack + 1);
	f.env = f.argv + f.argc + 1;
	if (!ours(&f))
		return NOT_OURS;
	// Go opens /dev/null in the place of standard descriptors that are closed; what
	// we open would get their numbers. And we need some stack.
	for (i64 fd = 0; fd < 3; fd++)
		if (sys(NR_fcntl, fd, 1 /* F_GETFD */, 0, 0, 0) < 0)
			return NOT_OURS;
	u64 stack_limit[2];
	if (sys(NR_getrlimit, 3, P(stack_limit), 0, 0, 0) < 0 || stack_limit[0] < STACK_MIN)
		return NOT_OURS;
	i64 n = sys(NR_getcwd, P(f.cwd), PATH_SIZE, 0, 0, 0);
	if (n <= 0 || f.cwd[0] != '/' || !find_store(&f))
		return NOT_OURS;
	struct timespec t = {0, 0};
	call6(NR_clock_gettime, 0, P(&t), 0, 0, 0, 0);
	f.now = t.sec;
	enum reason why = try(&f);
	if (why != NOT_OURS)
		warm(&f, why);
	return why;
}
