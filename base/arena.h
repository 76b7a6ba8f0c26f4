// SPDX-License-Identifier: Apache-2.0
//
// An arena: objects with one end of life. Allocation bumps a pointer; everything goes at once.
#pragma once

#include "base/memory.h"

#include <stddef.h>

struct arena_chunk;

struct arena {
	struct arena_chunk *chunks;
	size_t used;	  // bytes handed out, for limits
	size_t next_size; // of the next chunk
};

// A zeroed arena is valid and empty.
void arena_release(struct arena *a);

// Zeroed, aligned for any type; valid until arena_release().
void *arena_alloc(struct arena *a, size_t size) __attribute__((returns_nonnull));
char *arena_strdup(struct arena *a, const char *s) __attribute__((returns_nonnull));
// Copies exactly n bytes and adds a terminating NUL.
char *arena_strndup(struct arena *a, const char *s, size_t n) __attribute__((returns_nonnull));
char *arena_printf(struct arena *a, const char *format, ...)
	__attribute__((format(printf, 2, 3), returns_nonnull));

#define arena_new(a, type)	    ((type *)arena_alloc((a), sizeof(type)))
#define arena_array(a, type, count) ((type *)arena_alloc_array((a), (count), sizeof(type)))
void *arena_alloc_array(struct arena *a, size_t count, size_t size)
	__attribute__((returns_nonnull));

#define cleanup_arena __attribute__((cleanup(arena_release)))
