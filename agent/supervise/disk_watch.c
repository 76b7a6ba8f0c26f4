// SPDX-License-Identifier: Apache-2.0
#include "agent/supervise/disk_watch.h"

#include "agent/supervise/disk_walk.h"
#include "base/text.h"

#include <stdio.h>
#include <sys/vfs.h>

#define MIB (1024ULL * 1024)

enum {
	STEP_ENTRIES = 500, // about a millisecond
	STEP_PAUSE_MS = 1,
	REST_FACTOR = 5,	// between two counts, times as long as one took …
	RECOUNT_MS = 30 * 1000, // … and at most so long, while the disk changes
	INTERVAL_LEAST = 20,
	INTERVAL_MOST = 500,
	BYTES_PER_MS = 4 * 1024 * 1024,
};

struct disk_watch {
	struct disk_watch_options o;
	struct loop_source *timer;
	struct disk_walk walk;
	bool walking, counted, told, told_urgent;
	uint64_t used;	    // when it was counted last
	uint64_t free_then; // of the disk, when that began
	uint64_t free_now, free_before;
	bool inodes_low;
	int64_t walk_began_ms, walk_ended_ms;
};

int64_t disk_watch_interval_ms(uint64_t room)
{
	uint64_t ms = room / BYTES_PER_MS / 2; // half of the way
	return ms < INTERVAL_LEAST  ? INTERVAL_LEAST
	       : ms > INTERVAL_MOST ? INTERVAL_MOST
				    : (int64_t)ms;
}

static void look(struct disk_watch *w)
{
	struct statfs fs;
	if (fstatfs(w->o.folder_fd, &fs) < 0)
		return;
	w->free_before = w->free_now;
	w->free_now = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
	w->inodes_low =
		fs.f_files > 0 && fs.f_ffree <= fs.f_files &&
		(uint64_t)fs.f_ffree * 100 < (uint64_t)fs.f_files * w->o.keep_free_inodes_percent;
}

// What has gone from the disk since the last count; all of it may be the job's.
static uint64_t gone(const struct disk_watch *w)
{
	return w->free_then > w->free_now ? w->free_then - w->free_now : 0;
}

static bool is_disk_low(const struct disk_watch *w)
{
	return w->free_now < w->o.keep_free || w->inodes_low;
}

static uint64_t below(uint64_t most, uint64_t used)
{
	return used < most ? most - used : 0;
}

// How much may be written until there would be something to say.
static uint64_t room(const struct disk_watch *w)
{
	uint64_t left = w->o.keep_free ? below(w->free_now, w->o.keep_free) : UINT64_MAX;
	uint64_t own = w->o.limit ? below(w->o.limit, w->used + gone(w)) : UINT64_MAX;
	return left < own ? left : own;
}

static bool should_count(const struct disk_watch *w)
{
	int64_t took = w->walk_ended_ms - w->walk_began_ms, now = now_ms();
	if (!w->counted)
		return true;
	if (now < w->walk_ended_ms + REST_FACTOR * took)
		return false;
	if (is_disk_low(w))
		return true;
	if (!w->o.limit)
		return false;
	if (gone(w) >= below(w->o.limit, w->used) / 2 && gone(w) > 0)
		return true;
	// What others remove hides what the job writes.
	return w->free_now != w->free_before && now > w->walk_ended_ms + RECOUNT_MS;
}

static void tell(struct disk_watch *w, enum cause_stop why, bool urgent)
{
	char used[FORMAT_SIZE_MAX], limit[FORMAT_SIZE_MAX], detail[160];
	if (w->told_urgent || (w->told && !urgent))
		return;
	w->told = true;
	w->told_urgent = urgent;
	format_size(w->used, used);
	if (why == STOP_DISK_LIMIT)
		snprintf(detail, sizeof(detail), "%s, and %s are allowed (resources.disk)", used,
			format_size(w->o.limit, limit));
	else
		snprintf(detail, sizeof(detail), "%s, %s of them the job's",
			w->inodes_low ? "few inodes are left" : "less is left than store.keep_free",
			used);
	w->o.over(w->o.data, why, detail, urgent);
}

// A job that has next to nothing on the disk is not what fills it.
static void judge(struct disk_watch *w)
{
	if (w->o.limit && w->used > w->o.limit)
		tell(w, STOP_DISK_LIMIT, w->used > w->o.limit + w->o.limit / 8 + 64 * MIB);
	else if (is_disk_low(w) && w->used >= MIB)
		tell(w, STOP_DISK_FULL, w->free_now < w->o.keep_free / 2);
}

static void on_tick(void *data)
{
	struct disk_watch *w = data;
	struct error ignored; // tried again at the next look
	look(w);
	if (!w->walking && should_count(w)) {
		w->walk_began_ms = now_ms();
		w->free_then = w->free_now;
		w->walking = disk_walk_begin(&w->walk, w->o.folder_fd, &ignored) == 0;
	}
	if (w->walking && disk_walk_step(&w->walk, STEP_ENTRIES)) {
		w->walking = false;
		w->counted = true;
		w->walk_ended_ms = now_ms();
		w->used = w->walk.bytes + (w->o.beside ? w->o.beside(w->o.data) : 0);
		judge(w);
	}
	loop_timer_set(w->timer, w->walking ? STEP_PAUSE_MS : disk_watch_interval_ms(room(w)));
}

struct disk_watch *disk_watch_new(
	struct loop *loop, const struct disk_watch_options *options, struct error *err)
{
	if (!options->limit && !options->keep_free && !options->keep_free_inodes_percent)
		return NULL;
	cleanup_disk_watch struct disk_watch *w = xcalloc(1, sizeof(*w));
	w->o = *options;
	w->timer = loop_add_timer(loop, 0, on_tick, w, err);
	return w->timer ? steal(w) : NULL;
}

void disk_watch_free(struct disk_watch *w)
{
	if (!w)
		return;
	disk_walk_end(&w->walk);
	loop_remove(w->timer);
	free(w);
}
