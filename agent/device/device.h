// SPDX-License-Identifier: Apache-2.0
//
// Which devices a job gets, and the proof that they are free when it has ended.
//
// A device may have several names (index and UUID, two vendors' files), be part of an aggregate
// ("all") or of another device (MIG). So what is locked are its nodes, each by a file in
// <run_dir>/devices, with flock(2): exclusively, but for the node that a MIG device shares with its
// siblings, which it locks shared, so that the whole GPU and its parts exclude each other. Nodes of
// a whole driver (/dev/nvidiactl, /dev/kfd, all of a file's own edits) are not locked. The locks
// live as long as the process that holds them, however it ends, and so long the file says by which
// run; what it says after that tells the next one that nobody proved the device free.
//
// A device that is not free after its job is set aside: <state_dir>/devices/<name>.json says why.
// It comes back when it is found free by who wants it, or by devices_readmit().
#pragma once

#include "base/arena.h"
#include "base/buffer.h"
#include "base/error.h"
#include "oci/runtime/cdi.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct device_places {
	const char *run_dir, *state_dir;
	const char *nvml_library; // NULL: libnvidia-ml.so.1; tests have their own
	int nvml_timeout_ms;	  // 0: 15 s, for a library that wakes many GPUs
};

struct devices; // the devices of this node, by what they are instead of by their names

// `cdi` and `places` must live as long. Never fails.
struct devices *devices_new(const struct cdi *cdi, const struct device_places *places);
void devices_free(struct devices *d); // NULL is fine

struct device_request {
	unsigned gpus; // of class "gpu", all of one kind, beside those that are named
	const char *const *named;
	size_t named_count;
	const char *run; // id, for who asks who holds a device
	int64_t wait_ms; // for devices that others hold; 0: not at all, < 0: without end
	int cancel_fd;	 // stops waiting when readable; 0 or less: none
	// Called when waiting begins and whenever the reason changes. May be NULL.
	void (*waiting)(void *data, const char *reason);
	void *data;
};

struct device_lease;

// Choose devices and lock them, all or none; two who ask at once do not wait for each other.
// ERROR_INVALID for what this node can never give, ERROR_NOT_FOUND for a name that it does not
// have, ERROR_UNAVAILABLE where others hold too much (the text says who holds what), also after
// waiting or when canceled. Nobody is first in the queue: whoever fits gets.
struct device_lease *device_acquire(
	struct devices *d, const struct device_request *request, struct error *err);

// The lease's, for cdi_apply().
const struct cdi_device *const *device_lease_devices(const struct device_lease *l, size_t *count);

// The locks belong to the open descriptors: a fork of the holder holds them too, until both have
// closed them. A process that must keep none of them (the job's) closes them or execs. For a holder
// that execs: hand these to the new program, which makes the lease again from the devices' names.
const int *device_lease_descriptors(const struct device_lease *l, size_t *count);
struct device_lease *device_lease_adopt(struct devices *d, const char *run,
	const char *const *names, size_t name_count, const int *fds, size_t fd_count,
	struct error *err);

// Let go without proof: whoever wants the devices next looks whether they are free. NULL is fine.
void device_lease_free(struct device_lease *l);

// The job is gone: prove within timeout_ms that no process has the devices open or mapped that had
// not when they were acquired (nvidia-persistenced always has), and, by NVML where it is, that none
// computes on them. Then let go. Returns 0, or 1 when devices were set aside, one line each in
// `reasons`; -1 when that could not be written down. The lease is gone in any case. Takes
// milliseconds where all is well. The caller has one thread (NVML is asked by a fork).
int device_release(
	struct device_lease *l, int timeout_ms, struct buffer *reasons, struct error *err);

enum device_status { DEVICE_FREE, DEVICE_HELD, DEVICE_SET_ASIDE, DEVICE_MISSING };
const char *device_status_name(enum device_status status); // "free", "held", "set aside", …

struct device_view {
	const char *name;	   // the preferred one
	struct json_strings names; // all, this one included
	const char *kind;
	struct json_strings nodes; // on the node, without those of the whole driver
	bool gpu;		   // one that `gpus` may choose
	enum device_status status;
	const char *run, *since, *reason; // where held or set aside, else NULL
};
// All devices and their states, in the arena. A set-aside one is not examined anew.
int device_list(struct devices *d, struct arena *a, struct device_view **views, size_t *count,
	struct error *err);

// Give a device that was set aside out again. What has it open now is taken as belonging there.
// ERROR_NOT_FOUND if it was not set aside; ones that no file describes any more are found too.
int devices_readmit(struct devices *d, const char *name, struct error *err);

DEFINE_CLEANUP(devices_free, struct devices *, devices_free)
#define cleanup_devices __attribute__((cleanup(devices_freep)))
DEFINE_CLEANUP(device_lease_free, struct device_lease *, device_lease_free)
#define cleanup_device_lease __attribute__((cleanup(device_lease_freep)))
