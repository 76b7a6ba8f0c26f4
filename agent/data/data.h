// SPDX-License-Identifier: Apache-2.0
//
// A job's inputs, in two steps. data_prepare() is done before there is a sandbox, by the command
// that starts the job: what has to be on this disk is brought here, with progress. data_attach() is
// done by the supervisor: it leases what was prepared, and mounts what is mounted, for as long as
// the job runs; the helpers of mounts are its children.
//
// Each input ends as a path on this node that the sandbox binds to the target, ro,nosuid,nodev.
#pragma once

#include "agent/config/policies.h"
#include "agent/data/download.h"
#include "agent/data/source.h"
#include "base/buffer.h"
#include "base/loop.h"
#include "oci/registry/config.h"
#include "oci/store/store.h"

struct data_events {
	// `index` of the source; bytes (and files) so far of how many (0: unknown).
	void (*progress)(void *data, size_t index, uint64_t done, uint64_t total);
	void (*notice)(void *data, const char *text);
	void *data;
};

// What is prepared, as the supervisor needs it; packed with the job. Plain texts of the arena.
struct data_ready {
	const char *digest; // of the tree or file in the cache; NULL: nothing was to be prepared
	// Its path below the state directory; cache_kept_lease() of cache.h leases it. Of an image
	// of a registry: its reference by digest, for store_image_get().
	const char *kept;
	bool is_file; // it is one file and not a folder
	bool absent;  // optional, and not there
	uint64_t bytes, fetched;
	bool reused;
	// The lease on it, which the process of data_prepare() holds until the supervisor has its
	// own; -1. Not packed.
	int lease_fd;
};

struct data_options {
	struct store *store;
	const struct data_policy *policy;
	const struct registry_config *registries;
	enum layer_format layer_format; // of images of registries
	const struct data_source *sources;
	size_t count;
	// The value of one of the job's secrets; NULL: there is none of that name.
	const char *(*secret)(void *data, const char *name);
	const struct data_events *events; // may be NULL
	void *data;			  // of secret()
	// A line that a helper of a mount printed; may be NULL.
	void (*log)(void *data, const char *text);
	void *log_data;
	int *canceled; // as pull_options.canceled; may be NULL
};

// Several inputs at a time; `ready` is an arena array of `count`. On failure *failed is the index
// of the input and *failure its class; the text begins with "input NAME: ".
int data_prepare(const struct data_options *o, struct arena *a, struct data_ready **ready,
	size_t *failed, enum data_failure *failure, struct error *err);

struct data_mounts; // what a running job's inputs hold

// As above; `folder_fd`: an empty folder of this run for mount points. Mounts are made in this
// process's mount namespace, under it.
struct data_mounts *data_attach(const struct data_options *o, const struct data_ready *ready,
	int folder_fd, size_t *failed, enum data_failure *failure, struct error *err);
// The path on this node to bind for input i (a file or a folder); NULL: DATA_DIRECT.
const char *data_mounts_path(const struct data_mounts *m, size_t i);
// Are files there known by the job's ids once these are mapped? Not where a server decides alone.
bool data_mounts_map_ids(const struct data_mounts *m, size_t i);
// Is this one of its processes? Then its end is waited for here. NULL is fine.
bool data_mounts_own(const struct data_mounts *m, pid_t pid);
// Watch the helpers: one that ends, or a mount that does not answer for too long, is aborted (so
// that readers get an error and nobody hangs) and told to `died`, once for each.
int data_mounts_watch(struct data_mounts *m, struct loop *loop,
	void (*died)(void *data, size_t index, enum data_failure failure, const char *text),
	void *data, struct error *err);
// Whoever waits for a mount gets an error from here on; each is told to `died`. May be called
// again.
void data_mounts_abort(struct data_mounts *m);
// Is one aborted and not back of which the job may wait for ever (NFS, while it recovers its
// state)?
bool data_mounts_may_hang(const struct data_mounts *m);
// Flush what was written (DATA_RW_MOUNT), within `flush_ms`, and unmount everything, forcibly if
// need be; never hangs. -1 with the failure: what was written did not get out. NULL is fine.
int data_detach(struct data_mounts *m, uint64_t flush_ms, size_t *failed,
	enum data_failure *failure, struct error *err);
// End what a killed supervisor left: mounts below `folder_fd` and its helpers.
int data_sweep(int folder_fd, struct error *err);
