// SPDX-License-Identifier: Apache-2.0
#include "agent/environment/proxy_internal.h"
#include "base/text.h"
#include "base/weaken.h"

#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

enum { ORIGINS_MAX = 1024 };

int proxy_init(struct proxy *p, struct error *err)
{
	pthread_mutex_init(&p->mutex, NULL);
	pthread_condattr_t monotonic;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&p->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	p->hashes = proxy_hashes_new();
	p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->wake_fd < 0)
		return error_set_errno(err, errno, "eventfd");
	for (size_t i = 0; i < p->settings.sources.count; i++)
		proxy_allow(p, p->settings.sources.items[i]);
	return 0;
}

static bool is_known(const struct proxy *p, const char *origin)
{
	for (size_t i = p->origin_count; i-- > 0;)
		if (streq(p->origins[i], origin))
			return true;
	return false;
}

void proxy_allow(struct proxy *p, const char *url)
{
	char origin[PACKAGE_ORIGIN_MAX];
	struct error ignored;
	if (package_url_origin(url, origin, &ignored) < 0)
		return;
	pthread_mutex_lock(&p->mutex);
	if (!is_known(p, origin) && p->origin_count < ORIGINS_MAX) {
		p->origins = xreallocarray(p->origins, p->origin_count + 1, sizeof(*p->origins));
		memcpy(p->origins[p->origin_count++], origin, sizeof(origin));
	}
	pthread_mutex_unlock(&p->mutex);
}

bool proxy_allowed(struct proxy *p, const char *url)
{
	char origin[PACKAGE_ORIGIN_MAX];
	struct error ignored;
	if (package_url_origin(url, origin, &ignored) < 0)
		return false;
	pthread_mutex_lock(&p->mutex);
	bool known = is_known(p, origin);
	pthread_mutex_unlock(&p->mutex);
	return known || weakened("package_hosts");
}

// What explains a build's failure better: that a server cannot be had comes before that it has
// not what was asked for.
static int weight(enum data_failure f)
{
	switch (f) {
	case DATA_OK:
		return 0;
	case DATA_NOT_FOUND:
		return 1;
	case DATA_FAILED:
	case DATA_POLICY:
		return 2;
	case DATA_FORBIDDEN:
		return 3;
	case DATA_AUTHENTICATION:
		return 4;
	case DATA_TIMEOUT:
	case DATA_STALLED:
	case DATA_NETWORK:
		return 5;
	case DATA_CHECKSUM:
		return 6;
	case DATA_NO_SPACE:
		return 7;
	default:
		return 2;
	}
}

void proxy_note_trouble(struct proxy *p, enum data_failure failure, long status, const char *url,
	const struct error *err)
{
	pthread_mutex_lock(&p->mutex);
	if (weight(failure) >= weight(p->trouble.failure)) {
		p->trouble = (struct package_proxy_trouble){.failure = failure, .status = status};
		download_url_shown(url, p->trouble.url, sizeof(p->trouble.url));
		snprintf(p->trouble.text, sizeof(p->trouble.text), "%s", err->text);
	}
	pthread_mutex_unlock(&p->mutex);
}

void proxy_count(struct proxy *p, uint64_t fetched, uint64_t served, bool request, bool hit)
{
	pthread_mutex_lock(&p->mutex);
	p->counts.fetched_bytes += fetched;
	p->counts.served_bytes += served;
	p->counts.requests += request;
	p->counts.hits += hit;
	pthread_mutex_unlock(&p->mutex);
}
