// SPDX-License-Identifier: Apache-2.0
//
// What the parts of cgroup.h share. A group is a folder in each hierarchy that is needed: one on
// version 2, several on version 1. Limits are computed first, as a list of files and texts
// (cgroup_v1_settings(), cgroup_v2_settings()), and then written.
#pragma once

#include "oci/runtime/cgroup.h"

#include <linux/bpf.h>

enum cgroup_controller {
	CONTROLLER_CPU,
	CONTROLLER_CPUACCT, // version 1 only
	CONTROLLER_CPUSET,
	CONTROLLER_MEMORY,
	CONTROLLER_DEVICES, // version 1 only
	CONTROLLER_FREEZER, // version 1 only
	CONTROLLER_IO,	    // "blkio" on version 1
	CONTROLLER_PIDS,
	CONTROLLER_HUGETLB,
	CONTROLLER_SYSTEMD, // version 1's name=systemd: limits nothing, but tells whose a process
			    // is
	CONTROLLERS
};
#define CONTROLLER(name) (1U << CONTROLLER_##name)
const char *cgroup_controller_name(enum cgroup_controller c, bool v2);
// "cpu io memory\n" as a set.
unsigned cgroup_controllers_parse(const char *text);

struct cgroup_hierarchy {
	char mount[256]; // where
	bool v2;
	bool whole; // the mount shows the hierarchy from its very root
	unsigned controllers;
};
struct cgroup_machine {
	enum cgroup_mode mode;
	struct cgroup_hierarchy items[CONTROLLERS + 1];
	size_t count;
};
// The hierarchies that the text of a mountinfo names, version 2 without its controllers.
void cgroup_machine_parse(const char *mountinfo, struct cgroup_machine *m);
// Which mode it is, once the controllers of version 2 are known.
enum cgroup_mode cgroup_machine_mode(const struct cgroup_machine *m);
const struct cgroup_machine *cgroup_machine(void); // this one, found out at the first call

// cgroup_limits_own() by the text of a /proc/PID/cgroup.
void cgroup_limits_read(
	const struct cgroup_machine *m, const char *self, struct cgroup_limits *limits);

struct cgroup_part {
	const struct cgroup_hierarchy *hierarchy;
	int dir;
	// What a process writes "0" into to join: `tasks`, on version 2 cgroup.procs. Opened
	// beforehand, so that the opener's rights count and nothing is to be found after fork.
	int join;
};
struct cgroup {
	char *path;
	struct cgroup_part parts[CONTROLLERS + 1]; // version 2 first, where it is there
	size_t count;
};
// The part that has the controller; NULL: none.
const struct cgroup_part *cgroup_part_of(const struct cgroup *g, enum cgroup_controller c);
const struct cgroup_part *cgroup_part_v2(const struct cgroup *g);
// The part that knows the processes best: version 2, else what can freeze, else any.
const struct cgroup_part *cgroup_part_main(const struct cgroup *g);

enum setting_kind {
	SETTING_PLAIN,	  // a warning where it cannot be kept
	SETTING_INSTEAD,  // tried only where the one before it could not be written
	SETTING_REQUIRED, // a failure where it cannot be kept
};
struct cgroup_setting {
	enum cgroup_controller controller;
	enum setting_kind kind;
	const char *file, *value;
};
struct cgroup_settings {
	struct cgroup_setting *items;
	size_t count, capacity;
};
// An empty list with room for all that may follow from `r`.
void cgroup_settings_init(
	struct cgroup_settings *s, struct arena *a, const struct runtime_resources *r);
void cgroup_setting_add(struct cgroup_settings *s, enum cgroup_controller c, enum setting_kind kind,
	const char *file, const char *value);
// Memory and swap together cannot be less than memory.
int cgroup_check_swap(const struct runtime_resources *r, struct error *err);
// What the resources become; devices are not among it. ERROR_INVALID where they contradict
// themselves; what this version has no file for goes to `warnings`.
int cgroup_v1_settings(struct arena *a, const struct runtime_resources *r,
	struct cgroup_settings *s, struct buffer *warnings, struct error *err);
int cgroup_v2_settings(struct arena *a, const struct runtime_resources *r,
	struct cgroup_settings *s, struct buffer *warnings, struct error *err);
// Write them to the files of the group.
int cgroup_apply(const struct cgroup *g, const struct cgroup_settings *s, struct buffer *warnings,
	struct error *err);

// The mask of what such a group is needed for.
unsigned cgroup_settings_controllers(const struct cgroup_settings *s);

// Make the folder of the group in one hierarchy, fresh: one that is there already must be empty,
// and is made anew. Its missing parents are made too. Version 2: the controllers are enabled on
// the way down, as far as they can be.
int cgroup_v1_make(const struct cgroup_hierarchy *h, const char *path, struct error *err);
int cgroup_v2_make(const struct cgroup_hierarchy *h, const char *path, unsigned controllers,
	struct buffer *warnings, struct error *err);
// As cgroup_v2_make(), but one that is there is taken as it is.
int cgroup_v2_ensure(const struct cgroup_hierarchy *h, const char *path, unsigned controllers,
	struct buffer *warnings, struct error *err);
// Parents, then the folder; `each`, where not NULL, is called with the path of each one made.
int cgroup_make_folder(const struct cgroup_hierarchy *h, const char *path,
	int (*each)(const char *folder, struct error *err), struct error *err);

enum { CGROUP_DEVICE_RULES_MAX = 1024 };
// The program that decides as the rules say: in their order, the last that speaks of a device and
// an access counts; what none speaks of is allowed.
int cgroup_device_program(struct arena *a, const struct runtime_device_rules *rules,
	struct bpf_insn **program, size_t *count, struct error *err);
// Attach it to a group of version 2, instead of one that was attached before (`fresh`: there is
// none).
int cgroup_device_attach(
	int dir, const struct runtime_device_rules *rules, bool fresh, struct error *err);
// The writes to devices.allow and devices.deny that say the same, where version 1 can say it.
int cgroup_device_settings(struct arena *a, const struct runtime_device_rules *rules,
	struct cgroup_settings *s, struct error *err);

// The folders below, as paths from `dir`, parents before children.
int cgroup_tree(int dir, struct arena *a, char ***paths, size_t *count, struct error *err);
// rmdir(2) of the group with what is below; 0, or -1 with errno (EBUSY: processes are in it).
// One that is not there is fine.
int cgroup_remove(const struct cgroup_hierarchy *h, const char *path);

// Add up what io.stat (version 2) and blkio.throttle.io_… (version 1) say of each block device.
void cgroup_sum_io_v2(const char *text, struct cgroup_stats *s);
void cgroup_sum_io_v1(const char *text, uint64_t *reads, uint64_t *writes);

// "/a/b": absolute, not the root itself, and no way up.
int cgroup_check_path(const char *path, struct error *err);
// The text of a small file of a group. False, and an empty text, where it cannot be read.
bool cgroup_read(int dir, const char *file, char *text, size_t size);
int cgroup_write(int dir, const char *file, const char *value); // 0, or -1 with errno
// "name 123": the number behind a name at the start of a line.
bool cgroup_field(const char *text, const char *name, uint64_t *value);
