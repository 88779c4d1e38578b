// Looks things up often enough, from the same places, to be given a scribe (see
// internal/helper/src/scribe.c), in every way in which that could go wrong, and
// prints what it found. TestScribe compares that, and what is told, with and
// without.
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OFTEN = 30 };
static char path[4096], buf[8192];

static const char *at(const char *what, int i)
{
	snprintf(path, sizeof path, "/usr/absent-%s-%d", what, i);
	return path;
}

static void say(const char *what, long got)
{
	printf("%s %ld %d\n", what, got, got < 0 ? errno : 0);
}

// All the calls, each from its own place in the C library.
static void all(const char *who)
{
	char name[64];
	struct stat st;
	struct statx stx;
	snprintf(name, sizeof name, "%s", who);
	for (int i = 0; i < OFTEN; i++) {
		int fd = open(at(name, i), O_RDONLY);
		fd += openat(AT_FDCWD, at(strcat(name, "a"), i), O_RDONLY);
		fd += open(at(strcat(name, "p"), i), O_PATH);
		stat(at(strcat(name, "b"), i), &st);
		lstat(at(strcat(name, "c"), i), &st);
		fstatat(AT_FDCWD, at(strcat(name, "d"), i), &st, 0);
		access(at(strcat(name, "e"), i), R_OK);
		faccessat(AT_FDCWD, at(strcat(name, "f"), i), R_OK, AT_EACCESS);
		readlink(at(strcat(name, "g"), i), buf, sizeof buf);
		readlinkat(AT_FDCWD, at(strcat(name, "h"), i), buf, sizeof buf);
		statx(AT_FDCWD, at(strcat(name, "i"), i), 0, STATX_ALL, &stx);
		statx(AT_FDCWD, at(strcat(name, "j"), i), AT_EMPTY_PATH, STATX_ALL, &stx); // it is not empty
		FILE *f = fopen(at(strcat(name, "k"), i), "r");
		DIR *d = opendir(at(strcat(name, "l"), i)); // which does not load the number just in front of the call
		snprintf(name, sizeof name, "%s", who);
		if (fd != -3 || f || d)
			say("found", fd);
	}
}

// Bad pointers are the kernel's to find.
static void bad(void)
{
	struct stat st;
	char *gone = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(gone, 4096);
	for (int i = 0; i < OFTEN; i++) {
		say("null", access(0, F_OK));
		say("one", access((char *)1, F_OK));
		say("minus one", open((char *)-1, O_RDONLY));
		say("gone", stat(gone, &st));
		say("gone link", readlink(gone, buf, 0)); // EINVAL comes first
		say("bad mode", faccessat(AT_FDCWD, gone, 0xff00, 0));
		say("bad flags", statx(AT_FDCWD, gone, 0x80000, 0, 0));
		say("no room", readlink("/usr/lib", (char *)1, 10));
		say("bad buffer", stat(at("badbuffer", i), (void *)1));
		say("bad buffer of what exists", stat("/usr/bin", (void *)1));
		say("empty", open("", O_RDONLY));
	}
	memset(buf, 'x', 5000);
	buf[0] = '/';
	buf[5000] = 0;
	for (int i = 0; i < OFTEN; i++)
		say("long", access(buf, F_OK));
	memset(buf, 0, sizeof buf);
	strcpy(buf, "/usr");
	for (int i = 0; i < 700; i++)
		strcat(buf, "//.");
	for (int i = 0; i < OFTEN; i++)
		say("quite long", access(strcat(buf, "/absent-quite-long"), F_OK));
}

// Paths that mean something only here and now.
static void here(void)
{
	mkdir("dir", 0777);
	for (int i = 0; i < OFTEN; i++) {
		say("relative", access("absent-relative", F_OK));
		symlink(at("behind-link", i), "link");
		say("link", access("link", F_OK));
		say("link", access("/build/link", F_OK));
		unlink("link");
		say("dots", access("/usr/lib/../absent-dots", F_OK));
		say("slashes", access("/usr/.//absent-slashes", F_OK));
		static const char *const ends[] = {"", "/", "//", "/.", "//y", "/./y", "/.y", "/./", "/.//y"};
		for (int e = 0; e < 9; e++) { // at each distance from the beginning
			snprintf(path, sizeof path, "/usr/%.*s%s", i, "absent-absent-absent-absent-absent", ends[e]);
			say("untidy", access(path, F_OK));
		}
		say("self", access("/proc/self/cwd/absent-cwd", F_OK));
		chdir(i % 2 ? "/build" : "/build/dir");
		say("after chdir", access(i % 2 ? "absent-build" : "absent-dir", F_OK));
	}
	chdir("/build");
	int dir = open("/usr", O_RDONLY | O_DIRECTORY);
	for (int i = 0; i < OFTEN; i++)
		say("below a descriptor", faccessat(dir, "absent-below", F_OK, 0));
	close(dir);
	say("next descriptor", dup(0)); // none is left open behind our back
}

// Names below a link of the root directory that leads into what nobody can change,
// and such a path that leads out of it.
static void through(void)
{
	struct stat st;
	char target[64];
	int n = 0;
	for (int i = 0; i < OFTEN; i++) {
		DIR *d = opendir("/lib");
		n += d && readdir(d);
		closedir(d);
		n += stat("/lib/", &st) + stat("/lib", &st);
		n += lstat("/lib", &st) == 0 && S_ISLNK(st.st_mode);
		n += readlink("/lib", target, sizeof target) == 7;
		snprintf(path, sizeof path, "/lib/absent-through-%d", i);
		n += access(path, F_OK);
		snprintf(path, sizeof path, "/bin/../lib/absent-up-%d", i);
		n += access(path, F_OK);
		say("out", access("/usr/../build/dir", F_OK));
		say("up", access("/usr/lib/../../build/absent-out", F_OK));
		symlink(at("behind-out", i), "out");
		say("link", access("/usr/../build/out", F_OK));
		say("link", access("/lib/../../build/out", F_OK));
		unlink("out");
	}
	say("through", n);
}

// Names that are followed later, as long as nothing stirs: relative ones, and those below
// /tmp and the directory in which it started.
static void still(int from)
{
	struct stat st;
	char name[64];
	for (int i = from; i < from + OFTEN; i++) {
		static const char *const names[] = {"absent-%d", "./absent-dot-%d", "sub/absent-sub-%d", "sub-link/absent-%d",
			"sub-link//absent-slashes-%d", "absent/absent-deep-%d", "/build/absent-whole-%d", "/build//sub-link/absent-%d",
			"/tmp/absent-%d", "old-link/absent-%d", "/tmp/../build/old-link/absent-%d", "sub/../absent-dots-%d", "/buildabsent-%d", "/tmpabsent-%d"};
		for (unsigned n = 0; n < sizeof names / sizeof *names; n++) {
			snprintf(name, sizeof name, names[n], i);
			say(name, access(name, F_OK) + 10 * stat(name, &st) + 100 * lstat(name, &st) + 1000 * readlink(name, buf, sizeof buf));
		}
		static const char *const there[] = {"often", "old-link", "sub", "sub/", "sub-link", "sub-link/", ".", "./", "/build/old-link", "/build/.", "/tmp/."};
		for (unsigned n = 0; n < sizeof there / sizeof *there; n++) {
			int fd = open(there[n], O_RDONLY | O_NOFOLLOW), fd2 = open(there[n], O_PATH);
			say(there[n], (fd >= 0) + 10 * stat(there[n], &st) + 100 * lstat(there[n], &st) + 1000 * access(there[n], X_OK));
			close(fd);
			close(fd2);
			// Which does not make what a link leads to.
			fd = open(there[n], O_RDONLY), fd2 = open(there[n], O_RDWR | O_CREAT | O_NOFOLLOW, 0666);
			say(there[n], (fd >= 0) + 10 * (fd2 >= 0));
			close(fd);
			close(fd2);
		}
		static const char *const made[] = {"made-%d", "/build/made-whole-%d", "/tmp/made-%d", "sub-link/made-%d"};
		for (unsigned n = 0; n < sizeof made / sizeof *made; n++) {
			snprintf(name, sizeof name, made[n], i);
			int fd = open(name, O_CREAT | O_RDWR | (i % 2 ? O_EXCL : 0), 0666);
			say(name, fd >= 0);
			close(fd);
			say(name, stat(name, &st));
			if (i % 3 == 0)
				say(name, unlink(name)); // which stirs nothing
		}
	}
}

static void stir(const char *how)
{
	int fd = open("sub", O_RDONLY | O_DIRECTORY);
	still(3 * OFTEN); // some names not again
	still(0);
	fflush(stdout);
	pid_t pid;
	if (!strcmp(how, "chdir"))
		say(how, chdir("sub"));
	if (!strcmp(how, "fchdir"))
		say(how, fchdir(fd));
	if (!strcmp(how, "rename"))
		say(how, rename("sub-link", "moved") + symlink("/usr/absent-instead", "sub-link"));
	if (!strcmp(how, "unlink"))
		say(how, unlink("old-link"));
	if (!strcmp(how, "unlinkat"))
		say(how, unlinkat(AT_FDCWD, "sub-link", 0));
	if (!strcmp(how, "symlink"))
		say(how, symlink("/usr/absent-behind", "absent"));
	if (!strcmp(how, "link"))
		say(how, link("sub-link", "absent"));
	if (!strcmp(how, "rmdir"))
		say(how, rmdir("empty") + symlink("sub", "empty"));
	if (!strcmp(how, "child") && !(pid = fork())) {
		say(how, chdir("sub"));
		still(2 * OFTEN);
		fflush(stdout);
		_exit(0);
	}
	while (wait(0) > 0)
		;
	still(0);
	still(OFTEN);
}

static void children(void)
{
	int status;
	fflush(stdout);
	pid_t pid = fork();
	if (!pid) {
		all("fork");
		_exit(3);
	}
	waitpid(pid, &status, 0);
	say("fork", WEXITSTATUS(status));
	pid = vfork();
	if (!pid) {
		for (int i = 0; i < OFTEN; i++)
			access(at("vfork", i), F_OK);
		execl("/build/absent-program", "x", (char *)0);
		_exit(4);
	}
	waitpid(pid, &status, 0);
	say("vfork", WEXITSTATUS(status));
}

// What is executed in vain, by processes that share their memory with us, and that do not.
static void execs(void)
{
	static char far[8192];
	memset(far, 'x', sizeof far - 1);
	char *argv[] = {"x", 0};
	const char *paths[] = {
		"/usr/absent-exec-1", "/usr/absent-exec-1/x", "/bin/absent-exec-2", "/usr//bin/./absent-exec-3", "/usr/bin/../absent-exec-4",
		"/usr/../build/absent-exec-5", "/build/absent-exec-6", "absent-exec-7", "/tmp/absent-exec-8", "/usr/bin", "/usr/include/stdio.h",
		"/usr/include/stdio.h/x", "", (char *)8, far,
	};
	for (int i = 0; i < sizeof paths / sizeof *paths * 4; i++) {
		int status, failed = 0;
		const char *p = paths[i / 4];
		pid_t pid = i & 1 ? vfork() : fork();
		if (!pid) {
			failed = execve(p, i & 2 ? 0 : argv, environ) == -1 ? errno : 0;
			_exit(failed);
		}
		waitpid(pid, &status, 0);
		printf("exec %d %d\n", i, WEXITSTATUS(status));
	}
	setenv("PATH", "/usr/absent-a:/build/sub:/usr/absent-b:sub:/usr/bin", 1);
	for (int i = 0; i < 2; i++) {
		int status;
		pid_t pid = i ? vfork() : fork();
		if (!pid) {
			execlp("true", "true", (char *)0);
			_exit(9);
		}
		waitpid(pid, &status, 0);
		say("PATH", WEXITSTATUS(status));
	}
}

static void *thread(void *arg)
{
	char name[64];
	for (int i = 0; i < 100 * OFTEN; i++) {
		snprintf(name, sizeof name, "/usr/absent-%s-%d", (char *)arg, i % OFTEN);
		access(name, F_OK);
	}
	return 0;
}

static void threads(void)
{
	pthread_t t[4];
	char names[4][16];
	for (int i = 0; i < 4; i++) {
		snprintf(names[i], 16, "thread%d", i);
		pthread_create(&t[i], 0, thread, names[i]);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], 0);
}

static volatile sig_atomic_t ticks;
static sigjmp_buf back;
static volatile int jump;

static void tick(int sig)
{
	char name[64];
	snprintf(name, sizeof name, "/usr/absent-tick-%d", ticks++ % OFTEN);
	access(name, F_OK);
	if (jump)
		siglongjmp(back, 1);
}

// Asks for the next tick once the last one was: on a busy machine a timer that
// went on by itself would leave no time for anything between two ticks.
static void next_tick(void)
{
	static volatile sig_atomic_t asked = -1;
	struct itimerval once = {{0, 0}, {0, 150}};
	if (asked == ticks)
		return;
	asked = ticks;
	setitimer(ITIMER_REAL, &once, 0);
}

static void signals(void)
{
	struct sigaction sa = {.sa_handler = tick, .sa_flags = SA_RESTART};
	sigaction(SIGALRM, &sa, 0);
	struct itimerval off = {{0, 0}, {0, 0}};
	for (int i = 0; i < 20000 || ticks < 2 * OFTEN; i++) {
		next_tick();
		access(at("signal", i % OFTEN), F_OK);
	}
	sigsetjmp(back, 1);
	jump = 1; // not before there is a place to jump to
	for (int i = 0; ticks < 4 * OFTEN; i++) {
		next_tick();
		access(at("jump", i % OFTEN), F_OK);
	}
	jump = 0;
	setitimer(ITIMER_REAL, &off, 0);
	for (int i = 0; i < OFTEN; i++) // how far the others came is chance
		access(at("jump", i), F_OK);
	// A call that waits, and is started again.
	mkfifo("fifo", 0666);
	fflush(stdout);
	pid_t parent = getpid(), pid = fork();
	if (!pid) {
		for (int i = 0; i < 20; i++) {
			usleep(2000);
			kill(parent, SIGALRM);
		}
		close(open("fifo", O_WRONLY));
		_exit(0);
	}
	int fd = open("fifo", O_RDONLY);
	say("fifo", fd >= 0);
	close(fd);
	waitpid(pid, 0, 0);
}

// advised says whether huge pages were asked for the mapping that at is in.
static int advised(const char *at)
{
	char line[512];
	int here = 0, yes = 0;
	FILE *maps = fopen("/proc/self/smaps", "r");
	while (fgets(line, sizeof line, maps)) {
		unsigned long from, to;
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			here = from <= (unsigned long)at && (unsigned long)at < to;
		if (here && !strncmp(line, "VmFlags:", 8))
			yes = !!strstr(line, " hg");
	}
	fclose(maps);
	return yes;
}

// memory maps memory of several kinds. What is said on standard error is not compared.
static void memory(void)
{
	enum { READ_WRITE = PROT_READ | PROT_WRITE, PRIVATE = MAP_PRIVATE | MAP_ANONYMOUS };
	static const struct {
		const char *name;
		size_t size;
		int protection, flags;
	} kinds[] = {
		{"first", 2 << 20, READ_WRITE, PRIVATE},
		{"second", 2 << 20, READ_WRITE, PRIVATE},
		{"third", 2 << 20, READ_WRITE, PRIVATE},
		{"8 MiB", 8 << 20, READ_WRITE, PRIVATE},
		{"1 MiB", 1 << 20, READ_WRITE, PRIVATE},
		{"9 MiB", 9 << 20, READ_WRITE, PRIVATE},
		{"to be read", 2 << 20, PROT_READ, PRIVATE},
		{"shared", 2 << 20, READ_WRITE, MAP_SHARED | MAP_ANONYMOUS},
		{"too much", (size_t)1 << 62, READ_WRITE, PRIVATE},
		{"too much in 32 bits", ((size_t)1 << 62) + (2 << 20), READ_WRITE, PRIVATE},
		{"filtered", 2 << 20, READ_WRITE, PRIVATE}, // from here on who calls madvise is killed
	};
	struct sock_filter no_advice[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {4, no_advice};
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		if (!strcmp(kinds[i].name, "filtered") && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
			say("filter", errno);
		char *at = mmap(0, kinds[i].size, kinds[i].protection, kinds[i].flags, -1, 0);
		say(kinds[i].name, at == MAP_FAILED ? -1 : at[kinds[i].size - 1]);
		if (at == MAP_FAILED)
			continue;
		if (kinds[i].protection & PROT_WRITE)
			memset(at, 'x', kinds[i].size);
		fprintf(stderr, "%s %s\n", kinds[i].name, advised(at) ? "huge" : "small");
		mprotect(at, 4096, PROT_NONE); // no neighbour becomes one mapping with it
		mprotect(at + kinds[i].size - 4096, 4096, PROT_NONE);
	}
}

int main(int argc, char **argv)
{
	const char *part = argv[1];
	setvbuf(stdout, 0, _IOFBF, 1 << 20);
	if (!strcmp(part, "overlap")) { // the kernel writes over the path
		for (int i = 0; i < OFTEN; i++) {
			strcpy(buf, "/usr/bin/cc");
			readlink(buf, buf, sizeof buf);
		}
		return 0;
	}
	if (!strcmp(part, "memory")) {
		memory();
		return 0;
	}
	if (argc > 2) {
		stir(argv[2]);
		return 0;
	}
	if (!strcmp(part, "moved")) { // a link that everybody looks through
		for (int i = 0; i < OFTEN; i++)
			access("/lib/absent-moved", F_OK);
		say("removed", unlink("/lib"));
		return 0;
	}
	if (!strcmp(part, "signals"))
		signals();
	all("first");
	bad();
	here();
	through();
	children();
	fflush(stdout);
	execs();
	threads();
	all("second");
	// Not compared: whether there was a scribe.
	char line[256];
	int scribe = 0;
	FILE *maps = fopen("/proc/self/maps", "r");
	while (fgets(line, sizeof line, maps))
		scribe |= !!strstr(line, "sbx-lookups");
	fclose(maps);
	fprintf(stderr, "scribe %d\n", scribe);
	// Nor whether opendir's call goes through it: a jump in front of the syscall
	// instruction.
	const unsigned char *call = dlvsym(RTLD_DEFAULT, "__open64_nocancel", "GLIBC_PRIVATE");
	for (int i = 0; call && i < 200; i++)
		if (call[i] == 0xe9 && call[i + 5] == 0x0f && call[i + 6] == 0x05)
			call = 0;
	fprintf(stderr, "opendir %s\n", call ? "asks" : "does not ask");
	call = dlsym(RTLD_DEFAULT, "execve");
	fprintf(stderr, "execve %s\n", *call == 0xb8 ? "asks" : "does not ask");
	if (strcmp(part, "signals")) {
		signals();
		execl(argv[0], argv[0], "signals", (char *)0);
	}
	return 0;
}
