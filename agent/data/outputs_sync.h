// SPDX-License-Identifier: Apache-2.0
//
// Inside the synchroniser: one run's state, and the steps of a round.
#pragma once

#include "agent/data/outputs.h"
#include "agent/data/outputs_hash.h"
#include "agent/data/outputs_index.h"
#include "agent/data/outputs_target.h"

enum {
	OUTPUTS_SKIPS_MAX = 100, // named; the rest is counted
	OUTPUTS_SETTLE_MS = 60 * 1000,
};

struct outputs_skip {
	char *path;
	const char *reason; // static
};

struct outputs_sync {
	int run_fd;
	uint64_t device; // of the run's folder
	const char *run_id, *destination;
	unsigned attempt;
	struct outputs_policy policy;
	struct outputs_target *target;
	struct outputs_index index;
	struct outputs_hasher *hasher;
	char *buffers[OUTPUTS_SLOTS];
	struct outputs_parent parent; // of the source
	struct outputs_status status;
	struct outputs_skip skips[OUTPUTS_SKIPS_MAX];
	uint64_t skip_count; // of all
	bool incomplete;     // some of them are losses,
	char loss[300];	     // the first of which is this, in one line
	uint32_t round;
	bool listed;	     // what is at the destination has been compared with the index
	bool at_rest;	     // the job has ended
	bool never_settles;  // the source's file system does not tell of changes by mmap(2)
	int64_t deadline_ms; // of the last round; 0: none
	struct { // files that took a path they had not, and what was there before is wanted
		struct outputs_entry *entry;
		struct outputs_identity now;
	} * moves;
	size_t move_count, move_capacity;
	uint64_t chunks; // that the index keeps of all files
	// Called between files and chunks: time to tell how far it is.
	void (*tick)(void *data);
	void *data;
};

void outputs_skip(struct outputs_sync *s, const char *path, const char *reason, bool loss);
void outputs_skips_clear(struct outputs_sync *s);
uint64_t outputs_chunks_of(uint64_t size);
// Is the time of the last round over?
int outputs_check_deadline(const struct outputs_sync *s, struct error *err);

// Compare the index with what lies at the destination (once, at the start).
int outputs_reconcile(struct outputs_sync *s, struct error *err);
// Find out what there is: sets seen, want, changed and replaced of the entries, and the moves.
// Never fails for what the job has done; that is skipped and named.
int outputs_walk(struct outputs_sync *s, struct error *err);
// May a link with this text stand at `path`? Only if it cannot lead out of its top folder.
bool outputs_link_stays_inside(const char *path, const char *text);
// statx(2) of a name; 0, or -1 with errno. *device may be NULL.
int outputs_identity_get(
	int dirfd, const char *name, struct outputs_identity *id, uint64_t *device);
bool outputs_same_file(const struct outputs_identity *a, const struct outputs_identity *b);
bool outputs_same_state(const struct outputs_identity *a, const struct outputs_identity *b);

// Bring one file to the destination, as far as it differs. -1: the destination's fault (or the
// deadline's); what the job has done is skipped and named.
int outputs_send(struct outputs_sync *s, struct outputs_entry *e, struct error *err);
// One round: walk, follow renames and deletions, send. With `at_rest` everything is verified and
// the manifest written.
int outputs_round(struct outputs_sync *s, struct error *err);
int outputs_manifest_write(struct outputs_sync *s, struct error *err);
// <run>/upload.json from the status and the skips.
int outputs_status_write(const struct outputs_sync *s, struct error *err);
// A path as text: as it is if it is UTF-8, else with % and all bytes that are none as %HH, and
// true.
bool outputs_escape(const char *path, struct buffer *b);
