// SPDX-License-Identifier: Apache-2.0
//
// What `create` does: the record of the container, its group, the container itself.
#include "agent/command/runtime_creation.h"

#include "base/file.h"
#include "base/text.h"
#include "base/time.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

void creation_init(struct creation *c, struct runtime_command *r, const struct create_request *q)
{
	*c = (struct creation){.r = r,
		.q = q,
		.target = {.folder = -1},
		.fifo = -1,
		.console = -1,
		.console_ours = -1};
}

void creation_release(struct creation *c)
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

static const char *absolute_root(struct creation *c)
{
	const char *path = c->spec.root_path;
	return *path == '/' ? path : arena_printf(&c->target.arena, "%s/%s", c->bundle, path);
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
			c->target.folder, "config.json", config->data, config->size, 0600, err) < 0)
		return -1;
	// It is opened by the container's user, through a descriptor; nobody else comes into the
	// folder.
	if (mkfifoat(c->target.folder, RUNTIME_START_FIFO, 0600) < 0 ||
		fchmodat(c->target.folder, RUNTIME_START_FIFO, 0622, 0) < 0)
		return error_set_errno(err, errno, "make the FIFO %s", RUNTIME_START_FIFO);
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
	if (!c->q->console_socket) // ours: of our size from the beginning
		runtime_terminal_size(&c->spec.process);
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
	if (container_create(&o, &c->container, err) < 0) {
		runtime_use_engines_words(err);
		return -1;
	}
	return 0;
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

int creation_run(struct creation *c, const char *id, struct error *err)
{
	cleanup_buffer struct buffer config = {0};
	if (runtime_id_check(id, err) < 0 || creation_read_bundle(c, &config, err) < 0 ||
		begin_record(c, id, &config, err) < 0)
		return -1;
	if (!c->q->detach)
		runtime_relay_prepare(&c->spec.process);
	if (creation_make_cgroup(c, err) < 0 || open_console(c, err) < 0 ||
		make_container(c, err) < 0 || finish_record(c, err) < 0) {
		undo(c);
		return -1;
	}
	// What waits in the container keeps our descriptors until it is started.
	runtime_state_unlock(c->target.folder);
	runtime_warn(c->r, &c->warnings);
	return 0;
}
