// SPDX-License-Identifier: Apache-2.0
//
// The store of objects in parts: what they share (blobs_s3_store.c), appending (blobs_s3.c),
// reading (blobs_s3_read.c), joining small objects (blobs_s3_join.c), removing what is nobody's
// (blobs_s3_sweep.c).
#pragma once

#include "controller/files/blobs_internal.h"
#include "controller/files/block_cache.h"
#include "controller/files/object_writer.h"

#include <pthread.h>

struct s3_store {
	struct blob_store store;
	struct s3 *s3;
	struct database *db;
	struct block_cache *cache;
	pthread_mutex_t lock; // of what follows
	pthread_cond_t changed;
	struct blob_handle *writers; // in this process
	unsigned slots;		     // taken, of those who may hold a part in memory
	bool stopping;
	int64_t pinged; // now_ms(); 0: never
	struct error ping_error;
	pthread_t sweeper;
};

// Without `store`, which is the caller's matter. Writes a mark, if there is none, to find out that
// we may write there.
struct s3_store *s3_store_open(const char *where, struct database *db, struct error *err);
void s3_store_free(struct blob_store *store);
int s3_store_ping(struct blob_store *store, struct error *err);

// The right to hold a part of an object in memory: ERROR_UNAVAILABLE after 10 s.
int s3_store_take_slot(struct s3_store *s, struct error *err);
void s3_store_give_slot(struct s3_store *s);

int64_t s3_store_read(struct s3_store *s, const char *blob, uint64_t offset, void *data,
	size_t size, struct error *err);
// All bytes of [from, to) into a new object.
int s3_store_gather(struct s3_store *s, const char *blob, uint64_t from, uint64_t to,
	struct object_writer *w, struct error *err);

// Make few objects of many small ones; `finished`: also of the bytes that are in the table, save
// where they are a handful. What another controller has changed meanwhile is left as it is.
int s3_store_join(struct s3_store *s, const char *blob, bool finished, struct error *err);
// Of a finished blob so few bytes stay in the table.
enum { S3_STORE_INLINE = 4096 };

// A thread that removes strays; it ends when s->stopping is set and s->changed is told.
int s3_store_sweep_start(struct s3_store *s, struct error *err);
