// SPDX-License-Identifier: Apache-2.0
//
// What the files of data_prepare() share. Each kind ends with a lease on what it has prepared,
// which this process holds to its end: the supervisor takes its own before that.
#pragma once

#include "agent/data/http.h"

struct prepare {
	const struct data_options *options;
	struct arena *arena;
	struct data_ready *ready;
	struct cache cache;
	int64_t *deadlines; // monotonic ms, of each source
	size_t current;	    // the source that is worked at
	size_t failed;
	enum data_failure failure;
	uint64_t own, linked;	      // bytes of the tree being made: its own, and downloads' too
	struct data_http_file *files; // of all sources that download, in their order
	size_t file_count;
};

// Other than 0: a signal has come, or one came before.
int prepare_canceled(struct prepare *p);
// Tell about the current source.
int prepare_progress(void *prepare, uint64_t bytes); // other than 0: canceled
void prepare_total(struct prepare *p, size_t source, uint64_t done, uint64_t total);
void prepare_notice(struct prepare *p, const char *text);
int prepare_fail(struct prepare *p, enum data_failure failure);			  // -1
uint64_t prepare_max_bytes(const struct prepare *p, const struct data_source *s); // 0: none

// The name of a file in its folder; NULL with the error.
const char *prepare_file_name(struct prepare *p, const struct data_file *f, struct error *err);

bool prepare_is_name(const char *name); // a path that stays below a folder
// Put a file, which is `kept` in folder_fd and open as `object`, into a stage, or what is in it.
// `bytes` counts what is unpacked.
int prepare_place(struct prepare *p, const struct data_source *s, int object, int folder_fd,
	const char *kept, const char *name, int stage_fd, uint64_t *bytes, struct error *err);

// Before and after the downloads of all sources.
int prepare_http_plan(struct prepare *p, struct error *err);
int prepare_http_finish(struct prepare *p, size_t source, struct error *err);
int prepare_inline(struct prepare *p, size_t source, struct error *err);
int prepare_bind(struct prepare *p, size_t source, struct error *err);
int prepare_mount(struct prepare *p, size_t source, struct error *err); // fuse, nfs, cifs
int prepare_oci(struct prepare *p, size_t source, struct error *err);

// A tree of this digest: is it here? 1: ready is filled. 0: it is ours to make, *lock_fd is held;
// then commit it, or give the right back. -1.
int prepare_tree_begin(struct prepare *p, size_t source, const char *digest, const char *below,
	int *lock_fd, struct error *err);
int prepare_tree_commit(struct prepare *p, size_t source, struct cache_stage *stage,
	const char *digest, const char *below, struct error *err);
// The job may change its copy: one is made of what is ready.
int prepare_private_copy(struct prepare *p, size_t source, struct error *err);
