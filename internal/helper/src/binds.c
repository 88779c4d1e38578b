// What is shown in a root besides its layers: files and directories of the host, and
// empty ones in memory.
#include "mounts.h"

// bind_over shows a directory of the host below a fresh one that takes what the
// command writes: number n of /over, which is of this sandbox alone.
static void bind_over(struct sandbox *s, s32 root, const char *source, const char *target, u32 n)
{
	char name[48], upper[32], work[32];
	const struct {
		char *buf;
		const char *prefix;
	} names[] = {{upper, "/over/"}, {work, "/over/work"}};
	for (u32 i = 0; i < 2; i++) {
		struct text t = text_in(names[i].buf, sizeof upper);
		put(&t, names[i].prefix);
		put_number(&t, n);
	}
	if (!s->over) {
		char options[160];
		struct text t = text_in(options, sizeof options);
		put(&t, SCRATCH_OPTIONS);
		if (in_memory(s))
			put_size(&t, in_memory(s), 0);
		must(s, "mount", "/over", mount("tmpfs", "/over", MS_NOSUID | MS_NODEV, options));
		// The directories are all that is ever seen of it: see keep_root.
		long fd = SYS(openat, AT_FDCWD, "/over", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		must(s, "open", "/over", fd);
		s->over = (s32)fd;
	}
	s32 from = (s32)try_host_path(s, source, O_DIRECTORY);
	must(s, "open", source, from);
	struct statx st;
	must(s, "look at", source, SYS(statx, from, "", AT_EMPTY_PATH, STATX_MTIME | STATX_MODE, &st));
	make_dir(s, upper);
	make_dir(s, work);
	own(s, upper);
	must(s, "open up", upper, SYS(fchmodat, AT_FDCWD, upper, (st.mode & 07777) | 0700));
	struct timespec times[2] = {{st.mtime.sec, st.mtime.nsec}, {st.mtime.sec, st.mtime.nsec}};
	SYS(utimensat, AT_FDCWD, upper, times, 0);
	struct new_fs f = fs_open(s, "overlay");
	// What is looked at in /proc costs once more when our process ends. In a sandbox our
	// directory means nothing until the root is built.
	int here = !*s->place && SYS(fchdir, from) >= 0;
	fs_set(&f, "lowerdir+", here ? "." : proc_name(s, name, from));
	fs_set(&f, "upperdir", upper);
	fs_set(&f, "workdir", work);
	if (s->slot->unprivileged)
		fs_set(&f, "userxattr", 0);
	s32 m = fs_mount(&f, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
	mount_in(s, m, "", root, target, 1);
	SYS(close, m);
	SYS(close, from);
}

// protect_tree makes what is bound as a command may see it.
void protect_tree(struct sandbox *s, const char *source, s32 tree, int writable, u64 propagation)
{
	struct mount_attr attr = {
		.attr_set = (writable ? 0 : MOUNT_ATTR_RDONLY) | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
		.propagation = propagation,
	};
	must(s, "protect", source, SYS_COOKIE(mount_setattr, tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof attr));
}

// bind_tree is bind_in, and returns a descriptor of the mount. Of propagation, MS_SLAVE
// has it follow what is unmounted on the host.
s32 bind_tree(struct sandbox *s, s32 root, const char *source, const char *target, int writable, u64 propagation)
{
	int directory = 1;
	long from = try_host_path(s, source, O_DIRECTORY);
	if (from == -ENOTDIR) {
		directory = 0;
		from = try_host_path(s, source, 0);
	}
	must(s, "open", source, from);
	// Recursive, as a user namespace may not see what lies below a mount.
	long tree = SYS_COOKIE(open_tree, from, "", OPEN_TREE_CLONE | O_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE);
	must(s, "clone", source, tree);
	protect_tree(s, source, (s32)tree, writable, propagation);
	mount_in(s, (s32)tree, "", root, target, directory);
	SYS(close, from);
	return (s32)tree;
}

void bind_in(struct sandbox *s, s32 root, const char *source, const char *target, int writable)
{
	SYS(close, bind_tree(s, root, source, target, writable, MS_PRIVATE));
}

// tmpfs_in mounts an empty directory in memory at target.
static void tmpfs_in(struct sandbox *s, s32 root, const char *target)
{
	struct new_fs f = fs_open(s, "tmpfs");
	fs_set(&f, "mode", "1777");
	fs_set_size(&f);
	s32 m = fs_mount(&f, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
	mount_in(s, m, "", root, target, 1);
	SYS(close, m);
}

// except_in makes target, which must be there, a mount of its own, so that it
// stays as it is when the root becomes read-only.
static void except_in(struct sandbox *s, s32 root, const char *target)
{
	long at = open_in(root, target);
	must(s, "open", target, at);
	long tree = SYS_COOKIE(open_tree, at, "", OPEN_TREE_CLONE | O_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE);
	must(s, "clone", target, tree);
	must(s, "keep writable", target, SYS_COOKIE(move_mount, tree, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH));
	SYS(close, tree);
	SYS(close, at);
}

int has_over(struct sandbox *s)
{
	const char *source = s->binds;
	for (u32 i = 0; i < s->req->nbinds; i++, source = next_string(next_string(source)))
		if (*source == '+')
			return 1;
	return 0;
}

void bind_all(struct sandbox *s, s32 root)
{
	const char *p = s->binds;
	for (u32 i = 0; i < s->req->nbinds; i++) {
		const char *source = p, *target = next_string(source);
		switch (*source) {
		case '+':
			bind_over(s, root, source + 1, target, i);
			break;
		case '=':
			bind_in(s, root, source + 1, target, 1);
			break;
		case '%':
			tmpfs_in(s, root, target);
			break;
		case '!':
			except_in(s, root, target);
			break;
		default:
			bind_in(s, root, source, target, 0);
		}
		p = next_string(target);
	}
}

// alias_in shows the directory source of the root at the alias of a varied
// command, too.
void alias_in(struct sandbox *s, s32 root, const char *source)
{
	long tree = SYS_COOKIE(open_tree, root, source, OPEN_TREE_CLONE | O_CLOEXEC);
	must(s, "clone", source, tree);
	mount_in(s, (s32)tree, "", root, s->alias, 1);
	SYS(close, tree);
}
