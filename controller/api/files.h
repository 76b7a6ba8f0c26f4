// SPDX-License-Identifier: Apache-2.0
//
// Requests about the files of runs, shared by files*.c and models.c.
#pragma once

#include "controller/api/api.h"
#include "controller/state/file.h"

// Bytes on their way in (files_append.c): PATCH and PUT.
route_fn files_append_begin, files_append, files_put_begin, files_put;
int files_append_piece(struct request *r, const void *data, size_t size, struct error *err);
int files_put_piece(struct request *r, const void *data, size_t size, struct error *err);
void files_append_release(struct request *r), files_put_release(struct request *r);

// What changes tables (files_change.c): the end of a file, folders, links, names, the mark.
route_fn files_post, files_changes, files_manifest;

// Bytes on their way out (files_read.c). The caller has asked access_run().
// The bytes of one from `offset` on, or those of Range.
int files_reply_bytes(
	struct request *r, const char *run, const char *path, uint64_t offset, struct error *err);
// A blob of so many bytes.
int files_reply_blob(struct request *r, const char *blob, uint64_t size, struct error *err);
// As they come, from there on, until the file is complete, replaced by another, or the run has
// ended without it.
int files_reply_follow(
	struct request *r, const char *run, const char *path, uint64_t offset, struct error *err);
// One page of query parameters `prefix`, `after` and `limit`: of `base` and what is below it ("":
// all). The prefix goes on behind `base`.
int files_reply_list(struct request *r, const char *run, const char *base, struct error *err);
