// Puts the outputs into their places, as staging.Deliver does: all of them are written
// beside their places first, as files without a name, and then get their names.

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

// write_some returns how much of n bytes could be written.
static u64 write_some(i64 fd, const u8 *p, u64 n)
{
	u64 left = n;
	while (left) {
		i64 r = f_write(fd, p, left);
		if (r == -EAGAIN) { // somebody made the pipe one that does not wait
			struct { int fd; short events, seen; } wait = {(int)fd, 4, 0};
			sys(NR_poll, P(&wait), 1, -1, 0, 0);
			continue;
		}
		if (r <= 0)
			break;
		p += r, left -= (u64)r;
	}
	return n - left;
}

static int write_all(i64 fd, const u8 *p, u64 n) { return write_some(fd, p, n) == n; }

// count reads size bytes of the file from, and adds them to t.
static int count(i64 from, u64 size, u8 *buf, struct tally *t)
{
	for (u64 n; size; size -= n) {
		n = size < PIECE ? size : PIECE;
		if (!read_all(from, buf, n))
			return 0;
		tally(t, buf, n);
	}
	return 1;
}

// copy writes size bytes of the file from, from its start, to the new file to, and adds
// them to t.
static int copy(i64 to, i64 from, u64 size, u8 *buf, struct tally *t)
{
	struct stat st;
	if (size > BLOCK && sys(NR_ioctl, to, FICLONE, from, 0, 0) == 0)
		return f_fstat(to, &st) == 0 && (u64)st.size == size && count(from, size, buf, t);
	for (u64 n; size; size -= n) {
		n = size < PIECE ? size : PIECE;
		if (!read_all(from, buf, n) || !write_all(to, buf, n))
			return 0;
		tally(t, buf, n);
	}
	return 1;
}

// Content is what an output will have: bytes that are at hand, or a file of the store.
struct content {
	const u8 *data;
	i64 from; // or -1
	u64 size, want; // want: the tally of what is in from
};

// equal says whether the file fd has the content. The bytes of the store are added to t.
static int equal(i64 fd, const struct content *c, u8 *buf, struct tally *t)
{
	u8 other[8192];
	for (u64 at = 0; at < c->size;) {
		u64 n = c->size - at < sizeof other ? c->size - at : sizeof other;
		if (!read_all(fd, other, n) || (c->from >= 0 && !read_all(c->from, buf, n)) || !same(other, c->from >= 0 ? buf : c->data + at, n))
			return 0;
		if (c->from >= 0)
			tally(t, buf, n);
		at += n;
	}
	return 1;
}

// as_it_will_be says whether the file in the place of an output has its content,
// and may be given a new time, as deliverer.same does in Go.
static int as_it_will_be(struct output *o, const struct stat *st, int executable, const struct content *c, u8 *buf, struct tally *t)
{
	if ((u64)st->size != c->size || st->nlink != 1 || ((st->mode & 0111) != 0) != executable)
		return 0;
	if (sys(NR_faccessat2, o->dir, P(o->name), 2, 0x200, 0) != 0) // by effective ids
		return 0;
	i64 fd = f_open(o->dir, o->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	if (fd < 0)
		return 0;
	int ok = equal(fd, c, buf, t);
	f_close(fd);
	return ok;
}

// is_usual says whether the file in the place of an output has the owner and the
// permissions that a new one would have. Compilers remove some of their outputs, and
// write into others: of one that is usual nobody can tell.
static int is_usual(struct front *f, const struct stat *st, int executable)
{
	u32 mask = (u32)sys(NR_umask, 077, 0, 0, 0, 0);
	sys(NR_umask, mask, 0, 0, 0, 0);
	return (st->mode & 07777) == ((executable ? 0777u : 0666u) & ~mask) && st->uid == f->uid &&
	       st->gid == (u32)sys(NR_getegid, 0, 0, 0, 0, 0);
}

// open_blob opens a file of the store, whose stat data must be what it was. want is what
// the tally of its bytes must be.
static i64 open_blob(struct front *f, struct in *in, u64 *size, u64 *want)
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
	if (f_fstat(fd, &st) < 0 || !is_file(f, in, &st) || !used(f, path, &st)) {
		f_close(fd);
		return -1;
	}
	*size = (u64)st.size;
	*want = number(in, 8);
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

static int read_content(struct front *f, u64 kind, struct content *c)
{
	*c = (struct content){.from = -1};
	if (kind == 'b') {
		c->from = open_blob(f, &f->outputs, &c->size, &c->want);
		return c->from >= 0;
	}
	c->size = number(&f->outputs, 4);
	c->data = take(&f->outputs, c->size);
	return kind == 'i' && c->data;
}

// write_beside writes a file without a name beside the place of the output.
static int write_beside(struct output *o, const struct content *c, int executable, u8 *buf, struct tally *t)
{
	o->fd = f_open(o->dir, ".", O_TMPFILE | O_WRONLY, executable ? 0777 : 0666);
	if (o->fd < 0)
		return 0;
	if (c->from >= 0)
		return sys(NR_lseek, c->from, 0, 0, 0, 0) == 0 && copy(o->fd, c->from, c->size, buf, t);
	return write_all(o->fd, c->data, c->size);
}

// prepare_one writes the output beside its place, or finds it there. It says no where Go
// knows what to do, or to say.
static int prepare_one(struct front *f, struct output *o, const struct content *c, int executable, u8 *buf)
{
	struct stat st;
	i64 r = f_stat(o->dir, o->name, &st, AT_NOFOLLOW);
	o->clean = r == -ENOENT;
	u32 type = r == 0 ? st.mode & S_IFMT : 0;
	if (!o->clean && !(type == S_IFREG && st.nlink == 1 && is_usual(f, &st, executable)))
		return 0;
	struct tally t;
	tally_begin(&t);
	if (o->clean || !as_it_will_be(o, &st, executable, c, buf, &t)) {
		tally_begin(&t);
		if (!write_beside(o, c, executable, buf, &t))
			return 0;
	}
	return c->from < 0 || tally_end(&t) == c->want;
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
		u64 kind = number(in, 1), executable = number(in, 1);
		len = number(in, 2);
		p = take(in, len);
		ok = p && d->n < OUTPUTS_MAX;
		if (!ok)
			break;
		struct output *o = &d->list[d->n++];
		struct content c;
		o->fd = -1, o->clean = 0, o->temp[0] = 0;
		ok = place(d, o, root, p, len, &last, &last_path);
		if (!ok)
			break;
		ok = read_content(f, kind, &c) && prepare_one(f, o, &c, executable != 0, buf);
		if (c.from >= 0)
			f_close(c.from);
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
