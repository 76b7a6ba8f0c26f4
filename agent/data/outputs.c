// SPDX-License-Identifier: Apache-2.0
//
// The side of who starts the synchroniser.
#include "agent/data/outputs.h"

#include "agent/data/outputs_protocol.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/message.h"

#include <poll.h>
#include <string.h>
#include <unistd.h>

static int make_request(
	const struct outputs_options *o, struct outputs_request *r, struct error *err)
{
	size_t id = strlen(o->run_id), destination = strlen(o->destination);
	memset(r, 0, sizeof(*r));
	if (destination >= sizeof(r->destination) || o->destination[0] != '/')
		return error_set(err, ERROR_INVALID,
			"the outputs' destination %s: an absolute path is needed", o->destination);
	if (id >= sizeof(r->run_id) || !id || strchr(o->run_id, '/') || o->run_id[0] == '.')
		return error_set(err, ERROR_INVALID, "%s is no run id", o->run_id);
	memcpy(r->run_id, o->run_id, id);
	memcpy(r->destination, o->destination, destination);
	r->interval_ms = o->policy->interval_ms;
	r->limit_ms = o->policy->limit_ms;
	r->max_bytes = o->policy->max_bytes;
	r->max_files = o->policy->max_files;
	r->attempt = o->attempt;
	r->once = o->once;
	return 0;
}

int outputs_start(const struct outputs_options *o, struct outputs_link *link, struct error *err)
{
	cleanup_free struct outputs_request *request = xmalloc(sizeof(*request));
	int pair[2];
	*link = (struct outputs_link){.process.pidfd = -1, .fd = -1};
	if (make_request(o, request, err) < 0 || message_pair(pair, err) < 0)
		return -1;
	cleanup_fd int ours = pair[0], theirs = pair[1];
	// What ps(1) shows. In a session of its own: it ends its round when the terminal's user has
	// pressed ^C.
	const char *const argv[] = {"stoker:", "outputs", o->run_id, NULL};
	const struct process_fd fds[] = {{theirs, OUTPUTS_SOCKET}};
	const struct process_options options = {
		.argv = argv, .fds = fds, .fd_count = 1, .new_session = true};
	if (process_start(&options, &link->process, err) < 0)
		return error_context(err, "start the synchroniser");
	if (message_send(ours, request, sizeof(*request), &o->run_fd, 1, err) < 0) {
		process_release(&link->process);
		return error_context(err, "start the synchroniser");
	}
	link->fd = steal_fd(&ours);
	return 0;
}

int outputs_finish(struct outputs_link *link, struct error *err)
{
	return message_send(
		link->fd, outputs_word_finish, sizeof(outputs_word_finish), NULL, 0, err);
}

int outputs_receive(struct outputs_link *link, bool nonblocking, struct outputs_status *status,
	struct error *err)
{
	struct outputs_status read;
	ssize_t n = message_receive(link->fd, &read, sizeof(read), NULL, 0, nonblocking, err);
	if (n <= 0)
		return (int)n;
	if (n != sizeof(read) || read.state > OUTPUTS_FAILED ||
		!memchr(read.message, '\0', sizeof(read.message)))
		return error_set(err, ERROR_SYSTEM, "the synchroniser sent no status");
	*status = read;
	return 1;
}

void outputs_link_release(struct outputs_link *link)
{
	if (link->process.pid > 0) {
		close_fdp(&link->fd);
		close_fdp(&link->process.pidfd);
	}
	*link = (struct outputs_link){.process.pidfd = -1, .fd = -1};
}
