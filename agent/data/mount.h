// SPDX-License-Identifier: Apache-2.0
//
// One mounted input. A kind is a table of functions; attach.c goes through a job's inputs, calls
// them and knows nothing of any kind. Nobody but a child with a deadline ever touches what is
// mounted: a server that does not answer must not stop us.
#pragma once

#include "agent/data/data.h"
#include "agent/data/helper_log.h"
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
	// It does not answer: its readers get an error from here on. NULL: there is no such way,
	// and it is not watched. May be called again.
	void (*abort)(struct data_mount *m);
	// The file system knows nothing of the job's ids; its files are open to all instead.
	bool plain_ids;
	// The kernel's own, of a server: the mount goes on when that is back.
	bool remote;
	// Not all waits end when it is aborted.
	bool may_hang;
};
// NULL: nothing is mounted for this input.
const struct mount_kind *mount_kind_of(const struct data_source *s);
extern const struct mount_kind mount_fuse, mount_nfs, mount_cifs, mount_fsimage;

struct data_mount {
	const struct data_source *source;
	const struct mount_kind *kind;	// NULL: nothing is mounted here
	const struct data_ready *ready; // NULL: nothing was prepared
	struct store *store;
	char *path;	       // on this node: the mount point, or what was prepared; NULL: direct
	int fd;		       // a lease, what a bind was opened as, or what holds a mount; -1
	bool mounted;	       // at path
	bool failed;	       // and told
	bool silent;	       // a server of the network was given up, and is not back
	struct process helper; // of FUSE; pid 0: none
	const char *program;   // what the helper is called
	struct helper_log log; // what it prints
	char *cache;	       // its folder below the state directory; NULL: none
	int cache_fd;	       // the lease on it; -1
	unsigned rc_port;      // where rclone is asked, on loopback; 0: nowhere
	char *rc_password;
	struct mount_watch *watch;    // mount_watch.h; NULL: not watched
	struct rootfs_layers *layers; // of an image; NULL
};

// Was an image of a registry prepared? Then mount its tree, read-only, at m->path.
bool attach_is_image(const struct data_ready *ready);
int attach_image(struct data_mount *m, const struct data_options *o, struct error *err);

// Look whether a mount answers (statfs(2), and where `entries` one entry), in a child that is
// killed at the deadline. 0: it does. -1 with DATA_STALLED, or how the look failed.
int mount_probe(const char *path, bool entries, int64_t deadline_ms, enum data_failure *failure,
	struct error *err);
// Do something that the kernel may not come back from, in a child; `what` returns 0 or an errno,
// makes system calls only. 0; -1 with DATA_STALLED at the deadline, else *err->sys.
int mount_in_child(int (*what)(void *data), void *data, int64_t deadline_ms,
	enum data_failure *failure, struct error *err);
// The same without waiting: the child's process.
int mount_child_start(int (*what)(void *data), void *data, struct process *p, struct error *err);
int mount_look(void *path); // statfs(2): for the two above
// Unmount, forcibly if need be; a connection that is FUSE's is aborted first if `abort`. Nothing
// waits for a server.
void mount_remove(const char *path, bool abort);

// What /proc/self/mountinfo says of the topmost mount at a path: 1; 0: there is none; -1.
struct mount_seen {
	unsigned minor; // of its device number; with FUSE the number of the connection
	bool fuse;
};
int mount_find(const char *path, struct mount_seen *seen, struct error *err);
// The same of a line of that file; false: it is another mount's. For the tests.
bool mount_line_parse(const char *line, const char *path, struct mount_seen *seen);
// End a FUSE connection: whoever waits for it gets ENOTCONN.
int fuse_abort(unsigned connection, struct error *err);
// The usual flush: syncfs(2) in a child.
int mount_flush(
	struct data_mount *m, int64_t deadline_ms, enum data_failure *failure, struct error *err);
// End what open() has made, whether or not it succeeded: the watch, the mount, the helper and what
// it kept on the disk. `abort`: nobody is waited for.
void mount_close(struct data_mount *m, bool abort);
