// Checks that everything holds that the memo depends on. The kinds of facts are in
// memo_linux.go.

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

// directory says whether what was found is a directory with the permissions that follow.
static int directory(struct in *in, i64 r, const struct stat *st)
{
	return (st->mode & 07777) == number(in, 4) && !r && (st->mode & S_IFMT) == S_IFDIR;
}

// like says whether what was found has the mode that follows, and a regular file the size.
static int like(struct in *in, i64 r, const struct stat *st)
{
	u64 mode = number(in, 4), size = number(in, 8);
	return !r && mode == st->mode && ((mode & S_IFMT) != S_IFREG || size == (u64)st->size);
}

// lacks says whether the directory has none of the names that follow: it is unchanged, or
// else that is looked up.
static int lacks(struct in *in, i64 r, const struct stat *st, char path[PATH_SIZE], u64 len)
{
	int unchanged = is(in, st) && !r;
	return none(path, len, part(in, number(in, 4)), unchanged);
}

static int elsewhere(i64 r, const struct stat *st)
{
	struct stat here;
	return f_stat(AT_FDCWD, ".", &here, 0) == 0 && (r || st->dev != here.dev || st->ino != here.ino);
}

// fact_holds checks one fact about the path, whose kind has been read.
static int fact_holds(struct in *in, u8 kind, char path[PATH_SIZE], u64 len, const struct stat *self)
{
	if (kind == 'a') // nothing
		return absent(path);
	if (kind == 'n') // without these names
		return none(path, len, part(in, number(in, 4)), 0);
	struct stat st;
	i64 r = f_stat(AT_FDCWD, path, &st, kind == 's' || kind == 'w' ? 0 : AT_NOFOLLOW);
	switch (kind) {
	case 'i': // a file, a link or a list of names, unchanged
		return is(in, &st) && !r;
	case 'd': // a directory with these permissions
		return directory(in, r, &st);
	case 'm': // neither read nor followed: its mode, and the size of a regular file
		return like(in, r, &st);
	case 'p': // a directory with these permissions, and what 'g' says
		return directory(in, r, &st) && lacks(in, r, &st, path, len);
	case 'g': // a directory without these names
		return lacks(in, r, &st, path, len);
	case 'e': // something
		return !r;
	case 'o': // nothing, or a regular file
		return r == -ENOENT || r == -ENOTDIR || (!r && (st.mode & S_IFMT) == S_IFREG);
	case 's': // this program, or not
		return (!r && st.dev == self->dev && st.ino == self->ino) == number(in, 1);
	case 'w': // not the directory that we are in
		return elsewhere(r, &st);
	}
	in->bad = 1;
	return 0;
}

// records_hold checks files of the store.
static enum reason records_hold(struct front *f, char path[PATH_SIZE])
{
	for (struct in *in = &f->records; in->left;) {
		u8 kind = (u8)number(in, 1);
		u64 len = number(in, 2);
		const u8 *name = take(in, len);
		struct stat st;
		if (!name || !join(path, f->store, f->store_len, name, len))
			return BAD_MEMO;
		if (f_stat(AT_FDCWD, path, &st, AT_NOFOLLOW) < 0)
			return STALE;
		if (kind != 't' && !is_file(f, in, &st))
			return in->bad ? BAD_MEMO : STALE;
		if (kind != 'k' && !used(f, path, &st))
			return STALE;
	}
	return 0;
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
		int ok = fact_holds(in, kind, path, last, self);
		if (in->bad)
			return BAD_MEMO;
		if (!ok)
			return STALE;
	}
	return records_hold(f, path);
}
