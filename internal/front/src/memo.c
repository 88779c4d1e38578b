// Finds the memo of a call, and takes it apart. Its format is in memo_linux.go.

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
static int is_file(struct front *f, struct in *in, const struct stat *st)
{
	if (st->uid != f->uid && st->uid) // whoever owns it can write to it and set its times
		return 0;
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
	if (!same(buf, "sbN1", 4) || !same(take(&in, 8), "sbxmemo2", 8))
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
	if (f_fstat(fd, &st) < 0 || (st.mode & S_IFMT) != S_IFREG || st.uid != f->uid || st.mode & 022 ||
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
