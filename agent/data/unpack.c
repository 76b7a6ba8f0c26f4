// SPDX-License-Identifier: Apache-2.0
#include "agent/data/unpack.h"

#include "agent/data/unpack_protocol.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/message.h"
#include "base/process.h"
#include "base/text.h"
#include "base/time.h"

#include <poll.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { TICK_MS = 100, HEAD = 512 };

static bool has_ending(const char *name)
{
	static const char *const endings[] = {".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst",
		".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".tbz", ".zip"};
	size_t n = strlen(name);
	for (size_t i = 0; i < array_size(endings); i++) {
		size_t size = strlen(endings[i]);
		if (n > size && strcasecmp(name + n - size, endings[i]) == 0)
			return true;
	}
	return false;
}

// Both have to say so: a model in a ".pt" is a zip file that nobody wants unpacked, and a ".zip"
// that is an error page in HTML is better seen as it came.
bool unpack_is_archive(const char *name, int fd)
{
	static const struct {
		const char *magic;
		size_t at, size;
	} heads[] = {{"ustar", 257, 5}, {"\x1f\x8b", 0, 2}, {"\x28\xb5\x2f\xfd", 0, 4},
		{"\xfd"
		 "7zXZ",
			0, 5},
		{"BZh", 0, 3}, {"PK\3\4", 0, 4}, {"PK\5\6", 0, 4}};
	char head[HEAD] = {0};
	if (!has_ending(name) || pread(fd, head, sizeof(head), 0) < 0)
		return false;
	for (size_t i = 0; i < array_size(heads); i++)
		if (memcmp(head + heads[i].at, heads[i].magic, heads[i].size) == 0)
			return true;
	return false;
}

static int start(const struct unpack_options *o, struct process *p, struct error *err)
{
	int pair[2];
	if (message_pair(pair, err) < 0)
		return -1;
	cleanup_fd int ours = pair[0], theirs = pair[1];
	const struct process_options options = {
		.argv = (const char *const[]){"stoker", "unpack", NULL},
		.envp = (const char *const[]){NULL},
		.fds = &(struct process_fd){theirs, UNPACK_SOCKET},
		.fd_count = 1,
		.keep_stderr = true,
		.die_with_parent = true,
	};
	const struct unpack_order order = {.format = o->format,
		.max_bytes = o->max_bytes,
		.keep_free_bytes = o->keep_free_bytes};
	if (process_start(&options, p, err) < 0 ||
		message_send(ours, &order, sizeof(order),
			(const int[]){o->archive_fd, o->folder_fd}, 2, err) < 0)
		return -1;
	return steal_fd(&ours);
}

// The end of the helper without a word: of what?
static int ended(struct process *p, struct error *err)
{
	char text[64];
	int status;
	if (process_wait(p, &status, err) < 0)
		return -1;
	return error_set(err, ERROR_INVALID,
		"the process that unpacks it %s: the archive is damaged, or made to do harm",
		process_describe_status(status, text));
}

static int take_reply(const struct unpack_reply *r, uint64_t *bytes, enum data_failure *failure,
	struct error *err)
{
	struct error said = r->error;
	said.text[sizeof(said.text) - 1] = '\0';
	*bytes = r->bytes;
	if (r->failure == DATA_OK)
		return 0;
	*failure = r->failure < DATA_FAILURES ? (enum data_failure)r->failure : DATA_FAILED;
	return error_set(err,
		said.kind > ERROR_NONE && said.kind <= ERROR_SYSTEM ? said.kind : ERROR_INVALID,
		"%s", said.text);
}

static int receive(const struct unpack_options *o, int socket, struct process *p, uint64_t *bytes,
	enum data_failure *failure, struct error *err)
{
	for (;;) {
		struct unpack_reply r;
		struct pollfd readable = {.fd = socket, .events = POLLIN};
		if (poll(&readable, 1, TICK_MS) < 0 && errno != EINTR)
			return error_set_errno(err, errno, "poll");
		ssize_t n = message_receive(socket, &r, sizeof(r), NULL, 0, true, err);
		if (n == 0) {
			*failure = DATA_ARCHIVE;
			return ended(p, err);
		}
		if (n == -1)
			return -1;
		if (n > 0 && n != sizeof(r))
			return error_set(err, ERROR_SYSTEM, "the unpacker sent nonsense");
		if (n > 0 && r.done)
			return take_reply(&r, bytes, failure, err);
		*bytes = n > 0 ? r.bytes : *bytes;
		if (o->progress && o->progress(o->data, *bytes))
			return error_set(err, ERROR_UNAVAILABLE, "canceled");
		if (now_ms() >= o->deadline) {
			*failure = DATA_TIMEOUT;
			return error_set(err, ERROR_LIMIT, "not unpacked in time");
		}
	}
}

int unpack(const struct unpack_options *o, uint64_t *bytes, enum data_failure *failure,
	struct error *err)
{
	cleanup_process struct process process = {.pidfd = -1};
	*failure = DATA_FAILED;
	*bytes = 0;
	cleanup_fd int socket = start(o, &process, err);
	return socket < 0 ? -1 : receive(o, socket, &process, bytes, failure, err);
}
