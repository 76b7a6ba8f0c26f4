// SPDX-License-Identifier: Apache-2.0
#include "agent/device/internal.h"
#include "base/text.h"

#include <string.h>

const char *device_status_name(enum device_status status)
{
	static const char *const names[] = {"free", "held", "set aside", "missing"};
	return names[status];
}

static void describe(const struct device *d, struct arena *a, struct device_view *v)
{
	*v = (struct device_view){.name = d->cdi->name,
		.names = d->names,
		.kind = d->cdi->kind,
		.gpu = device_is_gpu(d)};
	v->nodes.items = arena_array(a, const char *, d->key_count + 1);
	for (size_t i = 0; i < d->key_count; i++)
		if (d->keys[i].host_path)
			v->nodes.items[v->nodes.count++] = d->keys[i].host_path;
}

static void set_record(
	struct device_view *v, enum device_status status, const struct device_record *r)
{
	v->status = status;
	v->run = r->run;
	v->since = r->since;
	v->reason = r->reason;
}

static int find_status(const struct device_locks *locks, const struct device_records *records,
	const struct device *d, struct arena *a, struct device_view *v, struct error *err)
{
	struct device_record holder;
	struct device_records stale;
	const char *missing = device_missing_node(d);
	if (missing) {
		v->status = DEVICE_MISSING;
		v->reason = arena_printf(a, "%s does not exist", missing);
		return 0;
	}
	int rc = device_probe(locks, d, a, &holder, &stale, err);
	if (rc < 0)
		return -1;
	if (rc == 0)
		set_record(v, DEVICE_HELD, &holder);
	for (size_t i = 0; rc == 1 && i < records->count; i++)
		if (device_record_matches(&records->items[i], d))
			set_record(v, DEVICE_SET_ASIDE, &records->items[i]);
	return 0;
}

int device_list(struct devices *d, struct arena *a, struct device_view **views, size_t *count,
	struct error *err)
{
	cleanup_device_locks struct device_locks locks = {-1, -1};
	struct device_records records;
	struct device_view *all = arena_array(a, struct device_view, d->count);
	if (device_locks_open(d->places, &locks, err) < 0 ||
		device_aside_load(d->places, a, &records, err) < 0)
		return -1;
	for (size_t i = 0; i < d->count; i++) {
		describe(&d->items[i], a, &all[i]);
		if (find_status(&locks, &records, &d->items[i], a, &all[i], err) < 0)
			return -1;
	}
	*views = all;
	*count = d->count;
	return 0;
}
