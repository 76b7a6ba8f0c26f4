// SPDX-License-Identifier: Apache-2.0
#include "base/trim.h"

#include "base/file.h"
#include "base/text.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MAPS_BYTES_MAX = 256 * 1024 };

// Machine code is never written to, so what is dropped comes back, from the page cache, when it is
// run again. Other mappings may hold pages of our own.
static void drop_code(const char *line)
{
	char *rest;
	unsigned long start = strtoul(line, &rest, 16);
	unsigned long end = *rest == '-' ? strtoul(rest + 1, &rest, 16) : 0;
	if (end > start && starts_with(rest, " r-xp "))
		madvise((void *)start, end - start, MADV_DONTNEED); // refused for the vdso
}

void memory_trim(void)
{
	struct error ignored;
	{
		cleanup_buffer struct buffer maps = {0};
		if (file_read(AT_FDCWD, "/proc/self/maps", MAPS_BYTES_MAX, &maps, &ignored) == 0)
			for (const char *p = maps.data; p && *p; p = strchr(p, '\n')) {
				p += *p == '\n';
				if (!*p)
					break;
				drop_code(p);
			}
	}
	malloc_trim(0);
}
