// SPDX-License-Identifier: Apache-2.0
//
// The Container Device Interface, versions 0.3.0 to 1.1.0: files that describe what a container
// needs to use a device (nodes, mounts, environment, hooks), written by the vendors' tools into
// /etc/cdi and /var/run/cdi. A device is named "vendor.com/class=name".
//
// The files are the administrator's: their hooks run outside of containers. So a file that others
// may write is refused. Unknown members are refused too: an edit that we do not know is one that
// the device needs and would not get.
#pragma once

#include "base/buffer.h"
#include "base/error.h"
#include "oci/runtime/spec.h"

#include <stdbool.h>
#include <stddef.h>

enum {
	CDI_FILE_BYTES_MAX = 4 * 1024 * 1024,
	CDI_FILES_MAX = 256,	// in a folder
	CDI_DEVICES_MAX = 4096, // in all
	CDI_NODES_MAX = 1024,	// in one list of edits, as are the others
	CDI_MOUNTS_MAX = 4096,
	CDI_HOOKS_MAX = 256,
	CDI_ENV_MAX = 1024,
	CDI_GROUPS_MAX = 64,
	CDI_NAME_MAX = 512, // bytes of "vendor.com/class=name"
};

struct cdi_node {
	const char *path;      // in the container
	const char *host_path; // on the node; `path` where the file gives none
	char type;	       // 'c', 'b', 'u', 'p'; 0: as the node at host_path
	bool has_major, has_minor;
	int64_t major, minor;
	mode_t mode; // 0: not given
	bool read, write, mknod;
	bool has_uid, has_gid;
	uid_t uid;
	gid_t gid;
};

struct cdi_hook {
	enum runtime_hook_point point;
	struct runtime_hook hook;
};

struct cdi_edits {
	struct json_strings env; // "NAME=value"
	struct cdi_node *nodes;
	size_t node_count;
	struct runtime_mount *mounts; // binds have "bind" or "rbind" among their options
	size_t mount_count;
	struct cdi_hook *hooks;
	size_t hook_count;
	gid_t *groups;
	size_t group_count;
};

struct cdi_file {
	const char *path;
	const char *kind; // "vendor.com/class"
	struct json_pairs annotations;
	struct cdi_edits edits; // made once, however many of the file's devices are given
	size_t folder; // index: of two files that define a device, the later folder's counts
};

struct cdi_device {
	const char *name;     // "vendor.com/class=name"
	const char *kind;     // "vendor.com/class"
	const char *unit;     // "name"
	const char *conflict; // path of a second file of the same folder that defines it, or NULL
	struct json_pairs annotations;
	struct cdi_edits edits;
	const struct cdi_file *file;
};

struct cdi; // what was read

// Where the specification says that files are.
extern const char *const cdi_default_folders[2];

// Read `*.json`, `*.yaml` and `*.yml` of the folders; one that is missing is empty. A file that is
// broken spoils only its own devices: it is appended to `warnings`, one line with its name, the
// place and the remedy. Fails only for more than CDI_DEVICES_MAX devices (ERROR_LIMIT).
struct cdi *cdi_load(
	const char *const *folders, size_t count, struct buffer *warnings, struct error *err);
void cdi_free(struct cdi *c); // NULL is fine

// One document in memory as folder 0's file `name` (tests, fuzzing).
struct cdi *cdi_parse(const char *data, size_t size, const char *name, struct error *err);

// All devices, sorted by name (numbers within names by value); those in conflict too.
const struct cdi_device *cdi_devices(const struct cdi *c, size_t *count);
// Edits of all files of this kind, for those who must know which nodes belong to no single device.
const struct cdi_file *cdi_files(const struct cdi *c, size_t *count);

// ERROR_INVALID for what is no device's name or a device in conflict (the text names both files),
// ERROR_NOT_FOUND lists the names nearest to it.
int cdi_find(
	const struct cdi *c, const char *name, const struct cdi_device **device, struct error *err);

// "vendor.com/class=name" in form, whether or not there is such a device? Cheap; for those who
// check a document before devices are known.
int cdi_check_name(const char *name, struct error *err);

// What is at the node: type, major and minor as the file gives them, else of the host's node.
// ERROR_NOT_FOUND where there is none. A FIFO has numbers 0.
int cdi_node_resolve(
	const struct cdi_node *n, char *type, int64_t *major, int64_t *minor, struct error *err);

// Put the devices' edits into the specification; what is added lives in the arena or in the `struct
// cdi`. Variables, nodes and mounts of the same name or place are replaced; nodes get a device rule
// (rwm where the file says nothing) and, without owner, the process' user. Mounts are sorted by
// depth, so that one below another is made after it. Bind mounts carry no id mapping: not every
// file system under a driver's files has it, and they are read by their mode for others.
int cdi_apply(const struct cdi_device *const *devices, size_t count, struct arena *a,
	struct runtime_spec *spec, struct error *err);

DEFINE_CLEANUP(cdi_free, struct cdi *, cdi_free)
#define cleanup_cdi __attribute__((cleanup(cdi_freep)))
