// SPDX-License-Identifier: Apache-2.0
//
// A growable run of bytes. `data` is NUL-terminated behind `size` (once anything was appended), so
// text can be read as a string.
#pragma once

#include "base/memory.h"

#include <stdarg.h>
#include <stddef.h>

struct buffer {
	char *data;
	size_t size, capacity;
};

// A zeroed buffer is valid and empty.
void buffer_release(struct buffer *b);
void buffer_clear(struct buffer *b); // empty, memory kept
void buffer_append(struct buffer *b, const void *data, size_t size);
void buffer_puts(struct buffer *b, const char *s);
void buffer_putc(struct buffer *b, char c);
void buffer_printf(struct buffer *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
// Room for `size` more bytes behind the end; returns where they go. Add what was written to b->size
// with buffer_commit().
char *buffer_reserve(struct buffer *b, size_t size);
void buffer_commit(struct buffer *b, size_t size);
// Remove the first `size` bytes.
void buffer_consume(struct buffer *b, size_t size);
// The text, owned by the caller (free()); never NULL. The buffer is empty afterwards.
char *buffer_steal(struct buffer *b);

#define cleanup_buffer __attribute__((cleanup(buffer_release)))
