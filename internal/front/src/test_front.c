// The front as an ordinary program, for tests: with the checks of a compiler that
// looks for reads and writes beyond their bounds.
//
//	(no arguments of its own)  as the front; prints why it did not answer
//	FRONT_TEST=key             prints the key of this call
//	FRONT_TEST=lone            moves a stack as for Go, and prints what is in it then
//	FRONT_TEST=fuzz:N:FILE     takes a memo's file apart N times, each with other
//	                           bytes changed, as far as before the first output
//	FRONT_TEST=damage:FILE     cuts a memo at each byte, changes each bit, and has
//	                           zeros from each byte on; prints how many were parsed
#define FRONT_TEST
typedef unsigned long size_t;
void *memcpy(void *restrict, const void *restrict, size_t);
void *memset(void *, int, size_t);
#include "front.c"
int printf(const char *, ...);
char *getenv(const char *);
long strtol(const char *, char **, int);
void (*signal(int, void (*)(int)))(int);

static u64 dice(u64 *state)
{
	*state ^= *state << 13, *state ^= *state >> 7, *state ^= *state << 17;
	return *state;
}

static int fuzz(struct front *f, const char *spec)
{
	static u8 good[1 << 20], bad[1 << 20], key[KEY_MAX], buf[BLOCK];
	char *file;
	u64 n = (u64)strtol(spec, &file, 10), state = 0x9e3779b97f4a7c15, reached[4] = {0};
	i64 fd = f_open(AT_FDCWD, file + 1, O_RDONLY, 0);
	i64 size = f_read(fd, good, sizeof good);
	if (size <= RECORD_HEAD + HEAD)
		return 1;
	u64 key_len = key_of(f, key);
	for (u64 i = 0; i < n; i++) {
		u64 len = (u64)size;
		memcpy(bad, good, len);
		if (i % 8 == 7)
			len = RECORD_HEAD + 8 + dice(&state) % (len - RECORD_HEAD - 8);
		for (u64 k = i ? 1 + dice(&state) % 4 : 0; k; k--) {
			u64 at = RECORD_HEAD + 16 + dice(&state) % (u64)(size - RECORD_HEAD - 16);
			bad[at] = (u8)(dice(&state) % 3 ? dice(&state) : bad[at] ^ 1u << dice(&state) % 8);
		}
		if (len >= RECORD_HEAD + 16) {
			u64 s = sum(bad + RECORD_HEAD + 16, len - RECORD_HEAD - 16);
			memcpy(bad + RECORD_HEAD + 8, &s, 8);
		}
		// In a piece of memory that ends where the memo does.
		u8 *p = bad + sizeof bad - len;
		for (u64 b = len; b-- > 0;)
			p[b] = bad[b];
		struct stat self;
		reached[0]++;
		enum reason why = parse(f, key, key_len, p, len, &self);
		if (why)
			continue;
		reached[1]++;
		if (holds(f, &self))
			continue;
		reached[2]++;
		struct delivery d;
		struct append appends[APPENDS_MAX];
		u64 count = 0;
		d.n = d.n_dirs = d.names_len = 0;
		if (prepare(f, &d, buf)) {
			reached[3]++;
			take(&f->tail, number(&f->tail, 4));
			take(&f->tail, number(&f->tail, 4));
			open_appends(f, appends, &count);
			for (u64 k = 0; k < count; k++)
				f_close(appends[k].fd);
		}
		undo(&d);
	}
	printf("%lu parsed %lu held %lu prepared %lu\n", reached[0], reached[1], reached[2], reached[3]);
	return 0;
}

// damage gives the parser what a disk or a power cut may leave of a memo: none of it may
// be taken for one.
static int damage(struct front *f, const char *file)
{
	static u8 good[1 << 20], bad[1 << 20], key[KEY_MAX];
	i64 size = f_read(f_open(AT_FDCWD, file, O_RDONLY, 0), good, sizeof good);
	u64 key_len = key_of(f, key), tries = 0, taken = 0;
	struct stat self;
	if (size <= RECORD_HEAD + HEAD || parse(f, key, key_len, good, (u64)size, &self))
		return 1;
	for (u64 n = (u64)size, at = 0; at < n; at++) {
		u8 *cut = bad + sizeof bad - at; // it ends where the memory does
		memcpy(cut, good, at);
		tries++, taken += !parse(f, key, key_len, cut, at, &self);
		memcpy(bad, good, n);
		if (at >= RECORD_HEAD || at < 4) // the sum of the store is for others
			for (int bit = 0; bit < 8; bit++) {
				bad[at] = good[at] ^ (u8)(1 << bit);
				tries++, taken += !parse(f, key, key_len, bad, n, &self);
			}
		int zeros = 1; // already
		for (u64 i = at; i < n; i++)
			zeros &= !good[i], bad[i] = 0;
		tries++, taken += !zeros && !parse(f, key, key_len, bad, n, &self);
	}
	printf("%lu tries %lu parsed\n", tries, taken);
	return 0;
}

static int alone(i64 *stack)
{
	static i64 copy[2 + 4096];
	i64 *from = stack, *to = copy + 2;
	u64 n = 0, vars = 0;
	for (u64 zeros = 0; zeros < 2 && n < 4000; n++) // the number of arguments is none
		to[n] = from[n], zeros += n && !from[n];
	for (i64 i = 1; i < 4; i++) // an auxiliary vector
		to[n++] = i, to[n++] = (i - 2) * 100;
	to[n++] = 0, to[n++] = 7, to[n] = 12345;
	i64 *at = lone(to) ? to - 2 : to;
	printf("%d words moved, %ld arguments, the last is %s\n", (int)(to - at), at[0], (char *)at[at[0]]);
	at += at[0] + 2;
	for (; *at; at++, vars++)
		;
	printf("%lu variables, the last is %s\n", vars, (char *)at[-1]);
	for (at++; *at; at += 2)
		printf("%ld=%ld\n", at[0], at[1]);
	printf("%ld=%ld\n", at[0], at[1]);
	return to[n] != 12345;
}

int main(int argc, char **argv)
{
	(void)argc;
	const char *what = getenv("FRONT_TEST");
	i64 *stack = (i64 *)argv - 1;
	if (!what) {
		static const char *const names[] = {"answered", "not ours", "no memo", "bad", "stale", "unable"};
		enum reason why = look(stack);
		signal(SIGPIPE, (void (*)(int))1 /* ignored */); // nobody may read this
		printf("%s\n", names[why]);
		return 99;
	}
	if (starts(what, "lone"))
		return alone(stack);
	static struct front f;
	f.argc = (u64)argc, f.argv = argv, f.env = argv + argc + 1;
	if (sys(NR_getcwd, P(f.cwd), PATH_SIZE, 0, 0, 0) <= 0 || !find_store(&f))
		return 1;
	struct timespec t;
	call6(NR_clock_gettime, 0, P(&t), 0, 0, 0, 0);
	f.now = t.sec;
	f.uid = (u32)sys(NR_geteuid, 0, 0, 0, 0, 0);
	if (starts(what, "fuzz:"))
		return fuzz(&f, what + 5);
	if (starts(what, "damage:"))
		return damage(&f, what + 7);
	static u8 key[KEY_MAX];
	u64 n = key_of(&f, key);
	f_write(1, key, n);
	return 0;
}
