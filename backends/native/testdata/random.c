// Does by chance what makes paths lead elsewhere, and looks things up meanwhile: as its
// argument, a number, says. TestScribeRandom compares what is told of it with and without
// scribes.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned long long state;
static int depth;
static char **own;

static unsigned chance(unsigned n)
{
	state = state * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned)(state >> 33) % n;
}

static void say(const char *what, const char *path, long got)
{
	printf("%s %s %ld %d\n", what, path, got < 0 ? -1 : got, got < 0 ? errno : 0);
}

#define PICK(list) (list)[chance(sizeof(list) / sizeof *(list))]

static unsigned calm; // how rarely something stirs; and the names are simple
static char again[5][64];

// name makes one, and often one again that has been.
static const char *name(char *buf)
{
	static const char *const before[] = {"", "", "./", ".//", "/build/", "/build//./", "/build/sub/", "/tmp/",
		"/tmp/../build/", "/", "../", "l/", "sub/../", "/build/l/../", "/proc/self/cwd/", "/proc/self/root/build/", "/proc/self/fd/9/", "/usr/", "/lib/"};
	static const char *const simple[] = {"", "", "", "./", "/build/", "/tmp/", "l/"};
	static const char *const parts[] = {"a", "b", "f", "l", "m", "n", "o", "sub", "up", "build", "tmp", "."};
	static const char *const after[] = {"", "", "", "", "", "", "/", "/.", "//", "/.."};
	char *known = again[chance(5)];
	if (*known && chance(3))
		return strcpy(buf, known);
	strcpy(buf, calm ? PICK(simple) : PICK(before));
	for (unsigned i = 0, n = 1 + chance(2 + !calm); i < n; i++) {
		strcat(buf, i ? "/" : "");
		strcat(buf, parts[chance(calm ? 8 : sizeof parts / sizeof *parts)]);
	}
	if (!calm || !chance(8))
		strcat(buf, PICK(after));
	strcpy(known, buf);
	return buf;
}

// Each from the same place in the C library, so that a scribe takes it.
static void look(const char *p)
{
	char buf[4096];
	struct stat st;
	struct statx stx;
	static const int flags[] = {O_RDONLY, O_RDONLY, O_PATH, O_PATH | O_NOFOLLOW, O_NOFOLLOW, O_WRONLY, O_RDWR | O_CREAT,
		O_RDWR | O_CREAT | O_EXCL, O_WRONLY | O_CREAT | O_NOFOLLOW, O_WRONLY | O_CREAT | O_TRUNC};
	int fd;
	switch (chance(11)) {
	case 0: say("stat", p, stat(p, &st)); break;
	case 1: say("lstat", p, lstat(p, &st)); break;
	case 2: say("access", p, access(p, F_OK)); break;
	case 3: say("readlink", p, readlink(p, buf, sizeof buf)); break;
	case 4: say("readlinkat", p, readlinkat(AT_FDCWD, p, buf, sizeof buf)); break;
	case 5: say("fstatat", p, fstatat(AT_FDCWD, p, &st, AT_SYMLINK_NOFOLLOW * chance(2))); break;
	case 6: say("fstatat 9", p, fstatat(9, p, &st, AT_SYMLINK_NOFOLLOW * chance(2))); break;
	case 7: say("statx", p, statx(AT_FDCWD, p, AT_SYMLINK_NOFOLLOW * chance(2), STATX_ALL, &stx)); break;
	case 8: say("faccessat", p, faccessat(AT_FDCWD, p, R_OK, AT_EACCESS)); break;
	default:
		fd = open(p, PICK(flags) | O_NONBLOCK | O_CLOEXEC, 0666);
		say("open", p, fd < 0 ? fd : 0);
		if (fd >= 0)
			close(fd);
	}
}

static void some(unsigned n);

static void *thread(void *arg)
{
	some(1 + chance(4));
	return 0;
}

static void spawn(const char *dir)
{
	char n[32];
	char *args[] = {own[0], n, "3", 0}, *environment[] = {0};
	int status = -1;
	pid_t pid;
	posix_spawn_file_actions_t actions;
	snprintf(n, sizeof n, "%u", chance(1 << 30));
	posix_spawn_file_actions_init(&actions);
	if (chance(2))
		posix_spawn_file_actions_addchdir_np(&actions, dir);
	int err = posix_spawn(&pid, "/build/random", &actions, 0, args, environment);
	if (!err)
		waitpid(pid, &status, 0);
	printf("spawn %s %d %d\n", dir, err, status);
}

static void stir(const char *p)
{
	static const char *const targets[] = {"a", "b", "sub", "..", ".", "l", "m", "/tmp", "/tmp/a", "/build", "/build/b", "/build/c", "/usr/absent", "o/b", "/absent/c"};
	char buf[4096];
	pid_t pid;
	pthread_t t;
	int fd;
	switch (chance(20)) {
	case 0: case 1: say("mkdir", p, mkdir(p, 0777)); break;
	case 2: say("rmdir", p, rmdir(p)); break;
	case 3: case 4: say("unlink", p, unlink(p)); break;
	case 5: say("unlinkat", p, unlinkat(AT_FDCWD, p, AT_REMOVEDIR * chance(2))); break;
	case 6: say("unlinkat 9", p, unlinkat(9, p, 0)); break;
	case 7: say("symlink", p, symlink(PICK(targets), p)); break;
	case 8: say("symlinkat", p, symlinkat(PICK(targets), 9, p)); break;
	case 9: say("rename", p, rename(p, name(buf))); break;
	case 10: say("renameat2", p, renameat2(AT_FDCWD, p, AT_FDCWD, name(buf), chance(2) ? RENAME_EXCHANGE : RENAME_NOREPLACE)); break;
	case 11: say("link", p, link(p, name(buf))); break;
	case 12: say("linkat", p, linkat(9, p, AT_FDCWD, name(buf), chance(2) ? AT_SYMLINK_FOLLOW : 0)); break;
	case 13: say("chdir", p, chdir(p)); break;
	case 14:
		fd = open(p, O_PATH | O_CLOEXEC);
		say("fchdir", p, fchdir(fd));
		if (fd >= 0) {
			dup2(fd, 9);
			close(fd);
		}
		break;
	case 15: {
		struct sockaddr_un a = {AF_UNIX};
		strncpy(a.sun_path, p, sizeof a.sun_path - 1);
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
		say("bind", p, bind(fd, (struct sockaddr *)&a, sizeof a));
		close(fd);
		break;
	}
	case 16: say("mkfifo", p, mkfifo(p, 0666)); break;
	case 17:
		if (depth++ > 2)
			break;
		fflush(stdout);
		if (!(pid = fork())) {
			some(1 + chance(4));
			fflush(stdout);
			_exit(0);
		}
		waitpid(pid, 0, 0);
		break;
	case 18:
		if (depth++ > 2)
			break;
		pthread_create(&t, 0, thread, 0);
		pthread_join(t, 0);
		break;
	case 19:
		fflush(stdout);
		if (depth++ < 2)
			spawn(p);
	}
}

static void some(unsigned n)
{
	char buf[4096];
	while (n--)
		if (chance(4 + 12 * calm))
			look(name(buf));
		else
			stir(name(buf));
}

int main(int argc, char **argv)
{
	own = argv;
	int rest = argc > 2;
	depth = rest ? 2 : 0;
	setvbuf(stdout, 0, _IOFBF, 1 << 20);
	if (!rest)
		dup2(open(".", O_RDONLY | O_DIRECTORY), 9);
	// Until there is a scribe for all of them.
	state = 1;
	for (int i = 0; i < 120; i++)
		look("/usr/absent-before");
	fflush(stdout);
	state = strtoull(argv[1], 0, 10) * 2654435761u + 17;
	for (int i = 0; i < 10; i++)
		chance(2);
	calm = chance(4) != 0;
	some(rest ? 3 : 5 + chance(26) + calm * chance(30));
	return 0;
}
