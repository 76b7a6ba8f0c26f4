// SPDX-License-Identifier: Apache-2.0
// Room in the cache: what was not used for longest goes, never what is leased or under way.
#include "agent/data/download_internal.h"
#include "agent/data/download_part.h"
#include "base/file.h"
#include "base/text.h"
#include "base/time.h"
#include "oci/store/entries.h"

#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static const int64_t part_old_ms = 24LL * 3600 * 1000, part_stale_ms = 7LL * 24 * 3600 * 1000;
static const int64_t recount_ms = 60 * 1000;

struct object {
	const char *name; // below objects/sha256
	struct timespec used;
	uint64_t bytes;
	bool shared; // a folder of inputs has it, too: removing it here would gain nothing
};

struct objects {
	struct arena arena;
	struct object *items;
	size_t count, capacity;
	uint64_t bytes;
};

static void objects_release(struct objects *o)
{
	free(o->items);
	arena_release(&o->arena);
}

static void add_object(struct objects *o, int folder_fd, const char *name)
{
	struct stat st;
	if (fstatat(folder_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
		return;
	if (o->count == o->capacity) {
		o->capacity = o->capacity ? o->capacity * 2 : 64;
		o->items = xreallocarray(o->items, o->capacity, sizeof(*o->items));
	}
	o->items[o->count++] = (struct object){.name = arena_strdup(&o->arena, name),
		.used = st.st_atim,
		.bytes = (uint64_t)st.st_blocks * 512,
		.shared = st.st_nlink > 1};
	o->bytes += (uint64_t)st.st_blocks * 512;
}

static int by_use(const void *a, const void *b)
{
	const struct timespec *x = &((const struct object *)a)->used,
			      *y = &((const struct object *)b)->used;
	if (x->tv_sec != y->tv_sec)
		return x->tv_sec < y->tv_sec ? -1 : 1;
	return x->tv_nsec < y->tv_nsec ? -1 : x->tv_nsec > y->tv_nsec;
}

static int list_objects(struct download_cache *c, struct objects *o, struct error *err)
{
	struct store_names folders, names;
	if (store_names(c->objects_fd, ".", &o->arena, &folders, err) < 0)
		return -1;
	for (size_t i = 0; i < folders.count; i++) {
		if (store_names(c->objects_fd, folders.items[i], &o->arena, &names, err) < 0)
			return -1;
		for (size_t k = 0; k < names.count; k++) {
			char path[512];
			snprintf(path, sizeof(path), "%s/%s", folders.items[i], names.items[k]);
			add_object(o, c->objects_fd, path);
		}
	}
	if (o->count)
		qsort(o->items, o->count, sizeof(*o->items), by_use);
	pthread_mutex_lock(&c->mutex);
	c->bytes = o->bytes;
	c->counted_ms = now_ms();
	pthread_mutex_unlock(&c->mutex);
	return 0;
}

static uint64_t remove_object(struct download_cache *c, const struct object *o)
{
	cleanup_fd int fd = -1;
	struct error ignored;
	if (o->shared ||
		store_lock_open(c->objects_fd, o->name, O_RDONLY, LOCK_EX, &fd, &ignored) !=
			STORE_LOCKED ||
		unlinkat(c->objects_fd, o->name, 0) < 0)
		return 0;
	return o->bytes;
}

// A part that nobody writes; younger ones go only when `all`.
static uint64_t remove_part(struct download_cache *c, const char *name, int64_t older_than_ms)
{
	cleanup_fd int lock = -1;
	struct error ignored;
	struct stat st;
	char key[65], note[80];
	snprintf(key, sizeof(key), "%.64s", name);
	if (fstatat(c->parts_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		wall_ms() - (int64_t)st.st_mtim.tv_sec * 1000 < older_than_ms)
		return 0;
	if (store_lock_open(c->locks_fd, key, O_RDONLY | O_CREAT, LOCK_EX, &lock, &ignored) !=
		STORE_LOCKED)
		return 0;
	download_part_note_name(key, note);
	unlinkat(c->parts_fd, note, 0);
	if (unlinkat(c->parts_fd, key, 0) < 0)
		st.st_blocks = 0;
	unlinkat(c->locks_fd, key, 0);
	return (uint64_t)st.st_blocks * 512;
}

// Remove parts until `bytes` are free. Returns how many are.
static uint64_t evict_parts(
	struct download_cache *c, uint64_t bytes, int64_t older_than_ms, struct error *err)
{
	cleanup_arena struct arena arena = {0};
	struct store_names names;
	uint64_t freed = 0;
	if (store_names(c->parts_fd, ".", &arena, &names, err) < 0)
		return 0;
	for (size_t i = 0; i < names.count && freed < bytes; i++)
		if (strlen(names.items[i]) == 64)
			freed += remove_part(c, names.items[i], older_than_ms);
	return freed;
}

// What an address gave is worth nothing without the content.
static void prune_records(struct download_cache *c)
{
	cleanup_arena struct arena arena = {0};
	struct store_names names;
	struct error ignored;
	if (store_names(c->urls_fd, ".", &arena, &names, &ignored) < 0)
		return;
	for (size_t i = 0; i < names.count; i++) {
		struct download_record record;
		char object[80];
		struct stat st;
		if (names.items[i][0] == '.' ||
			!download_record_read(c, names.items[i], NULL, &record))
			continue;
		download_object_name(record.sha256, object);
		// A new one that takes its place in this moment is lost: it is asked for again.
		if (fstatat(c->objects_fd, object, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
			unlinkat(c->urls_fd, names.items[i], 0);
	}
}

static uint64_t evict_objects(struct download_cache *c, uint64_t bytes, struct error *err)
{
	__attribute__((cleanup(objects_release))) struct objects objects = {0};
	uint64_t freed = 0;
	if (list_objects(c, &objects, err) < 0)
		return 0;
	for (size_t i = 0; i < objects.count && freed < bytes; i++)
		freed += remove_object(c, &objects.items[i]);
	if (freed)
		prune_records(c);
	pthread_mutex_lock(&c->mutex);
	c->bytes -= freed < c->bytes ? freed : c->bytes;
	pthread_mutex_unlock(&c->mutex);
	return freed;
}

static int count_objects(struct download_cache *c, uint64_t *bytes, struct error *err)
{
	pthread_mutex_lock(&c->mutex);
	bool fresh = c->counted_ms && now_ms() - c->counted_ms < recount_ms;
	*bytes = c->bytes;
	pthread_mutex_unlock(&c->mutex);
	if (fresh)
		return 0;
	__attribute__((cleanup(objects_release))) struct objects objects = {0};
	if (list_objects(c, &objects, err) < 0)
		return -1;
	*bytes = objects.bytes;
	return 0;
}

// Below the cache's own limit. What is leased may keep it above; that is no failure.
static int keep_limits(struct download_cache *c, uint64_t bytes, struct error *err)
{
	const struct cache_limits *l = &c->limits;
	uint64_t have;
	if (!l->high_bytes)
		return 0;
	if (count_objects(c, &have, err) < 0)
		return -1;
	if (have + bytes <= l->high_bytes)
		return 0;
	uint64_t low = l->low_bytes ? l->low_bytes : l->high_bytes;
	uint64_t goal = low > bytes ? low - bytes : 0;
	if (have > goal)
		evict_objects(c, have - goal, err);
	return 0;
}

static int missing_on_disk(struct download_cache *c, uint64_t bytes, uint64_t *missing,
	uint64_t *free, struct error *err)
{
	struct statvfs st;
	if (fstatvfs(c->fd, &st) < 0)
		return error_set_errno(err, errno, "ask for the free space of the cache's disk");
	*free = (uint64_t)st.f_bavail * st.f_frsize;
	uint64_t want = bytes > UINT64_MAX - c->limits.keep_free_bytes
				? UINT64_MAX
				: bytes + c->limits.keep_free_bytes;
	*missing = want > *free ? want - *free : 0;
	return 0;
}

int download_make_room(struct download_cache *c, uint64_t bytes, struct error *err)
{
	uint64_t missing, free;
	if (keep_limits(c, bytes, err) < 0)
		return -1;
	const int64_t ages[] = {part_old_ms, -1, 0};
	for (size_t i = 0; i <= array_size(ages); i++) {
		if (missing_on_disk(c, bytes, &missing, &free, err) < 0)
			return -1;
		if (!missing)
			return 0;
		if (i == array_size(ages))
			break;
		if (ages[i] < 0)
			evict_objects(c, missing, err);
		else
			evict_parts(c, missing, ages[i], err);
	}
	char need[FORMAT_SIZE_MAX], have[FORMAT_SIZE_MAX], keep[FORMAT_SIZE_MAX];
	error_set(err, ERROR_LIMIT,
		"needs %s, %s free on the cache's disk, of which %s are kept free",
		format_size(bytes, need), format_size(free, have),
		format_size(c->limits.keep_free_bytes, keep));
	return 1;
}

static void remove_if_idle(struct download_cache *c, int fd, const char *name, const char *key)
{
	cleanup_fd int lock = -1;
	struct error ignored;
	if (store_lock_open(c->locks_fd, key, O_RDONLY | O_CREAT, LOCK_EX, &lock, &ignored) !=
		STORE_LOCKED)
		return;
	unlinkat(fd, name, 0);
	unlinkat(c->locks_fd, key, 0);
}

// What file_write_atomic() was killed over, ".<key>.json.XXXXXX.tmp", and notes whose part got its
// place: who makes and who removes them holds the key's lock.
static void sweep_files(struct download_cache *c, int fd)
{
	cleanup_arena struct arena arena = {0};
	struct store_names names;
	struct error ignored;
	if (store_names(fd, ".", &arena, &names, &ignored) < 0)
		return;
	for (size_t i = 0; i < names.count; i++) {
		const char *name = names.items[i];
		bool temporary = *name == '.' && strlen(name) > 65;
		bool note = fd == c->parts_fd && *name != '.' && ends_with(name, ".json");
		char key[65];
		struct stat st;
		snprintf(key, sizeof(key), "%.64s", temporary ? name + 1 : name);
		if (temporary || (note && fstatat(fd, key, &st, AT_SYMLINK_NOFOLLOW) < 0))
			remove_if_idle(c, fd, name, key);
	}
}

void download_sweep(struct download_cache *c)
{
	cleanup_arena struct arena arena = {0};
	struct store_names names;
	struct error ignored;
	sweep_files(c, c->urls_fd);
	sweep_files(c, c->parts_fd);
	evict_parts(c, UINT64_MAX, part_stale_ms, &ignored);
	if (store_names(c->locks_fd, ".", &arena, &names, &ignored) < 0)
		return;
	for (size_t i = 0; i < names.count; i++) {
		cleanup_fd int lock = -1;
		if (store_lock_open(c->locks_fd, names.items[i], O_RDONLY, LOCK_EX, &lock,
			    &ignored) == STORE_LOCKED)
			unlinkat(c->locks_fd, names.items[i], 0);
	}
}
