// SPDX-License-Identifier: Apache-2.0
//
// The files of a run in the tables: which path is which blob, and what is finished. Whatever is
// changed takes away the mark that all is there (run.manifest). Callers have asked access_run() in
// the same transaction.
#pragma once

#include "controller/state/controller.h"

// A path and its run's id are a key, which may have 2704 bytes in PostgreSQL.
enum { FILE_PATH_MAX = 2500, FILE_TARGET_MAX = 4000, FILE_LIST_MAX = 10000 };

struct file_row {
	const char *path, *kind; // kind NULL: there is no such file
	const char *blob, *part; // NULL: none (an empty file has none)
	const char *sha256;	 // NULL: not finished
	const char *target;	 // of a link
	uint64_t size;		 // of what is finished; of others ask the blob
	bool complete;
	unsigned mode;
	int64_t mtime_ns;
};

// Is it one of the folders' that a run has, without "." and "..", short enough?
int file_path_check(const char *path, struct error *err);
int file_get(struct database_tx *tx, struct arena *a, const char *run, const char *path,
	struct file_row *f, struct error *err);
// Those that begin with `prefix`, and of them `top` and what is below it ("": any). Ordered by
// path; those behind `after`, at most `limit`.
int file_list(struct database_tx *tx, struct arena *a, const char *run, const char *top,
	const char *prefix, const char *after, uint64_t limit, struct file_row **files,
	size_t *count, struct error *err);
// The blob to append to, of the file or its part; the file is made if it is not there, and is not
// finished any more (a part leaves it as it is). Over run_files it is ERROR_LIMIT.
int file_open(struct database_tx *tx, struct arena *a, const struct controller_limits *limits,
	const char *run, const char *path, bool part, char blob[BLOB_ID_SIZE], struct error *err);
// What file_open() would give, where nothing has to be changed for it: 1; else 0.
int file_is_open(struct database_tx *tx, struct arena *a, const char *run, const char *path,
	bool part, char blob[BLOB_ID_SIZE], struct error *err);

struct file_end {
	bool part;
	const char *blob; // that was checked; "": of an empty file. Another one by now:
			  // ERROR_UNAVAILABLE
	const char *sha256;
	uint64_t size;
	unsigned mode;
	int64_t mtime_ns;
};
int file_finish(struct database_tx *tx, struct arena *a, const struct controller_limits *limits,
	const char *run, const char *path, const struct file_end *end, struct error *err);
// What is there of it is worth nothing: begin anew.
int file_forget(struct database_tx *tx, struct arena *a, const char *run, const char *path,
	bool part, struct error *err);

int file_folder(struct database_tx *tx, struct arena *a, const struct controller_limits *limits,
	const char *run, const char *path, unsigned mode, struct error *err);
int file_link(struct database_tx *tx, struct arena *a, const struct controller_limits *limits,
	const char *run, const char *path, const char *target, struct error *err);
// With all below.
int file_remove(struct database_tx *tx, struct arena *a, const char *run, const char *path,
	struct error *err);
int file_move(struct database_tx *tx, struct arena *a, const char *run, const char *from,
	const char *to, struct error *err);
// The same also of outputs, logs … themselves, which for others stay folders.
int file_move_top(struct database_tx *tx, struct arena *a, const char *run, const char *from,
	const char *to, struct error *err);
int file_manifest(struct database_tx *tx, struct arena *a, const char *run, struct error *err);
// All of a run that is being removed: its blobs become garbage.
int file_remove_all(struct database_tx *tx, struct arena *a, const char *run, struct error *err);
// A whole new file at once, whose bytes are in the blob `end` names.
int file_replace(struct database_tx *tx, struct arena *a, const struct controller_limits *limits,
	const char *run, const char *path, const struct file_end *end, struct error *err);
