// Where the paths that a command names lead: what of them it cannot change, so that they
// mean what they say, and all else followed part by part.
#include "observe.h"

enum { LINKS_MAX = 40 }; // what the kernel follows, too

// below says whether path is dir or below it.
int below(const char *path, const char *dir)
{
	while (*dir && *path == *dir)
		path++, dir++;
	return !*dir && (!*path || *path == '/');
}

// next_fixed finds the next bind that the command can neither change nor move
// away: one directly below the root, and read-only. For deeper ones it could have
// replaced a directory on the way. *i and *at are 0 in the beginning; behind the
// last it returns 0.
static const char *next_fixed(struct observer *o, u32 *i, const char **at)
{
	while ((*i)++ < o->s->req->nbinds) {
		const char *source = *at ? next_string(*at) : o->s->binds;
		*at = next_string(source);
		int slashes = 0;
		for (const char *p = *at; *p; p++)
			slashes += *p == '/';
		if (slashes == 1 && *source == '/')
			return *at;
	}
	return 0;
}

// near_writable says whether the command can change something of a mount that path
// is in, or that is below path: all but plain binds have a sign before their source.
static int near_writable(struct observer *o, const char *path)
{
	const char *source = o->s->binds;
	for (u32 i = 0; i < o->s->req->nbinds; i++) {
		const char *target = next_string(source);
		if (*source != '/' && (below(path, target) || below(target, path)))
			return 1;
		source = next_string(target);
	}
	return 0;
}

// know_places remembers what fixed is asked for thousands of times.
void know_places(struct observer *o)
{
	u32 nfixed = 0, nquiet = 0;
	const char *at = 0, *place;
	for (u32 i = 0; (place = next_fixed(o, &i, &at));) {
		if (!near_writable(o, place) && nquiet < FIXED_MAX)
			o->quiet[nquiet++] = place;
		else if (nfixed < FIXED_MAX)
			o->fixed[nfixed++] = place;
		else
			o->fixed_more = 1;
	}
}

// fixed says that path, textually, lies below a bind that next_fixed finds.
int fixed(struct observer *o, const char *path)
{
	for (const char *p = path; *p; p++)
		if (p[0] == '/' && p[1] == '.' && p[2] == '.' && (!p[3] || p[3] == '/'))
			return 0;
	for (const char **p = o->quiet; *p; p++)
		if (below(path, *p))
			return 1;
	for (const char **p = o->fixed; *p; p++)
		if (below(path, *p))
			return !near_writable(o, path);
	const char *at = 0;
	for (u32 i = 0; o->fixed_more && next_fixed(o, &i, &at);)
		if (below(path, at))
			return !near_writable(o, path);
	return 0;
}

// know_links remembers where the usual links of a root directory lead, as long as that
// is a place that nobody can change.
void know_links(struct observer *o)
{
	static const char *const usual[] = {"/lib", "/lib64", "/bin", "/sbin"};
	u32 n = 0;
	for (u32 i = 0; i < sizeof usual / sizeof *usual; i++) {
		char *target = o->link_targets[n];
		long got = SYS(readlinkat, AT_FDCWD, usual[i], target + 1, sizeof *o->link_targets - 2);
		if (got <= 0 || got >= (long)sizeof *o->link_targets - 2)
			continue;
		target[0] = '/';
		target[got + 1] = 0;
		if (target[1] == '/')
			continue; // it is absolute, which is unusual
		for (const char **p = o->quiet; *p; p++)
			if (below(target, *p) && fixed(o, target)) {
				o->links[n++] = usual[i];
				break;
			}
	}
}

// leads returns where the path leads, if it does so through one of the links, and in
// *from how much of it is to be replaced by that; and otherwise 0.
const char *leads(struct observer *o, const char *path, u32 *from)
{
	for (u32 i = 0; o->links[i]; i++)
		if (below(path, o->links[i])) {
			*from = (u32)strlen(o->links[i]);
			return o->link_targets[i];
		}
	return 0;
}

// note_moved notices that one of the links is made or removed by the call at hand.
void note_moved(struct observer *o, const char *path)
{
	for (const char **p = o->links; o->changes && *p; p++)
		o->links_moved |= str_equal(path, *p);
}

// tidy removes empty and "." parts in the middle, which mean nothing.
void tidy(char *path)
{
	char *from = path;
	while (*from && (from[0] != '/' || (from[1] != '/' && from[1] != '.')))
		from++;
	char *to = from;
	while (*from) {
		if (from[0] == '/' && from[1] == '/')
			from++;
		else if (from[0] == '/' && from[1] == '.' && from[2] == '/')
			from += 2;
		else
			*to++ = *from++;
	}
	*to = 0;
}

// pop removes the last part of path.
static void pop(char *path)
{
	size_t n = strlen(path);
	while (n > 0 && path[--n] != '/')
		;
	path[n] = 0;
}

// join puts three texts one behind the other into buf, which has LONG_PATH bytes and a few
// more; it returns 0 if they do not fit.
int join(char *buf, const char *a, const char *b, const char *c)
{
	if (strlen(a) + strlen(b) + strlen(c) + 1 > LONG_PATH)
		return 0;
	struct text t = text_in(buf, LONG_PATH + 8);
	put(&t, a);
	put(&t, b);
	put(&t, c);
	return 1;
}

// step takes the next part of *rest, and goes there in o->real. It returns where in
// o->real the part begins, or 0 if it leads to no other place, by "." or "..", or there is
// none.
static char *step(struct observer *o, char **rest)
{
	while (**rest == '/')
		++*rest;
	const char *part = *rest;
	size_t n = 0;
	while (part[n] && part[n] != '/')
		n++;
	*rest += n;
	if (n == 0 || (n == 1 && part[0] == '.'))
		return 0;
	if (n == 2 && part[0] == '.' && part[1] == '.') {
		pop(o->real);
		return 0;
	}
	char *at = o->real + strlen(o->real);
	if (at + n + 2 > o->real + LONG_PATH) {
		o->complete = 0;
		**rest = 0;
		return 0;
	}
	*at = '/';
	memcpy(at + 1, part, n);
	at[n + 1] = 0;
	return at;
}

// follow walks name part by part, as the kernel does, into o->real: up to its
// end, or to the first thing missing, or into a bind.
void follow(struct observer *o, const char *name, int last_too)
{
	char link[PATH_MAX];
	int links = 0;
	o->real[0] = 0;
	join(o->rest, name, "", "");
	char *rest = o->rest;
	while (*rest) {
		char *at = step(o, &rest);
		if (!at)
			continue;
		int end = 1; // is this the last part?
		for (char *p = rest; *p; p++)
			end &= *p == '/';
		if (below(o->real, "/proc")) { // "self" there is not who looks, but us
			o->complete = 0;
			return;
		}
		if (fixed(o, o->real)) {
			if (!join(o->next, o->real, rest, ""))
				o->complete = 0;
			else
				join(o->real, o->next, "", "");
			return;
		}
		if (end && !*rest && !last_too)
			continue;
		long got = SYS(readlinkat, AT_FDCWD, o->real, link, sizeof link - 1);
		if (got == -ENAMETOOLONG || got == -EACCES)
			o->complete = 0;
		if (got < 0)
			continue; // not a link, or not there: the rest is as it is
		link[got] = 0;
		if (++links > LINKS_MAX || !join(o->next, link, rest, ""))
			return; // the kernel gave up, too
		*at = 0;
		if (link[0] == '/')
			o->real[0] = 0;
		join(o->rest, o->next, "", "");
		rest = o->rest;
	}
	if (!o->real[0])
		join(o->real, "/", "", "");
}

// own_proc turns /proc/self and what leads there into /proc/TID: in o->next.
int own_proc(struct observer *o, const char *path)
{
	static const char *const selves[] = {"/proc/self", "/proc/thread-self"};
	char tid[32];
	struct text t = text_in(tid, sizeof tid);
	put(&t, "/proc/");
	put_number(&t, o->tid);
	for (u32 i = 0; i < 2; i++)
		if (below(path, selves[i]))
			return join(o->next, tid, path + strlen(selves[i]), "");
	if (below(path, "/dev/fd"))
		return join(o->next, tid, "/fd", path + 7);
	return has_prefix(path, "/proc/") && path[6] >= '1' && path[6] <= '9' && join(o->next, path, "", "");
}

// magic_end returns what is behind the link of /proc in path, or 0 where there
// is none: cwd, root, exe, fd/N.
static const char *magic_end(const char *path)
{
	const char *p = path + 6;
	while (*p && *p != '/')
		p++;
	if (!*p++)
		return 0;
	int fd = has_prefix(p, "fd/");
	if (fd)
		p += 3;
	else if (!below(p, "cwd") && !below(p, "root") && !below(p, "exe"))
		return 0;
	while (*p && *p != '/')
		p++;
	return p;
}

// deep_magic says whether path, below /proc/TID, goes through a link that
// magic_end does not know: that of a thread, or of a mapped file.
static int deep_magic(const char *path)
{
	const char *p = path + 6;
	while (*p && *p != '/')
		p++;
	if (has_prefix(p, "/map_files/"))
		return 1;
	if (!has_prefix(p, "/task/"))
		return 0;
	p += 6;
	while (*p && *p != '/')
		p++;
	if (!*p++)
		return 0;
	return below(p, "cwd") || below(p, "root") || below(p, "exe") || has_prefix(p, "fd/");
}

// note_magic writes down where a link of /proc leads, which text cannot tell.
void note_magic(struct observer *o, u8 op, int follow_last)
{
	char self[48], link[PATH_MAX], prefix[64];
	const char *end;
	if (!own_proc(o, o->name))
		return;
	if (deep_magic(o->next))
		o->complete = 0;
	if (!(end = magic_end(o->next)))
		return;
	size_t len = (size_t)(end - o->next);
	if ((!*end && !follow_last) || len >= sizeof prefix)
		return;
	memcpy(prefix, o->next, len);
	prefix[len] = 0;
	long fd = SYS(openat, AT_FDCWD, prefix, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return;
	struct text t = text_in(self, sizeof self);
	put(&t, "self/fd/");
	put_number(&t, (u64)fd);
	long n = SYS(readlinkat, o->proc, self, link, sizeof link - 1);
	SYS(close, fd);
	if (n <= 0 || link[0] != '/')
		return; // a pipe or so
	link[n] = 0;
	if (below(link, "/proc") || !join(o->name, link, end, ""))
		return;
	note(o, op, 0, o->name);
	if (!fixed(o, o->name)) {
		follow(o, o->name, follow_last);
		if (!str_equal(o->real, o->name))
			note(o, op, 0, o->real);
	}
}
