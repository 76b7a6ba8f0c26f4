// SPDX-License-Identifier: Apache-2.0
#include "agent/job/sandbox_internal.h"

#include "agent/job/other_runtime.h"
#include "agent/job/ownership.h"
#include "agent/job/sandbox_hooks.h"
#include "agent/job/variables.h"
#include "base/file.h"
#include "base/message.h"
#include "base/text.h"

#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	OWN_MOUNTS = 5, // code, outputs, logs, /dev/shm, secrets
	SHM_DEFAULT = 64 * 1024 * 1024,
	DESTROY_MS = 10 * 1000,
	DEVICE_MS = 10 * 1000,
};

static struct json_strings words(struct arena *a, const char *const *items)
{
	struct json_strings s = {0};
	while (items[s.count])
		s.count++;
	s.items = arena_array(a, const char *, s.count + 2);
	memcpy(s.items, items, s.count * sizeof(*items));
	return s;
}

static void add_bind(struct sandbox *s, const char *source, const char *target, bool read_only)
{
	static const char *const writable[] = {"rbind", "rnosuid", "rnodev", "x-idmap", NULL};
	static const char *const fixed[] = {"rbind", "rnosuid", "rnodev", "rro", "x-idmap", NULL};
	s->spec.mounts[s->spec.mount_count++] = (struct runtime_mount){
		.destination = target,
		.type = "bind",
		.source = source,
		.options = words(&s->arena, read_only ? fixed : writable),
	};
}

// Where it lies on this node; nothing where the script gets an address.
static void add_input(struct sandbox *s, const struct job *job, size_t i)
{
	const struct data_source *input = &job->spec->inputs[i];
	const char *path = job->inputs ? data_mounts_path(job->inputs, i) : input->path;
	bool writable = input->mode == DATA_RW_MOUNT || input->writable;
	if (path)
		add_bind(s, path, input->target, !writable);
	if (!path)
		return;
	struct json_strings *o = &s->spec.mounts[s->spec.mount_count - 1].options;
	if (job->inputs && !data_mounts_map_ids(job->inputs, i))
		o->count--; // "x-idmap", the last
	if (input->no_exec)
		o->items[o->count++] = "rnoexec"; // words() leaves room for one more
}

static void add_mounts(struct sandbox *s, const struct job *job)
{
	const struct job_spec *spec = job->spec;
	struct runtime_mount *mounts = arena_array(&s->arena, struct runtime_mount,
		s->spec.mount_count + OWN_MOUNTS + spec->input_count + spec->bind_count);
	memcpy(mounts, s->spec.mounts, s->spec.mount_count * sizeof(*mounts));
	s->spec.mounts = mounts;
	const char *const shm[] = {"nosuid", "noexec", "nodev", "mode=1777",
		arena_printf(&s->arena, "size=%llu",
			(unsigned long long)(spec->shm_size ? spec->shm_size : SHM_DEFAULT)),
		NULL};
	mounts[s->spec.mount_count++] = (struct runtime_mount){
		.destination = "/dev/shm",
		.type = "tmpfs",
		.source = "shm",
		.options = words(&s->arena, shm),
	};
	const char *path = job->run->path;
	add_bind(s, arena_printf(&s->arena, "%s/code", path), job_folder, false);
	add_bind(s, arena_printf(&s->arena, "%s/outputs", path), job_outputs, false);
	add_bind(s, arena_printf(&s->arena, "%s/logs", path), job_logs, false);
	for (size_t i = 0; i < spec->input_count; i++)
		add_input(s, job, i);
	for (size_t i = 0; i < spec->bind_count; i++)
		add_bind(s, spec->binds[i].source, spec->binds[i].target, spec->binds[i].read_only);
	if (spec->secret_count)
		add_bind(s,
			arena_printf(
				&s->arena, "%s/runs/%s/secrets", job->store->run_dir, job->run->id),
			job_secrets, true);
}

// ---- what runs

// How a script is run, by its name.
static void script_argv(struct sandbox *s, const struct job_spec *spec, bool python)
{
	const char **argv = arena_array(&s->arena, const char *, spec->arguments.count + 4);
	size_t n = 0;
	if (python) {
		argv[n++] = "python";
		argv[n++] = "-u";
		argv[n++] = spec->entry_script;
	} else if (ends_with(spec->entry_script, ".sh")) {
		argv[n++] = "sh";
		argv[n++] = spec->entry_script;
	} else {
		argv[n++] = arena_printf(&s->arena, "./%s", spec->entry_script);
	}
	for (size_t i = 0; i < spec->arguments.count; i++)
		argv[n++] = spec->arguments.items[i];
	s->spec.process.args = (struct json_strings){argv, n};
}

static int image_argv(struct sandbox *s, const struct oci_config *image, struct error *err)
{
	const struct oci_strings *entry = &image->entrypoint, *cmd = &image->cmd;
	const char **argv = arena_array(&s->arena, const char *, entry->count + cmd->count + 1);
	for (size_t i = 0; i < entry->count; i++)
		argv[i] = entry->items[i];
	for (size_t i = 0; i < cmd->count; i++)
		argv[entry->count + i] = cmd->items[i];
	s->spec.process.args = (struct json_strings){argv, entry->count + cmd->count};
	if (argv[0])
		return 0;
	return error_set(err, ERROR_INVALID,
		"no command was given and the image has none; say: stoker run --image … -- CMD");
}

static struct json_strings count_strings(const char *const *items)
{
	struct json_strings all = {.items = (const char **)items};
	while (items[all.count])
		all.count++;
	return all;
}

// environment.activation: shell. conda's scripts may look at the node that they run on, so they are
// sourced there; what comes behind them is the script's command line, exactly.
static void activate_by_shell(struct sandbox *s)
{
	static const char program[] = "for f in /opt/stoker/env/etc/conda/activate.d/*.sh; do"
				      " [ -e \"$f\" ] && . \"$f\"; done; exec \"$@\"";
	static const char *const shell[] = {"/bin/sh", "-c", program, "sh"};
	struct json_strings *args = &s->spec.process.args;
	const char **all =
		arena_array(&s->arena, const char *, args->count + array_size(shell) + 1);
	memcpy(all, shell, sizeof(shell));
	memcpy(all + array_size(shell), args->items, args->count * sizeof(*all));
	*args = (struct json_strings){all, args->count + array_size(shell)};
	s->options.programs = NULL; // the environment has a `python` of its own
}

static int set_program(struct sandbox *s, const struct job *job, struct error *err)
{
	static const char *const pythons[] = {"python3", "python", NULL};
	const struct job_spec *spec = job->spec;
	struct runtime_process *p = &s->spec.process;
	if (spec->entry_script) {
		bool python = ends_with(spec->entry_script, ".py");
		s->options.programs = python ? pythons : NULL;
		script_argv(s, spec, python);
		if (spec->environment.activation == JOB_ACTIVATION_SHELL)
			activate_by_shell(s);
		p->cwd = job_folder;
	} else {
		if (spec->command)
			p->args = count_strings(spec->command);
		else if (image_argv(s, job->image, err) < 0)
			return -1;
		p->cwd = spec->working_directory    ? spec->working_directory
			 : *job->image->working_dir ? job->image->working_dir
						    : "/";
	}
	p->env = count_strings(
		job_variables(&s->arena, job->image, spec, job->run, s->spec.hostname));
	return 0;
}

// ---- control group and network

static int plan_network(struct sandbox *s, struct error *err)
{
	cleanup_buffer struct buffer node = {0};
	if (sandbox_files_read("/etc/resolv.conf", &node, err) < 0)
		return -1;
	if (network_plan(node.data ? node.data : "", &s->network_plan, err) == 0)
		return 0;
	err->kind = ERROR_SYSTEM; // what this node lacks, not what the job named
	return -1;
}

static int choose_network(struct sandbox *s, struct error *err)
{
	enum job_network network = s->job.spec->network;
	bool asked = network != JOB_NETWORK_DEFAULT;
	if (!asked)
		network = s->policy->network;
	if (asked && network == JOB_NETWORK_HOST && !s->policy->allow_host_network)
		return error_set(err, ERROR_DENIED,
			"network: host is not allowed on this node (agent.yaml: "
			"sandbox.allow_host_network)");
	if (network == JOB_NETWORK_HOST && s->job.listen_fd >= 0)
		return error_set(err, ERROR_INVALID, "network: host has no loopback of its own");
	s->private_network = network == JOB_NETWORK_PRIVATE;
	s->spec.namespaces[RUNTIME_NAMESPACE_NETWORK].wanted = network != JOB_NETWORK_HOST;
	if (!s->private_network)
		return 0;
	if (asked || geteuid() == 0 || access("/dev/net/tun", R_OK | W_OK) == 0)
		return plan_network(s, err);
	s->private_network = false;
	buffer_printf(&s->warnings, "the job has no network: /dev/net/tun is not yours to open\n");
	return 0;
}

// ---- devices

static int open_devices(struct sandbox *s, struct error *err)
{
	const struct job_resources *r = &s->job.spec->resources;
	const struct json_strings *folders = &s->policy->cdi_folders;
	const struct device_request request = {
		.gpus = (unsigned)r->gpus,
		.named = r->devices.items,
		.named_count = r->devices.count,
		.run = s->job.run->id,
		.cancel_fd = -1,
	};
	if (!r->gpus && !r->devices.count)
		return 0;
	s->cdi = cdi_load(folders->items, folders->count, &s->warnings, err);
	if (!s->cdi)
		return -1;
	s->places = (struct device_places){
		.run_dir = s->job.store->run_dir, .state_dir = s->job.store->state_dir};
	s->devices = devices_new(s->cdi, &s->places);
	s->lease = device_acquire(s->devices, &request, err);
	if (!s->lease)
		return -1;
	size_t count;
	const struct cdi_device *const *chosen = device_lease_devices(s->lease, &count);
	return cdi_apply(chosen, count, &s->arena, &s->spec, err);
}

static void close_devices(struct sandbox *s, struct buffer *notes)
{
	cleanup_buffer struct buffer unheard = {0};
	struct error err;
	if (s->lease && device_release(s->lease, DEVICE_MS, notes ? notes : &unheard, &err) < 0 &&
		notes)
		buffer_printf(notes, "%s\n", err.text);
	devices_free(s->devices);
	cdi_free(s->cdi);
}

static int open_namespace(pid_t pid, const char *name, struct error *err)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? error_set_errno(err, errno, "open %s", path) : fd;
}

// In the parent, as soon as the namespaces are there: the network comes up while the child mounts.
static int prepare(void *data, pid_t pid, struct error *err)
{
	struct sandbox *s = data;
	if (!s->private_network && s->job.listen_fd < 0)
		return 0;
	s->netns_fd = open_namespace(pid, "net", err);
	if (s->netns_fd < 0)
		return -1;
	if (s->spec.namespaces[RUNTIME_NAMESPACE_USER].wanted) {
		s->network_userns_fd = open_namespace(pid, "user", err);
		if (s->network_userns_fd < 0)
			return -1;
	}
	if (!s->private_network)
		return 0;
	return network_start(&s->network_plan, s->netns_fd, s->network_userns_fd, &s->network, err);
}

static int listen_inside(struct sandbox *s, struct error *err)
{
	if (s->job.listen_fd < 0)
		return 0;
	cleanup_fd int fd =
		network_listen(s->netns_fd, s->network_userns_fd, s->job.listen_port, err);
	return fd < 0 ? -1 : message_send(s->job.listen_fd, "listen", 6, &fd, 1, err);
}

// ---- all of it

static int describe(struct sandbox *s, const struct job *job, struct error *err)
{
	char name[HOST_NAME_MAX + 1];
	if (gethostname(name, sizeof(name)) < 0)
		return error_set_errno(err, errno, "name of this node");
	name[sizeof(name) - 1] = '\0';
	s->spec.hostname = arena_strdup(&s->arena, name);
	s->spec.root_path = "rootfs";
	if (choose_network(s, err) < 0 || set_program(s, job, err) < 0)
		return -1;
	if (s->root_fd >= 0 && sandbox_user_set(s, s->root_fd, err) < 0)
		return -1;
	add_mounts(s, job);
	if (sandbox_files_add(s, err) < 0 ||
		(s->root_fd >= 0 && sandbox_certificates_add(s, s->root_fd, err) < 0))
		return -1;
	return open_devices(s, err);
}

static int open_all(struct sandbox *s, struct error *err)
{
	s->layers = rootfs_layers_acquire(s->job.store, s->job.layers, err);
	if (!s->layers || sandbox_root_open(s, err) < 0 || describe(s, &s->job, err) < 0)
		return -1;
	return sandbox_group_open(s, err);
}

int sandbox_open(struct sandbox *s, const struct job *job, const struct job_policy *policy,
	struct error *err)
{
	*s = (struct sandbox){
		.policy = policy,
		.job = *job,
		.root_fd = -1,
		.ids_fd = -1,
		.userns_fd = -1,
		.netns_fd = -1,
		.network_userns_fd = -1,
	};
	s->options = (struct container_options){
		.spec = &s->spec,
		.init = true,
		.die_with_parent = true,
		.start_fifo = -1,
		.console_socket = -1,
		.prepare = prepare,
		.hook = sandbox_hook,
		.data = s,
		.warnings = &s->warnings,
	};
	if (open_all(s, err) == 0)
		return 0;
	struct error ignored;
	sandbox_close(s, NULL, &ignored);
	return -1;
}

static int create(struct sandbox *s, const int stdio[3], struct container *c, struct error *err)
{
	const char *runtime = s->policy->runtime;
	if (!runtime) {
		s->options.rootfs_fd = s->root_fd;
		s->options.ids_fd = s->userns_fd; // -1: none
		memcpy(s->options.stdio, stdio, sizeof(s->options.stdio));
		if (container_create(&s->options, c, err) < 0)
			return -1;
		sandbox_root_seen(s);
		return 0;
	}
	if (s->root_fd < 0)
		return error_set(err, ERROR_INVALID,
			"sandbox.runtime %s: an ordinary user's jobs run in Stoker's own", runtime);
	s->other = true; // whatever of it there will be after a failure
	if (other_runtime_create(s, runtime, stdio, c, err) < 0)
		return -1;
	s->cgroup = cgroup_open(s->spec.cgroups_path, err);
	if (!s->cgroup) {
		// It may have its own idea of groups; then there is nothing to measure.
		buffer_printf(&s->warnings, "%s: %s\n", runtime, err->text);
		error_clear(err);
	}
	return prepare(s, c->init.pid, err);
}

int sandbox_start(
	struct sandbox *s, int stdin_fd, int output_fd, struct container *c, struct error *err)
{
	const int stdio[3] = {stdin_fd, output_fd, output_fd};
	if (create(s, stdio, c, err) < 0)
		return -1;
	// Placed, so our hold on it can go; the container's end then is its end.
	close_fdp(&s->root_fd);
	s->root_fd = -1;
	if ((s->private_network && network_wait(&s->network, err) < 0) ||
		listen_inside(s, err) < 0) {
		container_release(c);
		return -1;
	}
	if (s->other) // which runs the hooks, too
		return other_runtime_start(s, s->policy->runtime, err);
	if (container_start(c, err) < 0)
		return -1;
	sandbox_hooks_after(s, RUNTIME_HOOK_POSTSTART, c->init.pid, &s->warnings);
	s->started = true;
	return 0;
}

int sandbox_network_fd(const struct sandbox *s)
{
	return s->private_network && s->network.helper.pid > 0 ? s->network.helper.pidfd : -1;
}

void sandbox_network_ended(struct sandbox *s)
{
	struct error err;
	if (network_restart(&s->network, &err) == 0)
		return;
	network_release(&s->network);
	s->private_network = false;
	buffer_printf(&s->warnings, "the job's network is gone: %s\n", err.text);
}

int sandbox_close(struct sandbox *s, struct buffer *notes, struct error *err)
{
	int rc = 0;
	struct error second;
	network_release(&s->network);
	if (s->other && other_runtime_delete(s, s->policy->runtime, err) < 0)
		rc = -1;
	if (s->cgroup && cgroup_destroy(s->cgroup, DESTROY_MS, rc < 0 ? &second : err) < 0)
		rc = -1;
	cgroup_free(s->cgroup);
	if (s->started)
		sandbox_hooks_after(s, RUNTIME_HOOK_POSTSTOP, 0, notes ? notes : &s->warnings);
	close_devices(s, notes);
	close_fdp(&s->netns_fd);
	close_fdp(&s->network_userns_fd);
	close_fdp(&s->root_fd);
	close_fdp(&s->userns_fd);
	if (ownership_take_back(s->job.run->fd, rc < 0 ? &second : err) < 0)
		rc = -1;
	rootfs_layers_release(s->layers);
	close_fdp(&s->ids_fd);
	sandbox_root_close(s);
	buffer_release(&s->warnings);
	arena_release(&s->arena);
	return rc;
}
