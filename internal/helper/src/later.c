// Look-ups that are followed later.
//
// What a relative path names, or one below a directory in which the command may write,
// depends on where the process is, and on links that the command may make. So a scribe
// would have to ask about each of them, and of a compiler's look-ups these are the ones
// of its sources: half of all questions. But hardly any command moves to another
// directory, or makes, moves or removes a link or a directory that is on the way; and
// who does that asks before it does. Until then the scribe writes down what was named,
// as it was named, and we follow it when the command has ended, or is about to do
// such a thing: by then nothing is other than it was when it was looked up.
#include "calls.h"
#include "scribe.h"

void know_dir(struct observer *o, s32 fd)
{
	char name[48];
	struct text t = text_in(name, sizeof name);
	put(&t, "self/fd/");
	put_number(&t, (u64)fd);
	long n = -1;
	// What is looked at in /proc costs once more when our process ends.
	if (!o->s->fence && SYS(fchdir, fd) >= 0) {
		n = SYS(getcwd, o->dir, sizeof o->dir) - 1;
		SYS(chdir, "/");
	}
	if (n < 0)
		n = SYS(readlinkat, o->proc, name, o->dir, sizeof o->dir - 1);
	// In the root directory itself a command can make what others lead through.
	if (n <= 1 || n >= (long)sizeof o->dir - 1 || o->dir[0] != '/' || below(o->dir, "/proc") || (below(o->dir, "/dev") && !below(o->dir, "/dev/shm")))
		n = 0;
	o->dir[n] = 0;
	o->still = n > 0;
}

// stirs says whether a call with this second argument may make what was named lead
// elsewhere. What unlink removes matters only if it is a link: see stir_removed.
static int stirs(const struct path_call *c, u64 flags)
{
	switch (c->amd64) {
	case 80: case 81: // chdir, fchdir
	case 84: // rmdir
	case 88: case 266: // symlink
		return 1;
	case 263: // unlinkat
		return !!(flags & AT_REMOVEDIR);
	}
	return c->op == OP_MOVE;
}

static void stir(struct observer *o)
{
	o->still = 0;
	scribe_follow(o);
}

void stir_before(struct observer *o, const struct path_call *c, const u64 *args)
{
	if (o->still && stirs(c, args[2]))
		stir(o);
}

void stir_removed(struct observer *o, const struct path_call *c)
{
	char link[1];
	if (!o->still || (c->amd64 != 87 && c->amd64 != 263))
		return;
	long err = SYS(readlinkat, AT_FDCWD, o->name, link, sizeof link);
	if (err != -EINVAL && err != -ENOENT)
		stir(o);
}

#if defined __x86_64__

// in_dir says whether o->name is a name in the command's directory, and no link. Then it
// leads nowhere else, as o->dir is what the kernel says.
static int in_dir(struct observer *o, int follow_last)
{
	char link[1];
	size_t n = strlen(o->dir);
	if (!below(o->name, o->dir) || !o->name[n])
		return 0;
	const char *rest = o->name + n + 1;
	if (!*rest || str_equal(rest, ".") || str_equal(rest, ".."))
		return 0;
	for (const char *p = rest; *p; p++)
		if (*p == '/')
			return 0;
	if (!follow_last)
		return 1;
	long err = SYS(readlinkat, AT_FDCWD, o->name, link, sizeof link);
	return err == -EINVAL || err == -ENOENT;
}

// follow_one looks up n bytes of path, which are not believed: see scribe.h.
static void follow_one(struct observer *o, u8 op, u8 how, const char *path, size_t n, int follow_last)
{
	struct text t = text_in(o->name, LONGEST + sizeof o->dir + 2);
	if (path[0] != '/') {
		put(&t, o->dir);
		put(&t, "/");
	}
	memcpy(t.at, path, n);
	t.at[n] = 0;
	tidy(o->name);
	if (!o->dir[0] || below(o->name, "/proc") || below(o->name, "/dev/fd")) {
		o->complete = 0; // no scribe has written that
		return;
	}
	o->changes = how & LOOKUP_MADE;
	if (in_dir(o, follow_last))
		note(o, op, how, o->name);
	else
		look_path(o, op, how, follow_last);
}

void follow_entry(struct observer *o, u8 op, u8 how, const char *path, size_t n)
{
	s64 result = o->result;
	o->result = -ENOENT; // where nothing is known to be there, nothing was
	if (how & LATER_FOLLOW)
		follow_one(o, op, how & (LOOKUP_FOUND | LOOKUP_MADE), path, n, 1);
	if (how & LATER_NO_FOLLOW)
		follow_one(o, op, how & LATER_MADE ? LOOKUP_MADE : 0, path, n, 0);
	o->result = result;
}

#endif
