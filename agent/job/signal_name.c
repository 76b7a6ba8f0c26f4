// SPDX-License-Identifier: Apache-2.0
#include "agent/job/signal_name.h"

#include "base/text.h"

#include <signal.h>
#include <strings.h>

static int in_range(uint64_t n)
{
	return n >= 1 && n <= (uint64_t)SIGRTMAX ? (int)n : -1;
}

int signal_parse(const char *name)
{
	uint64_t n;
	if (parse_u64(name, &n))
		return in_range(n);
	if (strncasecmp(name, "SIG", 3) == 0)
		name += 3;
	for (int i = 1; i < SIGRTMIN; i++) {
		const char *known = sigabbrev_np(i);
		if (known && strcasecmp(name, known) == 0)
			return i;
	}
	if (strncasecmp(name, "RTMIN", 5) == 0 && !name[5])
		return SIGRTMIN;
	if (strncasecmp(name, "RTMIN+", 6) == 0 && parse_u64(name + 6, &n) && n < 64)
		return in_range((uint64_t)SIGRTMIN + n);
	if (strncasecmp(name, "RTMAX", 5) == 0 && !name[5])
		return SIGRTMAX;
	if (strncasecmp(name, "RTMAX-", 6) == 0 && parse_u64(name + 6, &n) && n < 30)
		return in_range((uint64_t)SIGRTMAX - n);
	return -1;
}
