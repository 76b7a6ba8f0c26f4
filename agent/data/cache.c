// SPDX-License-Identifier: Apache-2.0
#include "agent/data/cache.h"

#include "base/file.h"
#include "base/text.h"
#include "oci/store/entries.h"

#include <stdio.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STAGE_TRIES = 100 };

static int remove_entry(struct cache *c, int folder_fd, const char *name, struct error *err);

static void sweep_folder(struct cache *c, int folder_fd)
{
	cleanup_arena struct arena arena = {0};
	struct store_names names;
	struct error ignored;
	if (store_names(folder_fd, ".", &arena, &names, &ignored) < 0)
		return;
	for (size_t i = 0; i < names.count; i++)
		remove_entry(c, folder_fd, names.items[i], &ignored);
}

int cache_open(struct cache *c, int state_fd, const struct cache_limits *limits, struct error *err)
{
	const struct {
		int *fd;
		const char *name;
	} folders[] = {{&c->trees_fd, "trees"}, {&c->private_fd, "private"},
		{&c->building_fd, "building"}, {&c->tmp_fd, "tmp"}};
	*c = (struct cache){.state_fd = state_fd,
		.limits = *limits,
		.fd = -1,
		.trees_fd = -1,
		.private_fd = -1,
		.building_fd = -1,
		.tmp_fd = -1};
	c->fd = directory_ensure(state_fd, "datasets", 0700, err);
	for (size_t i = 0; i < array_size(folders); i++) {
		if (c->fd >= 0)
			*folders[i].fd = directory_ensure(c->fd, folders[i].name, 0700, err);
		if (*folders[i].fd < 0) {
			cache_close(c);
			return error_context(err, "the cache of datasets");
		}
	}
	sweep_folder(c, c->tmp_fd);
	sweep_folder(c, c->private_fd);
	sweep_folder(c, c->building_fd);
	return 0;
}

void cache_close(struct cache *c)
{
	close_fdp(&c->tmp_fd);
	close_fdp(&c->building_fd);
	close_fdp(&c->private_fd);
	close_fdp(&c->trees_fd);
	close_fdp(&c->fd);
}

// When a tree was used last is its access time, set here: no change that a reader would see.
static void touch(int fd)
{
	const struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}};
	futimens(fd, times);
}

int cache_kept_lease(int state_fd, const char *kept, int *fd, struct error *err)
{
	// Of a file in a tree the tree is leased: what stands behind its digest is cut off.
	static const char *const kinds[] = {"datasets/trees/", "datasets/private/"};
	cleanup_free char *name = xstrdup(kept);
	for (size_t i = 0; i < array_size(kinds); i++)
		if (starts_with(name, kinds[i]))
			name[strlen(kinds[i]) + strcspn(name + strlen(kinds[i]), "/")] = '\0';
	int status = store_lock_open(state_fd, name, O_RDONLY, LOCK_SH, fd, err);
	if (status < 0)
		return error_context(err, "the cache of datasets");
	if (status != STORE_LOCKED) // busy: it is being evicted
		return 0;
	touch(*fd);
	return 1;
}

int cache_tree_lease(struct cache *c, const char *digest, int *fd, struct error *err)
{
	return cache_kept_lease(c->trees_fd, digest, fd, err);
}

int cache_stage_new(struct cache *c, struct cache_stage *s, struct error *err)
{
	s->fd = -1;
	for (int i = 0; i < STAGE_TRIES; i++) {
		uint64_t random;
		if (getrandom(&random, sizeof(random), 0) != sizeof(random))
			return error_set_errno(err, errno, "getrandom");
		snprintf(s->name, sizeof(s->name), "%ld-%016llx", (long)getpid(),
			(unsigned long long)random);
		if (mkdirat(c->tmp_fd, s->name, 0755) < 0) {
			if (errno == EEXIST)
				continue;
			return error_set_errno(err, errno, "make a folder in datasets/tmp");
		}
		// A sweep may take it before we have the lock.
		int got = store_lock_open(
			c->tmp_fd, s->name, O_RDONLY | O_DIRECTORY, LOCK_SH, &s->fd, err);
		if (got < 0)
			return -1;
		if (got == STORE_LOCKED && fchmod(s->fd, 0755) == 0)
			return 0;
		close_fdp(&s->fd);
		s->fd = -1;
	}
	return error_set(err, ERROR_UNAVAILABLE, "make a folder in datasets/tmp: it vanishes");
}

static int place(
	struct cache *c, struct cache_stage *s, int folder_fd, const char *name, struct error *err)
{
	if (syncfs(s->fd) < 0)
		return error_set_errno(err, errno, "sync a dataset");
	if (renameat2(c->tmp_fd, s->name, folder_fd, name, RENAME_NOREPLACE) < 0)
		return errno == EEXIST ? 1
				       : error_set_errno(err, errno, "give a dataset its place");
	if (fsync(folder_fd) < 0)
		return error_set_errno(err, errno, "sync the folder of datasets");
	return 0;
}

int cache_stage_commit(
	struct cache *c, struct cache_stage *s, const char *digest, int *fd, struct error *err)
{
	int status = place(c, s, c->trees_fd, digest, err);
	if (status < 0)
		return -1;
	if (status == 0) {
		*fd = steal_fd(&s->fd);
		touch(*fd);
		return 0;
	}
	status = cache_tree_lease(c, digest, fd, err);
	if (status == 0)
		return error_set(err, ERROR_UNAVAILABLE, "a dataset was evicted as it was made");
	cache_stage_drop(c, s);
	return status < 0 ? -1 : 0;
}

int cache_stage_keep_private(
	struct cache *c, struct cache_stage *s, char kept[96], int *fd, struct error *err)
{
	int status = place(c, s, c->private_fd, s->name, err);
	if (status > 0)
		return error_set(err, ERROR_SYSTEM, "a private copy of this name is here already");
	if (status < 0)
		return -1;
	snprintf(kept, 96, "datasets/private/%s", s->name);
	*fd = steal_fd(&s->fd);
	return 0;
}

void cache_stage_drop(struct cache *c, struct cache_stage *s)
{
	struct error ignored;
	if (s->fd < 0)
		return;
	close_fdp(&s->fd);
	s->fd = -1;
	directory_remove(c->tmp_fd, s->name, &ignored);
}

int cache_building_lock(struct cache *c, const char *digest, int *fd, struct error *err)
{
	int status = store_lock_open(c->building_fd, digest, O_RDWR | O_CREAT, LOCK_EX, fd, err);
	return status < 0 ? -1 : status == STORE_LOCKED ? 0 : 1;
}

void cache_building_unlock(struct cache *c, const char *digest, int *fd)
{
	if (*fd < 0)
		return;
	unlinkat(c->building_fd, digest, 0);
	close_fdp(fd);
	*fd = -1;
}

// Nobody uses it: out of sight first, so that a kill in the middle leaves nothing that looks whole.
// 1: it is gone; 0: it is used.
static int remove_entry(struct cache *c, int folder_fd, const char *name, struct error *err)
{
	cleanup_fd int fd = -1;
	if (store_lock_open(folder_fd, name, O_RDONLY, LOCK_EX, &fd, err) != STORE_LOCKED)
		return 0;
	char gone[80];
	snprintf(gone, sizeof(gone), "gone-%.64s", name);
	if (folder_fd == c->trees_fd) {
		if (renameat(folder_fd, name, c->tmp_fd, gone) < 0)
			return 0;
		return directory_remove(c->tmp_fd, gone, err) < 0 ? 0 : 1;
	}
	return directory_remove(folder_fd, name, err) < 0 ? 0 : 1;
}

static int by_use(const void *a, const void *b)
{
	const struct timespec *x = &((const struct cache_tree *)a)->used,
			      *y = &((const struct cache_tree *)b)->used;
	if (x->tv_sec != y->tv_sec)
		return x->tv_sec < y->tv_sec ? -1 : 1;
	return x->tv_nsec < y->tv_nsec ? -1 : x->tv_nsec > y->tv_nsec;
}

int cache_trees(struct cache *c, struct arena *a, struct cache_tree **trees, size_t *count,
	struct error *err)
{
	struct store_names names;
	if (store_names(c->trees_fd, ".", a, &names, err) < 0)
		return -1;
	struct cache_tree *found = arena_array(a, struct cache_tree, names.count);
	for (size_t i = 0; i < names.count; i++) {
		struct stat st = {0};
		fstatat(c->trees_fd, names.items[i], &st, AT_SYMLINK_NOFOLLOW);
		found[i] = (struct cache_tree){names.items[i], st.st_atim};
	}
	if (names.count)
		qsort(found, names.count, sizeof(*found), by_use);
	*trees = found;
	*count = names.count;
	return 0;
}

int cache_tree_remove(struct cache *c, const char *name)
{
	struct error ignored;
	return remove_entry(c, c->trees_fd, name, &ignored);
}
