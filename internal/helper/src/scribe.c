// The scribe: look-ups that need not stop and ask.
//
// A notification costs 2.7 µs, of which the two changes of process are most,
// and a compiler makes thousands of look-ups, all from a handful of places in
// its C library. So a process of the command that has asked a few times, and asks from
// the same place again, or from one that another process of it has asked from, gets a
// scribe: a page of our code (inside.c), and a log that it shares with us (scribed.c).
// The instruction that loads the number of the system call there,
//
//	mov $NUMBER, %eax
//	syscall
//
// or another one in front of it (sites.c) becomes a jump to the scribe, which makes the
// call, and writes down what it named: 0.2 µs. The filter lets calls pass that come from
// the scribe's page. All others, of programs without a C library like that, of other
// places, before there is a scribe and where one cannot be, ask as they always did. So
// nothing is missed that would have been told without it; who jumps into the scribe's page
// to hide something could as well have raced with us (see observe.c).
//
// The scribe itself writes down only what needs no thought: absolute paths below
// the binds of the root directory, which mean the same whenever they are looked
// at, and those through the usual links of the root directory into such binds: who
// removes one of these has to ask. Relative ones, and those of places in which the
// command may write, it writes down as they are, as long as that can be followed later:
// see later.c. For others it asks after the call, with its registers.
//
// What is to be executed is looked for by the scribe first, in the directories of PATH: that
// there is nothing it writes down, and all else asks.
//
// How it gets in, and into which processes it does not, says enter.c.
//
// A command can find out: two more mappings in /proc/self/maps, and the bytes of
// its own code.
#include "scribe.h"

#if defined __x86_64__

// take does something about a site from which we are asked often. It returns 0
// if nothing can be done.
static int take(struct observer *o, struct scribe *s, s32 listener, const struct seccomp_notif *n)
{
	struct inside in;
	// A process that has got the loader has a scribe.
	int has = look_inside(o, &in, s->loaded_tid != n->pid);
	if (has < 0)
		return 0;
	s32 mem = memory_of(o, s, listener, n);
	if (mem < 0)
		return 0;
	if (has)
		return alone(o, s, n->pid) && redirect(o, s, n->data.ip, mem, in.calls);
	return settle(o, s, listener, n, mem, in.vdso);
}

static struct scribe *new_scribe(struct observer *o)
{
	struct scribe *s = o->scribe = map(sizeof *s, -1, 0);
	if (!s)
		return 0;
	s->fd = s->mem = -1;
	s->sites = &o->s->slot->sites;
	forget_process(s->sites);
	s->off = o->s->slot->no_scribe || loader_end - loader > LOADER_MAX;
	return s;
}

// forget_counters is for a process that has another program now, or of which it is not
// known any more how often it has asked. One that has not asked has no counters.
static void forget_counters(struct scribe *s, u32 tid)
{
	for (u32 i = 0; i < COUNTERS; i++)
		if (s->counters[i].tid == tid)
			s->counters[i].count = 0;
}

// asks counts how often the process has asked.
static u32 *asks(struct scribe *s, u32 tid)
{
	u32 i = tid & (ASKED - 1);
	if (s->asked[i].tid != tid) {
		if (s->asked[i].count)
			forget_counters(s, s->asked[i].tid);
		s->asked[i].tid = tid;
		s->asked[i].count = 0;
	}
	return &s->asked[i].count;
}

// patience is how often a process has to ask. Where others of the command, or the command
// before, have had much to write, it is likely to have that, too: then it pays at once.
static u32 patience(struct observer *o, struct scribe *s)
{
	return o->s->slot->eager || (s->log && s->log->used >= MUCH) ? 1 : PATIENCE;
}

void scribe_consider(struct observer *o, s32 listener, const struct seccomp_notif *n)
{
	struct scribe *s = o->scribe;
	if (!s)
		s = new_scribe(o);
	if (s && n->data.arch == AUDIT_ARCH && (n->data.nr == SYS_prctl || n->data.nr == SYS_seccomp)) {
		if (s->log) // else nobody has a scribe, and who has filters gets none
			s->log->filters = 1;
		return;
	}
	if (!s || s->off)
		return;
	if (n->data.arch != AUDIT_ARCH || n->data.nr == SYS_execve || n->data.nr == SYS_execveat)
		forget_memory(s);
	if (n->data.arch != AUDIT_ARCH)
		return;
	if (n->data.nr == SYS_execve || n->data.nr == SYS_execveat) {
		u32 *asked = asks(s, n->pid);
		if (*asked)
			forget_counters(s, n->pid);
		*asked = 0;
		if (n->data.nr == SYS_execve && o->begun) // else it is from our own code
			consider_exec(o, s->sites, n->data.ip);
		if (s->sites->tid == n->pid)
			forget_process(s->sites);
		return;
	}
	u32 *asked = asks(s, n->pid);
	++*asked;
	u32 i = ((u32)n->data.ip * 2654435761u ^ n->pid * 40503u) >> 8 & (COUNTERS - 1);
	if (s->counters[i].tid != n->pid || s->counters[i].ip != n->data.ip) {
		s->counters[i].tid = n->pid;
		s->counters[i].ip = n->data.ip;
		s->counters[i].count = 0;
	}
	u8 *count = &s->counters[i].count;
	if (*count == NEVER)
		return;
	int known = *count ? 1 : consider_site(o, s->sites, n->data.ip, n->data.nr);
	*count = known < 0 || (known && *asked >= patience(o, s) && !take(o, s, listener, n)) ? NEVER : 1;
}

int scribe_answer(struct observer *o, s32 listener, const struct seccomp_notif *n, s64 *answer)
{
	struct scribe *s = o->scribe;
	if (!s || n->data.arch != AUDIT_ARCH)
		return 0;
	if (n->data.ip == in_process(scribe_asked)) {
		o->ip = 0; // its code is no site's
		look_up(o, AUDIT_ARCH, n->data.nr, n->data.args, (s64)n->data.args[5]);
		return 1;
	}
	return loaded(o, s, listener, n, answer);
}

void scribe_free(struct observer *o)
{
	struct scribe *s = o->scribe;
	if (!s)
		return;
	if (s->log)
		SYS(munmap, s->log, LOG_SIZE);
	SYS(munmap, s, sizeof *s);
	o->scribe = 0;
}

#else

int scribe_answer(struct observer *o, s32 listener, const struct seccomp_notif *n, s64 *answer)
{
	return 0;
}

void scribe_consider(struct observer *o, s32 listener, const struct seccomp_notif *n)
{
}

void scribe_finish(struct observer *o)
{
}

void scribe_follow(struct observer *o)
{
}

void scribe_free(struct observer *o)
{
}

#endif
