// SPDX-License-Identifier: Apache-2.0
#include "base/buffer.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

void buffer_release(struct buffer *b)
{
	free(b->data);
	*b = (struct buffer){0};
}

void buffer_clear(struct buffer *b)
{
	b->size = 0;
	if (b->data)
		b->data[0] = '\0';
}

char *buffer_reserve(struct buffer *b, size_t size)
{
	if (size > SIZE_MAX / 4 || b->size > SIZE_MAX / 4)
		abort();
	size_t needed = b->size + size + 1;
	if (needed > b->capacity) {
		size_t capacity = b->capacity ? b->capacity * 2 : 128;
		if (capacity < needed)
			capacity = needed;
		b->data = xrealloc(b->data, capacity);
		b->capacity = capacity;
	}
	return b->data + b->size;
}

void buffer_commit(struct buffer *b, size_t size)
{
	assert(b->size + size < b->capacity);
	b->size += size;
	b->data[b->size] = '\0';
}

void buffer_append(struct buffer *b, const void *data, size_t size)
{
	char *to = buffer_reserve(b, size);
	if (size)
		memcpy(to, data, size);
	buffer_commit(b, size);
}

void buffer_puts(struct buffer *b, const char *s)
{
	buffer_append(b, s, strlen(s));
}

void buffer_putc(struct buffer *b, char c)
{
	buffer_append(b, &c, 1);
}

void buffer_printf(struct buffer *b, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	cleanup_free char *s = xvasprintf(format, args);
	va_end(args);
	buffer_puts(b, s);
}

void buffer_consume(struct buffer *b, size_t size)
{
	assert(size <= b->size);
	if (!size)
		return;
	memmove(b->data, b->data + size, b->size - size);
	b->size -= size;
	b->data[b->size] = '\0';
}

char *buffer_steal(struct buffer *b)
{
	buffer_reserve(b, 0)[0] = '\0';
	char *data = b->data;
	*b = (struct buffer){0};
	return data;
}
