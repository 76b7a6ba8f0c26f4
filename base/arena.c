// SPDX-License-Identifier: Apache-2.0
#include "base/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { CHUNK_FIRST = 1024, CHUNK_MOST = 256 * 1024 };

struct arena_chunk {
	struct arena_chunk *next;
	size_t size, used;
	_Alignas(max_align_t) unsigned char data[];
};

void arena_release(struct arena *a)
{
	for (struct arena_chunk *c = a->chunks; c;) {
		struct arena_chunk *next = c->next;
		free(c);
		c = next;
	}
	*a = (struct arena){0};
}

void *arena_alloc(struct arena *a, size_t size)
{
	const size_t alignment = _Alignof(max_align_t);
	if (size > SIZE_MAX / 2)
		abort();
	size = (size + alignment - 1) & ~(alignment - 1);
	struct arena_chunk *c = a->chunks;
	if (!c || c->size - c->used < size) {
		size_t next = a->next_size ? a->next_size : CHUNK_FIRST;
		a->next_size = next < CHUNK_MOST ? next * 2 : next;
		if (next < size)
			next = size;
		c = xmalloc(sizeof(*c) + next);
		*c = (struct arena_chunk){.next = a->chunks, .size = next};
		a->chunks = c;
	}
	void *p = c->data + c->used;
	c->used += size;
	a->used += size;
	memset(p, 0, size);
	return p;
}

void *arena_alloc_array(struct arena *a, size_t count, size_t size)
{
	if (size && count > SIZE_MAX / 2 / size)
		abort();
	return arena_alloc(a, count * size);
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
	char *copy = arena_alloc(a, n + 1);
	if (n)
		memcpy(copy, s, n);
	return copy;
}

char *arena_strdup(struct arena *a, const char *s)
{
	return arena_strndup(a, s, strlen(s));
}

char *arena_printf(struct arena *a, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	cleanup_free char *s = xvasprintf(format, args);
	va_end(args);
	return arena_strdup(a, s);
}
