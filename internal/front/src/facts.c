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
		if (kind != 't' && !is_file(f, in, &st))
			return in->bad ? BAD_MEMO : STALE;
		if (kind != 'k' && !used(f, path, &st))
			return STALE;
	}
	return 0;
}
