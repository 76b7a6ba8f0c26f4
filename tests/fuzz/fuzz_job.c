// SPDX-License-Identifier: Apache-2.0
// Job files as people write them, and as others make up.
#include "agent/job/ignore.h"
#include "agent/job/packages.h"
#include "agent/job/spec.h"
#include "base/file.h"
#include "base/text.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool condition)
{
	if (!condition)
		abort();
}

static void check_input(const struct data_source *s)
{
	bool needs_path = s->kind == DATA_BIND || (s->kind == DATA_FSIMAGE && !s->file_count);
	expect(s->name[0] && s->target[0] == '/' && data_source_reference(s)[0]);
	expect(!needs_path || s->path[0]);
	expect(s->kind != DATA_HTTP || (s->file_count && s->mode >= DATA_DOWNLOAD));
	expect(s->kind != DATA_INLINE || strlen(s->content) == s->content_size);
	for (size_t i = 0; i < s->file_count; i++)
		expect(!data_url_complaint(s->files[i].url));
}

static void check_environment(const struct job_environment *e)
{
	expect(!e->user_managed || !e->given);
	expect(!e->conda_file || (!e->conda.count && !e->pip.count));
	expect((e->reuse == JOB_REUSE_LOCKED) == (e->lock_file != NULL));
	for (size_t i = 0; i < e->pip.count; i++)
		expect(e->pip.items[i][0] != '-');
}

// The same bytes as files with packages and rules.
static void check_files(const char *data, size_t size)
{
	char path[] = "/dev/shm/fuzz_job.XXXXXX"; // in memory
	cleanup_arena struct arena a = {0};
	cleanup_ignore struct ignore *ig = ignore_new();
	struct job_environment e = {0}, f = {0};
	struct json_pairs variables = {0};
	struct error err = {0};
	expect(mkdtemp(path) != NULL);
	cleanup_fd int folder = directory_open(AT_FDCWD, path, &err);
	cleanup_fd int file = openat(folder, "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	expect(file >= 0 && write_all(file, data, size, "file", &err) == 0);
	if (packages_read_pip(&a, folder, "file", &e, &err) < 0)
		expect(err.text[0]);
	for (size_t i = 0; i < e.pip.count; i++)
		expect(!packages_pip_complaint(e.pip.items[i]));
	packages_read_conda(&a, folder, "file", &f, &variables, &err);
	if (ignore_add(ig, "", data, size, &err) == 0)
		ignore_match(ig, "some/folder/a file.txt", false);
	expect(directory_remove(AT_FDCWD, path, &err) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_job_spec struct job_spec s = {0};
	struct error err = {0};

	if (job_spec_parse(&s, (const char *)data, size, "job.yaml", &err) < 0) {
		expect((err.kind == ERROR_INVALID || err.kind == ERROR_LIMIT) && err.text[0]);
		return 0;
	}
	expect(job_experiment_check(s.experiment, &err) == 0);
	expect(s.entry_script[0] && s.entry_script[0] != '/' && s.source_directory[0]);
	expect(s.arguments.count <= 2 * JOB_ARGUMENTS_MAX);
	for (size_t i = 0; i < s.arguments.count; i++)
		expect(strlen(s.arguments.items[i]) <= JOB_BYTES_MAX);
	for (size_t i = 0; i < s.variables.count; i++)
		expect(s.variables.items[i].key[0] && !strchr(s.variables.items[i].key, '=') &&
			s.variables.items[i].value);
	for (size_t i = 0; i < s.input_count; i++)
		check_input(&s.inputs[i]);
	check_environment(&s.environment);
	check_files((const char *)data, size);
	return 0;
}
