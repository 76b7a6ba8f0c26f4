// SPDX-License-Identifier: Apache-2.0
#include "base/weaken.h"

#ifdef STOKER_WEAKEN
#include <stdlib.h>
#include <string.h>

bool weakened(const char *defence)
{
	const char *list = getenv("STOKER_WEAKEN");
	size_t n = strlen(defence);
	for (const char *p = list; p && *p; p += strspn(p, ",")) {
		size_t length = strcspn(p, ",");
		if (length == n && memcmp(p, defence, n) == 0)
			return true;
		p += length;
	}
	return false;
}
#else
typedef int weaken_is_empty; // ISO C wants something in a file
#endif
