// SPDX-License-Identifier: Apache-2.0
//
// Between the files of device.h: inventory.c (what is one device), lock.c (files of locks),
// acquire.c (choosing), aside.c (records of those set aside), proof.c (is it free?), release.c.
#pragma once

#include "agent/device/device.h"
#include "agent/device/openers.h"

struct device_key {	  // something that is locked: a node, or a name where a device has none
	const char *name; // of the lock's file: "c195-0"
	const char *path, *host_path; // of the node; NULL for a name
	char type;
	int64_t major, minor;
	bool exclusive;
	bool missing; // there is no such node
};

struct device {
	const struct cdi_device *cdi; // by the preferred name
	struct json_strings names;    // all of it
	struct device_key *keys;      // sorted
	size_t key_count;
	bool partition; // of a GPU (MIG)
	bool divided;	// has partitions: CUDA then uses these only
	bool aggregate; // several others together
};

struct devices {
	struct arena arena;
	const struct cdi *cdi;
	const struct device_places *places;
	struct device *items;
	size_t count;
};

bool device_is_gpu(const struct device *d); // one that counts for `gpus`
bool device_has_name(const struct device *d, const char *name);
// May both be given out at once?
bool device_clash(const struct device *a, const struct device *b);
int devices_find(
	const struct devices *d, const char *name, const struct device **device, struct error *err);
// A file's name for a device's, as readable as may be.
const char *device_file_name(struct arena *a, const char *name);
const char *device_missing_node(const struct device *d); // NULL if all are there

// What a lock's file and a record of a set-aside device say.
struct device_record {
	const char *device, *run, *since, *reason;
	struct json_strings nodes, shared; // host paths: locked exclusively, and shared
	struct opener *known;		   // who had it open before
	size_t known_count;
	int64_t examined_ms; // aside.c: when it was last found not to be free
};
void device_record_write(const struct device_record *r, bool pretty, struct buffer *out);
// False for what is no record.
bool device_record_read(
	struct arena *a, const char *data, size_t size, struct device_record *record);

struct device_records {
	struct device_record *items;
	const char **files; // aside.c: names in the folder
	size_t count;
};

// lock.c: all of it under device_locks_open(), but for letting go.
struct device_locks {
	int folder; // <run_dir>/devices
	int gate;   // who holds this may look and choose; nobody waits long for it
};
int device_locks_open(
	const struct device_places *places, struct device_locks *l, struct error *err);
void device_locks_close(struct device_locks *l);
#define cleanup_device_locks __attribute__((cleanup(device_locks_close)))

// Is the device free of locks? 1: yes; 0: somebody holds it, *holder (in the arena) says who, as
// far as it is known; -1. *stale are what holders left that nobody proved free after them.
int device_probe(const struct device_locks *l, const struct device *d, struct arena *a,
	struct device_record *holder, struct device_records *stale, struct error *err);
// Lock it: fds gets a descriptor for each key. It must have been probed.
int device_take(const struct device_locks *l, const struct device *d,
	const struct device_record *record, int *fds, struct error *err);
// Say more, where the device is locked: to be found by who looks after our end.
int device_note(const struct device *d, const struct device_record *record, const int *fds,
	struct error *err);
// What a lock's file says; false: nothing.
bool device_read_lock(int fd, struct arena *a, struct device_record *record);
// Nothing is left to be proved. Without locking: for who holds the descriptors.
void device_mark_clean(const struct device *d, const int *fds);
// As that, for a device that nobody holds.
void device_forget(const struct device_locks *l, const struct device *d);

// aside.c
int device_aside_load(const struct device_places *places, struct arena *a,
	struct device_records *records, struct error *err);
int device_aside_add(const struct device_places *places, const struct device *d,
	const struct device_record *record, struct error *err);
// Found not to be free once more.
void device_aside_touch(const struct device_places *places, const char *file);
int device_aside_remove(const struct device_places *places, const char *file, struct error *err);
// Does it concern this device?
bool device_record_matches(const struct device_record *r, const struct device *d);

// proof.c. The reason that begins so costs a process that hangs each time that it is looked at.
#define DEVICE_HANGS "NVML: no answer"
// Who has any of them open now.
int device_openers(const struct device *const *devices, size_t device_count, struct arena *a,
	struct opener **openers, size_t *count, struct error *err);
// 1: free; 0: `reason` (in the arena) says why not; -1. `known` had it open before.
int device_prove(const struct devices *all, const struct device *d, const struct opener *known,
	size_t known_count, struct arena *a, const char **reason, struct error *err);

// lease.c
struct device_lease {
	struct arena arena;
	struct devices *all;
	const char *run;
	const struct device **items;
	const struct cdi_device **cdi;
	size_t count;
	struct opener *known; // who had any of them open before
	size_t known_count;
	int *fds; // of all devices' keys, one after the other
	size_t fd_count;
};
struct device_lease *device_lease_new(
	struct devices *all, const char *run, const struct device *const *items, size_t count);
int *device_lease_fds(const struct device_lease *l, size_t device); // those of one device
// What is to be written down of one device; in the arena. `since` is now.
struct device_record device_lease_record(
	const struct device_lease *l, size_t device, struct arena *a);

// acquire.c: is the device there to be taken? 1: yes; 0: `reason` (in the arena) says why not; -1.
// One that nobody proved free is examined and, if it is not, set aside; one that was set aside and
// is free now comes back.
int device_available(const struct devices *all, const struct device_locks *locks,
	const struct device_records *records, const struct device *d, struct arena *a,
	const char **reason, struct error *err);
