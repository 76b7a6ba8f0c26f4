// SPDX-License-Identifier: Apache-2.0
#include "agent/job/job.h"
#include "agent/job/snapshot.h"
#include "agent/job/variables.h"
#include "base/file.h"
#include "base/text.h"
#include "oci/runtime/rootfs.h"

#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NODE_FILE_MAX = 256 * 1024, RUN_BINDS = 3 };

// What the container is made of; strings in the arena.
struct plan {
	struct arena arena;
	char hostname[HOST_NAME_MAX + 1];
	struct container_file files[3];
	size_t file_count;
	struct container_bind *binds;
	size_t bind_count;
};

static void plan_release(struct plan *p)
{
	arena_release(&p->arena);
}

// outputs/ and logs/ of the source directory are where results go: what is there already becomes
// the run's, and an empty folder stays behind to mount on.
static int move_results(const struct run *run, const char *name, struct error *err)
{
	cleanup_free char *in_code = path_join("code", name);
	struct stat st;
	if (fstatat(run->fd, in_code, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		if (!S_ISDIR(st.st_mode))
			return error_set(err, ERROR_INVALID,
				"source_directory/%s is not a folder; the job's results go there",
				name);
		if (renameat(run->fd, in_code, run->fd, name) < 0)
			return error_set_errno(err, errno, "move %s", in_code);
	}
	if (mkdirat(run->fd, in_code, 0755) < 0)
		return error_set_errno(err, errno, "make %s", in_code);
	return 0;
}

static int take_snapshot(const struct job *job, struct error *err)
{
	struct stat state;
	if (mkdirat(job->run->fd, "code", 0755) < 0)
		return error_set_errno(err, errno, "make %s/code", job->run->path);
	if (job->spec->source_directory) {
		cleanup_fd int source = directory_open(AT_FDCWD, job->spec->source_directory, err);
		cleanup_fd int code = source < 0 ? -1 : directory_open(job->run->fd, "code", err);
		if (code < 0)
			return error_context(err, "source_directory");
		if (fstat(job->store->state_fd, &state) < 0)
			return error_set_errno(err, errno, "stat %s", job->store->state_dir);
		if (snapshot_copy(source, code, state.st_dev, state.st_ino, err) < 0)
			return error_context(err, "copy of source_directory");
	}
	return move_results(job->run, "outputs", err) < 0 || move_results(job->run, "logs", err) < 0
		       ? -1
		       : 0;
}

// The network is the node's, so names are resolved as on the node. A file that it lacks is not
// given.
static int add_node_file(struct plan *p, const char *path, struct error *err)
{
	cleanup_buffer struct buffer b = {0};
	if (file_read(AT_FDCWD, path, NODE_FILE_MAX, &b, err) < 0) {
		if (err->kind != ERROR_NOT_FOUND)
			return -1;
		error_clear(err);
		return 0;
	}
	p->files[p->file_count++] = (struct container_file){
		.path = path,
		.data = arena_strndup(&p->arena, b.data ? b.data : "", b.size),
		.size = b.size,
		.mode = 0644,
	};
	return 0;
}

static int plan_files(struct plan *p, struct error *err)
{
	if (gethostname(p->hostname, sizeof(p->hostname)) < 0)
		return error_set_errno(err, errno, "name of this node");
	p->hostname[sizeof(p->hostname) - 1] = '\0';
	if (add_node_file(p, "/etc/resolv.conf", err) < 0 ||
		add_node_file(p, "/etc/hosts", err) < 0)
		return -1;
	const char *line = arena_printf(&p->arena, "%s\n", p->hostname);
	p->files[p->file_count++] = (struct container_file){
		.path = "/etc/hostname", .data = line, .size = strlen(line), .mode = 0644};
	return 0;
}

static void add_bind(
	struct plan *p, const char *source, const char *target, bool read_only, bool owned)
{
	p->binds[p->bind_count++] = (struct container_bind){source, target, read_only, owned};
}

static void plan_binds(struct plan *p, const struct job *job)
{
	const struct job_spec *s = job->spec;
	p->binds = arena_array(
		&p->arena, struct container_bind, RUN_BINDS + s->input_count + s->bind_count);
	const char *path = job->run->path;
	add_bind(p, arena_printf(&p->arena, "%s/code", path), job_folder, false, true);
	add_bind(p, arena_printf(&p->arena, "%s/outputs", path), job_outputs, false, true);
	add_bind(p, arena_printf(&p->arena, "%s/logs", path), job_logs, false, true);
	for (size_t i = 0; i < s->input_count; i++)
		add_bind(p, s->inputs[i].path, s->inputs[i].target, s->inputs[i].read_only, false);
	for (size_t i = 0; i < s->bind_count; i++)
		p->binds[p->bind_count++] = s->binds[i];
}

// How a script is run, by its name.
static const char *const *script_argv(struct plan *p, const struct job_spec *s, bool python)
{
	const char **argv = arena_array(&p->arena, const char *, s->arguments.count + 4);
	size_t n = 0;
	if (python) {
		argv[n++] = "python";
		argv[n++] = "-u";
		argv[n++] = s->entry_script;
	} else if (ends_with(s->entry_script, ".sh")) {
		argv[n++] = "sh";
		argv[n++] = s->entry_script;
	} else {
		argv[n++] = arena_printf(&p->arena, "./%s", s->entry_script);
	}
	for (size_t i = 0; i < s->arguments.count; i++)
		argv[n++] = s->arguments.items[i];
	return argv;
}

static const char *const *image_argv(
	struct plan *p, const struct oci_config *image, struct error *err)
{
	const struct oci_strings *entry = &image->entrypoint, *cmd = &image->cmd;
	const char **argv = arena_array(&p->arena, const char *, entry->count + cmd->count + 1);
	for (size_t i = 0; i < entry->count; i++)
		argv[i] = entry->items[i];
	for (size_t i = 0; i < cmd->count; i++)
		argv[entry->count + i] = cmd->items[i];
	if (argv[0])
		return argv;
	error_set(err, ERROR_INVALID,
		"no command was given and the image has none; say: stoker run --image … -- CMD");
	return NULL;
}

static int make_spec(
	struct plan *p, const struct job *job, struct container_spec *container, struct error *err)
{
	static const char *const pythons[] = {"python3", "python", NULL};
	const struct job_spec *s = job->spec;
	bool python = s->entry_script && ends_with(s->entry_script, ".py");
	*container = (struct container_spec){
		.hostname = p->hostname,
		.programs = python ? pythons : NULL,
		.user = s->user ? s->user : job->image->user,
		.binds = p->binds,
		.bind_count = p->bind_count,
		.files = p->files,
		.file_count = p->file_count,
		.shm_size = s->shm_size,
	};
	if (s->entry_script) {
		container->argv = script_argv(p, s, python);
		container->cwd = job_folder;
	} else {
		container->argv = s->command ? s->command : image_argv(p, job->image, err);
		container->cwd = s->working_directory	    ? s->working_directory
				 : *job->image->working_dir ? job->image->working_dir
							    : "/";
	}
	container->envp = job_variables(&p->arena, job->image, s, job->run, p->hostname);
	return container->argv ? 0 : -1;
}

static int mount_root(const struct job *job, const struct rootfs_layers *layers, struct error *err)
{
	cleanup_fd int upper = directory_open(job->run->fd, "upper", err);
	cleanup_fd int work = upper < 0 ? -1 : directory_open(job->run->fd, "work", err);
	if (work < 0)
		return -1;
	const struct rootfs_overlay overlay = {.upper_fd = upper, .work_fd = work};
	return rootfs_overlay_mount(job->store, layers, &overlay, err);
}

static int start(const struct job *job, const struct rootfs_layers *layers,
	struct container_spec *container, struct container *c, struct output *o, struct error *err)
{
	cleanup_fd int root = mount_root(job, layers, err), write_fd = -1;
	if (root < 0 || output_open(o, job->run->fd, "user_logs/std_log.txt", job->echo_fd,
				&write_fd, err) < 0)
		return -1;
	container->rootfs_fd = root;
	container->stdio[0] = job->stdin_fd;
	container->stdio[1] = container->stdio[2] = write_fd;
	return container_start(container, c, err);
}

// Releases mounts and descriptors by leaving.
static int run_container(const struct job *job, struct container_spec *container,
	const struct rootfs_layers *layers, struct watch_result *result, enum cause_phase *phase,
	struct error *err)
{
	cleanup_container struct container c = {.status_fd = -1};
	cleanup_output struct output output = {.pipe_fd = -1, .file_fd = -1, .echo_fd = -1};
	cleanup_watch struct watch *watch = watch_new(JOB_GRACE_MS, err);
	*phase = CAUSE_STARTING;
	if (!watch || start(job, layers, container, &c, &output, err) < 0)
		return -1;
	*phase = CAUSE_RUNNING;
	if (run_enter(job->run, RUN_RUNNING, "running", err) < 0 ||
		watch_run(watch, &c, &output, result, err) < 0 ||
		run_enter(job->run, RUN_FINALIZING, "finalizing", err) < 0)
		return -1;
	output_finish_echo(&output);
	return 0;
}

int job_execute(const struct job *job, struct watch_result *result, enum cause_phase *phase,
	struct error *err)
{
	__attribute__((cleanup(plan_release))) struct plan p = {0};
	struct container_spec container;
	*phase = CAUSE_PREPARING;
	if (take_snapshot(job, err) < 0 || plan_files(&p, err) < 0)
		return -1;
	plan_binds(&p, job);
	if (make_spec(&p, job, &container, err) < 0)
		return -1;
	struct rootfs_layers *layers = rootfs_layers_acquire(job->store, job->layers, err);
	if (!layers)
		return -1;
	int rc = run_container(job, &container, layers, result, phase, err);
	rootfs_layers_release(layers);
	return rc;
}
