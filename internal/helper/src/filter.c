// The two seccomp filters: what a command may not do, and what is watched.
//
// The deny list is a second fence: a command has no capability and no way to
// get one, so most of these calls would fail anyway. It takes away the parts
// of the kernel that have no place in a build and a long history of holes.
//
// The slot installs it once for itself and all its children, which saves 40 to
// 80 µs per command; but the first command of a slot, mostly the only one, has both
// filters in one if it is observed: see both_filter. The slot needs some of the
// forbidden calls itself (mounts, namespaces), so those are allowed to whoever passes
// a secret random number as sixth argument, where these calls have none. A command
// cannot read our memory, and if it could, it would still lack the capabilities.
//
// What an installation costs is mainly that the kernel translates the filter
// and tries it on each system call number: 0.15 µs per instruction. So both
// filters are short: see program.c.
#include "calls.h"
#include "owners.h"
#include "rules.h"
#include "vary.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

// add_rule adds a rule for one call to a sorted list, if there is none for it.
static u32 add_rule(struct rule *out, u32 n, s32 nr, u32 check)
{
	u32 j = n;
	if (nr == NONE)
		return n;
	for (; j > 0 && out[j - 1].first >= (u32)nr; j--)
		if (out[j - 1].first == (u32)nr)
			return n;
	if (j > 0 && out[j - 1].last >= (u32)nr)
		return n;
	for (u32 i = n; i > j; i--)
		out[i] = out[i - 1];
	out[j] = (struct rule){(u32)nr, (u32)nr, check};
	return n + 1;
}

// no_sockets copies rules, and refuses all that makes sockets, pairs too: those of
// datagrams can be connected to others.
static u32 no_sockets(struct rule *out, const struct rule *rules, u32 n, s32 pair)
{
	for (u32 i = 0; i < n; i++) {
		out[i] = rules[i];
		if (rules[i].check == SOCKET || rules[i].check == SOCKETCALL)
			out[i].check = REFUSE;
	}
	return add_rule(out, n, pair, REFUSE);
}

enum { DENY_RULES = 64 };
_Static_assert(COUNT(native_rules) < DENY_RULES, "room for one more");

static u32 native_deny(struct rule *out, int sealed)
{
	if (sealed)
		return no_sockets(out, native_rules, COUNT(native_rules), NR(53, 199));
	memcpy(out, native_rules, sizeof native_rules);
	return COUNT(native_rules);
}

// emit_others emits the deny list for 32-bit programs.
static void emit_others(struct program *p, int sealed)
{
#if defined __x86_64__
	_Static_assert(COUNT(i386_rules) < DENY_RULES, "room for one more");
	struct rule rules[DENY_RULES];
	if (sealed)
		emit_arch(p, AUDIT_ARCH_I386, rules, no_sockets(rules, i386_rules, COUNT(i386_rules), 360));
	else
		emit_arch(p, AUDIT_ARCH_I386, i386_rules, COUNT(i386_rules));
#endif
	emit_return(p, SECCOMP_RET_ERRNO | ENOSYS); // 32-bit ARM
}

// deny_filter writes the deny list and returns its length. Sealed: there are no
// sockets.
u32 deny_filter(struct sock_filter *out, int with_cookie, int sealed)
{
	struct program p = {.out = out, .with_cookie = with_cookie};
	struct rule rules[DENY_RULES];
	emit(&p, LOAD, AT_ARCH, 0, 0);
	emit_arch(&p, AUDIT_ARCH, rules, native_deny(rules, sealed));
	emit_others(&p, sealed);
	return p.n;
}

// old_filter writes a filter in which the system calls with paths that proot does
// not know are missing, and those that are still to come: it would let them through
// with paths that are not the command's.
u32 old_filter(struct sock_filter *out)
{
	static const struct rule rules[] = {
		{NR(322, 281), NR(322, 281), MISSING}, // execveat
		{NR(332, 291), NR(332, 291), MISSING}, // statx
		{437, 437, MISSING}, // openat2
		{439, 439, MISSING}, // faccessat2
		{452, 452, MISSING}, // fchmodat2
		{463, ~0u, MISSING}, // setxattrat and later
	};
	struct program p = {.out = out};
	emit(&p, LOAD, AT_ARCH, 0, 0);
	emit_arch(&p, AUDIT_ARCH, rules, COUNT(rules));
#if defined __x86_64__
	static const struct rule i386[] = {
		{358, 358, MISSING}, {383, 383, MISSING}, {437, 437, MISSING},
		{439, 439, MISSING}, {452, 452, MISSING}, {463, ~0u, MISSING},
	};
	emit_arch(&p, AUDIT_ARCH_I386, i386, COUNT(i386));
#endif
	emit_return(&p, SECCOMP_RET_ERRNO | ENOSYS);
	return p.n;
}

// join_rules makes neighbours that are treated alike one rule.
static u32 join_rules(struct rule *out, u32 n)
{
	u32 m = 0;
	for (u32 i = 1; i < n; i++)
		if (out[i].check == out[m].check && out[i].first == out[m].last + 1)
			out[m].last = out[i].last;
		else
			out[++m] = out[i];
	return m + 1;
}

static u32 path_rules(struct rule *out, u32 n)
{
	for (u32 i = 0; i < PATH_CALLS; i++)
		n = add_rule(out, n, NR(path_calls[i].amd64, path_calls[i].arm64), path_calls[i].how == DESCRIPTOR ? WATCH_DIR : WATCH);
	return n;
}

// watched_rules are those of a command that is observed.
static u32 watched_rules(struct rule *out, u32 n)
{
#if defined __x86_64__ // elsewhere there is no scribe
	n = add_rule(out, n, SYS_mmap, WATCH_MEMORY);
	n = add_rule(out, n, SYS_prctl, WATCH_FILTERS);
	n = add_rule(out, n, SYS_seccomp, WATCH);
#endif
	return path_rules(out, n);
}

enum { WATCHED_RULES = PATH_CALLS + 3 };

// observe_filter writes the filter that asks pid 1 about each path.
u32 observe_filter(struct sock_filter *out)
{
	struct program p = {.out = out};
	struct rule rules[WATCHED_RULES];
	emit(&p, LOAD, AT_ARCH, 0, 0);
	emit_arch(&p, AUDIT_ARCH, rules, join_rules(rules, watched_rules(rules, 0)));
	// A 32-bit program asks for each of its system calls, so that all others
	// need not wait until the kernel has translated a filter twice as long.
	emit_return(&p, SECCOMP_RET_USER_NOTIF);
	return p.n;
}

// both_filter writes what deny_filter and observe_filter write, in one: that is less for
// the kernel to translate, and to execute at each call. Who forbids wins.
u32 both_filter(struct sock_filter *out, int sealed)
{
	struct program p = {.out = out, .with_cookie = 1};
	struct rule rules[DENY_RULES + WATCHED_RULES];
	emit(&p, LOAD, AT_ARCH, 0, 0);
	emit_arch(&p, AUDIT_ARCH, rules, join_rules(rules, watched_rules(rules, native_deny(rules, sealed))));
	p.ask_rest = 1; // see observe_filter
	emit_others(&p, sealed);
	return p.n;
}

// owners_filter writes the filter that asks pid 1 about owners, and if the command
// is observed about each path, too.
u32 owners_filter(struct sock_filter *out, int observed)
{
	struct program p = {.out = out};
	struct rule rules[PATH_CALLS + OWNER_CALLS];
	u32 n = observed ? path_rules(rules, 0) : 0;
	for (u32 i = 0; i < OWNER_CALLS; i++)
		n = add_rule(rules, n, NR(owner_calls[i].amd64, owner_calls[i].arm64), owner_calls[i].how == OWN_FAKE ? FAKE : WATCH);
	emit(&p, LOAD, AT_ARCH, 0, 0);
	emit_arch(&p, AUDIT_ARCH, rules, join_rules(rules, n));
	if (observed) { // see observe_filter
		emit_return(&p, SECCOMP_RET_USER_NOTIF);
		return p.n;
	}
#if defined __x86_64__
	n = 0;
	for (u32 i = 0; i < OWNER_CALLS; i++)
		n = add_rule(rules, n, owner_calls[i].i386, owner_calls[i].how == OWN_FAKE ? FAKE : WATCH);
	emit_arch(&p, AUDIT_ARCH_I386, rules, join_rules(rules, n));
#endif
	emit_return(&p, SECCOMP_RET_ALLOW);
	return p.n;
}

// vary_filter writes the filter that asks pid 1 about what is varied. 32-bit
// programs are told the truth.
u32 vary_filter(struct sock_filter *out, const struct vary *v)
{
	struct program p = {.out = out};
	struct rule rules[VARY_CALLS];
	u32 n = 0, what = varied_by(v);
	for (u32 i = 0; i < VARY_CALLS; i++) {
		const struct vary_call *c = &vary_calls[i];
		s16 nr = NR(c->amd64, c->arm64);
		if (nr == NONE || !(c->what & what))
			continue;
		u32 check = c->how == VARY_CLOCK_CALL ? WATCH_CLOCK : c->how == VARY_WRITE ? WATCH_STREAM : WATCH;
		struct rule r = {(u32)nr, (u32)nr, check};
		u32 j = n++;
		for (; j > 0 && rules[j - 1].first > r.first; j--)
			rules[j] = rules[j - 1];
		rules[j] = r;
	}
	emit(&p, LOAD, AT_ARCH, 0, 0);
	if (n)
		emit_arch(&p, AUDIT_ARCH, rules, n);
	emit_return(&p, SECCOMP_RET_ALLOW);
	return p.n;
}

// allow_pairs ends the program for socketpair: pairs of datagrams could be connected
// to a socket with a name afterwards (AF_UNIX takes SOCK_RAW for them, too).
static void allow_pairs(struct program *p)
{
	enum { TYPES = 15 };
	emit_load_arg(p, 1, 0);
	emit(p, AND, TYPES, 0, 0);
	emit(p, IF_EQUAL, SOCK_STREAM, 1, 0);
	emit(p, IF_EQUAL, SOCK_SEQPACKET, 0, 1);
	emit_return(p, SECCOMP_RET_ALLOW);
	emit_return(p, SECCOMP_RET_ERRNO | EACCES);
}

// socket_filter writes the filter of a command that shares the host's network
// namespace: no sockets, or with internet only those; never one with a name in the
// file system, or that could be connected to one. 32-bit programs get only pairs.
u32 socket_filter(struct sock_filter *out, int internet)
{
	struct program p = {.out = out};
	emit(&p, LOAD, AT_ARCH, 0, 0);
	emit(&p, IF_EQUAL, AUDIT_ARCH, 0, 0);
	u32 native = p.n - 1;
	emit(&p, LOAD, AT_NR, 0, 0);
	emit(&p, IF_EQUAL, NR(53, 199), 0, 6);
	allow_pairs(&p);
	emit(&p, IF_EQUAL, NR(41, 198), 1, 0);
	emit_return(&p, SECCOMP_RET_ALLOW);
	if (internet) {
		emit_load_arg(&p, 0, 0);
		emit(&p, IF_EQUAL, AF_UNIX, 1, 0);
		emit_return(&p, SECCOMP_RET_ALLOW);
	}
	emit_return(&p, SECCOMP_RET_ERRNO | EACCES);
	set_jump(&p, native, 0);
	emit(&p, LOAD, AT_NR, 0, 0);
	emit(&p, IF_EQUAL, 360, 0, 6);
	allow_pairs(&p);
	// socket and socketcall
	emit(&p, IF_EQUAL, 359, 2, 0);
	emit(&p, IF_EQUAL, 102, 1, 0);
	emit_return(&p, SECCOMP_RET_ALLOW);
	emit_return(&p, SECCOMP_RET_ERRNO | EACCES);
	return p.n;
}

// groups_filter writes a filter that lets a program believe that it has given up its
// groups, which nobody can in a user namespace of a user.
u32 groups_filter(struct sock_filter *out)
{
	struct program p = {.out = out};
	emit(&p, LOAD, AT_ARCH, 0, 0);
	emit(&p, IF_EQUAL, AUDIT_ARCH, 0, 3);
	emit(&p, LOAD, AT_NR, 0, 0);
	emit(&p, IF_EQUAL, SYS_setgroups, 0, 1);
	emit_return(&p, SECCOMP_RET_ERRNO);
	emit_return(&p, SECCOMP_RET_ALLOW);
	return p.n;
}

// install puts a filter in force for this process and its children.
long install(struct sock_filter *filter, u32 n, u32 flags)
{
	if (n > FILTER_MAX)
		return -E2BIG;
	struct sock_fprog prog = {(u16)n, filter};
	return SYS(seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);
}
