// SPDX-License-Identifier: Apache-2.0
#include "agent/supervise/output.h"
#include "base/file.h"
#include "base/message.h"
#include "base/trim.h"

#include <unistd.h>

struct writer {
	struct loop *loop;
	struct loop_source *source; // NULL: the pipe is at its end
	struct redact *redact;
	struct journal *journal;
	struct journal_counts *counts;
	int pipe_fd, news_fd;
	bool failed; // and told
};

static int learn_secrets(struct writer *w, const struct job_spec *spec, struct error *err)
{
	if (!spec->secret_count)
		return 0;
	cleanup_free struct redact_secret *secrets = xcalloc(spec->secret_count, sizeof(*secrets));
	for (size_t i = 0; i < spec->secret_count; i++)
		secrets[i] = (struct redact_secret){
			spec->secrets[i].name, spec->secrets[i].value, spec->secrets[i].size};
	w->redact = redact_new(secrets, spec->secret_count, err);
	return w->redact ? 0 : -1;
}

static void tell(struct writer *w, const struct error *err)
{
	struct error ignored; // nobody is there any more
	w->failed = w->failed || err->kind != ERROR_NONE;
	message_send(w->news_fd, err, sizeof(*err), NULL, 0, &ignored);
}

static void count(struct writer *w)
{
	struct journal_counts now = journal_counts(w->journal);
	__atomic_store_n(&w->counts->size, now.size, __ATOMIC_RELAXED);
	__atomic_store_n(&w->counts->dropped, now.dropped, __ATOMIC_RELAXED);
}

// Returns false when nothing is left (for now, or for ever).
static bool read_pipe(struct writer *w)
{
	struct error err = {0};
	int rc = journal_read_from(w->journal, w->pipe_fd, &err);
	count(w);
	if (rc < 0 && !w->failed)
		tell(w, &err);
	if (rc == JOURNAL_END) {
		loop_remove(w->source);
		w->source = NULL;
	}
	// After an error too: the script is not held up while it is stopped.
	return rc == JOURNAL_MORE || rc < 0;
}

static void on_pipe(void *data, uint32_t events)
{
	(void)events;
	read_pipe(data);
}

static void on_asked(void *data, uint32_t events)
{
	struct writer *w = data;
	(void)events;
	loop_quit(w->loop, 0);
}

static int open_all(struct writer *w, const struct output_options *o, struct error *err)
{
	if (learn_secrets(w, o->spec, err) < 0)
		return -1;
	const struct journal_options journal = {
		.limit = o->limit,
		.keep_free = o->keep_free,
		.redact = w->redact,
	};
	if (journal_open(o->dirfd, &journal, &w->journal, err) < 0)
		return -1;
	close(o->dirfd);
	count(w);
	w->loop = loop_new(err);
	if (!w->loop || !loop_add_fd(w->loop, w->news_fd, EPOLLIN, on_asked, w, err))
		return -1;
	w->source = loop_add_fd(w->loop, w->pipe_fd, EPOLLIN, on_pipe, w, err);
	return w->source ? 0 : -1;
}

_Noreturn void output_write(
	const struct output_options *o, int pipe_fd, int news_fd, struct journal_counts *counts)
{
	struct writer w = {.counts = counts, .pipe_fd = pipe_fd, .news_fd = news_fd};
	struct error err = {0};
	// The pipe's writing end, leases, the client's connection: nothing may outlive the
	// supervisor in here, nor keep the pipe from its end.
	int kept[] = {pipe_fd, news_fd, o->dirfd};
	keep_only_fds(kept, array_size(kept));
	int rc = open_all(&w, o, &err);
	tell(&w, &err);
	if (rc < 0)
		_exit(1);
	memory_trim();
	if (o->settle)
		o->settle(o->data);
	if (loop_run(w.loop, &err) < 0)
		tell(&w, &err);
	while (w.source && read_pipe(&w))
		;
	if (journal_finish(w.journal, &err) < 0 && !w.failed)
		tell(&w, &err);
	count(&w);
	journal_close(w.journal);
	_exit(0);
}
