// SPDX-License-Identifier: Apache-2.0
//
// Control groups of containers: version 2, version 1, or both side by side (hybrid), told apart by
// what is mounted. One group a container (on version 1: one in each hierarchy), below a root that
// the caller names.
#pragma once

#include "oci/runtime/spec.h"

enum cgroup_mode { CGROUP_NONE, CGROUP_V1, CGROUP_HYBRID, CGROUP_V2 };
// What this machine has; CGROUP_HYBRID is version 1 for the controllers, with an empty version 2
// beside it. Cached after the first call.
enum cgroup_mode cgroup_detect(void);

struct cgroup; // a group that exists

// Make the group `path` ("/stoker/jobs/<run>", from the root of each hierarchy) and apply the
// limits, device rules included (version 2: a program of our own attached to the group, so that
// nobody's reload takes a device away). A limit that this kernel or machine cannot keep is not a
// failure: it is appended to `warnings`, one line each; but `unified` is (ERROR_INVALID where there
// is no version 2), as the specification asks. ERROR_DENIED where we may not make groups at all. A
// group of that name that is there already is made anew if it is empty, else refused.
struct cgroup *cgroup_create(const char *path, const struct runtime_resources *r,
	struct buffer *warnings, struct error *err);
// Open one made by somebody else of us (another process, before a restart). ERROR_NOT_FOUND.
struct cgroup *cgroup_open(const char *path, struct error *err);
void cgroup_free(struct cgroup *g); // the handle only; NULL is fine
const char *cgroup_path(const struct cgroup *g);

// For clone3(CLONE_INTO_CGROUP): a descriptor of the group, or -1 where that cannot be used
// (version 1). The group's. In hybrid it puts the child into version 2 only.
int cgroup_clone_fd(const struct cgroup *g);
// Join from inside, before a cgroup namespace is made: to be called by a process with one thread,
// which may have lost its privileges since the group was opened (user namespace). What
// CLONE_INTO_CGROUP did is not done again: on version 2 nothing is left to do. Only system calls:
// usable after fork.
int cgroup_join(const struct cgroup *g, struct error *err);
// Move another process in, by its id.
int cgroup_attach(const struct cgroup *g, pid_t pid, struct error *err);

// Device rules that are given replace all earlier ones; what else is not given stays as it is.
int cgroup_update(struct cgroup *g, const struct runtime_resources *r, struct buffer *warnings,
	struct error *err);

struct cgroup_stats {
	// Is it known here? The peak is not before Linux 5.19 on version 2.
	bool has_cpu, has_memory, has_memory_peak, has_io, has_pids;
	uint64_t cpu_usec, cpu_user_usec, cpu_system_usec, throttled_usec;
	uint64_t memory_bytes, memory_peak_bytes; // now, and the most there was
	uint64_t oom_kills;
	uint64_t read_bytes, write_bytes, read_operations, write_operations;
	uint64_t pids;
};
int cgroup_stats(const struct cgroup *g, struct cgroup_stats *stats, struct error *err);

// Processes in it and below. An arena array.
int cgroup_processes(
	const struct cgroup *g, struct arena *a, pid_t **pids, size_t *count, struct error *err);
// Returns when all of it stands still; fails after two seconds.
int cgroup_freeze(const struct cgroup *g, bool frozen, struct error *err);
// Kill all that is in it and below (cgroup.kill; else frozen first, so that none can fork away),
// wait until the kernel says that nothing is left, `timeout_ms` at most, and remove it. ERROR_LIMIT
// names a process that does not go (state D). With nothing in it this is the removal only.
int cgroup_destroy(struct cgroup *g, int timeout_ms, struct error *err);

// What the groups that this process is in, and those above them, leave to it. 0: no limit.
struct cgroup_limits {
	double cpus;
	uint64_t memory; // bytes
};
void cgroup_limits_own(struct cgroup_limits *limits);

// Put this process (the agent, a supervisor) into the group `path`, which the memory of others
// cannot starve (memory.min, memory.low) and which is not the first to be killed for memory
// (oom_score_adj, which children inherit: a job's has to be set). On version 1 no memory can be
// kept for a group, and the process stays where it is. What cannot be done is appended to
// `warnings`.
void cgroup_protect_self(const char *path, uint64_t memory_min, struct buffer *warnings);

// What every job may open, and nothing else: null, zero, full, random, urandom, tty, ptmx, pts/*.
// No node can be made.
void cgroup_default_devices(struct arena *a, struct runtime_device_rules *rules);

DEFINE_CLEANUP(cgroup_free, struct cgroup *, cgroup_free)
#define cleanup_cgroup __attribute__((cleanup(cgroup_freep)))
