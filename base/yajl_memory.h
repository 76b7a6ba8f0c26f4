// SPDX-License-Identifier: Apache-2.0
//
// yajl does not check what malloc returns; with these functions it aborts as everything else does.
#pragma once

#include "base/memory.h"

#include <yajl/yajl_common.h>

static inline void *yajl_memory_new(void *context, size_t size)
{
	(void)context;
	return xmalloc(size);
}

static inline void *yajl_memory_resize(void *context, void *p, size_t size)
{
	(void)context;
	return xrealloc(p, size);
}

static inline void yajl_memory_free(void *context, void *p)
{
	(void)context;
	free(p);
}

// yajl copies the structure, but takes a pointer that is not const.
#define yajl_memory                            \
	(&(yajl_alloc_funcs){                  \
		.malloc = yajl_memory_new,     \
		.realloc = yajl_memory_resize, \
		.free = yajl_memory_free,      \
	})
