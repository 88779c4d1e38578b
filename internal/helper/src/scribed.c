// What the scribes have written down, read: see scribe.c. The processes of the command can
// write there, so we believe none of it.
#include "scribe.h"

#if defined __x86_64__

// note_target notes where o->name leads, if a link of the root directory is in it.
static void note_target(struct observer *o, u8 op, u8 how)
{
	u32 from;
	const char *target = leads(o, o->name, &from);
	if (!target)
		return;
	if (o->links_moved)
		o->complete = 0; // it may have led somewhere else
	struct text t = text_in(o->real, sizeof o->real);
	put(&t, target);
	put(&t, o->name + from);
	note(o, op, how, o->real);
}

// plain says whether tidy would do nothing to the path of n bytes, which goes through no
// link of the root directory, as far as can be told eight bytes at a time. Up to eight
// bytes behind it are read, too.
static int plain(struct observer *o, const char *path, size_t n)
{
	const u64 ones = 0x0101010101010101ull, tops = ones << 7;
	u32 from;
	if (n < 8 || leads(o, path, &from)) // no link's name is longer
		return 0;
	for (size_t i = 0; i < n; i += 8) {
		u64 here, next;
		__builtin_memcpy(&here, path + i, 8);
		__builtin_memcpy(&next, path + i + 1, 8);
		if (n - i < 8) // what is behind the end is as good as a letter
			here |= ~0ull << 8 * (n - i);
		if (n - i <= 8)
			next |= ~0ull << 8 * (n - i - 1);
		// The top bit of each byte that is a slash, and then of those that are a slash or a dot.
		u64 slash = here ^ ones * '/', dot = next ^ ones * '.', again = next ^ ones * '/';
		slash = (slash - ones) & ~slash & tops;
		again = ((again - ones) & ~again) | ((dot - ones) & ~dot);
		if (slash & again || (here - ones) & ~here & tops)
			return 0;
	}
	return 1;
}

void scribe_finish(struct observer *o)
{
	struct scribe *s = o->scribe;
	o->s->slot->eager = s && s->log && s->log->used >= MUCH;
	if (!s || !s->log)
		return;
	struct log *log = s->log;
	for (u32 i = 0; i < TABLE; i++) {
		u32 at = log->table[i];
		if (!at)
			continue;
		if (at - 1 > ENTRIES - 2 * LONGEST) {
			o->complete = 0;
			continue;
		}
		struct lookup *l = (struct lookup *)(log->entries + at - 1);
		if (l->length > LONGEST || (l->op != OP_STAT && l->op != OP_OPEN && l->op != OP_ANEW && l->op != OP_EXEC)) {
			o->complete = 0;
			continue;
		}
		u8 how = l->how & (LOOKUP_FOUND | LOOKUP_MADE);
		const char *path = (const char *)(l + 1);
		if (l->how & LATER) {
			follow_entry(o, l->op, l->how, path, l->length);
			continue;
		}
		if (plain(o, path, l->length)) {
			note_part(o, l->op, how, path, l->length);
			continue;
		}
		memcpy(o->name, path, l->length);
		o->name[l->length] = 0;
		tidy(o->name);
		note(o, l->op, how, o->name);
		note_target(o, l->op, how);
	}
	if (log->lost)
		o->complete = 0;
}

// scribe_follow runs beside processes that write to the log: what is looked at is a
// copy.
void scribe_follow(struct observer *o)
{
	struct scribe *s = o->scribe;
	char path[LONGEST];
	if (!s || !s->log)
		return;
	__atomic_store_n(&s->log->still, 0, __ATOMIC_SEQ_CST);
	for (u32 i = 0; i < TABLE; i++) {
		u32 at = __atomic_load_n(&s->log->table[i], __ATOMIC_ACQUIRE);
		if (!at || at - 1 > ENTRIES - 2 * LONGEST)
			continue; // scribe_finish says what is wrong
		struct lookup *l = (struct lookup *)(s->log->entries + at - 1);
		u16 n = __atomic_load_n(&l->length, __ATOMIC_RELAXED);
		u8 op = __atomic_load_n(&l->op, __ATOMIC_RELAXED);
		if (!(__atomic_load_n(&l->how, __ATOMIC_RELAXED) & LATER) || n > LONGEST || (op != OP_STAT && op != OP_OPEN && op != OP_ANEW))
			continue;
		memcpy(path, l + 1, n);
		follow_entry(o, op, __atomic_exchange_n(&l->how, LATER_DONE, __ATOMIC_SEQ_CST), path, n);
	}
}

#endif
