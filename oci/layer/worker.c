// SPDX-License-Identifier: Apache-2.0
//
// The agent's side of a layer worker. The worker parses what nobody vouches for and may be in a
// stranger's hands: nothing it says is used as a size, an index or a string before it is checked
// here, and an end without a result is an error like any other.
#include "oci/layer/worker.h"

#include "base/file.h"
#include "base/message.h"
#include "base/process.h"
#include "oci/layer/worker_protocol.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

// Below this, news of more bytes wait for company: each costs two system calls and a switch.
enum { FEED_STEP = 128 * 1024, LINGER_MS = 500 };

struct layer_worker {
	struct loop *loop;
	struct layer_worker_events events;
	void *data;
	struct layer_worker_options
		options; // descriptors are not ours: not used after start, but output_fd
	int output_fd;
	struct process process;
	int socket;
	struct loop_source *socket_source, *process_source, *linger;
	uint64_t contiguous, sent; // of the blob: known to us, told to the worker
	uint64_t consumed, produced;
	bool watching_output; // the socket was full
	bool done;
};

static void stop_watching(struct layer_worker *w)
{
	loop_remove(w->socket_source);
	loop_remove(w->process_source);
	loop_remove(w->linger);
	w->socket_source = w->process_source = w->linger = NULL;
}

// The one call of done(), which may free the worker: nothing may follow.
static void finish(
	struct layer_worker *w, const struct layer_result *result, const struct error *err)
{
	if (w->done)
		return;
	w->done = true;
	stop_watching(w);
	w->events.done(w->data, result, err);
}

static void fail(struct layer_worker *w, const struct error *err)
{
	finish(w, NULL, err);
}

static void refuse(struct layer_worker *w, const char *what)
{
	struct error err;
	error_set(&err, ERROR_SYSTEM, "layer%s%s: the layer worker sent %s",
		w->options.stream ? "" : " ", w->options.blob_digest.text, what);
	fail(w, &err);
}

static bool terminated(const char *text, size_t size)
{
	return memchr(text, '\0', size) != NULL;
}

static void take_progress(struct layer_worker *w, const struct worker_message *m)
{
	uint64_t consumed = m->progress.consumed, produced = m->progress.produced;
	// Numbers for a display; false ones are made plausible.
	if (!w->options.stream && consumed > w->options.blob_size)
		consumed = w->options.blob_size;
	if (produced > w->options.limits.bytes)
		produced = w->options.limits.bytes;
	if (consumed > w->consumed)
		w->consumed = consumed;
	if (produced > w->produced)
		w->produced = produced;
	if (w->events.progress)
		w->events.progress(w->data, w->consumed, w->produced);
}

static bool result_plausible(const struct layer_worker *w, const struct layer_result *r)
{
	const struct oci_digest *promised = &w->options.diff_id;
	struct oci_digest digest;
	struct error ignored;
	struct stat st;
	if (!terminated(r->diff_id.text, sizeof(r->diff_id.text)) ||
		oci_digest_parse(r->diff_id.text, &digest, &ignored) < 0)
		return false;
	if (promised->text[0] && !oci_digest_equal(promised, &digest))
		return false;
	if (r->uncompressed > w->options.limits.bytes || r->entries > w->options.limits.entries)
		return false;
	if (w->options.format != LAYER_EROFS)
		return r->image_size <= w->options.limits.bytes;
	return fstat(w->output_fd, &st) == 0 && (uint64_t)st.st_size == r->image_size;
}

static void take_result(struct layer_worker *w, const struct worker_message *m)
{
	struct layer_result result = m->result;
	if (!result_plausible(w, &result)) {
		refuse(w, "a result that cannot be true");
		return;
	}
	finish(w, &result, NULL);
}

static void take_failure(struct layer_worker *w, const struct worker_message *m)
{
	if (m->failure.kind <= ERROR_NONE || m->failure.kind > ERROR_SYSTEM ||
		!terminated(m->failure.text, sizeof(m->failure.text))) {
		refuse(w, "an error that is none");
		return;
	}
	struct error err;
	error_set(&err, m->failure.kind, "%s", m->failure.text); // flattens control characters
	err.sys = m->failure.sys;
	fail(w, &err);
}

static void take_message(struct layer_worker *w, const struct worker_message *m, size_t size)
{
	if (size != sizeof(*m)) {
		refuse(w, "a message of the wrong size");
		return;
	}
	switch (m->type) {
	case WORKER_PROGRESS:
		take_progress(w, m);
		break;
	case WORKER_RESULT:
		take_result(w, m);
		break;
	case WORKER_FAILURE:
		take_failure(w, m);
		break;
	default:
		refuse(w, "a message of an unknown type");
	}
}

static void send_feed(struct layer_worker *w)
{
	if (w->sent == w->contiguous || !w->socket_source)
		return;
	struct worker_message m;
	memset(&m, 0, sizeof(m));
	m.type = WORKER_FEED;
	m.feed.contiguous = w->contiguous;
	ssize_t n = send(w->socket, &m, sizeof(m), MSG_DONTWAIT | MSG_NOSIGNAL);
	struct error ignored;
	if (n >= 0)
		w->sent = w->contiguous;
	// The newest number goes out when there is room. Any other failure is the worker's end,
	// which arrives as an event with its reason.
	bool wait = n < 0 && errno == EAGAIN;
	if (wait == w->watching_output)
		return;
	w->watching_output = wait;
	loop_modify_fd(w->socket_source, wait ? EPOLLIN | EPOLLOUT : EPOLLIN, &ignored);
}

static void process_ended(void *data, uint32_t events)
{
	(void)events;
	struct layer_worker *w = data;
	struct error err;
	char text[64];
	int status;
	if (process_wait(&w->process, &status, &err) == 0)
		error_set(&err, ERROR_SYSTEM, "layer%s%s: the layer worker %s",
			w->options.stream ? "" : " ", w->options.blob_digest.text,
			process_describe_status(status, text));
	fail(w, &err);
}

static void lingered(void *data)
{
	struct layer_worker *w = data;
	process_release(&w->process);
	refuse(w, "nothing more, without ending");
}

// The socket has ended without a result. The exit status says why, once there is one; a worker that
// lives on is not waited for.
static void await_end(struct layer_worker *w)
{
	struct error err;
	loop_remove(w->socket_source);
	w->socket_source = NULL;
	if (w->process.pidfd >= 0)
		w->process_source =
			loop_add_fd(w->loop, w->process.pidfd, EPOLLIN, process_ended, w, &err);
	w->linger = loop_add_timer(w->loop, w->process_source ? LINGER_MS : 0, lingered, w, &err);
	if (!w->linger)
		fail(w, &err);
}

static void socket_ready(void *data, uint32_t events)
{
	struct layer_worker *w = data;
	if (events & EPOLLOUT)
		send_feed(w);
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return;
	struct worker_message m;
	struct error err;
	ssize_t n = message_receive(w->socket, &m, sizeof(m), NULL, 0, true, &err);
	if (n == -2)
		return;
	if (n == 0)
		await_end(w);
	else if (n < 0)
		fail(w, &err);
	else
		take_message(w, &m, (size_t)n);
}

static int start_process(struct layer_worker *w, int socket, struct error *err)
{
	static const char *const argv[] = {"stoker", "layer", NULL};
	static const char *const envp[] = {NULL};
	char name[32];
	snprintf(name, sizeof(name), "/proc/self/fd/%d", w->options.blob_fd);
	// The caller's may be open for writing, and the blob is still there for the next attempt
	// when a worker in a stranger's hands has ended.
	cleanup_fd int blob = open(name, O_RDONLY | O_CLOEXEC);
	if (blob < 0)
		return error_set_errno(err, errno, "open the blob for reading");
	const struct process_fd fds[] = {
		{socket, WORKER_SOCKET},
		{blob, WORKER_BLOB},
		{w->options.output_fd, WORKER_OUTPUT},
	};
	const struct process_options o = {
		.argv = argv,
		.envp = envp,
		.fds = fds,
		.fd_count = array_size(fds),
		.die_with_parent = true,
	};
	return process_start(&o, &w->process, err);
}

static int send_options(struct layer_worker *w, struct error *err)
{
	struct worker_message m;
	memset(&m, 0, sizeof(m)); // padding too: what follows reads foreign bytes
	m.type = WORKER_OPTIONS;
	m.options.format = w->options.format;
	m.options.stream = w->options.stream;
	m.options.blob_size = w->options.blob_size;
	m.options.blob_digest = w->options.blob_digest;
	m.options.diff_id = w->options.diff_id;
	m.options.limits = w->options.limits;
	return message_send(w->socket, &m, sizeof(m), NULL, 0, err);
}

struct layer_worker *layer_worker_start(struct loop *loop,
	const struct layer_worker_options *options, const struct layer_worker_events *events,
	void *data, struct error *err)
{
	cleanup_layer_worker struct layer_worker *w = xcalloc(1, sizeof(*w));
	w->loop = loop;
	w->events = *events;
	w->data = data;
	w->options = *options;
	if (options->stream)
		w->options.blob_digest = (struct oci_digest){0};
	w->process = (struct process){.pidfd = -1};
	w->socket = w->output_fd = -1;
	int pair[2];
	if (message_pair(pair, err) < 0)
		return NULL;
	w->socket = pair[0];
	cleanup_fd int theirs = pair[1];
	w->output_fd = fcntl(options->output_fd, F_DUPFD_CLOEXEC, 3);
	if (w->output_fd < 0) {
		error_set_errno(err, errno, "duplicate the layer's output");
		return NULL;
	}
	if (start_process(w, theirs, err) < 0 || send_options(w, err) < 0) {
		error_context(err, "start the layer worker");
		return NULL;
	}
	w->socket_source = loop_add_fd(loop, w->socket, EPOLLIN, socket_ready, w, err);
	if (!w->socket_source)
		return NULL;
	return steal(w);
}

void layer_worker_feed(struct layer_worker *w, uint64_t contiguous)
{
	if (contiguous > w->options.blob_size)
		contiguous = w->options.blob_size;
	if (contiguous <= w->contiguous)
		return;
	w->contiguous = contiguous;
	if (contiguous == w->options.blob_size || contiguous - w->sent >= FEED_STEP)
		send_feed(w);
}

void layer_worker_free(struct layer_worker *w)
{
	if (!w)
		return;
	stop_watching(w);
	process_release(&w->process);
	close_fdp(&w->socket);
	close_fdp(&w->output_fd);
	free(w);
}
