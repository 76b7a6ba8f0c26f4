// SPDX-License-Identifier: Apache-2.0
#include "agent/command/run_lookup.h"

#include "agent/job/run.h"
#include "base/file.h"
#include "base/text.h"
#include "oci/store/entries.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

int command_open_runs(struct command *c, struct error *err)
{
	if (command_open(c, err) < 0)
		return -1;
	run_sweep(c->store);
	return 0;
}

enum { NAMED_MAX = 4 }; // of several that may be meant

static int compare(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int run_list(struct store *s, bool active, struct arena *a, const char ***ids, size_t *count,
	struct error *err)
{
	struct store_names names = {0};
	const char *folder = active ? "runs/.active" : "runs";
	*count = 0;
	*ids = arena_array(a, const char *, 1);
	if (store_names(s->state_fd, folder, a, &names, err) < 0) {
		if (err->kind != ERROR_NOT_FOUND)
			return -1;
		error_clear(err);
		return 0;
	}
	*ids = arena_array(a, const char *, names.count + 1);
	for (size_t i = 0; i < names.count; i++)
		if (names.items[i][0] != '.')
			(*ids)[(*count)++] = names.items[i];
	qsort(*ids, *count, sizeof(**ids), compare);
	return 0;
}

bool run_is_active(struct store *s, const char *id)
{
	struct stat st;
	cleanup_free char *name = xasprintf("runs/.active/%s", id);
	return fstatat(s->state_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

int run_found_attempt(struct store *s, struct run_found *found, unsigned attempt, struct error *err)
{
	cleanup_fd int runs_fd = directory_open(s->state_fd, "runs", err);
	if (runs_fd < 0)
		return -1;
	unsigned last = run_attempt_last(runs_fd, found->id);
	if (attempt > last)
		return error_set(err, ERROR_NOT_FOUND, "run %s has %u attempt%s", found->id, last,
			last == 1 ? "" : "s");
	int fd = run_attempt_open(runs_fd, found->id, attempt ? attempt : last, err);
	if (fd < 0)
		return -1;
	close_fdp(&found->fd);
	found->fd = fd;
	found->attempt = attempt ? attempt : last;
	return 0;
}

static int open_found(struct store *s, const char *id, struct run_found *found, struct error *err)
{
	*found = (struct run_found){.fd = -1};
	snprintf(found->id, sizeof(found->id), "%s", id);
	return run_found_attempt(s, found, 0, err);
}

// `ids`: sorted, so those that may be meant stand together.
static int refuse_several(const char *name, const char *const *ids, size_t count, struct error *err)
{
	cleanup_buffer struct buffer list = {0};
	for (size_t i = 0; i < count && i < NAMED_MAX; i++)
		buffer_printf(&list, "%s%.100s", i ? ", " : "", ids[i]);
	if (count > NAMED_MAX)
		buffer_printf(&list, " and %zu more", count - NAMED_MAX);
	return error_set(err, ERROR_INVALID, "%.100s may be %s", name, list.data);
}

// An id may be the beginning of another; it means itself then.
int run_find(struct store *s, const char *name, struct run_found *found, struct error *err)
{
	cleanup_arena struct arena a = {0};
	const char **ids;
	size_t count, first = 0, matches = 0;
	*found = (struct run_found){.fd = -1};
	if (run_list(s, false, &a, &ids, &count, err) < 0)
		return -1;
	for (size_t i = 0; i < count && *name; i++) {
		if (streq(ids[i], name))
			return open_found(s, name, found, err);
		if (starts_with(ids[i], name) && matches++ == 0)
			first = i;
	}
	if (matches > 1)
		return refuse_several(name, (const char *const *)ids + first, matches, err);
	if (!matches)
		return error_set(
			err, ERROR_NOT_FOUND, "there is no run %s; see: stoker ps --all", name);
	return open_found(s, ids[first], found, err);
}

void run_found_release(struct run_found *f)
{
	if (f->id[0])
		close_fdp(&f->fd);
	*f = (struct run_found){.fd = -1};
}
