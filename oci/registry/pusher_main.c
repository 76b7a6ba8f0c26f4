// SPDX-License-Identifier: Apache-2.0
//
// The pusher process: one command, its requests, one reply.
#include "base/file.h"
#include "base/message.h"
#include "base/text.h"
#include "oci/registry/confine.h"
#include "oci/registry/link.h"
#include "oci/registry/pusher.h"
#include "oci/registry/pusher_protocol.h"
#include "oci/registry/request.h"
#include "oci/registry/upload.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct server {
	struct arena arena;
	struct registry_settings settings;
	struct registry_client client;
	bool busy; // with a command
	int64_t progress_at;
};

enum { PROGRESS_INTERVAL_MS = 100 };

// A coordinator that is gone needs no answer, nor us.
static void reply(const struct pusher_reply *r)
{
	struct error err;
	if (message_send(FETCHER_SOCKET, r, sizeof(*r), NULL, 0, &err) < 0)
		_exit(1);
}

static struct pusher_reply reply_of(enum pusher_verb verb)
{
	struct pusher_reply r;
	memset(&r, 0, sizeof(r)); // padding too
	r.verb = verb;
	return r;
}

static void end_command(struct server *s, bool present, const struct error *err)
{
	struct pusher_reply r = reply_of(PUSHER_DONE);
	r.present = present;
	if (err)
		r.error = *err;
	s->busy = false;
	reply(&r);
}

static void on_progress(void *data, uint64_t bytes)
{
	struct server *s = data;
	struct pollfd room = {.fd = FETCHER_SOCKET, .events = POLLOUT};
	if (s->client.http.now - s->progress_at < PROGRESS_INTERVAL_MS || poll(&room, 1, 0) != 1)
		return;
	s->progress_at = s->client.http.now;
	struct pusher_reply r = reply_of(PUSHER_PROGRESS);
	r.bytes = bytes;
	reply(&r);
}

static void on_notice(void *data, const char *text)
{
	(void)data;
	struct pusher_reply r = reply_of(PUSHER_NOTICE);
	error_set(&r.error, ERROR_NONE, "%s", text);
	reply(&r);
}

static void on_blob(void *data, bool present, const struct error *err)
{
	end_command(data, present, err);
}

static int on_begin(void *data, const struct response *p, struct error *err)
{
	(void)data, (void)p, (void)err;
	return 0;
}

static int on_body(void *data, const char *bytes, size_t size, struct error *err)
{
	(void)data, (void)bytes, (void)size, (void)err;
	return 0;
}

static void on_manifest(void *data, const struct error *err)
{
	end_command(data, !err, err);
}

static const struct upload_events blob_events = {on_progress, on_notice, on_blob};
static const struct request_events manifest_events = {
	on_begin, on_body, on_begin, on_notice, on_manifest};

static void start_manifest(struct server *s, const struct pusher_command *c, int fd)
{
	const struct transfer_upload body = {
		.fd = fd, .size = c->size, .content_type = c->media_type};
	cleanup_free char *resource = xasprintf("manifests/%s", c->target);
	const struct request_options o = {
		.method = TRANSFER_PUT, .resource = resource, .upload = &body};
	request_start(&s->client, &o, &manifest_events, s);
}

static void start_command(struct server *s, const struct pusher_command *c, int fd)
{
	struct error err;
	struct upload_options o = {
		.digest = c->digest, .size = c->size, .fd = fd, .from = *c->from ? c->from : NULL};
	s->busy = true;
	if (c->verb == PUSHER_MANIFEST && fd >= 0) {
		start_manifest(s, c, fd);
	} else if ((c->verb == PUSHER_BLOB) == (fd >= 0)) {
		upload_start(&s->client, &o, &blob_events, s);
	} else {
		error_set(&err, ERROR_SYSTEM, "the pusher got something unreadable");
		end_command(s, false, &err);
	}
}

static int wait_for_network(struct server *s, struct error *err)
{
	int64_t left = registry_client_deadline(&s->client) - s->client.http.now;
	CURLMcode code = s->client.http.curl->multi_poll(s->client.http.multi, NULL, 0,
		left <= 0	   ? 0
		: left > 60 * 1000 ? 60 * 1000
				   : (int)left,
		NULL);
	if (code != CURLM_OK)
		return error_set(err, ERROR_SYSTEM, "libcurl: %s",
			s->client.http.curl->multi_strerror(code));
	return 0;
}

static int serve(struct server *s, struct error *err)
{
	for (;;) {
		struct pusher_command c;
		cleanup_fd int fd = -1;
		ssize_t n = message_receive(FETCHER_SOCKET, &c, sizeof(c), &fd, 1, false, err);
		if (n <= 0)
			return (int)n;
		if (n != sizeof(c))
			return error_set(err, ERROR_SYSTEM, "a command of %zd bytes", n);
		// Deadlines of the command begin now.
		if (registry_client_turn(&s->client, err) < 0)
			return -1;
		start_command(s, &c, fd);
		while (s->busy) {
			if (registry_client_turn(&s->client, err) < 0)
				return -1;
			if (s->busy && wait_for_network(s, err) < 0)
				return -1;
		}
	}
}

// Loading libraries comes before the confinement.
static int start(struct server *s, struct error *err)
{
	if (registry_link_receive(&s->arena, &s->settings, err) < 0 ||
		registry_client_open(&s->client, &s->settings, err) < 0)
		return -1;
	s->client.states[0].auth.actions = "pull,push";
	return fetcher_confine(err);
}

int pusher_main(void)
{
	struct server s = {0};
	struct error err = {0};
	signal(SIGPIPE, SIG_IGN); // older TLS code of libcurl writes without MSG_NOSIGNAL
	int status = start(&s, &err) < 0 || serve(&s, &err) < 0;
	if (status && s.settings.path)
		end_command(&s, false, &err);
	else if (status)
		fprintf(stderr, "stoker pusher: %s\n", err.text);
	fflush(stderr);
	_exit(status);
}
