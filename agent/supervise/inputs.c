// SPDX-License-Identifier: Apache-2.0
//
// A job's inputs as long as it runs: attached before the sandbox, watched, and let go of after it.
#include "agent/supervise/supervisor_internal.h"
#include "agent/supervise/waiting.h"
#include "base/file.h"
#include "base/text.h"
#include "base/time.h"

#include <unistd.h>

enum { LOOK_MS = 5000 };

static const char *secret_of(void *data, const char *name)
{
	const struct job_spec *spec = data;
	for (size_t i = 0; i < spec->secret_count; i++)
		if (streq(spec->secrets[i].name, name))
			return spec->secrets[i].value;
	return NULL;
}

// What helpers of mounts say: a log of the run, made with its first line.
static void on_line(void *data, const char *text)
{
	struct supervisor *s = data;
	char time[TIME_TEXT_SIZE];
	struct error ignored;
	cleanup_fd int folder = directory_ensure(s->run->fd, "system_logs", 0755, &ignored);
	cleanup_fd int fd =
		folder < 0 ? -1
			   : openat(folder, "inputs.log",
				     O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0644);
	cleanup_free char *line = xasprintf("%s %s\n", format_time(wall_ms(), time), text);
	if (fd >= 0)
		write_all(fd, line, strlen(line), "inputs.log", &ignored);
}

int supervisor_inputs_open(struct supervisor *s, struct error *err)
{
	const struct job_spec *spec = &s->request.spec;
	const struct data_options o = {
		.store = s->store,
		.policy = &s->request.settings.data,
		.sources = spec->inputs,
		.count = spec->input_count,
		.secret = secret_of,
		.data = (void *)spec,
		.log = on_line,
		.log_data = s,
	};
	enum data_failure failure = DATA_FAILED;
	size_t failed;
	if (!spec->input_count)
		return 0;
	s->inputs_fd = directory_ensure(s->folder_fd, "inputs", 0755, err);
	if (s->inputs_fd < 0)
		return -1;
	s->inputs = data_attach(&o, s->request.ready, s->inputs_fd, &failed, &failure, err);
	if (s->inputs)
		return 0;
	s->trouble = cause_of_data(failure, err);
	return -1;
}

// A wait that the abort did not end ends with the process: what it waits for has no limit.
static void on_look(void *data)
{
	struct supervisor *s = data;
	if (!data_mounts_may_hang(s->inputs))
		s->waits->count = 0;
	else if (s->ending.container && waiting_look(s->waits, s->sandbox.cgroup))
		ending_kill(&s->ending, STOP_NONE, NULL);
	loop_timer_set(s->look, LOOK_MS);
}

static void look_for_waits(struct supervisor *s)
{
	struct error ignored;
	if (s->look || !data_mounts_may_hang(s->inputs))
		return;
	s->waits = xcalloc(1, sizeof(*s->waits));
	s->look = loop_add_timer(s->loop, LOOK_MS, on_look, s, &ignored);
}

// The script gets errors from there and decides itself; what is written down is why.
static void on_died(void *data, size_t index, enum data_failure failure, const char *text)
{
	struct supervisor *s = data;
	const char *name = s->request.spec.inputs[index].name;
	struct error ignored;
	buffer_printf(&s->sandbox.warnings, "input %s: %s (%s)\n", name, text,
		data_failure_name(failure));
	s->run->warnings = s->sandbox.warnings.data;
	run_enter(s->run, s->run->state, NULL, &ignored);
	look_for_waits(s);
	if (s->lost.code)
		return;
	error_set(&ignored, ERROR_UNAVAILABLE, "input %s: %s", name, text);
	s->lost = cause_of_data(failure, &ignored);
}

void supervisor_inputs_let_go(void *data)
{
	struct supervisor *s = data;
	if (s->inputs)
		data_mounts_abort(s->inputs);
}

int supervisor_inputs_watch(struct supervisor *s, struct error *err)
{
	return s->inputs ? data_mounts_watch(s->inputs, s->loop, on_died, s, err) : 0;
}

void supervisor_inputs_close(struct supervisor *s)
{
	enum data_failure failure = DATA_FAILED;
	struct error err = {0};
	size_t failed = 0;
	loop_remove(s->look);
	s->look = NULL;
	free(s->waits);
	s->waits = NULL;
	s->lost = (struct cause){0};
	uint64_t flush_ms = s->request.settings.data.flush_ms;
	if (s->inputs && data_detach(s->inputs, flush_ms, &failed, &failure, &err) < 0) {
		buffer_printf(&s->warnings, "%s (%s)\n", err.text, data_failure_name(failure));
		// What the script wrote has not arrived: it has not done its work.
		if (s->end.state == RUN_COMPLETED) {
			s->end = (struct end){RUN_FAILED, cause_of_data(failure, &err), 1};
			s->run->outcome = s->end.state;
			s->run->cause = s->end.cause;
			s->run->exit_status = s->end.exit_status;
		}
	}
	s->inputs = NULL;
	close_fdp(&s->inputs_fd);
	s->inputs_fd = -1;
}
