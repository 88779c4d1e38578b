// Which of a command's processes goes first: each waits for a while at the first
// call that we hear of from it, or until those before it have ended.
#include "varied.h"

enum {
	DELAY_STEP = 8 * 1000 * 1000, // ns
	DELAY_BUDGET = 2000 * 1000 * 1000,
	TURN_MAX = 300 * 1000 * 1000, // ns that a process waits for those before it
	TURN_STEP = 1000 * 1000, // ns from look to look
	DEPTH_MAX = 64,
};

void go_on(s32 listener, u64 id)
{
	struct seccomp_notif_resp resp = {.id = id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
	SYS(ioctl, listener, SECCOMP_IOCTL_NOTIF_SEND, &resp);
}

// delay is how long the next new process waits.
static u64 delay(struct varied *v)
{
	u32 seed = v->s->req->vary.delay, n = v->processes++;
	if (seed == VARY_IN_TURN)
		return TURN_MAX;
	if (seed == 1) // the first of some comes last
		return (5 - n % 6) * DELAY_STEP;
	return ((n + seed) * 2654435761u >> 29) * DELAY_STEP;
}

// hold_back says whether the first call that we hear of from a process shall wait.
int hold_back(struct varied *v, u64 id, u32 tid)
{
	u32 bit = tid % 65536;
	if (!v->s->req->vary.delay || v->seen[bit / 8] & 1 << bit % 8 || v->nheld == HELD_MAX)
		return 0;
	v->seen[bit / 8] |= (u8)(1 << bit % 8);
	u64 now = now_ns(), wait = delay(v);
	if (!wait || v->delayed > DELAY_BUDGET)
		return 0;
	v->held[v->nheld].id = id;
	v->held[v->nheld].tid = tid;
	v->held[v->nheld].since = now;
	v->held[v->nheld++].due = now + wait;
	return 1;
}

static int descends(struct varied *v, u32 tid, u32 from)
{
	for (u32 i = 0; i < DEPTH_MAX && tid > 1; i++) {
		if (tid == from)
			return 1;
		tid = status_of(v, tid, "\nPPid:\t");
	}
	return 0;
}

// may_begin says whether all that began before tid have ended, but for those that
// it descends from.
static int may_begin(struct varied *v, u32 tid)
{
	struct timespec none = {0, 0};
	for (u32 i = 0; i < v->nlive;) {
		struct pollfd ended = {v->live[i].process, POLLIN, 0};
		if (SYS(ppoll, &ended, 1, &none, 0, 8) > 0) {
			SYS(close, ended.fd);
			v->live[i] = v->live[--v->nlive];
			continue;
		}
		if (!descends(v, tid, v->live[i].tid))
			return 0;
		i++;
	}
	return 1;
}

static void begins(struct varied *v, u32 tid)
{
	long process = v->nlive < LIVE_MAX ? SYS(pidfd_open, tid, 0) : -EAGAIN;
	if (process < 0) // a thread, or dead
		return;
	v->live[v->nlive].tid = tid;
	v->live[v->nlive++].process = (s32)process;
}

// release_held lets those go on whose time has come, and returns when to look again,
// or 0.
u64 release_held(struct varied *v, s32 listener)
{
	int turns = v->s->req->vary.delay == VARY_IN_TURN;
	u64 next = 0, now = v->nheld ? now_ns() : 0;
	u32 kept = 0;
	for (u32 i = 0; i < v->nheld; i++) {
		u32 tid = v->held[i].tid;
		if (v->held[i].due <= now || (turns && kept == 0 && may_begin(v, tid))) {
			if (turns)
				begins(v, tid);
			v->delayed += now - v->held[i].since;
			go_on(listener, v->held[i].id);
			continue;
		}
		u64 look = turns ? now + TURN_STEP : v->held[i].due;
		if (!next || look < next)
			next = look;
		v->held[kept++] = v->held[i];
	}
	v->nheld = kept;
	return next;
}
