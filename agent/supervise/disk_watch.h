// SPDX-License-Identifier: Apache-2.0
//
// A job's share of the disk: its folder in the state directory, which holds its copy of the source
// directory, what it changes in its root file system, its outputs and its log. The free space of
// the file system is looked at many times a second, which costs a microsecond; the job's files are
// counted (disk_walk.h) when as much has gone as could bring it to its limit. Works on any file
// system, without quotas of the kernel.
#pragma once

#include "agent/job/cause.h"
#include "base/loop.h"

#include <stdbool.h>
#include <stdint.h>

struct disk_watch;

struct disk_watch_options {
	int folder_fd;	    // stays the caller's
	uint64_t limit;	    // bytes; 0: none
	uint64_t keep_free; // of the file system; 0: it may be filled
	unsigned keep_free_inodes_percent;
	// The job is over its limit, or the disk is nearly full and the job takes a part of it.
	// First not urgent: it may be asked to end; then, if it goes on to write, urgent.
	void (*over)(void *data, enum cause_stop why, const char *detail, bool urgent);
	// What the job has on the disk beside its folder: disk_open.h. May be NULL.
	uint64_t (*beside)(void *data);
	void *data;
};

// NULL without an error where there is nothing to watch.
struct disk_watch *disk_watch_new(
	struct loop *loop, const struct disk_watch_options *options, struct error *err);
void disk_watch_free(struct disk_watch *w); // NULL is fine

// How long a look may wait, with so much room and a disk that may take 4 GiB a second: 20 to 500.
int64_t disk_watch_interval_ms(uint64_t room);

DEFINE_CLEANUP(disk_watch_free, struct disk_watch *, disk_watch_free)
#define cleanup_disk_watch __attribute__((cleanup(disk_watch_freep)))
