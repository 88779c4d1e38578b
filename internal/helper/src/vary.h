// The system calls whose answers can be varied: what filter.c has to catch, and
// how vary.c has them answered.
#pragma once
#include "calls.h"
#include "wire.h"

// How a call is answered.
enum {
	VARY_CLOCK_CALL, // clock_gettime(clock, timespec)
	VARY_TIMEVAL, // gettimeofday(timeval, …)
	VARY_TIME, // time(time_t)
	VARY_FIRST, // a call that a program makes before it asks for the time
	VARY_FSTAT, // fstat(fd, …)
	VARY_STAT, // stat(path, …)
	VARY_LSTAT, // lstat(path, …)
	VARY_STAT_AT, // newfstatat(dir, path, …, flags)
	VARY_STATX, // statx(dir, path, flags, …)
	VARY_GETDENTS, // getdents64(fd, buffer, size)
	VARY_OLD_GETDENTS,
	VARY_AFFINITY, // sched_getaffinity(pid, size, mask)
	VARY_WRITE, // write(stream, …)
	VARY_EXEC,
	VARY_OTHER,
};

// What has to be varied for a call to be caught.
enum { BY_CLOCK = 1, BY_ORDER = 2, BY_CPUS = 4, BY_DELAY = 8 };

struct vary_call {
	s16 amd64, arm64;
	u8 how, what;
};

static const struct vary_call vary_calls[] = {
	{228, 113, VARY_CLOCK_CALL, BY_CLOCK},
	{96, 169, VARY_TIMEVAL, BY_CLOCK},
	{201, NONE, VARY_TIME, BY_CLOCK},
	{12, 214, VARY_FIRST, BY_CLOCK | BY_DELAY}, // brk
	{9, 222, VARY_FIRST, BY_CLOCK}, // mmap
	{158, NONE, VARY_FIRST, BY_CLOCK}, // arch_prctl
	{218, 96, VARY_FIRST, BY_CLOCK}, // set_tid_address
	{5, 80, VARY_FSTAT, BY_CLOCK},
	{4, NONE, VARY_STAT, BY_CLOCK},
	{6, NONE, VARY_LSTAT, BY_CLOCK},
	{262, 79, VARY_STAT_AT, BY_CLOCK},
	{332, 291, VARY_STATX, BY_CLOCK},
	{217, 61, VARY_GETDENTS, BY_ORDER},
	{78, NONE, VARY_OLD_GETDENTS, BY_ORDER},
	{204, 123, VARY_AFFINITY, BY_CPUS},
	{59, 221, VARY_EXEC, BY_DELAY}, // execve
	{322, 281, VARY_EXEC, BY_DELAY}, // execveat
	{2, NONE, VARY_OTHER, BY_DELAY}, // open
	{257, 56, VARY_OTHER, BY_DELAY}, // openat
	{1, 64, VARY_WRITE, BY_DELAY},
};

enum { VARY_CALLS = sizeof vary_calls / sizeof *vary_calls };

static inline u32 varied_by(const struct vary *v)
{
	return (v->flags & (VARY_SHIFT | VARY_FREEZE) ? BY_CLOCK : 0) | (v->flags & VARY_ORDER ? BY_ORDER : 0) |
	       (v->cpus ? BY_CPUS : 0) | (v->delay ? BY_DELAY : 0);
}
