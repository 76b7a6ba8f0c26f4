// SPDX-License-Identifier: Apache-2.0
#include "agent/data/cache.h"
#include "base/text.h"

#include <sys/statvfs.h>

int cache_check_room(struct cache *c, uint64_t bytes, struct error *err)
{
	struct statvfs st;
	char need[FORMAT_SIZE_MAX], have[FORMAT_SIZE_MAX], keep[FORMAT_SIZE_MAX];
	if (fstatvfs(c->fd, &st) < 0)
		return error_set_errno(err, errno, "ask for the free space of the cache's disk");
	uint64_t free = (uint64_t)st.f_bavail * st.f_frsize;
	if (free >= c->limits.keep_free_bytes && bytes <= free - c->limits.keep_free_bytes)
		return 0;
	error_set(err, ERROR_LIMIT,
		"needs %s, %s free on the cache's disk, of which %s are kept free",
		format_size(bytes, need), format_size(free, have),
		format_size(c->limits.keep_free_bytes, keep));
	return 1;
}
