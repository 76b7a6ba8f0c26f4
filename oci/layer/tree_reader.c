// SPDX-License-Identifier: Apache-2.0
#include "oci/layer/tree_reader.h"

#include "base/file.h"
#include "base/message.h"
#include "oci/layer/tree_tar.h"
#include "oci/layer/worker_confine.h"

#include <malloc.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

enum { TREE_SOCKET = 3, TREE_FOLDER = 4, TREE_ARCHIVE = 5 };
enum { CHUNK = 512 * 1024, PIPE_BYTES = 1024 * 1024 };

// One packet to the process, one back; both ends are the same program.
struct tree_request {
	struct layer_limits limits;
};
struct tree_reply {
	struct error failure; // ERROR_NONE: the archive is whole
};

// ---- the caller's side

int tree_reader_start(
	int folder, const struct layer_limits *limits, struct tree_reader *r, struct error *err)
{
	static const char *const argv[] = {"stoker", "tree", NULL};
	static const char *const envp[] = {NULL};
	*r = (struct tree_reader){.archive_fd = -1, .socket = -1, .process = {.pidfd = -1}};
	int pair[2], ends[2];
	if (message_pair(pair, err) < 0)
		return -1;
	r->socket = pair[0];
	cleanup_fd int socket = pair[1];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_set_errno(err, errno, "make a pipe");
	r->archive_fd = ends[0];
	cleanup_fd int archive = ends[1];
	// Fewer switches between the two; a user over his share of pipes keeps the small one.
	fcntl(archive, F_SETPIPE_SZ, PIPE_BYTES);
	const struct process_fd fds[] = {
		{socket, TREE_SOCKET}, {folder, TREE_FOLDER}, {archive, TREE_ARCHIVE}};
	const struct process_options o = {
		.argv = argv,
		.envp = envp,
		.fds = fds,
		.fd_count = array_size(fds),
		.die_with_parent = true,
	};
	struct tree_request request = {.limits = *limits};
	if (process_start(&o, &r->process, err) < 0 ||
		message_send(r->socket, &request, sizeof(request), NULL, 0, err) < 0)
		return error_context(err, "start the reader of a tree");
	return 0;
}

static int take_reply(const struct tree_reply *reply, struct error *err)
{
	const struct error *e = &reply->failure;
	if (e->kind == ERROR_NONE)
		return 0;
	if (e->kind < ERROR_NONE || e->kind > ERROR_SYSTEM ||
		!memchr(e->text, '\0', sizeof(e->text)))
		return error_set(err, ERROR_SYSTEM, "the reader of the tree sent no error");
	error_set(err, e->kind, "%s", e->text); // flattens control characters
	err->sys = e->sys;
	return -1;
}

int tree_reader_finish(struct tree_reader *r, struct error *err)
{
	struct tree_reply reply;
	char text[64];
	int status;
	ssize_t n = message_receive(r->socket, &reply, sizeof(reply), NULL, 0, false, err);
	if (n < 0)
		return -1;
	if (n == sizeof(reply))
		return take_reply(&reply, err);
	if (n > 0)
		return error_set(err, ERROR_SYSTEM, "the reader of the tree sent %zd bytes", n);
	if (process_wait(&r->process, &status, err) < 0)
		return -1;
	return error_set(err, ERROR_SYSTEM, "the reader of the tree %s",
		process_describe_status(status, text));
}

void tree_reader_release(struct tree_reader *r)
{
	process_release(&r->process);
	close_fdp(&r->socket);
	close_fdp(&r->archive_fd);
	r->socket = r->archive_fd = -1;
}

// ---- the process

static int send_archive(struct tree_tar *t, char *chunk, struct error *err)
{
	for (;;) {
		ssize_t n = tree_tar_read(t, chunk, CHUNK, err);
		if (n <= 0)
			return (int)n;
		if (write_all(TREE_ARCHIVE, chunk, (size_t)n, "the archive", err) == 0)
			continue;
		if (err->sys == EPIPE)
			err->kind = ERROR_UNAVAILABLE;
		return -1;
	}
}

static int work(struct error *err)
{
	struct tree_request request;
	ssize_t n = message_receive(TREE_SOCKET, &request, sizeof(request), NULL, 0, false, err);
	if (n < 0)
		return -1;
	if (n != sizeof(request))
		return error_set(err, ERROR_SYSTEM, "reader of a tree: no request");
	mallopt(M_ARENA_MAX, 1);
	if (confine_memory(request.limits.metadata_bytes, err) < 0 ||
		confine_privileges(CONFINE_TREE, TREE_FOLDER, err) < 0 ||
		confine_system_calls(CONFINE_TREE, TREE_SOCKET, err) < 0)
		return error_context(err, "confine the reader of a tree");
	cleanup_free char *chunk = xmalloc(CHUNK);
	cleanup_tree_tar struct tree_tar *t = tree_tar_new(TREE_FOLDER, &request.limits);
	return send_archive(t, chunk, err);
}

int tree_reader_main(void)
{
	struct tree_reply reply;
	struct error err = {0}, ignored;
	memset(&reply, 0, sizeof(reply)); // padding too
	signal(SIGPIPE, SIG_IGN);
	int code = work(&err);
	if (code < 0)
		reply.failure = err;
	close(TREE_ARCHIVE);
	message_send(TREE_SOCKET, &reply, sizeof(reply), NULL, 0, &ignored);
	_exit(code == 0 ? 0 : 1);
}
