// SPDX-License-Identifier: Apache-2.0
//
// Files of locks. Who looks or chooses holds the gate, so that the looks of one never make a device
// seem taken to another; with it locks are only tried, never waited for, and nothing can deadlock.
//
// Waiters watch the folder for files that were open for writing and are closed (acquire.c): a lock
// is held by a descriptor for writing, and looking opens for reading only.
#include "agent/device/internal.h"
#include "base/file.h"
#include "base/text.h"

#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

enum { RECORD_BYTES_MAX = 1024 * 1024 };

int device_locks_open(const struct device_places *places, struct device_locks *l, struct error *err)
{
	cleanup_free char *folder = path_join(places->run_dir, "devices");
	cleanup_free char *gate = path_join(places->run_dir, "devices.lock");
	cleanup_device_locks struct device_locks opened = {-1, -1};
	opened.folder = directory_ensure(AT_FDCWD, folder, 0700, err);
	if (opened.folder < 0)
		return -1;
	opened.gate = open(gate, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (opened.gate < 0)
		return error_set_errno(err, errno, "open %s", gate);
	if (file_lock(opened.gate, LOCK_EX, gate, err) < 0)
		return -1;
	*l = opened;
	opened = (struct device_locks){-1, -1};
	return 0;
}

void device_locks_close(struct device_locks *l)
{
	close_fdp(&l->folder);
	close_fdp(&l->gate);
	*l = (struct device_locks){-1, -1};
}

static int open_lock(
	const struct device_locks *l, const struct device_key *key, int mode, struct error *err)
{
	char name[256];
	snprintf(name, sizeof(name), "%s.lock", key->name);
	int fd = openat(l->folder, name, mode | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return error_set_errno(err, errno, "lock of a device: open %s", name);
	return fd;
}

// The last whole line is the youngest: it says more than the one before (device_note()), and of
// those who share a lock any will do.
bool device_read_lock(int fd, struct arena *a, struct device_record *record)
{
	cleanup_buffer struct buffer b = {0};
	struct error ignored;
	if (lseek(fd, 0, SEEK_SET) < 0 ||
		file_read_fd(fd, "lock", RECORD_BYTES_MAX, &b, &ignored) < 0 || !b.size)
		return false;
	char *end = strrchr(b.data, '\n');
	if (!end)
		return false;
	*end = '\0';
	const char *last = strrchr(b.data, '\n');
	last = last ? last + 1 : b.data;
	return device_record_read(a, last, strlen(last), record);
}

static bool is_repeated(const struct device_records *records, const struct device_record *r)
{
	for (size_t i = 0; i < records->count; i++)
		if (streq(records->items[i].device, r->device))
			return true;
	return false;
}

static int probe_key(const struct device_locks *l, const struct device_key *key, struct arena *a,
	struct device_record *holder, struct device_records *stale, struct error *err)
{
	cleanup_fd int fd = open_lock(l, key, O_RDONLY, err);
	if (fd < 0)
		return -1;
	int rc = file_lock(fd, LOCK_EX | LOCK_NB, key->name, err);
	if (rc < 0)
		return -1;
	// A line of siblings who shared it says nothing of this device.
	struct device_record left;
	if (rc == 0 && key->exclusive && device_read_lock(fd, a, &left) &&
		!is_repeated(stale, &left))
		stale->items[stale->count++] = left;
	if (rc == 1 && !key->exclusive)
		rc = file_lock(fd, LOCK_SH | LOCK_NB, key->name, err);
	if (rc == 1)
		device_read_lock(fd, a, holder);
	return rc < 0 ? -1 : rc == 0;
}

int device_probe(const struct device_locks *l, const struct device *d, struct arena *a,
	struct device_record *holder, struct device_records *stale, struct error *err)
{
	*holder = (struct device_record){0};
	*stale = (struct device_records){
		.items = arena_array(a, struct device_record, d->key_count)};
	for (size_t i = 0; i < d->key_count; i++) {
		int rc = probe_key(l, &d->keys[i], a, holder, stale, err);
		if (rc <= 0)
			return rc;
	}
	return 1;
}

static int take_key(const struct device_locks *l, const struct device_key *key,
	const struct buffer *line, int *fd, struct error *err)
{
	cleanup_fd int opened = open_lock(l, key, O_RDWR | O_APPEND, err);
	if (opened < 0)
		return -1;
	int rc = file_lock(opened, LOCK_EX | LOCK_NB, key->name, err);
	if (rc == 0 && ftruncate(opened, 0) < 0)
		return error_set_errno(err, errno, "lock of a device: truncate");
	if (rc >= 0 && !key->exclusive)
		rc = file_lock(opened, LOCK_SH | LOCK_NB, key->name, err);
	if (rc < 0)
		return -1;
	if (rc == 1)
		return error_set(err, ERROR_UNAVAILABLE, "%s: is locked", key->name);
	if (write_all(opened, line->data, line->size, key->name, err) < 0)
		return -1;
	*fd = steal_fd(&opened);
	return 0;
}

int device_take(const struct device_locks *l, const struct device *d,
	const struct device_record *record, int *fds, struct error *err)
{
	cleanup_buffer struct buffer line = {0};
	device_record_write(record, false, &line);
	for (size_t i = 0; i < d->key_count; i++)
		fds[i] = -1;
	for (size_t i = 0; i < d->key_count; i++) {
		if (take_key(l, &d->keys[i], &line, &fds[i], err) == 0)
			continue;
		for (size_t k = 0; k < i; k++) {
			close_fdp(&fds[k]);
			fds[k] = -1;
		}
		return error_context(err, "%s", d->cdi->name);
	}
	return 0;
}

int device_note(const struct device *d, const struct device_record *record, const int *fds,
	struct error *err)
{
	cleanup_buffer struct buffer line = {0};
	device_record_write(record, false, &line);
	for (size_t i = 0; i < d->key_count; i++)
		if (d->keys[i].exclusive &&
			write_all(fds[i], line.data, line.size, d->keys[i].name, err) < 0)
			return -1;
	return 0;
}

// What siblings share is wiped by the last of them; whose look this disturbs lets go anyway.
void device_mark_clean(const struct device *d, const int *fds)
{
	struct error ignored;
	for (size_t i = 0; i < d->key_count; i++) {
		bool alone = d->keys[i].exclusive ||
			     file_lock(fds[i], LOCK_EX | LOCK_NB, "lock", &ignored) == 0;
		if (alone && ftruncate(fds[i], 0) < 0)
			continue; // then it is looked at once more
	}
}

void device_forget(const struct device_locks *l, const struct device *d)
{
	struct error ignored;
	for (size_t i = 0; i < d->key_count; i++) {
		cleanup_fd int fd = open_lock(l, &d->keys[i], O_RDWR, &ignored);
		if (fd >= 0 && file_lock(fd, LOCK_EX | LOCK_NB, "lock", &ignored) == 0 &&
			ftruncate(fd, 0) < 0)
			continue;
	}
}
