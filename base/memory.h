// SPDX-License-Identifier: Apache-2.0
//
// Allocation and cleanup. Out of memory aborts the process: a size that comes from outside is
// checked against a stated limit before it gets here. A local that acquires something carries a
// cleanup attribute, is declared first and initialised at once; steal() hands it over before
// success.
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

// Never NULL; a size of 0 gives a unique pointer. The caller frees with free().
void *xmalloc(size_t size) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t count, size_t size) __attribute__((malloc, returns_nonnull));
void *xrealloc(void *p, size_t size) __attribute__((returns_nonnull));
// count * size, aborting on overflow.
void *xreallocarray(void *p, size_t count, size_t size) __attribute__((returns_nonnull));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull));
char *xstrndup(const char *s, size_t n) __attribute__((malloc, returns_nonnull));
void *xmemdup(const void *p, size_t size) __attribute__((malloc, returns_nonnull));
char *xasprintf(const char *format, ...)
	__attribute__((format(printf, 1, 2), malloc, returns_nonnull));
char *xvasprintf(const char *format, va_list args)
	__attribute__((format(printf, 1, 0), malloc, returns_nonnull));

// Take the value and leave NULL behind: `return steal(x);`
#define steal(p)                                  \
	({                                        \
		__typeof__(p) steal_value_ = (p); \
		(p) = NULL;                       \
		steal_value_;                     \
	})

// Take a descriptor and leave -1 behind.
static inline int steal_fd(int *fd)
{
	int value = *fd;
	*fd = -1;
	return value;
}

static inline void cleanup_freep(void *p)
{
	free(*(void **)p);
}
#define cleanup_free __attribute__((cleanup(cleanup_freep)))

// DEFINE_CLEANUP(x_free, struct x *, x_free) makes x_freep(), which calls x_free() on the pointer
// at the end of the scope. Beside each type that owns something stands the attribute that uses it:
//   #define cleanup_x __attribute__((cleanup(x_freep)))
#define DEFINE_CLEANUP(name, type, function) \
	static inline void name##p(type *p)  \
	{                                    \
		function(*p);                \
	}

#define array_size(a) (sizeof(a) / sizeof((a)[0]))
