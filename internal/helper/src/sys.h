// What this program needs to know of the kernel: numbers, flags, structures,
// and how to make a system call.
//
// It is all written down here, and no header of the system is included, so
// that the binary depends on nothing but the compiler: the same gcc makes the
// same bytes on every machine. A system call returns a negative errno, as the
// kernel does; there is no errno variable, because the processes of a slot
// share their memory.
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;

// The two columns are amd64 and arm64.
#if defined __x86_64__
#define NR(amd64, arm64) amd64
#define AUDIT_ARCH 0xC000003Eu
#elif defined __aarch64__
#define NR(amd64, arm64) arm64
#define AUDIT_ARCH 0xC00000B7u
#else
#error "add the system call numbers of this machine"
#endif
#define AUDIT_ARCH_I386 0x40000003u

enum {
	SYS_read = NR(0, 63),
	SYS_write = NR(1, 64),
	SYS_close = NR(3, 57),
	SYS_lseek = NR(8, 62),
	SYS_mmap = NR(9, 222),
	SYS_munmap = NR(11, 215),
	SYS_rt_sigaction = NR(13, 134),
	SYS_rt_sigprocmask = NR(14, 135),
	SYS_ioctl = NR(16, 29),
	SYS_pread64 = NR(17, 67),
	SYS_pwrite64 = NR(18, 68),
	SYS_sched_yield = NR(24, 124),
	SYS_getpid = NR(39, 172),
	SYS_socket = NR(41, 198),
	SYS_connect = NR(42, 203),
	SYS_socketpair = NR(53, 199),
	SYS_sendmsg = NR(46, 211),
	SYS_recvmsg = NR(47, 212),
	SYS_clone = NR(56, 220),
	SYS_execve = NR(59, 221),
	SYS_exit = NR(60, 93),
	SYS_wait4 = NR(61, 260),
	SYS_kill = NR(62, 129),
	SYS_fcntl = NR(72, 25),
	SYS_ftruncate = NR(77, 46),
	SYS_getcwd = NR(79, 17),
	SYS_chdir = NR(80, 49),
	SYS_fchdir = NR(81, 50),
	SYS_fchown = NR(93, 55),
	SYS_umask = NR(95, 166),
	SYS_getrusage = NR(98, 165),
	SYS_getuid = NR(102, 174),
	SYS_getgid = NR(104, 176),
	SYS_setsid = NR(112, 157),
	SYS_setgroups = NR(116, 159),
	SYS_setresuid = NR(117, 147),
	SYS_setresgid = NR(119, 149),
	SYS_setfsuid = NR(122, 151),
	SYS_setfsgid = NR(123, 152),
	SYS_capget = NR(125, 90),
	SYS_capset = NR(126, 91),
	SYS_rt_sigtimedwait = NR(128, 137),
	SYS_personality = NR(135, 92),
	SYS_fstatfs = NR(138, 44),
	SYS_pivot_root = NR(155, 41),
	SYS_prctl = NR(157, 167),
	SYS_chroot = NR(161, 51),
	SYS_mount = NR(165, 40),
	SYS_umount2 = NR(166, 39),
	SYS_sethostname = NR(170, 161),
	SYS_setdomainname = NR(171, 162),
	SYS_futex = NR(202, 98),
	SYS_sched_setaffinity = NR(203, 122),
	SYS_sched_getaffinity = NR(204, 123),
	SYS_getdents64 = NR(217, 61),
	SYS_clock_gettime = NR(228, 113),
	SYS_exit_group = NR(231, 94),
	SYS_openat = NR(257, 56),
	SYS_mkdirat = NR(258, 34),
	SYS_mknodat = NR(259, 33),
	SYS_fchownat = NR(260, 54),
	SYS_unlinkat = NR(263, 35),
	SYS_symlinkat = NR(266, 36),
	SYS_readlinkat = NR(267, 78),
	SYS_fchmodat = NR(268, 53),
	SYS_faccessat = NR(269, 48),
	SYS_ppoll = NR(271, 73),
	SYS_unshare = NR(272, 97),
	SYS_utimensat = NR(280, 88),
	SYS_signalfd4 = NR(289, 74),
	SYS_eventfd2 = NR(290, 19),
	SYS_dup3 = NR(292, 24),
	SYS_pipe2 = NR(293, 59),
	SYS_prlimit64 = NR(302, 261),
	SYS_process_vm_readv = NR(310, 270),
	SYS_process_vm_writev = NR(311, 271),
	SYS_getpriority = NR(140, 141),
	SYS_sched_setattr = NR(314, 274),
	SYS_seccomp = NR(317, 277),
	SYS_setns = NR(308, 268),
	SYS_getrandom = NR(318, 278),
	SYS_memfd_create = NR(319, 279),
	SYS_finit_module = NR(313, 273),
	SYS_execveat = NR(322, 281),
	SYS_statx = NR(332, 291),
	SYS_open_tree = 428,
	SYS_move_mount = 429,
	SYS_fsopen = 430,
	SYS_fsconfig = 431,
	SYS_fsmount = 432,
	SYS_pidfd_open = 434,
	SYS_close_range = 436,
	SYS_pidfd_getfd = 438,
	SYS_openat2 = 437,
	SYS_mount_setattr = 442,
	SYS_landlock_create_ruleset = 444,
	SYS_landlock_add_rule = 445,
	SYS_landlock_restrict_self = 446,
};

enum {
	EPERM = 1,
	ENOENT = 2,
	ESRCH = 3,
	EINTR = 4,
	EIO = 5,
	E2BIG = 7,
	ENOEXEC = 8,
	ECHILD = 10,
	EAGAIN = 11,
	ENOMEM = 12,
	EACCES = 13,
	EFAULT = 14,
	EEXIST = 17,
	ENODEV = 19,
	ENOTDIR = 20,
	EISDIR = 21,
	EINVAL = 22,
	EROFS = 30,
	ENAMETOOLONG = 36,
	ENOSYS = 38,
	ELOOP = 40,
	ESTALE = 116,
	EAFNOSUPPORT = 97,
	ETIMEDOUT = 110,
	ECANCELED = 125,
};

// Files. The four O_ flags that differ between the machines are marked.
enum {
	AT_FDCWD = -100,
	AT_SYMLINK_NOFOLLOW = 0x100,
	AT_REMOVEDIR = 0x200,
	AT_SYMLINK_FOLLOW = 0x400,
	AT_EMPTY_PATH = 0x1000,
	F_SETFD = 2,
	AT_RECURSIVE = 0x8000,
	O_RDONLY = 0,
	O_WRONLY = 1,
	O_RDWR = 2,
	O_CREAT = 0100,
	O_EXCL = 0200,
	O_NOCTTY = 0400,
	O_TRUNC = 01000,
	O_NONBLOCK = 04000,
	O_DIRECTORY = NR(0200000, 040000),
	O_NOFOLLOW = NR(0400000, 0100000),
	O_CLOEXEC = 02000000,
	O_PATH = 010000000,
	S_IFMT = 0170000,
	S_IFREG = 0100000,
	S_IFDIR = 0040000,
	S_IFCHR = 0020000,
	S_IFLNK = 0120000,
	RESOLVE_IN_ROOT = 0x10,
	STATX_TYPE = 1,
	STATX_MODE = 0x2,
	STATX_NLINK = 0x4,
	STATX_ATIME = 0x20,
	STATX_MTIME = 0x40,
	PIPEFS_MAGIC = 0x50495045,
	UTIME_OMIT = 0x3ffffffe,
	PATH_MAX = 4096,
};

// Processes and signals.
enum {
	CLONE_VM = 0x100,
	CLONE_FS = 0x200,
	CLONE_FILES = 0x400,
	CLONE_VFORK = 0x4000,
	CLONE_NEWNS = 0x20000,
	CLONE_NEWCGROUP = 0x02000000,
	CLONE_NEWUTS = 0x04000000,
	CLONE_NEWIPC = 0x08000000,
	CLONE_NEWUSER = 0x10000000,
	CLONE_NEWPID = 0x20000000,
	CLONE_NEWNET = 0x40000000,
	CLONE_NEWTIME = 0x80,
	SIGKILL = 9,
	SIGCHLD = 17,
	SIG_BLOCK = 0,
	SIG_UNBLOCK = 1,
	SIG_SETMASK = 2,
	NSIG = 64,
	WNOHANG = 1,
	WALL = 0x40000000,
	RUSAGE_CHILDREN = -1,
	RLIMIT_CPU = 0,
	RLIMIT_FSIZE = 1,
	RLIMIT_DATA = 2,
	RLIMIT_STACK = 3,
	RLIMIT_CORE = 4,
	RLIMIT_NPROC = 6,
	RLIMIT_NOFILE = 7,
	RLIMIT_AS = 9,
	PR_SET_PDEATHSIG = 1,
	PR_SET_DUMPABLE = 4,
	PR_SET_KEEPCAPS = 8,
	PR_SET_NAME = 15,
	PR_CAPBSET_DROP = 24,
	PR_SET_TIMERSLACK = 29,
	PR_SET_CHILD_SUBREAPER = 36,
	PR_SET_NO_NEW_PRIVS = 38,
	PR_CAP_AMBIENT = 47,
	PR_CAP_AMBIENT_RAISE = 2,
	PR_CAP_AMBIENT_CLEAR_ALL = 4,
	CAP_SYS_PTRACE = 19,
	ADDR_NO_RANDOMIZE = 0x40000,
	CAP_VERSION_3 = 0x20080522,
	FUTEX_WAIT = 0,
	FUTEX_WAKE = 1,
	CLOCK_REALTIME = 0,
	CLOCK_MONOTONIC = 1,
	SCHED_FLAG_RESET_ON_FORK = 1,
};

// Mounts.
enum {
	MS_RDONLY = 1,
	MS_NOSUID = 2,
	MS_NODEV = 4,
	MS_NOEXEC = 8,
	MS_REMOUNT = 32,
	MS_MOVE = 8192,
	MS_REC = 16384,
	MS_PRIVATE = 1 << 18,
	MS_SLAVE = 1 << 19,
	MNT_DETACH = 2,
	OPEN_TREE_CLONE = 1,
	MOVE_MOUNT_F_EMPTY_PATH = 4,
	MOVE_MOUNT_T_EMPTY_PATH = 0x40,
	FSOPEN_CLOEXEC = 1,
	FSMOUNT_CLOEXEC = 1,
	FSCONFIG_SET_FLAG = 0,
	FSCONFIG_SET_STRING = 1,
	FSCONFIG_CMD_CREATE = 6,
	MOUNT_ATTR_RDONLY = 1,
	MOUNT_ATTR_NOSUID = 2,
	MOUNT_ATTR_NODEV = 4,
	MOUNT_ATTR_NOEXEC = 8,
	MOUNT_ATTR_NOATIME = 0x10,
	MOUNT_ATTR__ATIME = 0x70,
};

// Memory, polling, sockets.
enum {
	PROT_READ = 1,
	PROT_WRITE = 2,
	MAP_SHARED = 1,
	MAP_PRIVATE = 2,
	MAP_ANONYMOUS = 0x20,
	PR_SET_SECCOMP = 22,
	MFD_CLOEXEC = 1,
	POLLIN = 1,
	POLLERR = 8,
	POLLHUP = 16,
	EFD_CLOEXEC = 02000000,
	SFD_CLOEXEC = 02000000,
	AF_UNIX = 1,
	AF_INET = 2,
	SOCK_DGRAM = 2,
	SOCK_STREAM = 1,
	SOCK_SEQPACKET = 5,
	SOCK_CLOEXEC = 02000000,
	SOL_SOCKET = 1,
	SCM_RIGHTS = 1,
	MSG_CTRUNC = 8,
	MSG_NOSIGNAL = 0x4000,
	MSG_CMSG_CLOEXEC = 0x40000000,
	SIOCGIFFLAGS = 0x8913,
	SIOCSIFFLAGS = 0x8914,
	IFF_UP = 1,
	TIOCSCTTY = 0x540E,
};
#define TIOCGPTN 0x80045430u
#define TIOCSPTLCK 0x40045431u

// seccomp.
enum {
	SECCOMP_SET_MODE_FILTER = 1,
	SECCOMP_FILTER_FLAG_NEW_LISTENER = 1 << 3,
	SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 1 << 5,
	SECCOMP_USER_NOTIF_FLAG_CONTINUE = 1,
	SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP = 1,
};
#define SECCOMP_RET_ALLOW 0x7fff0000u
#define SECCOMP_RET_USER_NOTIF 0x7fc00000u
#define SECCOMP_RET_ERRNO 0x00050000u
#define SECCOMP_IOCTL_NOTIF_RECV 0xc0502100u
#define SECCOMP_IOCTL_NOTIF_SEND 0xc0182101u
#define SECCOMP_IOCTL_NOTIF_ID_VALID 0x40082102u
#define SECCOMP_IOCTL_NOTIF_ADDFD 0x40182103u
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS 0x40082104u

struct sock_filter {
	u16 code;
	u8 jt, jf;
	u32 k;
};
struct sock_fprog {
	u16 len;
	struct sock_filter *filter;
};
struct seccomp_data {
	s32 nr;
	u32 arch;
	u64 ip;
	u64 args[6];
};
struct seccomp_notif {
	u64 id;
	u32 pid, flags;
	struct seccomp_data data;
};
struct seccomp_notif_resp {
	u64 id;
	s64 val;
	s32 error;
	u32 flags;
};

struct timespec {
	s64 sec, nsec;
};
struct sched_attr {
	u32 size, policy;
	u64 flags;
	s32 nice;
	u32 priority;
	u64 runtime, deadline, period;
	u32 util_min, util_max;
};
struct timeval {
	s64 sec, usec;
};
struct rusage {
	struct timeval utime, stime;
	s64 maxrss, unused[13];
};
struct rlimit {
	u64 soft, hard;
};
struct pollfd {
	s32 fd;
	s16 events, revents;
};
struct iovec {
	void *base;
	size_t len;
};
struct msghdr {
	void *name;
	u32 namelen;
	struct iovec *iov;
	size_t iovlen;
	void *control;
	size_t controllen;
	u32 flags;
};
struct cmsghdr {
	size_t len;
	s32 level, type;
};
struct mount_attr {
	u64 attr_set, attr_clr, propagation, userns_fd;
};
struct open_how {
	u64 flags, mode, resolve;
};
struct statx {
	u32 mask, blksize;
	u64 attributes;
	u32 nlink, uid, gid;
	u16 mode, pad;
	u64 ino, size, blocks, attributes_mask;
	struct {
		s64 sec;
		u32 nsec;
		s32 pad;
	} atime, btime, ctime, mtime;
	u64 rest[16];
};
struct kernel_sigaction {
	void (*handler)(int);
	unsigned long flags;
	void (*restorer)(void);
	u64 mask;
};

static inline long sys6(long nr, long a, long b, long c, long d, long e, long f)
{
#if defined __x86_64__
	long ret;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
#else
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;
	__asm__ volatile("svc 0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return x0;
#endif
}

// SYS(name, up to five arguments).
#define SYS_PICK(n, a, b, c, d, e, ...) sys6(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)
#define SYS(name, ...) SYS_PICK(SYS_##name, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0)

// SYS_COOKIE is SYS for the calls that our own seccomp filter forbids to
// everybody who does not know the cookie: see filter.c.
extern u64 cookie;
#define SYSC_PICK(n, a, b, c, d, e, ...) sys6(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)cookie)
#define SYS_COOKIE(name, ...) SYSC_PICK(SYS_##name, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0)

// clone_onto starts fn(arg) in a new process, on a stack of its own. fn must
// not return.
long clone_onto(u64 flags, void *stack_top, void (*fn)(void *), void *arg);
