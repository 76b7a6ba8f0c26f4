// SPDX-License-Identifier: Apache-2.0
#include "agent/command/run_inputs.h"

#include "agent/command/command.h"
#include "agent/command/phase_line.h"
#include "base/file.h"
#include "base/text.h"

#include <stdio.h>
#include <unistd.h>

static const char *secret_of(void *data, const char *name)
{
	const struct job_spec *spec = data;
	for (size_t i = 0; i < spec->secret_count; i++)
		if (streq(spec->secrets[i].name, name))
			return spec->secrets[i].value;
	return NULL;
}

struct inputs_line {
	struct phase_line line;
	const struct job_spec *spec;
	struct run *run;
	uint64_t *done, *total; // by input
	bool begun;
};

// Where lines stay, nothing is said of what was here already.
static void begin_line(struct inputs_line *l)
{
	if (!l->begun)
		phase_line_begin(&l->line, "fetching", NULL);
	l->begun = true;
}

static void on_input(void *data, size_t index, uint64_t done, uint64_t total)
{
	struct inputs_line *l = data;
	uint64_t all_done = 0, all = 0;
	l->done[index] = done;
	l->total[index] = total;
	for (size_t i = 0; i < l->spec->input_count; i++) {
		all_done += l->done[i];
		all += l->total[i];
	}
	if (all_done)
		begin_line(l);
	phase_line_update(&l->line, all_done, all);
	run_progress(l->run, all_done, all);
}

static void on_input_notice(void *data, const char *text)
{
	struct inputs_line *l = data;
	phase_line_notice(&l->line, text);
}

static bool needs_preparing(const struct data_source *s)
{
	return s->mode == DATA_DOWNLOAD || s->kind == DATA_HTTP || s->kind == DATA_OCI ||
	       s->kind == DATA_INLINE || (s->kind == DATA_FSIMAGE && s->file_count);
}

static void explain_inputs(
	struct run *run, const struct job_spec *spec, const struct data_ready *ready)
{
	uint64_t fetched = 0, bytes = 0;
	size_t reused = 0, count = 0;
	for (size_t i = 0; i < spec->input_count; i++) {
		if (!ready[i].digest)
			continue;
		count++;
		reused += ready[i].reused;
		fetched += ready[i].fetched;
		bytes += ready[i].bytes;
	}
	char size[FORMAT_SIZE_MAX];
	run_explain(run, fetched, "%zu of %s, %zu of them reused", count, format_size(bytes, size),
		reused);
	fprintf(stderr, "inputs: %s\n", run->phases[run->phase_count - 1].detail);
}

int run_inputs(struct run_prepare *p, struct error *err)
{
	const struct job_spec *spec = p->job->spec;
	struct inputs_line line = {.spec = spec, .run = p->job->run};
	const struct data_events events = {
		.progress = on_input, .notice = on_input_notice, .data = &line};
	enum data_failure failure = DATA_FAILED;
	size_t failed = 0;
	bool any = false;
	for (size_t i = 0; i < spec->input_count; i++)
		any = any || needs_preparing(&spec->inputs[i]);
	if (!any)
		return 0;
	line.done = arena_array(&p->arena, uint64_t, spec->input_count);
	line.total = arena_array(&p->arena, uint64_t, spec->input_count);
	if (run_enter(p->job->run, RUN_PREPARING, "inputs", err) < 0)
		return -1;
	struct data_ready *ready;
	enum layer_format format;
	if (command_layer_format(p->command, NULL, &format, err) < 0)
		return -1;
	const struct data_options o = {
		.store = p->command->store,
		.policy = &p->command->config.data,
		.registries = &p->command->config.registries,
		.layer_format = format,
		.sources = spec->inputs,
		.count = spec->input_count,
		.secret = secret_of,
		.events = &events,
		.data = (void *)spec,
		.canceled = &p->canceled,
	};
	phase_line_init(&line.line, "inputs");
	if (line.line.terminal)
		begin_line(&line);
	int rc = data_prepare(&o, &p->arena, &ready, &failed, &failure, err);
	phase_line_end(&line.line);
	if (rc < 0) {
		p->cause = cause_of_data(failure, err);
		return -1;
	}
	explain_inputs(p->job->run, spec, ready);
	p->job->ready = ready;
	return 0;
}

int run_inputs_attach(
	struct command *c, const struct job *job, struct data_mounts **inputs, struct error *err)
{
	const struct job_spec *spec = job->spec;
	enum data_failure failure = DATA_FAILED;
	size_t failed;
	const struct data_options o = {
		.store = c->store,
		.policy = &c->config.data,
		.sources = spec->inputs,
		.count = spec->input_count,
		.secret = secret_of,
		.data = (void *)spec,
	};
	*inputs = NULL;
	if (!spec->input_count)
		return 0;
	cleanup_fd int run_fd = run_folder_make(c->store, job->run->id, err);
	cleanup_fd int fd = run_fd < 0 ? -1 : directory_ensure(run_fd, "inputs", 0755, err);
	if (fd < 0)
		return -1;
	*inputs = data_attach(&o, job->ready, fd, &failed, &failure, err);
	return *inputs ? 0 : -1;
}

void run_inputs_detach(struct command *c, const struct job *job, struct data_mounts *inputs)
{
	enum data_failure failure;
	struct error ignored;
	size_t failed;
	data_detach(inputs, 0, &failed, &failure, &ignored);
	if (job->spec->input_count)
		run_folder_remove(c->store, job->run->id);
}
