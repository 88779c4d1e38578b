// What else a hit does: what the command said, statistics, history.

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

// deaf says whether nobody reads any more what is written to fd.
static int deaf(int fd)
{
	struct { int fd; short events, seen; } end = {fd, 0, 0};
	return sys(NR_poll, P(&end), 1, 0, 0, 0) == 1 && end.seen & 8 /* POLLERR */;
}

// say passes on what the command said, and returns no if nothing of it has arrived: then
// Go, which can execute a compiler, does all of this once more. Where only a part could
// be written, into a file on a disk that is full, that is written over. No output is
// written twice because the warnings behind it are lost.
static int say(const u8 *out, u64 out_len, const u8 *err, u64 err_len)
{
	i64 fd = 1;
	u64 said = write_some(1, out, out_len);
	if (said == out_len) {
		fd = 2;
		said = write_some(2, err, err_len);
		if (said == err_len || out_len)
			return 1;
	}
	if (said)
		sys(NR_lseek, fd, -(i64)said, 1 /* from where we are */, 0, 0);
	return 0;
}

// finish answers the call: when what the command said has been written, there is no way
// back to Go.
static enum reason finish(struct front *f, struct delivery *d)
{
	struct append appends[APPENDS_MAX];
	u64 n = 0;
	u64 out_len = number(&f->tail, 4);
	const u8 *out = take(&f->tail, out_len);
	u64 err_len = number(&f->tail, 4);
	const u8 *err = take(&f->tail, err_len);
	int ready = out && err && !(out_len && deaf(1)) && !(err_len && deaf(2)) && open_appends(f, appends, &n);
	u64 all = ~0UL, before = 0;
	if (ready) {
		sys(NR_sigprocmask, 0 /* block */, P(&all), P(&before), 8, 0);
		ready = commit(f, d);
		sys(NR_sigprocmask, 2 /* set */, P(&before), 0, 8, 0);
	}
	if (!ready || !say(out, out_len, err, err_len)) {
		for (u64 i = 0; i < n; i++)
			f_close(appends[i].fd);
		return UNABLE;
	}
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
	call6(NR_exit_group, 0, 0, 0, 0, 0, 0);
	return UNABLE;
}
