// SPDX-License-Identifier: Apache-2.0
#include "agent/device/internal.h"
#include "base/file.h"
#include "base/text.h"
#include "base/time.h"

#include <poll.h>

enum { FIRST_PAUSE_MS = 10, LAST_PAUSE_MS = 500 };

static int prove_until(const struct device_lease *l, size_t i, int64_t until, struct arena *a,
	const char **reason, struct error *err)
{
	for (int pause = FIRST_PAUSE_MS;;
		pause = pause * 2 < LAST_PAUSE_MS ? pause * 2 : LAST_PAUSE_MS) {
		int rc =
			device_prove(l->all, l->items[i], l->known, l->known_count, a, reason, err);
		int64_t left = until - now_ms();
		if (rc != 0 || left <= 0)
			return rc;
		poll(NULL, 0, left < pause ? (int)left : pause);
	}
}

// 1: set aside.
static int release_device(const struct device_lease *l, size_t i, int64_t until,
	struct buffer *reasons, struct error *err)
{
	cleanup_arena struct arena a = {0};
	const char *name = l->items[i]->cdi->name, *reason = NULL;
	int rc = prove_until(l, i, until, &a, &reason, err);
	if (rc < 0)
		return -1;
	// Without a record the lock's file stays as it is, and the next one looks again.
	if (rc == 0) {
		struct device_record record = device_lease_record(l, i, &a);
		record.reason = reason;
		if (device_aside_add(l->all->places, l->items[i], &record, err) < 0)
			return -1;
	}
	device_mark_clean(l->items[i], device_lease_fds(l, i));
	if (rc == 0)
		buffer_printf(reasons, "%s is set aside: %s\n", name, reason);
	return rc == 0;
}

int device_release(
	struct device_lease *l, int timeout_ms, struct buffer *reasons, struct error *err)
{
	cleanup_device_lease struct device_lease *mine = l;
	int64_t until = now_ms() + timeout_ms;
	int result = 0;
	for (size_t i = 0; mine && i < mine->count; i++) {
		int rc = release_device(mine, i, until, reasons, err);
		result = rc < 0 || result < 0 ? -1 : rc > result ? rc : result;
	}
	return result;
}

static bool names_device(const struct devices *all, const struct device_record *r, const char *name)
{
	const struct device *d;
	struct error ignored;
	if (streq(r->device, name))
		return true;
	return devices_find(all, name, &d, &ignored) == 0 && device_has_name(d, r->device);
}

int devices_readmit(struct devices *all, const char *name, struct error *err)
{
	cleanup_device_locks struct device_locks locks = {-1, -1};
	cleanup_arena struct arena a = {0};
	struct device_records records;
	bool found = false;
	if (cdi_check_name(name, err) < 0 || device_locks_open(all->places, &locks, err) < 0 ||
		device_aside_load(all->places, &a, &records, err) < 0)
		return -1;
	for (size_t i = 0; i < records.count; i++) {
		if (!names_device(all, &records.items[i], name))
			continue;
		if (device_aside_remove(all->places, records.files[i], err) < 0)
			return -1;
		found = true;
	}
	if (!found)
		return error_set(
			err, ERROR_NOT_FOUND, "%s: is not set aside; see: stoker devices", name);
	return 0;
}
