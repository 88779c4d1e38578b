// Bytes, and reading what is in a memo without going beyond its end.

#ifndef FRONT_TEST // where the sanitizers have their own
void *memcpy(void *restrict to, const void *restrict from, u64 n)
{
	void *t = to;
	__asm__ volatile("rep movsb" : "+D"(t), "+S"(from), "+c"(n) : : "memory");
	return to;
}

void *memset(void *to, int c, u64 n)
{
	void *t = to;
	__asm__ volatile("rep stosb" : "+D"(t), "+c"(n) : "a"(c) : "memory");
	return to;
}

#endif

static u64 word(const u8 *p)
{
	u64 w;
	__builtin_memcpy(&w, p, 8);
	return w;
}

static int same(const void *a, const void *b, u64 n)
{
	const u8 *x = a, *y = b;
	for (; n >= 8; n -= 8, x += 8, y += 8)
		if (word(x) != word(y))
			return 0;
	for (; n; n--)
		if (*x++ != *y++)
			return 0;
	return 1;
}

static u64 length(const char *s)
{
	u64 n = 0;
	while (s[n])
		n++;
	return n;
}

static int starts(const char *s, const char *with)
{
	while (*with && *s == *with)
		s++, with++;
	return !*with;
}

// sum is sum in memo_linux.go.
static u64 sum(const u8 *p, u64 n)
{
	u64 h = n * 0x9e3779b97f4a7c15;
	for (; n >= 8; n -= 8, p += 8) {
		h = (h ^ word(p)) * 0xff51afd7ed558ccd;
		h ^= h >> 32;
	}
	u64 last = 0;
	for (u64 i = 0; i < n; i++)
		last |= (u64)p[i] << 8 * i;
	h = (h ^ last) * 0xff51afd7ed558ccd;
	return h ^ h >> 29;
}

// A tally is tally in tally_linux.go, two of its words in each vector.
typedef u64 two __attribute__((vector_size(16)));
typedef int four __attribute__((vector_size(16)));

struct tally {
	two sum[4], key[4];
};

#define STIR 0x9e3779b97f4a7c15

static void tally_begin(struct tally *t)
{
	for (u64 i = 0; i < 4; i++)
		t->sum[i] = (two){0, 0}, t->key[i] = (two){(2 * i + 1) * STIR, (2 * i + 2) * STIR};
}

// tally adds bytes; their number is a multiple of 64 but for the last time.
static void tally(struct tally *t, const u8 *p, u64 n)
{
	two sum[4], key[4], next = {9 * STIR, 9 * STIR};
	for (int i = 0; i < 4; i++)
		sum[i] = t->sum[i], key[i] = t->key[i];
	for (; n; n -= n < 64 ? n : 64, p += 64) {
		u8 last[64];
		const u8 *from = p;
		if (n < 64) {
			for (u64 i = 0; i < 64; i++)
				last[i] = i < n ? p[i] : 0;
			from = last;
		}
#pragma GCC unroll 4
		for (int i = 0; i < 4; i++) {
			two w;
			__builtin_memcpy(&w, from + 16 * i, 16);
			two k = w ^ key[i];
			sum[i] += (two){w[1], w[0]} + (two)__builtin_ia32_pmuludq128((four)k, (four)(k >> 32));
			key[i] += next;
		}
	}
	for (int i = 0; i < 4; i++)
		t->sum[i] = sum[i], t->key[i] = key[i];
}

static u64 tally_end(const struct tally *t)
{
	return sum((const u8 *)t->sum, sizeof t->sum);
}

static char *hex(char *to, u64 byte)
{
	*to++ = "0123456789abcdef"[byte >> 4 & 15];
	*to++ = "0123456789abcdef"[byte & 15];
	return to;
}

// An in is what is left to be read of a memo. After the first read beyond its end
// it gives zeros.
struct in {
	const u8 *p;
	u64 left;
	int bad;
};

static const u8 *take(struct in *in, u64 n)
{
	if (in->bad || n > in->left) {
		in->bad = 1, in->left = 0;
		return 0;
	}
	const u8 *p = in->p;
	in->p += n, in->left -= n;
	return p;
}

static u64 number(struct in *in, u64 bytes)
{
	const u8 *p = take(in, bytes);
	u64 v = 0;
	for (u64 i = 0; p && i < bytes; i++)
		v |= (u64)p[i] << 8 * i;
	return v;
}

static struct in part(struct in *in, u64 n)
{
	const u8 *p = take(in, n);
	return (struct in){p, p ? n : 0, !p};
}

// join makes a path of two parts, and says no if it is too long.
static int join(char to[PATH_SIZE], const char *dir, u64 dir_len, const void *name, u64 len)
{
	if (dir_len + 1 + len >= PATH_SIZE)
		return 0;
	memcpy(to, dir, dir_len);
	if (dir_len && dir[dir_len - 1] != '/')
		to[dir_len++] = '/';
	memcpy(to + dir_len, name, len);
	to[dir_len + len] = 0;
	return 1;
}
