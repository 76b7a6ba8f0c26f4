// SPDX-License-Identifier: Apache-2.0
#include "agent/supervise/output.h"

#include "base/file.h"

#include <unistd.h>

static int learn_secrets(struct output *o, const struct job_spec *spec, struct error *err)
{
	if (!spec->secret_count)
		return 0;
	cleanup_free struct redact_secret *secrets = xcalloc(spec->secret_count, sizeof(*secrets));
	for (size_t i = 0; i < spec->secret_count; i++)
		secrets[i] = (struct redact_secret){
			spec->secrets[i].name, spec->secrets[i].value, spec->secrets[i].size};
	o->redact = redact_new(secrets, spec->secret_count, err);
	return o->redact ? 0 : -1;
}

int output_open(
	struct output *o, const struct output_options *options, int pipe_fd, struct error *err)
{
	*o = (struct output){.pipe_fd = pipe_fd};
	if (learn_secrets(o, options->spec, err) < 0)
		return -1;
	const struct journal_options journal = {
		.limit = options->limit,
		.keep_free = options->keep_free,
		.redact = o->redact,
	};
	return journal_open(options->dirfd, &journal, &o->journal, err);
}

static void end_of_pipe(struct output *o)
{
	loop_remove(o->source);
	o->source = NULL;
	close_fdp(&o->pipe_fd);
	o->pipe_fd = -1;
}

// Returns false when nothing is left (for now, or for ever).
static bool read_pipe(struct output *o)
{
	struct error err = {0};
	int rc = journal_read_from(o->journal, o->pipe_fd, &err);
	if (rc < 0 && o->error.kind == ERROR_NONE) {
		o->error = err;
		if (o->failed)
			o->failed(o->data);
	}
	if (rc == JOURNAL_END)
		end_of_pipe(o);
	// After an error too: the script is not held up while it is stopped.
	return rc == JOURNAL_MORE || rc < 0;
}

// One piece a turn, so that others get theirs however much the script prints.
static void on_pipe(void *data, uint32_t events)
{
	(void)events;
	read_pipe(data);
}

int output_watch(struct output *o, struct loop *loop, struct error *err)
{
	o->source = loop_add_fd(loop, o->pipe_fd, EPOLLIN, on_pipe, o, err);
	return o->source ? 0 : -1;
}

int output_drain(struct output *o, struct error *err)
{
	while (o->pipe_fd >= 0 && read_pipe(o))
		;
	if (o->pipe_fd >= 0)
		end_of_pipe(o);
	struct error second = {0};
	int rc = journal_finish(o->journal, &second);
	if (o->error.kind == ERROR_NONE && rc == 0)
		return 0;
	*err = o->error.kind != ERROR_NONE ? o->error : second;
	return -1;
}

struct journal_counts output_counts(const struct output *o)
{
	return o->journal ? journal_counts(o->journal) : (struct journal_counts){0};
}

void output_close(struct output *o)
{
	loop_remove(o->source);
	journal_close(o->journal);
	redact_free(o->redact);
	if (o->pipe_fd > 0)
		close(o->pipe_fd);
	*o = (struct output){.pipe_fd = -1};
}
