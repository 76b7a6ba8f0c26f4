// SPDX-License-Identifier: Apache-2.0
#include "agent/device/internal.h"
#include "base/file.h"

#include <string.h>
#include <unistd.h>

struct device_lease *device_lease_new(
	struct devices *all, const char *run, const struct device *const *items, size_t count)
{
	struct device_lease *l = xcalloc(1, sizeof(*l));
	l->all = all;
	l->run = arena_strdup(&l->arena, run);
	l->items = arena_array(&l->arena, const struct device *, count);
	l->cdi = arena_array(&l->arena, const struct cdi_device *, count);
	l->known = arena_array(&l->arena, struct opener *, count);
	l->known_counts = arena_array(&l->arena, size_t, count);
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

size_t device_lease_offset(const struct device_lease *l, size_t device)
{
	size_t offset = 0;
	for (size_t i = 0; i < device; i++)
		offset += l->items[i]->key_count;
	return offset;
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

// Who had the device open before stands in the lock's file.
static void adopt_known(struct device_lease *l, size_t device)
{
	enum { RECORD_BYTES_MAX = 1024 * 1024 };
	const struct device *d = l->items[device];
	size_t offset = device_lease_offset(l, device);
	for (size_t i = 0; i < d->key_count; i++) {
		cleanup_buffer struct buffer b = {0};
		struct device_record record;
		struct error ignored;
		if (!d->keys[i].exclusive || lseek(l->fds[offset + i], 0, SEEK_SET) < 0 ||
			file_read_fd(l->fds[offset + i], "lock", RECORD_BYTES_MAX, &b, &ignored) <
				0 ||
			!b.size || !device_record_read(&l->arena, b.data, b.size, &record))
			continue;
		l->known[device] = record.known;
		l->known_counts[device] = record.known_count;
		return;
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
	for (size_t i = 0; i < name_count; i++)
		adopt_known(l, i);
	return steal(l);
}
