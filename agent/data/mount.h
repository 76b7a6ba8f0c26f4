// SPDX-License-Identifier: Apache-2.0
//
// One mounted input. A kind is a table of functions; attach.c goes through a job's inputs, calls
// them and knows nothing of any kind. Nobody but a child with a deadline ever touches what is
// mounted: a server that does not answer must not stop us.
#pragma once

#include "agent/data/data.h"
#include "base/process.h"
#include "oci/runtime/rootfs.h"

struct data_mount;

struct mount_kind {
	// Mount it at m->path (an empty folder that exists) within the deadline (monotonic ms).
	int (*open)(struct data_mount *m, const struct data_options *o, int64_t deadline_ms,
		enum data_failure *failure, struct error *err);
	// Write out what was written, within the deadline. NULL: syncfs(2) in a child.
	int (*flush)(struct data_mount *m, int64_t deadline_ms, enum data_failure *failure,
		struct error *err);
	// It does not answer: its readers get an error from here on. NULL: there is no such way.
	void (*abort)(struct data_mount *m);
};
// NULL: nothing is mounted for this input.
const struct mount_kind *mount_kind_of(const struct data_source *s);

struct data_mount {
	const struct data_source *source;
	const struct mount_kind *kind;	// NULL: nothing is mounted here
	const struct data_ready *ready; // NULL: nothing was prepared
	char *path;	       // on this node: the mount point, or what was prepared; NULL: direct
	int fd;		       // a lease, or what a bind was opened as; -1
	bool mounted;	       // at path
	bool failed;	       // and told
	struct process helper; // of FUSE; pid 0: none
	int log_fd;	       // what it prints; -1
	unsigned connection;   // /sys/fs/fuse/connections/<n>; 0: none
	struct loop_source *helper_source;
	struct rootfs_layers *layers; // of an image; NULL
};

// Was an image of a registry prepared? Then mount its tree, read-only, at m->path.
bool attach_is_image(const struct data_ready *ready);
int attach_image(struct data_mount *m, const struct data_options *o, struct error *err);

// Look whether a mount answers (statfs(2) and one entry), in a child that is killed at the
// deadline. 0: it does. -1 with DATA_STALLED, or how the look failed.
int mount_probe(
	const char *path, int64_t deadline_ms, enum data_failure *failure, struct error *err);
// umount2(2): with MNT_DETACH if need be; nothing waits for a server.
void mount_remove(const char *path);
