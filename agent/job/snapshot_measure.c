// SPDX-License-Identifier: Apache-2.0
#include "agent/job/snapshot_walk.h"
#include "base/text.h"
#include "base/time.h"

#include <stdio.h>

// Once there is too much, so many entries more, or so long, to say where it is.
enum { ENTRIES_MORE = 1000 * 1000, MORE_MS = 2000 };

struct part { // of the root: a folder of it, or its own files
	char name[NAME_MAX + 1];
	uint64_t bytes, files;
};

struct measure {
	struct snapshot_size *size;
	const char *wanted;
	struct part now, largest;
	uint64_t entries_at_limit; // 0: the limit was not reached yet
	int64_t time_at_limit;
	bool by_bytes; // which limit it was
};

// The largest by what there is too much of.
static void finish_part(struct measure *m)
{
	uint64_t now = m->by_bytes ? m->now.bytes : m->now.files;
	uint64_t most = m->by_bytes ? m->largest.bytes : m->largest.files;
	if (now > most)
		m->largest = m->now;
}

static void count(struct measure *m, const char *path, const struct stat *st)
{
	uint64_t bytes = S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0;
	size_t n = strcspn(path, "/");
	m->size->files++;
	m->size->bytes += bytes;
	if (!path[n]) // a file of the root itself
		return;
	if (strncmp(m->now.name, path, n) != 0 || m->now.name[n]) {
		finish_part(m);
		m->now = (struct part){0};
		memcpy(m->now.name, path, n < NAME_MAX ? n : NAME_MAX);
	}
	m->now.files++;
	m->now.bytes += bytes;
}

static int give_up(struct error *err)
{
	return error_set(err, ERROR_LIMIT, "too much");
}

static int measure_entry(
	struct snapshot_walk *w, int at, const char *name, const struct stat *st, struct error *err)
{
	struct measure *m = w->data;
	(void)at;
	(void)name;
	if (S_ISDIR(st->st_mode))
		return m->entries_at_limit && now_ms() - m->time_at_limit > MORE_MS ? give_up(err)
										    : 0;
	count(m, w->path, st);
	bool bytes = m->size->bytes > w->limits->bytes, files = m->size->files > w->limits->files;
	if (!m->entries_at_limit && (bytes || files)) {
		m->entries_at_limit = w->entries;
		m->time_at_limit = now_ms();
		m->by_bytes = bytes;
	}
	bool enough = m->entries_at_limit && w->entries - m->entries_at_limit > ENTRIES_MORE;
	return enough ? give_up(err) : 0;
}

static void measure_ignored(struct snapshot_walk *w, const char *path, bool is_folder)
{
	struct measure *m = w->data;
	size_t n = strlen(path);
	m->size->ignored++;
	if (m->wanted && strncmp(m->wanted, path, n) == 0 &&
		(is_folder ? m->wanted[n] == '/' : !m->wanted[n]))
		m->size->wanted_ignored = true;
}

static int fail_over(
	const struct measure *m, const struct snapshot_limits *limits, bool more, struct error *err)
{
	char size[FORMAT_SIZE_MAX], most[FORMAT_SIZE_MAX], part[FORMAT_SIZE_MAX];
	cleanup_free char *largest = NULL;
	if (m->largest.files)
		largest = xasprintf("; the largest folder is %s (%llu files, %s)", m->largest.name,
			(unsigned long long)m->largest.files, format_size(m->largest.bytes, part));
	return error_set(err, ERROR_LIMIT,
		"%s%llu files with %s, at most %llu with %s are copied%s: name what is not needed "
		"in .amlignore, and bring data as inputs",
		more ? "more than " : "", (unsigned long long)m->size->files,
		format_size(m->size->bytes, size), (unsigned long long)limits->files,
		format_size(limits->bytes, most), largest ? largest : "");
}

int snapshot_measure(int source_fd, const struct snapshot_limits *limits, const char *wanted,
	struct snapshot_size *size, struct error *err)
{
	*size = (struct snapshot_size){0};
	while (wanted && starts_with(wanted, "./"))
		wanted += 2;
	struct measure m = {.size = size, .wanted = wanted};
	struct snapshot_walk w = {.limits = limits,
		.entry = measure_entry,
		.ignored = measure_ignored,
		.data = &m,
		.found = &size->rules};
	int rc = snapshot_walk(&w, source_fd, err);
	finish_part(&m);
	if (m.entries_at_limit) {
		error_clear(err);
		return fail_over(&m, limits, rc < 0, err);
	}
	return rc;
}
