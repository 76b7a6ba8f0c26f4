// SPDX-License-Identifier: Apache-2.0
#include "agent/data/cache.h"
#include "base/file.h"
#include "base/text.h"
#include "oci/store/entries.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

static const char attribute[] = "user.stoker.bytes"; // "own linked"

int cache_check_room(struct cache *c, uint64_t bytes, struct error *err)
{
	struct statvfs st;
	char need[FORMAT_SIZE_MAX], have[FORMAT_SIZE_MAX], keep[FORMAT_SIZE_MAX];
	if (fstatvfs(c->fd, &st) < 0)
		return error_set_errno(err, errno, "ask for the free space of the cache's disk");
	uint64_t free = (uint64_t)st.f_bavail * st.f_frsize;
	if (free >= c->limits.keep_free_bytes && bytes <= free - c->limits.keep_free_bytes)
		return 0;
	error_set(err, ERROR_LIMIT,
		"needs %s, %s free on the cache's disk, of which %s are kept free",
		format_size(bytes, need), format_size(free, have),
		format_size(c->limits.keep_free_bytes, keep));
	return 1;
}

int cache_evict_trees(struct cache *c, uint64_t bytes, struct error *err)
{
	cleanup_arena struct arena arena = {0};
	struct cache_tree *trees;
	struct error ignored;
	size_t count;
	if (cache_trees(c, &arena, &trees, &count, err) < 0)
		return -1;
	for (size_t i = 0; i < count && cache_check_room(c, bytes, &ignored) != 0; i++)
		cache_tree_remove(c, trees[i].name);
	return 0;
}

void cache_tree_record(int fd, uint64_t own, uint64_t linked)
{
	char text[64];
	int n = snprintf(text, sizeof(text), "%" PRIu64 " %" PRIu64, own, linked);
	fsetxattr(fd, attribute, text, (size_t)n, 0);
}

static void read_record(struct cache *c, const char *name, uint64_t *own, uint64_t *linked)
{
	char text[64];
	struct error ignored;
	cleanup_fd int fd = directory_open(c->trees_fd, name, &ignored);
	ssize_t n = fd < 0 ? -1 : fgetxattr(fd, attribute, text, sizeof(text) - 1);
	*own = *linked = 0;
	if (n <= 0)
		return;
	text[n] = '\0';
	char *space = strchr(text, ' ');
	if (space && parse_u64_n(text, (size_t)(space - text), own) &&
		!parse_u64(space + 1, linked))
		*linked = 0;
}

// What downloads take, those that trees share among them.
static int objects_bytes(struct cache *c, uint64_t *bytes, struct error *err)
{
	cleanup_arena struct arena arena = {0};
	struct store_names folders, names;
	*bytes = 0;
	cleanup_fd int objects =
		openat(c->fd, "objects/sha256", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (objects < 0)
		return errno == ENOENT ? 0 : error_set_errno(err, errno, "open the downloads");
	if (store_names(objects, ".", &arena, &folders, err) < 0)
		return -1;
	for (size_t i = 0; i < folders.count; i++) {
		cleanup_fd int folder = directory_open(objects, folders.items[i], err);
		if (folder < 0 || store_names(folder, ".", &arena, &names, err) < 0)
			return -1;
		for (size_t k = 0; k < names.count; k++) {
			struct stat st;
			if (fstatat(folder, names.items[k], &st, AT_SYMLINK_NOFOLLOW) == 0)
				*bytes += (uint64_t)st.st_blocks * 512;
		}
	}
	return 0;
}

int cache_keep_limits(struct cache *c, struct error *err)
{
	cleanup_arena struct arena arena = {0};
	const struct cache_limits *l = &c->limits;
	uint64_t low = l->low_bytes ? l->low_bytes : l->high_bytes, total, own, linked;
	struct cache_tree *trees;
	size_t count;
	if (!l->high_bytes)
		return 0;
	if (objects_bytes(c, &total, err) < 0 || cache_trees(c, &arena, &trees, &count, err) < 0)
		return -1;
	for (size_t i = 0; i < count; i++) {
		read_record(c, trees[i].name, &own, &linked);
		total += own;
	}
	if (total <= l->high_bytes)
		return 0;
	for (size_t i = 0; i < count && total > low; i++) {
		read_record(c, trees[i].name, &own, &linked);
		uint64_t gain = own + linked;
		if (cache_tree_remove(c, trees[i].name))
			total -= gain < total ? gain : total;
	}
	return 0;
}
