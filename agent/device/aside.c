// SPDX-License-Identifier: Apache-2.0
//
// Devices that were set aside: a file for each, which outlives restarts.
#include "agent/device/internal.h"
#include "base/file.h"
#include "base/text.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RECORD_BYTES_MAX = 1024 * 1024, RECORDS_MAX = CDI_DEVICES_MAX };

static void close_folder(DIR **d)
{
	if (*d)
		closedir(*d);
}

static void read_file(int folder, const char *name, struct arena *a, struct device_records *records)
{
	cleanup_buffer struct buffer b = {0};
	struct error ignored;
	struct stat st;
	struct device_record *r = &records->items[records->count];
	if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		file_read(folder, name, RECORD_BYTES_MAX, &b, &ignored) < 0 || !b.size ||
		!device_record_read(a, b.data, b.size, r))
		return;
	r->examined_ms = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
	records->files[records->count++] = arena_strdup(a, name);
}

int device_aside_load(const struct device_places *places, struct arena *a,
	struct device_records *records, struct error *err)
{
	cleanup_free char *folder = path_join(places->state_dir, "devices");
	__attribute__((cleanup(close_folder))) DIR *d = opendir(folder);
	*records = (struct device_records){0};
	if (!d && errno != ENOENT)
		return error_set_errno(err, errno, "open %s", folder);
	if (!d)
		return 0;
	size_t room = 0;
	for (struct dirent *e; (e = readdir(d));)
		room += ends_with(e->d_name, ".json") && e->d_name[0] != '.';
	room = room < RECORDS_MAX ? room : RECORDS_MAX;
	records->items = arena_array(a, struct device_record, room);
	records->files = arena_array(a, const char *, room);
	rewinddir(d);
	for (struct dirent *e; records->count < room && (e = readdir(d));)
		if (ends_with(e->d_name, ".json") && e->d_name[0] != '.')
			read_file(dirfd(d), e->d_name, a, records);
	return 0;
}

int device_aside_add(const struct device_places *places, const struct device *d,
	const struct device_record *record, struct error *err)
{
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer text = {0};
	cleanup_free char *path = path_join(places->state_dir, "devices");
	cleanup_fd int folder = directory_ensure(AT_FDCWD, path, 0700, err);
	if (folder < 0)
		return -1;
	const char *name = arena_printf(&a, "%s.json", device_file_name(&a, d->cdi->name));
	device_record_write(record, true, &text);
	return file_write_atomic(folder, name, text.data, text.size, 0644, err);
}

void device_aside_touch(const struct device_places *places, const char *file)
{
	cleanup_arena struct arena a = {0};
	utimensat(AT_FDCWD, arena_printf(&a, "%s/devices/%s", places->state_dir, file), NULL, 0);
}

int device_aside_remove(const struct device_places *places, const char *file, struct error *err)
{
	cleanup_arena struct arena a = {0};
	const char *path = arena_printf(&a, "%s/devices/%s", places->state_dir, file);
	if (unlink(path) < 0 && errno != ENOENT)
		return error_set_errno(err, errno, "unlink %s", path);
	return 0;
}

static bool contains(const struct json_strings *s, const char *item)
{
	for (size_t i = 0; item && i < s->count; i++)
		if (streq(s->items[i], item))
			return true;
	return false;
}

// By path, not by number: numbers are given out anew at a boot.
bool device_record_matches(const struct device_record *r, const struct device *d)
{
	if (device_has_name(d, r->device))
		return true;
	for (size_t i = 0; i < d->key_count; i++)
		if (contains(&r->nodes, d->keys[i].host_path) ||
			(d->keys[i].exclusive && contains(&r->shared, d->keys[i].host_path)))
			return true;
	return false;
}
