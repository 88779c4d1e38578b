// From rules to a program of the kernel's: a binary decision tree, whose leaves are shared.
#include "program.h"
#include "observe.h"

#define ALL_NAMESPACES                                                                                                 \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

void emit(struct program *p, u16 code, u32 k, u8 yes, u8 no)
{
	if (p->n < FILTER_MAX)
		p->out[p->n] = (struct sock_filter){code, yes, no, k};
	p->n++;
}

void set_jump(struct program *p, u32 at, int yes)
{
	u32 distance = p->n - at - 1;
	if (p->n >= FILTER_MAX || distance > 255) {
		p->n = FILTER_MAX + 1;
		return;
	}
	if (yes)
		p->out[at].jt = (u8)distance;
	else
		p->out[at].jf = (u8)distance;
}

void emit_return(struct program *p, u32 k)
{
	emit(p, RETURN, k, 0, 0);
}

void emit_load_arg(struct program *p, u32 arg, u32 word)
{
	emit(p, LOAD, AT_ARGS + 8 * arg + 4 * word, 0, 0);
}

static void emit_allow(struct program *p)
{
	emit_return(p, p->ask_rest ? SECCOMP_RET_USER_NOTIF : SECCOMP_RET_ALLOW);
}

// allow_cookie ends the program if the cookie says that it is us.
static void allow_cookie(struct program *p)
{
	emit_load_arg(p, 5, 0);
	emit(p, IF_EQUAL, (u32)cookie, 0, 3);
	emit_load_arg(p, 5, 1);
	emit(p, IF_EQUAL, (u32)(cookie >> 32), 0, 1);
	emit_return(p, SECCOMP_RET_ALLOW);
}

// refuse_others ends the program with EPERM, unless the cookie says that it is us.
static void refuse_others(struct program *p)
{
	if (p->with_cookie)
		allow_cookie(p);
	emit_return(p, SECCOMP_RET_ERRNO | EPERM);
}

// check_clone ends the program for a call whose flags say whether it makes namespaces.
static void check_clone(struct program *p, u32 namespaces)
{
	emit_load_arg(p, 0, 0);
	emit(p, IF_SET, namespaces, 1, 0);
	emit_allow(p);
	refuse_others(p);
}

// check_socket allows unix, inet, inet6, and of netlink only routes, which list the
// interfaces.
static void check_socket(struct program *p)
{
	emit_load_arg(p, 0, 0);
	emit(p, IF_EQUAL, 1, 5, 0);
	emit(p, IF_EQUAL, 2, 4, 0);
	emit(p, IF_EQUAL, 10, 3, 0);
	emit(p, IF_EQUAL, 16, 0, 3);
	emit_load_arg(p, 2, 0);
	emit(p, IF_EQUAL, 0, 0, 1);
	emit_allow(p);
	emit_return(p, SECCOMP_RET_ERRNO | EAFNOSUPPORT);
}

// check_socketcall refuses socket(), whose family is in memory here.
static void check_socketcall(struct program *p)
{
	emit_load_arg(p, 0, 0);
	emit(p, IF_EQUAL, 1, 0, 1);
	emit_return(p, SECCOMP_RET_ERRNO | ENOSYS);
	emit_allow(p);
}

// check_ioctl refuses TIOCSTI and TIOCLINUX, which put words into the mouth of a
// terminal's user.
static void check_ioctl(struct program *p)
{
	emit_load_arg(p, 1, 0);
	emit(p, IF_EQUAL, 0x5412, 1, 0);
	emit(p, IF_EQUAL, 0x541C, 0, 1);
	emit_return(p, SECCOMP_RET_ERRNO | EPERM);
	emit_allow(p);
}

// watch asks about the call, unless its first argument says that it is not of interest.
static void watch(struct program *p, u32 check)
{
	if (check == WATCH_DIR)
		allow_cookie(p);
	if (check == WATCH_CLOCK) { // CLOCK_REALTIME, CLOCK_REALTIME_COARSE, CLOCK_TAI
		emit_load_arg(p, 0, 0);
		emit(p, IF_EQUAL, 0, 3, 0);
		emit(p, IF_EQUAL, 5, 2, 0);
		emit(p, IF_EQUAL, 11, 1, 0);
		emit_return(p, SECCOMP_RET_ALLOW);
	}
	if (check == WATCH_STREAM) {
		emit_load_arg(p, 0, 0);
		emit(p, IF_GREATER, 2, 0, 1);
		emit_return(p, SECCOMP_RET_ALLOW);
	}
	if (check == WATCH_FILTERS) {
		emit_load_arg(p, 0, 0);
		emit(p, IF_EQUAL, PR_SET_SECCOMP, 1, 0);
		emit_return(p, SECCOMP_RET_ALLOW);
	}
	if (check == WATCH_MEMORY) {
		emit_load_arg(p, 3, 0);
		emit(p, IF_EQUAL, HUGE_FLAGS, 0, 5);
		emit_load_arg(p, 2, 0);
		emit(p, IF_EQUAL, HUGE_PROTECTION, 0, 3);
		emit_load_arg(p, 1, 0);
		emit(p, IF_NOT_LESS, HUGE_LEAST, 0, 1);
		emit(p, IF_GREATER, HUGE_MOST, 0, 1);
		emit_return(p, SECCOMP_RET_ALLOW);
	}
#if defined __x86_64__ // what a scribe writes down need not ask
	emit(p, LOAD, AT_IP + 4, 0, 0);
	emit(p, IF_EQUAL, (u32)(SCRIBE_CALLS_AT >> 32), 0, 4);
	emit(p, LOAD, AT_IP, 0, 0);
	emit(p, IF_NOT_LESS, (u32)SCRIBE_CALLS_AT, 0, 2);
	emit(p, IF_NOT_LESS, (u32)SCRIBE_CALLS_END, 1, 0);
	emit_return(p, SECCOMP_RET_ALLOW);
#endif
	emit_return(p, SECCOMP_RET_USER_NOTIF);
}

// emit_check ends the program for a system call that a rule is about.
static void emit_check(struct program *p, u32 check)
{
	switch (check) {
	case REFUSE: emit_return(p, SECCOMP_RET_ERRNO | EPERM); break;
	case MISSING: emit_return(p, SECCOMP_RET_ERRNO | ENOSYS); break;
	case FAKE: emit_return(p, SECCOMP_RET_ERRNO | 0); break;
	case ALLOW: emit_allow(p); break;
	case OURS: refuse_others(p); break;
	case CLONE: check_clone(p, ALL_NAMESPACES); break;
	case UNSHARE: check_clone(p, ALL_NAMESPACES | CLONE_NEWTIME); break;
	case SOCKET: check_socket(p); break;
	case SOCKETCALL: check_socketcall(p); break;
	case IOCTL: check_ioctl(p); break;
	default: watch(p, check);
	}
}

// The numbers of system calls are cut into intervals, at each rule's first
// number and behind its last: even intervals are between the rules, odd ones are
// the rules. start_of says where one begins.
static u32 start_of(const struct rule *rules, u32 i)
{
	return i % 2 ? rules[i / 2].first : rules[i / 2 - 1].last + 1;
}

static void emit_branch(struct program *p, u32 at, int yes, const struct rule *rules, u32 from, u32 to);

// emit_tree decides in which of the intervals from to to-1, at least two, the
// number in the accumulator is.
static void emit_tree(struct program *p, const struct rule *rules, u32 from, u32 to)
{
	u32 half = from + (to - from) / 2, at = p->n;
	emit(p, IF_NOT_LESS, start_of(rules, half), 0, 0);
	emit_branch(p, at, 0, rules, from, half);
	emit_branch(p, at, 1, rules, half, to);
}

// emit_branch makes the jump at "at" go to the decision between these intervals,
// or to the check of the only one.
static void emit_branch(struct program *p, u32 at, int yes, const struct rule *rules, u32 from, u32 to)
{
	if (to - from > 1) {
		set_jump(p, at, yes);
		emit_tree(p, rules, from, to);
		return;
	}
	if (p->njumps == JUMPS_MAX) {
		p->n = FILTER_MAX + 1;
		return;
	}
	p->jumps[p->njumps].at = at;
	p->jumps[p->njumps].yes = yes;
	p->jumps[p->njumps++].check = from % 2 ? rules[from / 2].check : ALLOW;
}

// emit_checks emits the checks that the tree jumps to.
static void emit_checks(struct program *p)
{
	for (u32 check = 0; check <= ALLOW; check++) {
		int used = 0;
		for (u32 i = 0; i < p->njumps; i++)
			if (p->jumps[i].check == check) {
				set_jump(p, p->jumps[i].at, p->jumps[i].yes);
				used = 1;
			}
		if (used)
			emit_check(p, check);
	}
	p->njumps = 0;
}

void emit_arch(struct program *p, u32 arch, const struct rule *rules, u32 n)
{
	u32 at = p->n;
	emit(p, IF_EQUAL, arch, 1, 0);
	emit(p, JUMP, 0, 0, 0);
	emit(p, LOAD, AT_NR, 0, 0);
	// The last rule of a list may reach to the last number there is.
	emit_tree(p, rules, 0, rules[n - 1].last == ~0u ? 2 * n : 2 * n + 1);
	emit_checks(p);
	if (p->n < FILTER_MAX)
		p->out[at + 1].k = p->n - at - 2;
}
