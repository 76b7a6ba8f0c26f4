// SPDX-License-Identifier: Apache-2.0
//
// What `create` makes of a bundle before there is a container: the specification, completed, and
// the control group.
#include "agent/command/runtime_creation.h"

#include "base/file.h"
#include "oci/runtime/spec_names.h"

#include <sys/prctl.h>

static const char config_file[] = "config.json";

static int check_request(struct creation *c, struct error *err)
{
	const struct create_request *q = c->q;
	if (q->no_pivot)
		return error_set(err, ERROR_INVALID,
			"--no-pivot: not supported, as a process could leave such a root");
	if (runtime_check_fds(q->preserve_fds, err) < 0)
		return -1;
	bool terminal = c->spec.process.terminal;
	if (q->console_socket && !q->detach)
		return error_set(err, ERROR_INVALID,
			"--console-socket: goes with --detach, else the terminal is ours");
	if (terminal && q->detach && !q->console_socket)
		return error_set(err, ERROR_INVALID,
			"process.terminal is set, and nobody would have the terminal: "
			"--console-socket is missing");
	if (q->console_socket && !terminal)
		return error_set(err, ERROR_INVALID,
			"--console-socket is given, but process.terminal is not set");
	return 0;
}

// We may be in a container ourselves, and have not all that there are; what cannot be given is not
// (and the specification wants no failure).
static void warn_of_capabilities(struct creation *c)
{
	const struct runtime_capabilities *wanted = &c->spec.process.capabilities;
	uint64_t all = wanted->bounding | wanted->effective | wanted->permitted |
		       wanted->inheritable | wanted->ambient;
	const char *name;
	for (unsigned i = 0; (name = runtime_capability_name(i)) != NULL; i++)
		if (all & 1ULL << i && prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 0)
			buffer_printf(&c->warnings, "%s is not ours to give\n", name);
}

// Without a process there can be a container, which waits for ever: `start` refuses it, as it reads
// the document that has none.
static void complete_process(struct creation *c)
{
	struct runtime_process *p = &c->spec.process;
	if (c->spec.has_process)
		return;
	const char **args = arena_array(&c->target.arena, const char *, 2);
	args[0] = "./."; // relative: not looked for
	*p = (struct runtime_process){.cwd = "/",
		.umask = (mode_t)-1,
		.no_new_privileges = true,
		.args = {.items = args, .count = 1}};
	c->spec.has_process = true;
}

// Read the bundle, and keep the document as it is now: later changes must not matter.
int creation_read_bundle(struct creation *c, struct buffer *text, struct error *err)
{
	c->bundle = path_absolute(c->q->bundle ? c->q->bundle : ".", err);
	if (!c->bundle)
		return -1;
	cleanup_fd int folder = directory_open(AT_FDCWD, c->bundle, err);
	if (folder < 0 || file_read(folder, config_file, RUNTIME_SPEC_BYTES_MAX, text, err) < 0)
		return error_context(err, "bundle %s", c->bundle);
	const char *data =
		arena_strndup(&c->target.arena, text->data ? text->data : "", text->size);
	if (runtime_spec_parse(&c->target.arena, data, text->size, config_file, &c->spec, err) < 0)
		return -1;
	for (size_t i = 0; i < c->spec.warnings.count; i++)
		buffer_printf(&c->warnings, "%s\n", c->spec.warnings.items[i]);
	warn_of_capabilities(c);
	complete_process(c);
	return check_request(c, err);
}

// A relative path is ours to place.
static const char *choose_cgroup(struct creation *c, const char *id)
{
	const char *path = c->spec.cgroups_path;
	if (!path)
		return arena_printf(&c->target.arena, "/stoker/runtime/%s", id);
	return *path == '/' ? path : arena_printf(&c->target.arena, "/stoker/runtime/%s", path);
}

static bool wants_limits(const struct runtime_resources *r)
{
	return r->memory_limit || r->memory_reservation || r->memory_swap || r->cpu_shares ||
	       r->cpu_quota || r->cpu_period || r->cpus || r->mems || r->pids_limit ||
	       r->block_weight || r->read_bytes.count || r->write_bytes.count ||
	       r->read_operations.count || r->write_operations.count || r->hugepage_count ||
	       r->unified.count || r->disable_oom_killer;
}

// Other runtimes allow these always, and engines write their rules with that in mind: to make nodes
// (which is not to use them), and to use what every container has. Without any rule nothing else is
// allowed but what the specification lists as devices.
static void complete_device_rules(struct creation *c)
{
	static const struct runtime_device_rule mknod_rules[] = {
		{.allow = true, .type = 'c', .major = -1, .minor = -1, .mknod = true},
		{.allow = true, .type = 'b', .major = -1, .minor = -1, .mknod = true},
	};
	struct arena *a = &c->target.arena;
	struct runtime_device_rules *rules = &c->spec.resources.devices, usual, all = {0};
	cgroup_default_devices(a, &usual);
	all.items = arena_array(a, struct runtime_device_rule,
		rules->count + usual.count + array_size(mknod_rules) + c->spec.device_count);
	for (size_t i = 0; i < rules->count; i++)
		all.items[all.count++] = rules->items[i];
	for (size_t i = rules->count ? 1 : 0; i < usual.count; i++) // the first denies all
		all.items[all.count++] = usual.items[i];
	for (size_t i = 0; i < array_size(mknod_rules); i++)
		all.items[all.count++] = mknod_rules[i];
	for (size_t i = 0; !rules->count && i < c->spec.device_count; i++) {
		const struct runtime_device *d = &c->spec.devices[i];
		if (d->type != 'p')
			all.items[all.count++] = (struct runtime_device_rule){
				true, d->type, d->major, d->minor, true, true, true};
	}
	*rules = all;
}

int creation_make_cgroup(struct creation *c, struct error *err)
{
	complete_device_rules(c);
	const char *path = choose_cgroup(c, c->target.state.id);
	c->cgroup = cgroup_create(path, &c->spec.resources, &c->warnings, err);
	if (c->cgroup) {
		c->target.state.cgroup = arena_strdup(&c->target.arena, cgroup_path(c->cgroup));
		return runtime_state_save(c->target.folder, &c->target.state, err);
	}
	// An ordinary user may have none; then there are only the limits of our own.
	if (err->kind != ERROR_DENIED || c->spec.cgroups_path || wants_limits(&c->spec.resources))
		return -1;
	buffer_printf(&c->warnings, "no control group: %s\n", err->text);
	error_clear(err);
	return 0;
}
