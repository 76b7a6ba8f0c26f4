// SPDX-License-Identifier: Apache-2.0
#include "agent/job/sandbox.h"

#include "agent/job/other_runtime.h"
#include "agent/job/ownership.h"
#include "agent/job/sandbox_hooks.h"
#include "agent/job/variables.h"
#include "base/file.h"
#include "base/text.h"
#include "oci/runtime/user_namespace.h"

#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	NODE_FILE_MAX = 256 * 1024,
	OWN_MOUNTS = 5, // code, outputs, logs, /dev/shm, secrets
	SHM_DEFAULT = 64 * 1024 * 1024,
	DESTROY_MS = 10 * 1000,
	DEVICE_MS = 10 * 1000,
	NODE_RESERVE = 512 * 1024 * 1024,
	CPU_PERIOD = 100 * 1000, // microseconds
	CPU_SHARES = 1024,	 // of one CPU
};

static struct json_strings words(struct arena *a, const char *const *items)
{
	struct json_strings s = {0};
	while (items[s.count])
		s.count++;
	s.items = arena_array(a, const char *, s.count + 1);
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
		add_bind(
			s, spec->inputs[i].path, spec->inputs[i].target, spec->inputs[i].read_only);
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

static int set_program(struct sandbox *s, const struct job *job, struct error *err)
{
	static const char *const pythons[] = {"python3", "python", NULL};
	const struct job_spec *spec = job->spec;
	struct runtime_process *p = &s->spec.process;
	if (spec->entry_script) {
		bool python = ends_with(spec->entry_script, ".py");
		s->options.programs = python ? pythons : NULL;
		script_argv(s, spec, python);
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

// The image's user, whose are the job's own folders. Capabilities are for root only, as with
// Docker: another user has none, whatever the file system says (no_new_privs).
static int set_user(struct sandbox *s, const struct job *job, int root_fd, struct error *err)
{
	static const char *const owned[] = {"code", "outputs", "logs"};
	struct container_user user;
	struct runtime_process *p = &s->spec.process;
	const char *name = job->spec->user ? job->spec->user : job->image->user;
	if (container_user_lookup(root_fd, name, &user, err) < 0)
		return -1;
	p->uid = user.uid;
	p->gid = user.gid;
	p->group_count = user.group_count;
	p->groups = arena_array(&s->arena, gid_t, user.group_count);
	memcpy(p->groups, user.groups, user.group_count * sizeof(gid_t));
	if (user.uid != 0)
		p->capabilities.effective = p->capabilities.permitted = 0;
	for (size_t i = 0; i < array_size(owned); i++)
		if (fchownat(job->run->fd, owned[i], user.uid, user.gid, AT_SYMLINK_NOFOLLOW) < 0)
			return error_set_errno(err, errno, "give %s/%s to the container's user",
				job->run->path, owned[i]);
	return 0;
}

// ---- files of the node

// A file that the node lacks is not given.
static int read_node_file(const char *path, struct buffer *b, struct error *err)
{
	if (file_read(AT_FDCWD, path, NODE_FILE_MAX, b, err) == 0)
		return 0;
	if (err->kind != ERROR_NOT_FOUND)
		return -1;
	error_clear(err);
	return 0;
}

static void add_file(struct sandbox *s, const char *path, const struct buffer *b)
{
	struct container_file *files = (struct container_file *)s->options.files;
	files[s->options.file_count++] = (struct container_file){
		.path = path,
		.data = arena_strndup(&s->arena, b->data ? b->data : "", b->size),
		.size = b->size,
		.mode = 0644,
	};
}

static int add_files(struct sandbox *s, struct error *err)
{
	cleanup_buffer struct buffer hosts = {0}, node = {0}, resolv = {0}, name = {0};
	s->options.files = arena_array(&s->arena, struct container_file, 3);
	if (read_node_file("/etc/hosts", &hosts, err) < 0 ||
		read_node_file("/etc/resolv.conf", &node, err) < 0)
		return -1;
	if (s->private_network) {
		// The node's own names are for its loopback addresses: inside they are others'.
		buffer_clear(&hosts);
		buffer_printf(&hosts,
			"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
			"127.0.1.1\t%s\n",
			s->spec.hostname);
		network_resolv_conf(&s->network_plan, node.data ? node.data : "", &resolv);
	}
	add_file(s, "/etc/hosts", &hosts);
	add_file(s, "/etc/resolv.conf", s->private_network ? &resolv : &node);
	buffer_printf(&name, "%s\n", s->spec.hostname);
	add_file(s, "/etc/hostname", &name);
	return 0;
}

// ---- the root of an ordinary user's job

// In the child, which alone has the privileges for it: over the ids and mounts of its namespaces.
static int mount_own_root(void *data, struct error *err)
{
	struct sandbox *s = data;
	const struct rootfs_overlay overlay = {
		.scratch_fd = s->job.run->fd, .userxattr = true, .userns_fd = -1, .foreign = true};
	cleanup_fd int root = rootfs_overlay_mount(s->job.store, s->layers, &overlay, err);
	if (root < 0 || (!s->single_id && set_user(s, &s->job, root, err) < 0))
		return -1;
	return steal_fd(&root);
}

static bool is_root_name(const char *user)
{
	return !*user || streq(user, "0") || streq(user, "root") || starts_with(user, "0:") ||
	       starts_with(user, "root:");
}

// An ordinary user's job has his id as its root, and those of his ranges in /etc/subuid.
static void open_own_ids(struct sandbox *s, const struct job *job)
{
	const char *user = job->spec->user ? job->spec->user : job->image->user;
	container_default_spec(&s->arena, &s->spec, 1);
	user_namespace_own(&s->arena, &s->spec.uid_mappings, &s->spec.gid_mappings);
	s->single_id = s->spec.uid_mappings.count == 1;
	s->options.mount_root = mount_own_root;
	if (s->single_id && !is_root_name(user))
		buffer_printf(&s->warnings,
			"the job runs as its container's root (you) and not as user %s: you have "
			"no "
			"ids in /etc/subuid and /etc/subgid, or newuidmap(1) is not installed\n",
			user);
}

// The group that systemd gives to a user's own services; he may make more below.
static char *own_group(void)
{
	cleanup_buffer struct buffer b = {0};
	struct error ignored;
	cleanup_free char *service = xasprintf("/user@%u.service", geteuid());
	if (file_read(AT_FDCWD, "/proc/self/cgroup", NODE_FILE_MAX, &b, &ignored) < 0)
		return NULL;
	char *line = b.data ? strstr(b.data, "0::") : NULL;
	char *found = line ? strstr(line, service) : NULL;
	if (!found || (size_t)(found - line) > strcspn(line, "\n"))
		return NULL;
	return xasprintf("%.*s%s/stoker", (int)(found - line - 3), line + 3, service);
}

// ---- the root

static int mount_root(struct sandbox *s, const struct job *job, struct error *err)
{
	// The root folder's own attributes are those of upper/.
	if (geteuid() == 0 &&
		fchownat(job->run->fd, "upper", s->first_id, s->first_id, AT_SYMLINK_NOFOLLOW) < 0)
		return error_set_errno(err, errno, "own %s/upper", job->run->path);
	const struct rootfs_overlay overlay = {
		.scratch_fd = job->run->fd, .userns_fd = s->userns_fd};
	s->root_fd = rootfs_overlay_mount(job->store, s->layers, &overlay, err);
	return s->root_fd < 0 ? -1 : 0;
}

// Ids of the job's own, and the root file system with them. Where this kernel or a file system
// cannot map ids, the job has the node's: its root then is held back by capabilities, filter and
// groups alone, as under Docker, and the record says so.
static int open_root(struct sandbox *s, const struct job *job, struct error *err)
{
	if (geteuid() != 0) {
		open_own_ids(s, job);
		return 0;
	}
	if (user_namespace_lease(job->store->run_fd, s->policy->first_user_id, CONTAINER_IDS,
		    (unsigned)s->policy->user_id_ranges, &s->first_id, &s->ids_fd, err) < 0)
		return -1;
	container_default_spec(&s->arena, &s->spec, s->first_id);
	s->userns_fd = user_namespace_new(&s->spec.uid_mappings, &s->spec.gid_mappings, err);
	if (s->userns_fd < 0)
		return -1;
	if (mount_root(s, job, err) == 0)
		return 0;
	if (err->sys != EINVAL || s->policy->require_user_ids)
		return -1;
	buffer_printf(&s->warnings, "the job has no user ids of its own: %s\n", err->text);
	error_clear(err);
	close_fdp(&s->userns_fd);
	close_fdp(&s->ids_fd);
	s->userns_fd = s->ids_fd = -1;
	s->first_id = 0;
	container_default_spec(&s->arena, &s->spec, 0);
	return mount_root(s, job, err);
}

// ---- control group and network

// What the node has without a reserve: a job that takes all memory is killed itself, and not what
// else the node runs.
static uint64_t node_memory(void)
{
	uint64_t total = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t reserve = total / 20 > NODE_RESERVE ? total / 20 : NODE_RESERVE;
	return total > 2 * reserve ? total - reserve : total / 2;
}

static void set_limits(struct sandbox *s, const struct job_resources *wanted)
{
	const struct job_policy *p = s->policy;
	struct runtime_resources *r = &s->spec.resources;
	double cpus = wanted->cpus > 0 ? wanted->cpus : p->cpus;
	uint64_t memory = wanted->memory ? wanted->memory : p->memory ? p->memory : node_memory();
	if (cpus > 0) {
		r->cpu_period = CPU_PERIOD;
		r->cpu_quota = (int64_t)(cpus * CPU_PERIOD);
		// And its part where more is asked for than the node has.
		double shares = cpus * CPU_SHARES;
		r->cpu_shares = shares < 2 ? 2 : shares > 262144 ? 262144 : (uint64_t)shares;
	}
	r->memory_limit = (int64_t)memory;
	r->memory_swap = (int64_t)(memory + wanted->memory_swap);
	r->pids_limit = (int64_t)(wanted->pids ? wanted->pids : p->pids);
}

static int open_group(struct sandbox *s, struct error *err)
{
	cleanup_free char *own = geteuid() == 0 ? NULL : own_group();
	cleanup_free char *path =
		xasprintf("%s/jobs/%s", own ? own : s->policy->cgroup, s->job.run->id);
	set_limits(s, &s->job.spec->resources);
	s->spec.cgroups_path = arena_strdup(&s->arena, path);
	if (s->policy->runtime) // it makes the group
		return 0;
	s->cgroup = cgroup_create(path, &s->spec.resources, &s->warnings, err);
	if (!s->cgroup && geteuid() != 0) {
		buffer_printf(&s->warnings, "no limits are kept for the job: %s\n", err->text);
		error_clear(err);
		return 0;
	}
	s->options.cgroup = s->cgroup;
	return s->cgroup ? 0 : -1;
}

static int plan_network(struct sandbox *s, struct error *err)
{
	cleanup_buffer struct buffer node = {0};
	if (read_node_file("/etc/resolv.conf", &node, err) < 0)
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
	if (!s->private_network)
		return 0;
	s->netns_fd = open_namespace(pid, "net", err);
	if (s->netns_fd < 0)
		return -1;
	if (s->spec.namespaces[RUNTIME_NAMESPACE_USER].wanted) {
		s->network_userns_fd = open_namespace(pid, "user", err);
		if (s->network_userns_fd < 0)
			return -1;
	}
	return network_start(&s->network_plan, s->netns_fd, s->network_userns_fd, &s->network, err);
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
	if (s->root_fd >= 0 && set_user(s, job, s->root_fd, err) < 0)
		return -1;
	add_mounts(s, job);
	if (add_files(s, err) < 0)
		return -1;
	return open_devices(s, err);
}

static int open_all(struct sandbox *s, struct error *err)
{
	s->layers = rootfs_layers_acquire(s->job.store, s->job.layers, err);
	if (!s->layers || open_root(s, &s->job, err) < 0 || describe(s, &s->job, err) < 0)
		return -1;
	return open_group(s, err);
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
		return container_create(&s->options, c, err);
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
	if (s->private_network && network_wait(&s->network, err) < 0) {
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

bool sandbox_stats(const struct sandbox *s, struct cgroup_stats *stats)
{
	struct error ignored;
	return s->cgroup && cgroup_stats(s->cgroup, stats, &ignored) == 0;
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
	buffer_release(&s->warnings);
	arena_release(&s->arena);
	return rc;
}
