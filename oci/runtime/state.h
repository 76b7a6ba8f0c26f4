// SPDX-License-Identifier: Apache-2.0
//
// What the OCI command line remembers of a container between its calls: a folder for each below a
// root (0700), with state.json (written atomically), config.json (as it was at `create`) and the
// FIFO that `start` opens. The folder's existence is the container's: its name is taken as long as
// it is there. The folder is locked with flock(2) by what changes it.
#pragma once

#include "base/arena.h"
#include "base/buffer.h"
#include "base/error.h"
#include "base/json_decode.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

// The version of the runtime specification that we follow.
#define RUNTIME_SPEC_VERSION "1.2.1"

enum { RUNTIME_ID_MAX = 255 };

enum runtime_status {
	RUNTIME_CREATING,
	RUNTIME_CREATED,
	RUNTIME_RUNNING,
	RUNTIME_STOPPED,
	RUNTIME_STATUSES
};
extern const char *const runtime_status_names[RUNTIME_STATUSES];

struct runtime_state {
	const char *id;
	const char *bundle, *rootfs; // absolute
	const char *created;	     // RFC 3339
	const char *cgroup;	     // its path; NULL: none
	struct json_pairs annotations;
	enum runtime_status status; // as recorded; see runtime_state_status()
	// The container's process; while it is RUNTIME_CREATING, the one that creates it.
	pid_t pid;
	uint64_t start_time; // of the process, in ticks since boot: a number may be used again
	uid_t owner;
};

// Letters, digits, '_', '+', '-' and '.', at most RUNTIME_ID_MAX; not "." and "..".
int runtime_id_check(const char *id, struct error *err);

// Make the container's folder and return its descriptor, locked. ERROR_INVALID if there is one of
// that name already.
int runtime_state_create(const char *root, const char *id, struct error *err);
// Open it. ERROR_NOT_FOUND: there is no such container.
int runtime_state_open(const char *root, const char *id, struct error *err);
// Wait for the lock; unlock by hand before something is started that may keep the descriptor.
int runtime_state_lock(int folder, struct error *err);
void runtime_state_unlock(int folder);
// Remove the folder.
int runtime_state_remove(const char *root, const char *id, struct error *err);
// All names below the root, sorted; an arena array. A root that is missing has none.
int runtime_state_list(
	const char *root, struct arena *a, struct json_strings *ids, struct error *err);

int runtime_state_save(int folder, const struct runtime_state *s, struct error *err);
// Everything lives in the arena. What `create` has left without a record is RUNTIME_STOPPED.
int runtime_state_load(
	int folder, const char *id, struct arena *a, struct runtime_state *s, struct error *err);

// What is so now: the record, and whether the process lives.
enum runtime_status runtime_state_status(const struct runtime_state *s);
// A pidfd of the container's process. ERROR_NOT_FOUND if it has ended.
int runtime_state_pidfd(const struct runtime_state *s, struct error *err);
// Note the process `pid` and when it began. Fails if it has ended.
int runtime_state_set_process(struct runtime_state *s, pid_t pid, struct error *err);

// The JSON document of the specification, for the `state` command (`more`: with what we add) and
// for hooks; `pid` 0 is left out.
int runtime_state_document(const struct runtime_state *s, enum runtime_status status, pid_t pid,
	bool more, struct buffer *out, struct error *err);
