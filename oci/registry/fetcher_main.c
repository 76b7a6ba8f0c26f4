// SPDX-License-Identifier: Apache-2.0
//
// The fetcher process: commands from the socket, work by registry_client and downloads, replies.
#include "base/file.h"
#include "base/message.h"
#include "base/sha256.h"
#include "base/text.h"
#include "oci/registry/confine.h"
#include "oci/registry/document.h"
#include "oci/registry/download.h"
#include "oci/registry/fetcher.h"
#include "oci/registry/link.h"
#include "oci/registry/protocol.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

enum { DOCUMENT_BYTES_MAX = 16 * 1024 * 1024 };

struct server {
	struct arena arena;
	struct registry_settings settings;
	struct registry_client client;
	struct downloads downloads;
	bool over; // the coordinator has closed its end
};

// One document under way.
struct order {
	struct server *server;
	uint32_t id;
};

static void copy_text(char *to, size_t size, const char *from)
{
	size_t n = strnlen(from, size - 1);
	memcpy(to, from, n);
	memset(to + n, 0, size - n);
}

// A coordinator that is gone needs no answer.
static void reply(struct server *s, struct fetcher_reply *r, size_t size, int fd)
{
	struct error err;
	r->received = s->client.http.received;
	if (message_send(FETCHER_SOCKET, r, size, &fd, fd >= 0, &err) < 0)
		s->over = true;
}

static void reply_error(struct server *s, uint32_t id, const struct error *err)
{
	struct fetcher_reply r = {.verb = FETCHER_DONE, .id = id, .error = *err};
	reply(s, &r, sizeof(r), -1);
}

static int body_file(const struct buffer *body, struct error *err)
{
	cleanup_fd int fd = memfd_create("document", MFD_CLOEXEC);
	if (fd < 0)
		return error_set_errno(err, errno, "memfd_create");
	if (body->size && write_all(fd, body->data, body->size, "document", err) < 0)
		return -1;
	return steal_fd(&fd);
}

static void on_document(void *data, const struct buffer *body, const struct oci_digest *digest,
	const char *media_type, const struct error *failed)
{
	cleanup_free struct order *o = data;
	struct error err = {0};
	if (failed) {
		reply_error(o->server, o->id, failed);
		return;
	}
	cleanup_fd int fd = body_file(body, &err);
	if (fd < 0) {
		reply_error(o->server, o->id, &err);
		return;
	}
	struct fetcher_reply r = {.verb = FETCHER_DONE, .id = o->id, .digest = *digest};
	copy_text(r.media_type, sizeof(r.media_type), media_type);
	reply(o->server, &r, sizeof(r), fd);
}

// Progress that the coordinator has no time for is left out: the next one says more.
static void on_progress(void *data, uint32_t id, uint64_t contiguous, uint64_t fetched)
{
	struct pollfd room = {.fd = FETCHER_SOCKET, .events = POLLOUT};
	if (poll(&room, 1, 0) != 1)
		return;
	struct fetcher_reply r = {
		.verb = FETCHER_PROGRESS, .id = id, .contiguous = contiguous, .fetched = fetched};
	reply(data, &r, offsetof(struct fetcher_reply, error), -1);
}

static void on_notice(void *data, uint32_t id, const char *text)
{
	struct fetcher_reply r = {.verb = FETCHER_NOTICE, .id = id};
	copy_text(r.error.text, sizeof(r.error.text), text);
	reply(data, &r, sizeof(r), -1);
}

static void on_blob(void *data, uint32_t id, const struct error *err)
{
	reply_error(data, id, err ? err : &(struct error){0});
}

static const struct download_events download_events = {on_progress, on_notice, on_blob};

static void start_document(struct server *s, const struct fetcher_command *c)
{
	enum document_kind kind = c->verb == FETCHER_MANIFEST	     ? DOCUMENT_MANIFEST
				  : c->verb == FETCHER_MANIFEST_HEAD ? DOCUMENT_MANIFEST_HEAD
								     : DOCUMENT_BLOB;
	struct order *o = xcalloc(1, sizeof(*o));
	*o = (struct order){.server = s, .id = c->id};
	size_t limit = c->size < DOCUMENT_BYTES_MAX ? (size_t)c->size : DOCUMENT_BYTES_MAX;
	document_start(&s->client, kind, c->target, limit, on_document, o);
}

static void start_blob(struct server *s, const struct fetcher_command *c, int fds[2])
{
	struct oci_digest digest;
	struct error err = {0};
	if (oci_digest_parse(c->target, &digest, &err) < 0) {
		reply_error(s, c->id, &err);
		return;
	}
	if (download_start(&s->downloads, c->id, &digest, c->size, steal_fd(&fds[0]),
		    steal_fd(&fds[1]), &download_events, s, &err) < 0)
		reply_error(s, c->id, &err);
}

// True if there was a command.
static bool take_command(struct server *s)
{
	struct fetcher_command c;
	int fds[2];
	struct error err = {0};
	ssize_t n = message_receive(FETCHER_SOCKET, &c, sizeof(c), fds, 2, true, &err);
	if (n == -2)
		return false;
	cleanup_fd int file = n < 0 ? -1 : fds[0], map = n < 0 ? -1 : fds[1];
	if (n != sizeof(c) || c.target[sizeof(c.target) - 1]) {
		s->over = true;
		return false;
	}
	if (c.verb == FETCHER_BLOB) {
		int given[2] = {steal_fd(&file), steal_fd(&map)};
		start_blob(s, &c, given);
		close_fdp(&given[0]);
		close_fdp(&given[1]);
	} else if (c.verb == FETCHER_CANCEL) {
		download_cancel(&s->downloads, c.id);
	} else {
		start_document(s, &c);
	}
	return true;
}

static int wait_time(const struct server *s)
{
	int64_t a = registry_client_deadline(&s->client), b = downloads_deadline(&s->downloads);
	int64_t first = a < b ? a : b, now = s->client.http.now;
	if (first <= now)
		return 0;
	return first - now > 60 * 1000 ? 60 * 1000 : (int)(first - now);
}

static int serve(struct server *s, struct error *err)
{
	while (!s->over) {
		while (take_command(s))
			;
		if (registry_client_turn(&s->client, err) < 0)
			return -1;
		downloads_turn(&s->downloads);
		struct curl_waitfd socket = {.fd = FETCHER_SOCKET, .events = CURL_WAIT_POLLIN};
		CURLMcode code = s->client.http.curl->multi_poll(
			s->client.http.multi, &socket, 1, wait_time(s), NULL);
		if (code != CURLM_OK)
			return error_set(err, ERROR_SYSTEM, "libcurl: %s",
				s->client.http.curl->multi_strerror(code));
	}
	return 0;
}

// Loading libraries comes before the confinement: curl opens 40 of them.
static int start(struct server *s, struct error *err)
{
	if (registry_link_receive(&s->arena, &s->settings, err) < 0 ||
		registry_client_open(&s->client, &s->settings, err) < 0)
		return -1;
	downloads_init(&s->downloads, &s->client);
	sha256_prepare();
	return fetcher_confine(err);
}

int fetcher_main(void)
{
	struct server s = {0};
	struct error err = {0};
	signal(SIGPIPE, SIG_IGN); // older TLS code of libcurl writes without MSG_NOSIGNAL
	int status = start(&s, &err) < 0 || serve(&s, &err) < 0 ? 1 : 0;
	if (status) {
		// Id 0: of no request, why there will be no answers.
		if (s.settings.path)
			reply_error(&s, 0, &err);
		else
			fprintf(stderr, "stoker fetcher: %s\n", err.text);
	}
	if (s.downloads.client)
		downloads_release(&s.downloads);
	if (s.client.settings)
		registry_client_close(&s.client);
	arena_release(&s.arena);
	// Not exit(): the leak checker of a sanitized build would want ptrace, which is refused by
	// now.
	fflush(stderr);
	_exit(status);
}
