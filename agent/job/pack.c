// SPDX-License-Identifier: Apache-2.0
#include "agent/job/pack.h"

#include <string.h>

static const uint64_t absent = UINT64_MAX;

void pack_bytes(struct pack *p, void *data, size_t size)
{
	if (p->out) {
		buffer_append(p->out, data, size);
		return;
	}
	if (p->failed || (size_t)(p->end - p->at) < size) {
		p->failed = true;
		memset(data, 0, size);
		return;
	}
	memcpy(data, p->at, size);
	p->at += size;
}

void pack_number(struct pack *p, uint64_t *n)
{
	pack_bytes(p, n, sizeof(*n));
}

void pack_text(struct pack *p, const char **s)
{
	uint64_t size = p->out && *s ? strlen(*s) : absent;
	pack_number(p, &size);
	if (p->out) {
		if (*s)
			buffer_append(p->out, *s, size);
		return;
	}
	*s = NULL;
	if (size == absent)
		return;
	if (p->failed || (size_t)(p->end - p->at) < size) {
		p->failed = true;
		return;
	}
	*s = arena_strndup(p->arena, p->at, size);
	p->at += size;
}

// An item takes one byte at least, so the bytes that are left bound the memory.
void *pack_array(struct pack *p, void *items, size_t *count, size_t item_size)
{
	uint64_t n = *count;
	pack_number(p, &n);
	if (p->out)
		return items;
	if (p->failed || n > (size_t)(p->end - p->at)) {
		p->failed = true;
		n = 0;
	}
	*count = n;
	return arena_alloc_array(p->arena, n + 1, item_size);
}

void pack_texts(struct pack *p, const char ***items, size_t *count)
{
	uint64_t there = p->out && *items;
	pack_number(p, &there);
	if (!there) {
		if (!p->out) {
			*items = NULL;
			*count = 0;
		}
		return;
	}
	*items = pack_array(p, *items, count, sizeof(**items));
	for (size_t i = 0; i < *count; i++)
		pack_text(p, &(*items)[i]);
}
