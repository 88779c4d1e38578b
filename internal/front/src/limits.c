// What is done where Go could not start: limits of resources that a compiler can do
// with, and Go's runtime, which would end with a page of its own state, cannot. Then a
// compiler is executed, as by "cc --disable", and everything else says which limit it is.
//
// The bounds were found by trial, on amd64, with a miss of cc: 8 descriptors, 75 MiB
// of data, and between 0.6 and 1.3 GiB of address space, of which Go reserves more the
// more there is. There is room in them, such as for a second arena of 64 MiB.
enum {
	LEAST_SPACE = 1536 << 20, // bytes
	LEAST_DATA = 192 << 20,   // bytes
	LEAST_FILES = 32,
	LEAST_TASKS = 24,    // processes and threads that the user can have more than now
	TASKS_PLENTY = 2048, // a limit from which on nobody counts
	EXIT_OURS = 125,
};

// A bound is a limit and the least that it has to be.
struct bound {
	int resource;
	char option; // of ulimit
	u64 least, unit;
};

// tasks_left says whether the user can have as many processes more as Go has threads:
// it makes them. Each ends at once, touches nothing, and counts until it is waited for.
static int tasks_left(void)
{
	int pids[LEAST_TASKS], n = 0;
	for (; n < LEAST_TASKS; n++) {
		i64 r = NR_clone;
		register i64 r10 __asm__("r10") = 0, r8 __asm__("r8") = 0;
		__asm__ volatile("syscall\n\t"
				 "test %%rax, %%rax\n\t"
				 "jnz 1f\n\t"
				 "xor %%edi, %%edi\n\t"
				 "mov $60, %%eax\n\t" // exit
				 "syscall\n"
				 "1:"
				 : "+a"(r)
				 : "D"(0x100L /* CLONE_VM, and no signal */), "S"(0L), "d"(0L), "r"(r10), "r"(r8)
				 : "rcx", "r11", "memory");
		if (r < 0)
			break;
		pids[n] = (int)r;
	}
	for (int i = 0; i < n; i++)
		sys(NR_wait4, pids[i], 0, 0x40000000 /* __WALL */, 0, 0);
	return n == LEAST_TASKS;
}

// too_low returns the first limit that is too low for Go, and what it is, or 0.
static const struct bound *too_low(u64 *is)
{
	static const struct bound bounds[] = {
		{9 /* RLIMIT_AS */, 'v', LEAST_SPACE, 1024},
		{2 /* RLIMIT_DATA */, 'd', LEAST_DATA, 1024},
		{7 /* RLIMIT_NOFILE */, 'n', LEAST_FILES, 1},
		{6 /* RLIMIT_NPROC */, 'u', TASKS_PLENTY, 1},
	};
	for (u64 i = 0; i < sizeof bounds / sizeof *bounds; i++) {
		u64 limit[2];
		if (sys(NR_getrlimit, bounds[i].resource, P(limit), 0, 0, 0) < 0 || limit[0] >= bounds[i].least)
			continue;
		if (bounds[i].option == 'u' && tasks_left())
			continue;
		*is = limit[0] / bounds[i].unit;
		return &bounds[i];
	}
	return 0;
}

static const char *base_of(const char *path)
{
	const char *base = path;
	for (const char *s = path; *s; s++)
		if (*s == '/')
			base = s + 1;
	return base;
}

// is_one_of says whether s is in a list of strings whose end is an empty one; up to a
// '=' in s, if there may be one.
static int is_one_of(const char *s, const char *list, int value)
{
	for (; *list; list += length(list) + 1)
		if (starts(s, list) && (!s[length(list)] || value && s[length(list)] == '='))
			return 1;
	return 0;
}

// compiler_at returns the index of the compiler's name in the arguments, or -1 if the
// call is none of a compiler. It knows the flags of cc, without those that only report,
// as the package flag reads them; a test compares.
static i64 compiler_at(struct front *f)
{
	static const char flags[] = "any\0cache-failures\0cache-links\0disable\0no-stdin\0read-only\0recache\0verbose\0";
	static const char valued[] = "backend\0cache\0cache-max\0env\0inputs\0path\0remote\0remote-mode\0remote-timeout\0root\0verify\0";
	static const char others[] = "bwrap\0linux-user-chroot\0buildbox-run\0";
	const char *base = base_of(f->argv[0]);
	if (!starts(base, "sbx-action"))
		return is_one_of(base, others, 0) ? -1 : 0;
	if (f->argc < 3 || !starts(f->argv[1], "cc") || f->argv[1][2])
		return -1;
	for (u64 i = 2; i < f->argc; i++) {
		const char *a = f->argv[i];
		if (a[0] != '-' || !a[1])
			return (i64)i;
		a += a[1] == '-' ? 2 : 1;
		if (!*a)
			return i + 1 < f->argc ? (i64)i + 1 : -1;
		if (is_one_of(a, valued, 0))
			i++;
		else if (!is_one_of(a, flags, 1) && !is_one_of(a, valued, 1))
			return -1;
	}
	return -1;
}

static void tell(const char *const *parts)
{
	char text[2 * PATH_SIZE];
	u64 at = 0;
	for (; *parts; parts++)
		for (const char *s = *parts; *s && at < sizeof text; s++)
			text[at++] = *s;
	f_write(2, text, at);
}

// has_called says whether a file is one of the scripts by which the call has come to us.
static int has_called(const char *callers, const struct stat *st)
{
	for (const char *end; callers && *callers; callers = *end ? end + 1 : end) {
		char path[PATH_SIZE];
		struct stat of;
		for (end = callers; *end && *end != ':'; end++)
			;
		u64 n = (u64)(end - callers);
		if (n >= PATH_SIZE)
			continue;
		memcpy(path, callers, n);
		path[n] = 0;
		if (f_stat(AT_FDCWD, path, &of, 0) == 0 && of.dev == st->dev && of.ino == st->ino)
			return 1;
	}
	return 0;
}

// find_program is Self.Find in integration/cc for a name without a slash: links to
// us and scripts that have called us are passed over, and then *passed becomes true. It
// returns 0 or an error's number.
static i64 find_program(struct front *f, const char *name, const struct stat *self, char to[PATH_SIZE], int *passed)
{
	const char *path = variable(f, "PATH="), *callers = variable(f, "SBX_CC_CALLERS=");
	i64 why = ENOENT;
	int more = path && *path;
	for (const char *end; more; path = end + 1) {
		struct stat st;
		for (end = path; *end && *end != ':'; end++)
			;
		more = *end;
		u64 n = (u64)(end - path), dot = *path == '/' ? 0 : 2;
		if (dot + n >= PATH_SIZE)
			continue;
		char dir[PATH_SIZE] = "./";
		memcpy(dir + dot, path, n);
		if (!join(to, dir, dot + n, name, length(name)) || f_stat(AT_FDCWD, to, &st, 0) < 0 || (st.mode & S_IFMT) == S_IFDIR)
			continue;
		if (st.dev == self->dev && st.ino == self->ino || has_called(callers, &st))
			*passed = 1;
		else if (st.mode & 0111)
			return 0;
		else
			why = EACCES;
	}
	return why;
}

// note adds the call to the statistics of cc, if there are some: integration/cc/stats.go.
static void note(struct front *f)
{
	static const char line[] = "plain 1 0 0 a limit of resources (ulimit) is too low for this program\n", name[] = "stat/cc1";
	char path[PATH_SIZE];
	i64 n = sys(NR_getcwd, P(f->cwd), PATH_SIZE, 0, 0, 0);
	if (n <= 0)
		f->cwd[0] = 0;
	if (f->cwd[0] != '/' || !find_store(f) || !join(path, f->store, f->store_len, name, sizeof name - 1))
		return;
	i64 fd = f_open(AT_FDCWD, path, O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK, 0);
	if (fd < 0)
		return;
	f_write(fd, line, sizeof line - 1);
	f_close(fd);
}

// mark tells the calls of a script that it is not what they mean: Self.Mark in
// integration/cc. The environment gets longer by a word where the auxiliary vector
// begins, which nobody needs any more. It returns no where there is no room in text.
static int mark(struct front *f, const char *path, char *text, u64 most)
{
	static const char name[] = "SBX_CC_CALLERS=";
	char head[16], whole[PATH_SIZE];
	i64 fd = f_open(AT_FDCWD, path, O_RDONLY | O_NONBLOCK, 0), n = 0;
	if (fd >= 0) {
		n = f_read(fd, head, sizeof head);
		f_close(fd);
	}
	for (i64 i = 0; i < n; i++)
		if (!head[i])
			return 1; // no text
	if (n <= 0)
		return 1;
	if (*path != '/') { // "./" or what PATH says
		if (*f->cwd != '/' || !join(whole, f->cwd, length(f->cwd), path, length(path)))
			return 0;
		path = whole;
	}
	const char *before = variable(f, name);
	u64 len = before ? length(before) : 0, at = sizeof name - 1;
	if (at + len + 1 + length(path) + 1 > most)
		return 0;
	memcpy(text, name, at);
	if (len) {
		memcpy(text + at, before, len);
		at += len;
		text[at++] = ':';
	}
	memcpy(text + at, path, length(path) + 1);
	char **e = f->env;
	while (*e && !starts(*e, name))
		e++;
	if (!*e)
		e[1] = 0;
	*e = text;
	return 1;
}

// become executes the compiler, as execvp does, and returns only where it cannot find
// out what we are.
static void become(struct front *f, char **argv)
{
	struct stat self, st;
	char path[PATH_SIZE], callers[4 * PATH_SIZE];
	int passed = 0;
	i64 why = 0;
	const char *name = argv[0], *base = base_of(name);
	if (f_stat(AT_FDCWD, "/proc/self/exe", &self, 0) < 0)
		return;
	note(f);
	int is_self = f_stat(AT_FDCWD, name, &st, 0) == 0 && st.dev == self.dev && st.ino == self.ino;
	if (base == name || is_self) {
		why = find_program(f, base, &self, path, &passed);
		if (passed || is_self) // a driver of GCC looks for its parts beside where it is
			argv[0] = path;
		name = why ? base : path;
		if (!why && !mark(f, path, callers, sizeof callers))
			why = ELOOP;
	}
	if (!why) {
		why = -sys(NR_execve, P(name), P(argv), P(f->env), 0, 0);
		if (why == ENOEXEC) { // a script without #!; in front of argv[0] is an argument of ours, or their number
			argv[0] = (char *)name;
			argv[-1] = (char *)"/bin/sh";
			why = -sys(NR_execve, P(argv[-1]), P(argv - 1), P(f->env), 0, 0);
		}
	}
	int denied = why == EACCES || why == EPERM || why == ENOEXEC;
	tell((const char *const[]){"sbx-action: cc: ", name,
		denied ? ": permission denied\n" : why == ENOENT ? ": not found\n" : ": it cannot be executed\n", 0});
	call6(NR_exit_group, denied ? 126 : 127, 0, 0, 0, 0, 0);
}

__attribute__((noinline)) static void without_go(i64 *stack, const struct bound *b, u64 is)
{
	struct front f;
	f.argc = (u64)stack[0];
	f.argv = (char **)(stack + 1);
	f.env = f.argv + f.argc + 1;
	if (!f.argc || is_one_of(base_of(f.argv[0]), "sbx-probe\0sbx-action-warm\0", 0))
		return; // parts of ours, which know what they do
	i64 at = compiler_at(&f);
	if (at >= 0) {
		become(&f, f.argv + at);
		return;
	}
	char option[2] = {b->option, 0}, now[24], least[24];
	now[decimal(now, (u32)is)] = 0;
	least[decimal(least, b->option == 'u' ? LEAST_TASKS : (u32)(b->least / b->unit))] = 0;
	tell((const char *const[]){"sbx-action: ulimit -", option, " ", now, " is too low for this program to start: raise it", b->option == 'u' ? ", so that this user can have " : " to ", least,
		b->option == 'u' ? " more processes and threads\n" : " or more\n", 0});
	call6(NR_exit_group, EXIT_OURS, 0, 0, 0, 0, 0);
}

// cramped returns where Go can start, which takes four system calls.
static void cramped(i64 *stack)
{
	u64 is;
	const struct bound *b = too_low(&is);
	if (b)
		without_go(stack, b, is);
}
