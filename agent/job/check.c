// SPDX-License-Identifier: Apache-2.0
#include "agent/job/job.h"
#include "agent/job/variables.h"
#include "base/file.h"
#include "base/text.h"
#include "oci/runtime/container_plan.h"

#include <sys/stat.h>
#include <unistd.h>

static int check_script(const struct job_spec *spec, struct error *err)
{
	struct stat st;
	cleanup_fd int folder = directory_open(AT_FDCWD, spec->source_directory, err);
	if (folder < 0)
		return error_context(err, "source_directory");
	cleanup_fd int script = file_open_beneath(folder, spec->entry_script, O_PATH, 0, 0, err);
	if (script < 0 && err->kind == ERROR_NOT_FOUND)
		return error_set(err, ERROR_NOT_FOUND, "entry_script %s is not in %s",
			spec->entry_script, spec->source_directory);
	if (script < 0)
		return error_context(err, "entry_script");
	if (fstatat(script, "", &st, AT_EMPTY_PATH) < 0)
		return error_set_errno(err, errno, "entry_script %s", spec->entry_script);
	if (!S_ISREG(st.st_mode))
		return error_set(
			err, ERROR_INVALID, "entry_script %s is not a file", spec->entry_script);
	if (!ends_with(spec->entry_script, ".py") && !ends_with(spec->entry_script, ".sh") &&
		!(st.st_mode & 0111))
		return error_set(err, ERROR_INVALID,
			"entry_script %s: neither .py nor .sh, so it must be executable (chmod +x)",
			spec->entry_script);
	return 0;
}

static int check_bind(const char *what, const char *path, struct error *err)
{
	struct stat st;
	if (stat(path, &st) < 0)
		return error_set_errno(err, errno, "%s: %s", what, path);
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		return error_set(
			err, ERROR_INVALID, "%s: %s is neither a folder nor a file", what, path);
	return 0;
}

static int check_input(const struct data_source *input, struct error *err)
{
	struct error reason = {0};
	cleanup_free char *what = xasprintf("input %s", input->name);
	if (!input->path || check_bind(what, input->path, &reason) == 0)
		return 0;
	if (input->optional && reason.kind == ERROR_NOT_FOUND)
		return 0;
	*err = reason;
	return -1;
}

_Static_assert((int)JOB_SECRETS_MAX <= (int)SNAPSHOT_SKIPPED_MAX, "there is room for all secrets");

// What a secret is must not stay on the disk with the run.
static void leave_out_secrets(const struct job_spec *spec, struct snapshot_limits *limits)
{
	struct stat st;
	for (size_t i = 0; i < spec->secret_count; i++)
		if (spec->secrets[i].file && stat(spec->secrets[i].file, &st) == 0)
			limits->skip_files[limits->skip_file_count++] =
				(struct snapshot_file){st.st_dev, st.st_ino};
}

struct snapshot_limits job_snapshot_limits(
	const struct job_spec *spec, const struct job_policy *policy, const char *state_dir)
{
	struct snapshot_limits limits = {
		.bytes = policy->snapshot_bytes ? policy->snapshot_bytes : JOB_SNAPSHOT_BYTES,
		.files = policy->snapshot_files ? policy->snapshot_files : JOB_SNAPSHOT_FILES,
	};
	struct stat st;
	if (stat(state_dir, &st) == 0) {
		limits.skip_dev = st.st_dev;
		limits.skip_ino = st.st_ino;
	}
	leave_out_secrets(spec, &limits);
	return limits;
}

static int check_snapshot(const struct job_spec *spec, const struct config *config,
	struct snapshot_size *size, struct error *err)
{
	const struct snapshot_limits limits =
		job_snapshot_limits(spec, &config->policy, config->state_dir);
	cleanup_fd int folder = directory_open(AT_FDCWD, spec->source_directory, err);
	if (folder < 0 || snapshot_measure(folder, &limits, spec->entry_script, size, err) < 0)
		return error_context(err, "source_directory");
	if (size->wanted_ignored)
		return error_set(err, ERROR_INVALID, "entry_script %s is left out by %s",
			spec->entry_script, size->rules ? size->rules : "the copy");
	return 0;
}

// The plan of what is mounted is made again, for good, when the image is here.
static int check_plan(const struct job_spec *spec, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct container_plan plan;
	static const char *options[] = {"rbind", NULL};
	const struct json_strings bind = {options, 1};
	size_t n = 0;
	struct runtime_spec container = {
		.mounts =
			arena_array(&a, struct runtime_mount, spec->input_count + spec->bind_count),
		.process.cwd = spec->working_directory ? spec->working_directory : "/",
	};
	for (size_t i = 0; i < spec->input_count; i++)
		if (spec->inputs[i].mode != DATA_DIRECT)
			container.mounts[n++] = (struct runtime_mount){
				.source = spec->inputs[i].path ? spec->inputs[i].path : "/",
				.destination = spec->inputs[i].target,
				.options = bind};
	for (size_t i = 0; i < spec->bind_count; i++)
		container.mounts[n++] = (struct runtime_mount){.source = spec->binds[i].source,
			.destination = spec->binds[i].target,
			.options = bind};
	container.mount_count = n;
	return container_plan(&a, &container, NULL, &plan, err);
}

int job_check(const struct job_spec *spec, const struct config *config,
	struct snapshot_size *snapshot, struct error *err)
{
	struct snapshot_size size;
	if (spec->entry_script &&
		(check_script(spec, err) < 0 ||
			check_snapshot(spec, config, snapshot ? snapshot : &size, err) < 0))
		return -1;
	for (size_t i = 0; i < spec->input_count; i++)
		if (check_input(&spec->inputs[i], err) < 0)
			return -1;
	for (size_t i = 0; i < spec->bind_count; i++)
		if (check_bind("bind", spec->binds[i].source, err) < 0)
			return -1;
	return check_plan(spec, err);
}
