// What front.c needs of the kernel and the compiler. Nothing is included: it runs
// before Go starts, in a process that has no C library.
#ifndef FRONT_H
#define FRONT_H

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long u64;
typedef long i64;

// Why a call was not answered; Go reads it: see front.go.
enum reason {
	NOT_OURS = 1, // not a call that could have a memo
	NO_MEMO,      // none, or one of another call
	BAD_MEMO,     // one that is not what was written, or not by us
	STALE,        // something in it does not hold any more
	UNABLE,       // it holds, but there is something that Go is better at
};

#define AT_FDCWD (-100)
#define AT_NOFOLLOW 0x100
#define AT_FOLLOW 0x400
#define O_RDONLY 0
#define O_WRONLY 1
#define O_APPEND 02000
#define O_NONBLOCK 04000
#define O_DIRECTORY 0200000
#define O_NOFOLLOW 0400000
#define O_NOATIME 01000000
#define O_CLOEXEC 02000000
#define O_PATH 010000000
#define O_TMPFILE (020000000 | O_DIRECTORY)
#define RESOLVE_NO_MAGICLINKS 2
#define RESOLVE_BENEATH 8
#define UTIME_NOW 0x3fffffff
#define UTIME_OMIT 0x3ffffffe
#define FICLONE 0x40049409
#define TCGETS 0x5401
#define SIGPIPE 13
#define SIGXFSZ 25
#define PR_SET_TIMERSLACK 29
#define CAPABILITIES 0x20080522 // the version of capget
#define S_IFMT 0170000
#define S_IFDIR 0040000
#define S_IFREG 0100000
#define S_IFLNK 0120000

enum { EPERM = 1, ENOENT = 2, EINTR = 4, ENOEXEC = 8, EAGAIN = 11, EACCES = 13, EEXIST = 17, ENOTDIR = 20, ELOOP = 40 };

struct timespec {
	i64 sec, nsec;
};

struct stat { // as the kernel fills it on amd64
	u64 dev, ino, nlink;
	u32 mode, uid, gid, pad;
	u64 rdev;
	i64 size, blksize, blocks;
	struct timespec atime, mtime, ctime;
	i64 unused[3];
};

struct open_how {
	u64 flags, mode, resolve;
};

static inline i64 call6(i64 n, i64 a, i64 b, i64 c, i64 d, i64 e, i64 f)
{
	i64 r;
	register i64 r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	__asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return r;
}

// A system call that a signal interrupts is made again.
static inline i64 sys(i64 n, i64 a, i64 b, i64 c, i64 d, i64 e)
{
	i64 r;
	do
		r = call6(n, a, b, c, d, e, 0);
	while (r == -EINTR);
	return r;
}

enum {
	NR_read = 0, NR_write = 1, NR_close = 3, NR_fstat = 5, NR_poll = 7, NR_lseek = 8, NR_mmap = 9, NR_munmap = 11, NR_sigaction = 13, NR_sigprocmask = 14, NR_ioctl = 16,
	NR_getpid = 39, NR_clone = 56, NR_execve = 59, NR_wait4 = 61, NR_socket = 41, NR_connect = 42, NR_sendto = 44, NR_sendmsg = 46, NR_recvmsg = 47, NR_getsockopt = 55, NR_kill = 62, NR_fcntl = 72,
	NR_flock = 73, NR_getcwd = 79, NR_umask = 95, NR_getrlimit = 97, NR_geteuid = 107, NR_getegid = 108, NR_getppid = 110, NR_getpgrp = 111, NR_getgroups = 115, NR_capget = 125, NR_sigtimedwait = 128, NR_prctl = 157,
	NR_clock_gettime = 228, NR_exit_group = 231, NR_openat = 257, NR_newfstatat = 262, NR_unlinkat = 263, NR_renameat = 264, NR_linkat = 265, NR_readlinkat = 267,
	NR_utimensat = 280, NR_signalfd4 = 289, NR_dup3 = 292, NR_openat2 = 437,
	NR_faccessat2 = 439,
};

static inline i64 sys6(i64 n, i64 a, i64 b, i64 c, i64 d, i64 e, i64 f)
{
	i64 r;
	do
		r = call6(n, a, b, c, d, e, f);
	while (r == -EINTR);
	return r;
}

#define P(x) ((i64)(x))

static inline i64 f_open(i64 dir, const char *path, i64 flags, i64 mode) { return sys(NR_openat, dir, P(path), flags | O_CLOEXEC, mode, 0); }
static inline i64 f_stat(i64 dir, const char *path, struct stat *st, i64 flags) { return sys(NR_newfstatat, dir, P(path), P(st), flags, 0); }
static inline i64 f_fstat(i64 fd, struct stat *st) { return sys(NR_fstat, fd, P(st), 0, 0, 0); }
static inline i64 f_read(i64 fd, void *to, u64 n) { return sys(NR_read, fd, P(to), P(n), 0, 0); }
static inline i64 f_write(i64 fd, const void *from, u64 n) { return sys(NR_write, fd, P(from), P(n), 0, 0); }
static inline void f_close(i64 fd) { call6(NR_close, fd, 0, 0, 0, 0, 0); }

#endif
