// The system calls that name a path: what filter.c has to catch, and how
// observe.c reads them.
#pragma once
#include "sys.h"

enum { NONE = -1, CWD = -1 };

// How a call treats a symbolic link in the last place, and what else is
// special about it.
enum {
	FOLLOW,
	NO_FOLLOW,
	AT_FLAGS, // AT_SYMLINK_NOFOLLOW says
	LINK_FLAGS, // AT_SYMLINK_FOLLOW says
	OPEN_FLAGS, // O_NOFOLLOW says
	OPEN_HOW, // openat2
	EXECUTE, // the interpreter is looked up, too
	EXECUTE_AT, // with AT_FLAGS
	SOCKET_NAME, // a sockaddr, which may hold a path
	DESCRIPTOR, // no path at all: it matters only to later.c
};

struct path_call {
	s16 amd64, i386, arm64; // NONE where the machine does not have it
	u8 op, how;
	s8 dir, path; // argument numbers; dir may be CWD
	s8 dir2, path2; // of calls with two paths, else NONE
	s8 flags; // argument, for AT_FLAGS and so on
};

#define ONE(dir, path) dir, path, NONE, NONE
static const struct path_call path_calls[] = {
	{2, 5, NONE, 1, OPEN_FLAGS, ONE(CWD, 0), 1}, // open
	{257, 295, 56, 1, OPEN_FLAGS, ONE(0, 1), 2}, // openat
	{437, 437, 437, 1, OPEN_HOW, ONE(0, 1), 2}, // openat2
	{85, 8, NONE, 4, FOLLOW, ONE(CWD, 0), 0}, // creat
	{4, 106, NONE, 0, FOLLOW, ONE(CWD, 0), 0}, // stat
	{NONE, 18, NONE, 0, FOLLOW, ONE(CWD, 0), 0}, // oldstat
	{NONE, 195, NONE, 0, FOLLOW, ONE(CWD, 0), 0}, // stat64
	{6, 107, NONE, 0, NO_FOLLOW, ONE(CWD, 0), 0}, // lstat
	{NONE, 84, NONE, 0, NO_FOLLOW, ONE(CWD, 0), 0}, // oldlstat
	{NONE, 196, NONE, 0, NO_FOLLOW, ONE(CWD, 0), 0}, // lstat64
	{262, 300, 79, 0, AT_FLAGS, ONE(0, 1), 3}, // newfstatat, fstatat64
	{332, 383, 291, 0, AT_FLAGS, ONE(0, 1), 2}, // statx
	{21, 33, NONE, 0, FOLLOW, ONE(CWD, 0), 0}, // access
	{269, 307, 48, 0, FOLLOW, ONE(0, 1), 0}, // faccessat
	{439, 439, 439, 0, AT_FLAGS, ONE(0, 1), 3}, // faccessat2
	{89, 85, NONE, 0, NO_FOLLOW, ONE(CWD, 0), 0}, // readlink
	{267, 305, 78, 0, NO_FOLLOW, ONE(0, 1), 0}, // readlinkat
	{59, 11, 221, 2, EXECUTE, ONE(CWD, 0), 0}, // execve
	{322, 358, 281, 2, EXECUTE_AT, ONE(0, 1), 4}, // execveat
	{80, 12, 49, 0, FOLLOW, ONE(CWD, 0), 0}, // chdir
	{81, 133, NONE, 0, DESCRIPTOR, ONE(NONE, NONE), 0}, // fchdir: where there are scribes
	{137, 99, 43, 0, FOLLOW, ONE(CWD, 0), 0}, // statfs
	{NONE, 268, NONE, 0, FOLLOW, ONE(CWD, 0), 0}, // statfs64
	{83, 39, NONE, 0, NO_FOLLOW, ONE(CWD, 0), 0}, // mkdir
	{258, 296, 34, 0, NO_FOLLOW, ONE(0, 1), 0}, // mkdirat
	{84, 40, NONE, 0, NO_FOLLOW, ONE(CWD, 0), 0}, // rmdir
	{87, 10, NONE, 0, NO_FOLLOW, ONE(CWD, 0), 0}, // unlink
	{263, 301, 35, 0, NO_FOLLOW, ONE(0, 1), 0}, // unlinkat
	{82, 38, NONE, 3, NO_FOLLOW, CWD, 0, CWD, 1, 0}, // rename
	{264, 302, 38, 3, NO_FOLLOW, 0, 1, 2, 3, 0}, // renameat
	{316, 353, 276, 3, NO_FOLLOW, 0, 1, 2, 3, 0}, // renameat2
	{86, 9, NONE, 3, NO_FOLLOW, CWD, 0, CWD, 1, 0}, // link
	{265, 303, 37, 3, LINK_FLAGS, 0, 1, 2, 3, 4}, // linkat
	{88, 83, NONE, 0, NO_FOLLOW, ONE(CWD, 1), 0}, // symlink
	{266, 304, 36, 0, NO_FOLLOW, ONE(1, 2), 0}, // symlinkat
	{133, 14, NONE, 0, NO_FOLLOW, ONE(CWD, 0), 0}, // mknod
	{259, 297, 33, 0, NO_FOLLOW, ONE(0, 1), 0}, // mknodat
	{254, 292, 27, 0, FOLLOW, ONE(CWD, 1), 0}, // inotify_add_watch
	{303, 341, 264, 0, LINK_FLAGS, ONE(0, 1), 4}, // name_to_handle_at
	{76, 92, 45, 0, FOLLOW, ONE(CWD, 0), 0}, // truncate
	{NONE, 193, NONE, 0, FOLLOW, ONE(CWD, 0), 0}, // truncate64
	{132, 30, NONE, 0, FOLLOW, ONE(CWD, 0), 0}, // utime
	{235, 271, NONE, 0, FOLLOW, ONE(CWD, 0), 0}, // utimes
	{261, 299, NONE, 0, FOLLOW, ONE(0, 1), 0}, // futimesat
	{280, 320, 88, 0, AT_FLAGS, ONE(0, 1), 3}, // utimensat
	{NONE, 412, NONE, 0, AT_FLAGS, ONE(0, 1), 3}, // utimensat_time64
	{90, 15, NONE, 0, FOLLOW, ONE(CWD, 0), 0}, // chmod
	{268, 306, 53, 0, FOLLOW, ONE(0, 1), 0}, // fchmodat
	{452, 452, 452, 0, AT_FLAGS, ONE(0, 1), 3}, // fchmodat2
	{92, 182, NONE, 0, FOLLOW, ONE(CWD, 0), 0}, // chown
	{NONE, 212, NONE, 0, FOLLOW, ONE(CWD, 0), 0}, // chown32
	{94, 16, NONE, 0, NO_FOLLOW, ONE(CWD, 0), 0}, // lchown
	{NONE, 198, NONE, 0, NO_FOLLOW, ONE(CWD, 0), 0}, // lchown32
	{260, 298, 54, 0, AT_FLAGS, ONE(0, 1), 4}, // fchownat
	{188, 226, 5, 0, FOLLOW, ONE(CWD, 0), 0}, // setxattr
	{189, 227, 6, 0, NO_FOLLOW, ONE(CWD, 0), 0}, // lsetxattr
	{191, 229, 8, 0, FOLLOW, ONE(CWD, 0), 0}, // getxattr
	{192, 230, 9, 0, NO_FOLLOW, ONE(CWD, 0), 0}, // lgetxattr
	{194, 232, 11, 0, FOLLOW, ONE(CWD, 0), 0}, // listxattr
	{195, 233, 12, 0, NO_FOLLOW, ONE(CWD, 0), 0}, // llistxattr
	{197, 235, 14, 0, FOLLOW, ONE(CWD, 0), 0}, // removexattr
	{198, 236, 15, 0, NO_FOLLOW, ONE(CWD, 0), 0}, // lremovexattr
	{463, 463, 463, 0, AT_FLAGS, ONE(0, 1), 2}, // setxattrat
	{464, 464, 464, 0, AT_FLAGS, ONE(0, 1), 2}, // getxattrat
	{465, 465, 465, 0, AT_FLAGS, ONE(0, 1), 2}, // listxattrat
	{466, 466, 466, 0, AT_FLAGS, ONE(0, 1), 2}, // removexattrat
	{468, 468, 468, 0, AT_FLAGS, ONE(0, 1), 4}, // file_getattr
	{469, 469, 469, 0, AT_FLAGS, ONE(0, 1), 4}, // file_setattr
	{42, 362, 203, 0, SOCKET_NAME, ONE(CWD, 1), 0}, // connect
	{49, 361, 200, 0, SOCKET_NAME, ONE(CWD, 1), 0}, // bind
};
#undef ONE

enum { PATH_CALLS = sizeof path_calls / sizeof *path_calls };
