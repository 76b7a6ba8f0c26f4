// SPDX-License-Identifier: Apache-2.0
//
// A device's edits, made to a container's specification. Lists are grown by copies in the arena:
// the specification's own may be shared or constant.
#include "base/text.h"
#include "oci/runtime/cdi.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

int cdi_node_resolve(
	const struct cdi_node *n, char *type, int64_t *major, int64_t *minor, struct error *err)
{
	struct stat st;
	// A FIFO has no numbers; otherwise all three must be given.
	bool fifo = n->type == 'p';
	if (fifo || (n->type && n->has_major && n->has_minor)) {
		*type = n->type;
		*major = fifo ? 0 : n->major;
		*minor = fifo ? 0 : n->minor;
		return 0;
	}
	if (stat(n->host_path, &st) < 0)
		return error_set_errno(err, errno, "device node %s", n->host_path);
	char found = S_ISCHR(st.st_mode)    ? 'c'
		     : S_ISBLK(st.st_mode)  ? 'b'
		     : S_ISFIFO(st.st_mode) ? 'p'
					    : 0;
	if (!found || (n->type && (n->type == 'u' ? 'c' : n->type) != found))
		return error_set(err, ERROR_INVALID, "%s is not a %s", n->host_path,
			n->type == 'b'			   ? "block device"
			: n->type == 'c' || n->type == 'u' ? "character device"
							   : "device node");
	*type = found;
	*major = found == 'p' ? 0 : n->has_major ? n->major : (int64_t)major(st.st_rdev);
	*minor = found == 'p' ? 0 : n->has_minor ? n->minor : (int64_t)minor(st.st_rdev);
	return 0;
}

// A copy of `items` with room for `more` behind.
static void *grown(struct arena *a, const void *items, size_t count, size_t more, size_t size)
{
	char *copy = arena_alloc_array(a, count + more, size);
	if (count)
		memcpy(copy, items, count * size);
	return copy;
}

static void set_variable(struct json_strings *env, const char *variable)
{
	size_t name = (size_t)(strchr(variable, '=') - variable) + 1;
	for (size_t i = 0; i < env->count; i++) {
		if (strncmp(env->items[i], variable, name) == 0) {
			env->items[i] = variable;
			return;
		}
	}
	env->items[env->count++] = variable;
}

static void apply_env(
	const struct json_strings *env, struct arena *a, struct runtime_process *process)
{
	if (!env->count)
		return;
	process->env.items = grown(a, process->env.items, process->env.count, env->count + 1,
		sizeof(*process->env.items));
	for (size_t i = 0; i < env->count; i++)
		set_variable(&process->env, env->items[i]);
}

static void set_device(struct runtime_spec *spec, const struct runtime_device *device)
{
	for (size_t i = 0; i < spec->device_count; i++) {
		if (streq(spec->devices[i].path, device->path)) {
			spec->devices[i] = *device;
			return;
		}
	}
	spec->devices[spec->device_count++] = *device;
}

static bool same_rule(const struct runtime_device_rule *a, const struct runtime_device_rule *b)
{
	return a->allow == b->allow && a->type == b->type && a->major == b->major &&
	       a->minor == b->minor && a->read == b->read && a->write == b->write &&
	       a->mknod == b->mknod;
}

// Several devices have the same control nodes: one rule is enough, as long as none that stands
// between could take it back.
static void add_rule(struct runtime_device_rules *rules, const struct runtime_device_rule *rule)
{
	for (size_t i = rules->count; i-- > 0 && rules->items[i].allow;)
		if (same_rule(&rules->items[i], rule))
			return;
	rules->items[rules->count++] = *rule;
}

static int apply_nodes(const struct cdi_edits *edits, struct arena *a, struct runtime_spec *spec,
	struct error *err)
{
	struct runtime_device_rules *rules = &spec->resources.devices;
	if (!edits->node_count)
		return 0;
	spec->devices = grown(
		a, spec->devices, spec->device_count, edits->node_count, sizeof(*spec->devices));
	rules->items =
		grown(a, rules->items, rules->count, edits->node_count, sizeof(*rules->items));
	for (size_t i = 0; i < edits->node_count; i++) {
		const struct cdi_node *n = &edits->nodes[i];
		struct runtime_device device = {.path = n->path,
			.mode = n->mode,
			.uid = n->has_uid ? n->uid : spec->process.uid,
			.gid = n->has_gid ? n->gid : spec->process.gid};
		if (cdi_node_resolve(n, &device.type, &device.major, &device.minor, err) < 0)
			return -1;
		set_device(spec, &device);
		if (device.type == 'p' || !(n->read || n->write || n->mknod))
			continue;
		const struct runtime_device_rule rule = {.allow = true,
			.type = device.type == 'u' ? 'c' : device.type,
			.major = device.major,
			.minor = device.minor,
			.read = n->read,
			.write = n->write,
			.mknod = n->mknod};
		add_rule(rules, &rule);
	}
	return 0;
}

// Mounts on the same place would hide each other: the device's wins.
static void remove_mount(struct runtime_spec *spec, const char *destination)
{
	size_t kept = 0;
	for (size_t i = 0; i < spec->mount_count; i++)
		if (!streq(spec->mounts[i].destination, destination))
			spec->mounts[kept++] = spec->mounts[i];
	spec->mount_count = kept;
}

static void apply_mounts(const struct cdi_edits *edits, struct arena *a, struct runtime_spec *spec)
{
	if (!edits->mount_count)
		return;
	spec->mounts = grown(
		a, spec->mounts, spec->mount_count, edits->mount_count, sizeof(*spec->mounts));
	for (size_t i = 0; i < edits->mount_count; i++) {
		remove_mount(spec, edits->mounts[i].destination);
		spec->mounts[spec->mount_count++] = edits->mounts[i];
	}
}

static size_t depth_of(const char *path)
{
	size_t depth = 0;
	for (const char *p = path; *p; p++)
		depth += *p == '/' && p[1] && p[1] != '/';
	return depth;
}

// Stable: mounts of one depth stay in their order.
static void sort_mounts(struct runtime_spec *spec)
{
	for (size_t i = 1; i < spec->mount_count; i++) {
		struct runtime_mount m = spec->mounts[i];
		size_t k = i, depth = depth_of(m.destination);
		for (; k > 0 && depth_of(spec->mounts[k - 1].destination) > depth; k--)
			spec->mounts[k] = spec->mounts[k - 1];
		spec->mounts[k] = m;
	}
}

static void apply_hooks(const struct cdi_edits *edits, struct arena *a, struct runtime_spec *spec)
{
	for (size_t i = 0; i < edits->hook_count; i++) {
		struct runtime_hooks *hooks = &spec->hooks[edits->hooks[i].point];
		hooks->items = grown(a, hooks->items, hooks->count, 1, sizeof(*hooks->items));
		hooks->items[hooks->count++] = edits->hooks[i].hook;
	}
}

static void apply_groups(
	const struct cdi_edits *edits, struct arena *a, struct runtime_process *process)
{
	if (!edits->group_count)
		return;
	process->groups = grown(a, process->groups, process->group_count, edits->group_count,
		sizeof(*process->groups));
	for (size_t i = 0; i < edits->group_count; i++) {
		bool there = edits->groups[i] == 0; // no device needs root's group, files may
		for (size_t k = 0; k < process->group_count && !there; k++)
			there = process->groups[k] == edits->groups[i];
		if (!there)
			process->groups[process->group_count++] = edits->groups[i];
	}
}

static int apply_edits(const struct cdi_edits *edits, struct arena *a, struct runtime_spec *spec,
	struct error *err)
{
	apply_env(&edits->env, a, &spec->process);
	if (apply_nodes(edits, a, spec, err) < 0)
		return -1;
	apply_mounts(edits, a, spec);
	apply_hooks(edits, a, spec);
	apply_groups(edits, a, &spec->process);
	return 0;
}

static bool file_is_first(const struct cdi_device *const *devices, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (devices[k]->file == devices[i]->file)
			return false;
	return true;
}

static bool device_is_first(const struct cdi_device *const *devices, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (devices[k] == devices[i])
			return false;
	return true;
}

int cdi_apply(const struct cdi_device *const *devices, size_t count, struct arena *a,
	struct runtime_spec *spec, struct error *err)
{
	struct runtime_spec edited = *spec;
	for (size_t i = 0; i < count; i++) {
		const struct cdi_device *d = devices[i];
		if (file_is_first(devices, i) && apply_edits(&d->file->edits, a, &edited, err) < 0)
			return error_context(err, "%s", d->file->path);
		if (device_is_first(devices, i) && apply_edits(&d->edits, a, &edited, err) < 0)
			return error_context(err, "device %s", d->name);
	}
	if (edited.mount_count != spec->mount_count || edited.mounts != spec->mounts)
		sort_mounts(&edited);
	*spec = edited;
	return 0;
}
