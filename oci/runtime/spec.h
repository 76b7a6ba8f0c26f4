// SPDX-License-Identifier: Apache-2.0
//
// A container as the OCI runtime specification (version 1.2, config.json) describes it, as plain
// data: what the agent builds for a job, what our runtime runs (container.h), what `stoker runtime`
// reads from a bundle, and what is written for another runtime. Names and meanings are the
// specification's; a member that it makes optional is NULL, 0 or empty here where nothing else is
// said. Everything lives in one arena; strings are UTF-8.
#pragma once

#include "base/arena.h"
#include "base/buffer.h"
#include "base/error.h"
#include "base/json_decode.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct runtime_id_map { // ids `container` … `container + size - 1` are `host` … outside
	uint32_t container, host, size;
};
struct runtime_id_maps {
	struct runtime_id_map *items;
	size_t count;
};

struct runtime_rlimit {
	int resource;	     // RLIMIT_…
	uint64_t soft, hard; // RLIM_INFINITY as in setrlimit(2)
};

// As sets of bits: 1 << CAP_….
struct runtime_capabilities {
	uint64_t bounding, effective, inheritable, permitted, ambient;
};

struct runtime_process {
	bool terminal;
	uint16_t rows, columns; // consoleSize; 0: not given
	uid_t uid;		// in the container
	gid_t gid;
	gid_t *groups; // additionalGids
	size_t group_count;
	mode_t umask; // (mode_t)-1: 022
	const char *cwd;
	struct json_strings args, env;
	bool has_capabilities; // false: all that the container may have are dropped
	struct runtime_capabilities capabilities;
	struct runtime_rlimit *rlimits;
	size_t rlimit_count;
	bool no_new_privileges;
	bool has_oom_score_adj;
	int oom_score_adj;
};

struct runtime_mount {
	const char *destination; // absolute, in the container
	const char *type;	 // "proc", "tmpfs", …; "bind" or NULL with a bind option: a bind
	const char *source;
	struct json_strings options; // mount(8)'s words: "ro", "nosuid", "size=64k", "rbind", …
	struct runtime_id_maps uid_mappings, gid_mappings;
};

struct runtime_device { // a node to be made in the container
	const char *path;
	char type; // 'c', 'b', 'p'; 'u' is read as 'c'
	int64_t major, minor;
	mode_t mode; // fileMode; 0: 0666
	uid_t uid;   // in the container
	gid_t gid;
};

struct runtime_device_rule { // of the cgroup
	bool allow;
	char type;	      // 'a', 'b', 'c'
	int64_t major, minor; // -1: any
	bool read, write, mknod;
};

struct runtime_device_rules {
	struct runtime_device_rule *items;
	size_t count;
};

struct runtime_throttle { // of one block device
	int64_t major, minor;
	uint64_t rate; // bytes or operations a second
};
struct runtime_throttles {
	struct runtime_throttle *items;
	size_t count;
};
struct runtime_hugepage_limit {
	const char *page_size; // "2MB"
	uint64_t limit;
};

// linux.resources. Where nothing is said: 0 is "not given", RUNTIME_UNLIMITED is -1 in the
// document.
#define RUNTIME_UNLIMITED INT64_MAX
struct runtime_resources {
	struct runtime_device_rules devices;
	int64_t memory_limit, memory_reservation, memory_swap; // bytes; swap: memory and swap
	bool disable_oom_killer;
	uint64_t cpu_shares;	 // 2 … 262144
	int64_t cpu_quota;	 // microseconds in a period
	uint64_t cpu_period;	 // microseconds
	const char *cpus, *mems; // "0-3,7"
	int64_t pids_limit;
	uint16_t block_weight; // 10 … 1000
	struct runtime_throttles read_bytes, write_bytes, read_operations, write_operations;
	struct runtime_hugepage_limit *hugepages;
	size_t hugepage_count;
	struct json_pairs unified; // files of cgroup v2
};

enum runtime_namespace_type {
	RUNTIME_NAMESPACE_PID,
	RUNTIME_NAMESPACE_NETWORK,
	RUNTIME_NAMESPACE_MOUNT,
	RUNTIME_NAMESPACE_IPC,
	RUNTIME_NAMESPACE_UTS,
	RUNTIME_NAMESPACE_USER,
	RUNTIME_NAMESPACE_CGROUP,
	RUNTIME_NAMESPACE_TIME,
	RUNTIME_NAMESPACES
};
struct runtime_namespace {
	bool wanted;
	const char *path; // NULL: a new one
};

struct runtime_seccomp_argument {
	unsigned index;
	uint64_t value, value_two;
	const char *op; // "SCMP_CMP_EQ", …
};
struct runtime_seccomp_rule {
	struct json_strings names; // of system calls
	const char *action;	   // "SCMP_ACT_ALLOW", …
	bool has_errno;
	unsigned errno_value;
	struct runtime_seccomp_argument *arguments; // all must hold
	size_t argument_count;
};
struct runtime_seccomp {
	const char *default_action; // NULL: no filter
	bool has_default_errno;
	unsigned default_errno;
	struct json_strings architectures, flags;
	const char *listener_path;
	struct runtime_seccomp_rule *rules;
	size_t rule_count;
};

struct runtime_hook {
	const char *path; // absolute
	struct json_strings args, env;
	int timeout; // seconds; 0: none
};
enum runtime_hook_point {
	RUNTIME_HOOK_PRESTART,
	RUNTIME_HOOK_CREATE_RUNTIME,
	RUNTIME_HOOK_CREATE_CONTAINER,
	RUNTIME_HOOK_START_CONTAINER,
	RUNTIME_HOOK_POSTSTART,
	RUNTIME_HOOK_POSTSTOP,
	RUNTIME_HOOK_POINTS
};
struct runtime_hooks {
	struct runtime_hook *items;
	size_t count;
};

struct runtime_spec {
	const char *version; // ociVersion
	const char *hostname, *domainname;
	bool has_process;
	struct runtime_process process;
	const char *root_path;
	bool root_read_only;
	struct runtime_mount *mounts;
	size_t mount_count;
	struct runtime_hooks hooks[RUNTIME_HOOK_POINTS];
	struct json_pairs annotations;
	// Filled by runtime_spec_parse(): what it passed over, one line each (capabilities that
	// this program does not know; the specification asks for a warning).
	struct json_strings warnings;

	// "linux"
	struct runtime_id_maps uid_mappings, gid_mappings;
	struct json_pairs sysctl;
	const char *cgroups_path; // NULL: the runtime chooses
	struct runtime_resources resources;
	struct runtime_namespace namespaces[RUNTIME_NAMESPACES];
	struct runtime_device *devices;
	size_t device_count;
	struct runtime_seccomp seccomp;
	const char *rootfs_propagation; // "private", "rprivate", "slave", …
	struct json_strings masked_paths, readonly_paths;
};

enum { RUNTIME_SPEC_BYTES_MAX = 4 * 1024 * 1024 };

// Decode a config.json. Unknown members are ignored, as the specification asks; members that it
// knows and we do not support are refused by name (ERROR_INVALID, "linux.intelRdt: not supported").
int runtime_spec_parse(struct arena *a, const char *data, size_t size, const char *name,
	struct runtime_spec *spec, struct error *err);
// A process alone, as `exec --process` has it. *warnings as in the specification.
int runtime_process_parse(struct arena *a, const char *data, size_t size, const char *name,
	struct runtime_process *process, struct json_strings *warnings, struct error *err);
// The document, appended to `out`; what was parsed by runtime_spec_parse() gives an equal structure
// when it is parsed again.
int runtime_spec_write(const struct runtime_spec *spec, struct buffer *out, struct error *err);
