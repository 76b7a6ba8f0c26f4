// SPDX-License-Identifier: Apache-2.0
#include "agent/device/internal.h"
#include "base/file.h"
#include "base/time.h"

#include <string.h>

struct device_lease *device_lease_new(
	struct devices *all, const char *run, const struct device *const *items, size_t count)
{
	struct device_lease *l = xcalloc(1, sizeof(*l));
	l->all = all;
	l->run = arena_strdup(&l->arena, run);
	l->items = arena_array(&l->arena, const struct device *, count);
	l->cdi = arena_array(&l->arena, const struct cdi_device *, count);
	l->count = count;
	for (size_t i = 0; i < count; i++) {
		l->items[i] = items[i];
		l->cdi[i] = items[i]->cdi;
		l->fd_count += items[i]->key_count;
	}
	l->fds = arena_array(&l->arena, int, l->fd_count);
	for (size_t i = 0; i < l->fd_count; i++)
		l->fds[i] = -1;
	return l;
}

int *device_lease_fds(const struct device_lease *l, size_t device)
{
	int *fds = l->fds;
	for (size_t i = 0; i < device; i++)
		fds += l->items[i]->key_count;
	return fds;
}

struct device_record device_lease_record(
	const struct device_lease *l, size_t device, struct arena *a)
{
	const struct device *d = l->items[device];
	char since[TIME_TEXT_SIZE];
	struct device_record r = {.device = d->cdi->name,
		.run = l->run,
		.since = arena_strdup(a, format_time(wall_ms(), since)),
		.known = l->known,
		.known_count = l->known_count};
	r.nodes.items = arena_array(a, const char *, d->key_count + 1);
	r.shared.items = arena_array(a, const char *, d->key_count + 1);
	for (size_t k = 0; k < d->key_count; k++) {
		struct json_strings *s = d->keys[k].exclusive ? &r.nodes : &r.shared;
		if (d->keys[k].host_path)
			s->items[s->count++] = d->keys[k].host_path;
	}
	return r;
}

const struct cdi_device *const *device_lease_devices(const struct device_lease *l, size_t *count)
{
	*count = l->count;
	return l->cdi;
}

const int *device_lease_descriptors(const struct device_lease *l, size_t *count)
{
	*count = l->fd_count;
	return l->fds;
}

// The last of the descriptors' copies lets go: LOCK_UN would do so for a forked holder, too.
void device_lease_free(struct device_lease *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < l->fd_count; i++)
		close_fdp(&l->fds[i]);
	arena_release(&l->arena);
	free(l);
}

// Who had the devices open before stands in the locks' files.
static void adopt_known(struct device_lease *l)
{
	for (size_t i = 0; i < l->count; i++) {
		for (size_t k = 0; k < l->items[i]->key_count; k++) {
			struct device_record record;
			if (!l->items[i]->keys[k].exclusive ||
				!device_read_lock(device_lease_fds(l, i)[k], &l->arena, &record))
				continue;
			l->known = record.known;
			l->known_count = record.known_count;
			return;
		}
	}
}

struct device_lease *device_lease_adopt(struct devices *d, const char *run,
	const char *const *names, size_t name_count, const int *fds, size_t fd_count,
	struct error *err)
{
	cleanup_free const struct device **items = xcalloc(name_count + 1, sizeof(*items));
	for (size_t i = 0; i < name_count; i++)
		if (devices_find(d, names[i], &items[i], err) < 0)
			return NULL;
	cleanup_device_lease struct device_lease *l = device_lease_new(d, run, items, name_count);
	if (l->fd_count != fd_count)
		return error_set(err, ERROR_INVALID,
			       "devices: %zu locks were handed over, these devices have %zu: "
			       "their CDI files have changed",
			       fd_count, l->fd_count),
		       NULL;
	if (fd_count)
		memcpy(l->fds, fds, fd_count * sizeof(*fds));
	adopt_known(l);
	return steal(l);
}
