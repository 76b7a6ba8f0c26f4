// SPDX-License-Identifier: Apache-2.0
//
// `stoker runtime create` and `run`.
#include "agent/command/runtime.h"

#include "base/file.h"
#include "base/text.h"
#include "base/time.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static const char config_file[] = "config.json";

struct request {
	const char *bundle, *pid_file, *console_socket;
	uint64_t preserve_fds;
	bool detach, keep, no_pivot, no_new_keyring;
};

// What is on the way. Callbacks get it as their data; in the child it is a copy.
struct creation {
	struct runtime_command *r;
	const struct request *q;
	struct runtime_target target;
	struct runtime_spec spec;
	struct cgroup *cgroup;
	struct container container;
	struct buffer warnings;
	char *bundle; // absolute
	int fifo, console, console_ours;
	bool hooks_began;
};

static void creation_release(struct creation *c)
{
	container_release(&c->container);
	cgroup_free(c->cgroup);
	runtime_target_release(&c->target);
	buffer_release(&c->warnings);
	free(c->bundle);
	close_fdp(&c->fifo);
	close_fdp(&c->console);
	close_fdp(&c->console_ours);
}

static int check_request(struct creation *c, struct error *err)
{
	const struct request *q = c->q;
	if (q->no_pivot)
		return error_set(err, ERROR_INVALID,
			"--no-pivot: not supported, as a process could leave such a root");
	if (q->preserve_fds > 1024)
		return error_set(err, ERROR_INVALID, "--preserve-fds: must be at most 1024");
	if (!c->spec.has_process)
		return error_set(err, ERROR_INVALID, "%s: key \"process\" is missing", config_file);
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

// Read the bundle, and keep the document as it is now: later changes must not matter.
static int read_bundle(struct creation *c, struct buffer *text, struct error *err)
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
	return check_request(c, err);
}

static const char *absolute_root(struct creation *c)
{
	const char *path = c->spec.root_path;
	return *path == '/' ? path : arena_printf(&c->target.arena, "%s/%s", c->bundle, path);
}

// A relative path is ours to place.
static const char *choose_cgroup(struct creation *c, const char *id)
{
	const char *path = c->spec.cgroups_path;
	if (!path)
		return arena_printf(&c->target.arena, "/stoker/runtime/%s", id);
	return *path == '/' ? path : arena_printf(&c->target.arena, "/stoker/runtime/%s", path);
}

// The container's name is taken from here on.
static int begin_record(
	struct creation *c, const char *id, const struct buffer *config, struct error *err)
{
	struct runtime_state *s = &c->target.state;
	char when[TIME_TEXT_SIZE];
	if ((c->target.folder = runtime_state_create(c->r->root, id, err)) < 0)
		return -1;
	*s = (struct runtime_state){.id = id,
		.bundle = c->bundle,
		.rootfs = absolute_root(c),
		.created = arena_strdup(&c->target.arena, format_time(wall_ms(), when)),
		.annotations = c->spec.annotations,
		.status = RUNTIME_CREATING,
		.owner = getuid()};
	if (runtime_state_set_process(s, getpid(), err) < 0 ||
		runtime_state_save(c->target.folder, s, err) < 0 ||
		file_write_atomic(
			c->target.folder, config_file, config->data, config->size, 0600, err) < 0)
		return -1;
	// It is opened by the container's user, through a descriptor; nobody else comes into the
	// folder.
	if (mkfifoat(c->target.folder, RUNTIME_START_FIFO, 0600) < 0 ||
		fchmodat(c->target.folder, RUNTIME_START_FIFO, 0622, 0) < 0)
		return error_set_errno(err, errno, "make the FIFO %s", RUNTIME_START_FIFO);
	return 0;
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

static int make_cgroup(struct creation *c, struct error *err)
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

static int run_hooks(struct creation *c, enum runtime_hook_point point, enum runtime_status status,
	pid_t pid, struct error *err)
{
	cleanup_buffer struct buffer document = {0};
	if (!c->spec.hooks[point].count)
		return 0;
	if (runtime_state_document(&c->target.state, status, pid, false, &document, err) < 0)
		return -1;
	return runtime_hooks_run(&c->spec, point, document.data, err);
}

// Called in the child at those points that are in the container.
static int on_hook(
	void *data, enum runtime_hook_point point, pid_t pid, int root_fd, struct error *err)
{
	(void)root_fd; // the bundle has it
	struct creation *c = data;
	enum runtime_status status =
		point == RUNTIME_HOOK_START_CONTAINER ? RUNTIME_CREATED : RUNTIME_CREATING;
	c->hooks_began = true;
	return run_hooks(c, point, status, pid, err);
}

static int open_console(struct creation *c, struct error *err)
{
	if (!c->spec.process.terminal)
		return 0;
	c->console = runtime_console_socket(c->q->console_socket, &c->console_ours, err);
	return c->console < 0 ? -1 : 0;
}

static int make_container(struct creation *c, struct error *err)
{
	bool terminal = c->spec.process.terminal;
	c->fifo = openat(c->target.folder, RUNTIME_START_FIFO, O_PATH | O_CLOEXEC | O_NOFOLLOW);
	if (c->fifo < 0)
		return error_set_errno(err, errno, "open the FIFO %s", RUNTIME_START_FIFO);
	const struct container_options o = {
		.spec = &c->spec,
		.rootfs_fd = -1,
		.bundle = c->bundle,
		.cgroup = c->cgroup,
		.die_with_parent = !c->q->detach,
		.stdio = {terminal ? -1 : 0, terminal ? -1 : 1, terminal ? -1 : 2},
		.console_socket = c->console,
		.preserve_fds = (int)c->q->preserve_fds,
		.start_fifo = c->fifo,
		.hook = on_hook,
		.data = c,
		.warnings = &c->warnings,
	};
	return container_create(&o, &c->container, err);
}

// After a failure: the error stands, whatever else goes wrong.
static void undo(struct creation *c)
{
	struct error second = {0};
	container_release(&c->container);
	if (c->target.folder < 0)
		return;
	if (c->hooks_began) {
		runtime_destroy(c->r, &c->target, &second);
		return;
	}
	if (c->cgroup)
		cgroup_destroy(c->cgroup, 10000, &second);
	runtime_state_remove(c->r->root, c->target.state.id, &second);
}

static int finish_record(struct creation *c, struct error *err)
{
	struct runtime_state *s = &c->target.state;
	if (runtime_state_set_process(s, c->container.init.pid, err) < 0)
		return -1;
	s->status = RUNTIME_CREATED;
	if (runtime_state_save(c->target.folder, s, err) < 0)
		return -1;
	return runtime_write_pid(c->q->pid_file, s->pid, err);
}

static int create(struct creation *c, const char *id, struct error *err)
{
	cleanup_buffer struct buffer config = {0};
	if (runtime_id_check(id, err) < 0 || read_bundle(c, &config, err) < 0 ||
		begin_record(c, id, &config, err) < 0)
		return -1;
	if (make_cgroup(c, err) < 0 || open_console(c, err) < 0 || make_container(c, err) < 0 ||
		finish_record(c, err) < 0) {
		undo(c);
		return -1;
	}
	// What waits in the container keeps our descriptors until it is started.
	runtime_state_unlock(c->target.folder);
	runtime_warn(c->r, &c->warnings);
	return 0;
}

static void creation_init(struct creation *c, struct runtime_command *r, const struct request *q)
{
	*c = (struct creation){.r = r,
		.q = q,
		.target = {.folder = -1},
		.fifo = -1,
		.console = -1,
		.console_ours = -1};
}

// The options of `create`, and with `run` those that it has more. OPTIONS_OK or OPTIONS_HELP.
static int parse_request(struct runtime_command *r, const struct options_usage *usage,
	struct request *q, bool run, int argc, char **argv, const char **id, struct error *err)
{
	struct option options[] = {
		{OPTION_STRING, 'b', "bundle", "DIR", "the bundle, instead of the current folder",
			&q->bundle},
		{OPTION_STRING, 0, "pid-file", "FILE", "write the process's id there",
			&q->pid_file},
		{OPTION_STRING, 0, "console-socket", "SOCKET", "send the terminal there",
			&q->console_socket},
		{OPTION_NUMBER, 0, "preserve-fds", "N", "pass descriptors from 3 on",
			&q->preserve_fds},
		{OPTION_FLAG, 0, "no-pivot", NULL, "refused", &q->no_pivot},
		{OPTION_FLAG, 0, "no-new-keyring", NULL, "accepted; a container always has its own",
			&q->no_new_keyring},
		{OPTION_FLAG, 'd', "detach", NULL, "do not wait for the end", &q->detach},
		{OPTION_FLAG, 0, "keep", NULL, "do not delete it at the end", &q->keep},
		{OPTION_END},
	};
	char **rest;
	int count;
	if (!run)
		options[array_size(options) - 3] = (struct option){OPTION_END};
	int rc = runtime_options(r, options, usage, false, argc, argv, &rest, &count, err);
	if (rc == OPTIONS_OK)
		*id = rest[0];
	return rc;
}

int runtime_verb_create(struct runtime_command *r, int argc, char **argv, struct error *err)
{
	static const struct options_usage usage = {
		.verb = "runtime create",
		.arguments = "ID",
		.summary = "Make a container of a bundle. Its program waits for `start`.",
		.least = 1,
		.most = 1,
	};
	struct request q = {.detach = true};
	const char *id;
	int rc = parse_request(r, &usage, &q, false, argc, argv, &id, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	__attribute__((cleanup(creation_release))) struct creation c;
	creation_init(&c, r, &q);
	if (create(&c, id, err) < 0)
		return -1;
	container_detach(&c.container);
	return 0;
}

// Until its end; then nothing of it stays.
static int attend(struct creation *c, int *status, struct error *err)
{
	cleanup_fd int master = -1;
	if (c->spec.process.terminal &&
		(master = runtime_receive_terminal(c->console_ours, err)) < 0)
		return -1;
	if (runtime_start(c->r, &c->target, err) < 0)
		return -1;
	if (runtime_relay(c->container.init.pidfd, master, err) < 0)
		return -1;
	return container_wait(&c->container, status, err);
}

static int run_attended(struct creation *c, struct error *err)
{
	int status = 0;
	struct error second = {0};
	int rc = attend(c, &status, err);
	if (rc < 0)
		container_release(&c->container);
	if (rc == 0 && c->q->keep)
		return runtime_exit_status(status);
	if (runtime_destroy(c->r, &c->target, rc < 0 ? &second : err) < 0)
		return -1;
	return rc < 0 ? -1 : runtime_exit_status(status);
}

static int run_detached(struct creation *c, struct error *err)
{
	struct error second = {0};
	if (runtime_start(c->r, &c->target, err) < 0) {
		container_release(&c->container);
		runtime_destroy(c->r, &c->target, &second);
		return -1;
	}
	container_detach(&c->container);
	return 0;
}

int runtime_verb_run(struct runtime_command *r, int argc, char **argv, struct error *err)
{
	static const struct options_usage usage = {
		.verb = "runtime run",
		.arguments = "ID",
		.summary = "Make a container of a bundle, start it, wait for its end, delete it "
			   "and\nend with its exit status.",
		.least = 1,
		.most = 1,
	};
	struct request q = {0};
	const char *id;
	int rc = parse_request(r, &usage, &q, true, argc, argv, &id, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	__attribute__((cleanup(creation_release))) struct creation c;
	creation_init(&c, r, &q);
	if (create(&c, id, err) < 0)
		return -1;
	return q.detach ? run_detached(&c, err) : run_attended(&c, err);
}
