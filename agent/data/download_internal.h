// SPDX-License-Identifier: Apache-2.0
//
// What the files of the download engine share: the cache's folders, what an address gave last, and
// room.
#pragma once

#include "agent/data/download_pool.h"

#include <pthread.h>
#include <stdatomic.h>

struct download_cache {
	int fd, objects_fd, urls_fd, parts_fd, locks_fd;
	struct cache_limits limits;
	struct download_pool pool;
	pthread_mutex_t mutex; // of what follows
	uint64_t bytes;	       // of objects, when they were counted, and of what has come since
	int64_t counted_ms;    // 0: never
};

// What an address gave last.
struct download_record {
	char etag[RESPONSE_ETAG_MAX], last_modified[40];
	char sha256[65];
	char content_type[128];
	char final_url[2048];
	int64_t asked_ms; // wall clock
};
// 1, or 0 where there is none that can be read. `url` NULL: of whatever address.
int download_record_read(
	struct download_cache *c, const char *key, const char *url, struct download_record *r);
int download_record_write(struct download_cache *c, const char *key, const char *url,
	const struct download_record *r, struct error *err);

// "ab/<64 hex>"
void download_object_name(const char *sha256, char name[80]);
// Give the part, complete and hashed, its place, and lease it.
int download_object_commit(struct download_cache *c, const char *part, int part_fd,
	const char *sha256, int *fd, struct error *err);

// Evict so that `bytes` more fit under the limits and on the disk. 0;
// 1 with the text: they do not fit; -1.
int download_make_room(struct download_cache *c, uint64_t bytes, struct error *err);
// Remove what dead processes left.
void download_sweep(struct download_cache *c);
