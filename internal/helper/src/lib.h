// The few functions that a C library would have given us.
#pragma once
#include "sys.h"

void *memcpy(void *restrict to, const void *restrict from, size_t n);
void *memset(void *to, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
int str_equal(const char *a, const char *b);
int has_prefix(const char *s, const char *prefix);

// A text collects a message in a fixed buffer; what does not fit is cut off.
// It is always terminated.
struct text {
	char *at, *end;
};
struct text text_in(char *buf, size_t size);
void put(struct text *t, const char *s);
void put_number(struct text *t, u64 n);

u64 now_ns(void);

// map_memory returns zeroed memory, or 0. It costs nothing before it is written to, and is
// given back by munmap.
void *map_memory(size_t size);
