// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/pusher.h"

#include "base/file.h"
#include "base/message.h"
#include "base/process.h"
#include "oci/registry/link.h"
#include "oci/registry/pusher_protocol.h"
#include "oci/registry/settings.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LOOK_MS = 200 };

struct pusher {
	struct process process;
	int socket;
	const struct pusher_events *events;
};

struct pusher *pusher_start(const struct registry_config *config,
	const struct oci_reference *repository, const struct pusher_events *events,
	struct error *err)
{
	cleanup_arena struct arena arena = {0};
	struct registry_settings settings;
	if (registry_settings_make(&arena, config, repository, &settings, err) < 0)
		return NULL;
	// A mirror is for reading; the registry itself is the last endpoint.
	settings.endpoints += settings.endpoint_count - 1;
	settings.endpoint_count = 1;
	cleanup_pusher struct pusher *p = xcalloc(1, sizeof(*p));
	p->process.pidfd = -1;
	p->events = events;
	p->socket = registry_link_open("pusher", &settings, &p->process, err);
	return p->socket < 0 ? NULL : steal(p);
}

void pusher_free(struct pusher *p)
{
	if (!p)
		return;
	process_release(&p->process);
	close_fdp(&p->socket);
	free(p);
}

static int explain_end(struct pusher *p, struct error *err)
{
	char text[64];
	int status;
	if (process_wait(&p->process, &status, err) < 0)
		return -1;
	return error_set(err, ERROR_SYSTEM, "the pusher %s", process_describe_status(status, text));
}

// What it says is checked: it reads what strangers send.
static int take_done(const struct pusher_reply *r, struct error *err)
{
	if (r->error.kind == ERROR_NONE)
		return r->present;
	enum error_kind kind = r->error.kind;
	if (kind < ERROR_NONE || kind > ERROR_SYSTEM)
		kind = ERROR_SYSTEM;
	error_set(err, kind, "%s", r->error.text); // leaves no control characters
	err->sys = r->error.sys;
	return -1;
}

// 0 there is something to read, -1 canceled.
static int wait_for(struct pusher *p, struct error *err)
{
	struct pollfd fd = {.fd = p->socket, .events = POLLIN};
	while (p->events->canceled) {
		if (p->events->canceled(p->events->data, err))
			return -1;
		int n = poll(&fd, 1, LOOK_MS);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return error_set_errno(err, errno, "wait for the pusher");
	}
	return 0;
}

// Returns what a PUSHER_DONE says: 1 present, 0 not, -1.
static int call(struct pusher *p, const struct pusher_command *c, int fd, struct error *err)
{
	const struct pusher_events *e = p->events;
	if (message_send(p->socket, c, sizeof(*c), &fd, fd >= 0, err) < 0)
		return err->kind == ERROR_UNAVAILABLE ? explain_end(p, err) : -1;
	for (;;) {
		struct pusher_reply r;
		if (wait_for(p, err) < 0)
			return -1;
		ssize_t n = message_receive(p->socket, &r, sizeof(r), NULL, 0, false, err);
		if (n <= 0)
			return n == 0 ? explain_end(p, err) : -1;
		r.error.text[sizeof(r.error.text) - 1] = '\0';
		if (n != sizeof(r) || r.verb < PUSHER_PROGRESS || r.verb > PUSHER_DONE)
			return error_set(err, ERROR_SYSTEM, "the pusher sent something unreadable");
		if (r.verb == PUSHER_DONE)
			return take_done(&r, err);
		if (r.verb == PUSHER_PROGRESS && e->progress)
			e->progress(e->data, r.bytes < c->size ? r.bytes : c->size);
		if (r.verb == PUSHER_NOTICE && e->notice) {
			struct error line;
			error_set(&line, ERROR_NONE, "%s", r.error.text);
			e->notice(e->data, line.text);
		}
	}
}

int pusher_find(
	struct pusher *p, const struct oci_digest *digest, const char *from, struct error *err)
{
	struct pusher_command c = {.verb = PUSHER_FIND, .digest = *digest};
	snprintf(c.from, sizeof(c.from), "%s", from ? from : "");
	return call(p, &c, -1, err);
}

int pusher_blob(
	struct pusher *p, const struct oci_digest *digest, uint64_t size, int fd, struct error *err)
{
	struct pusher_command c = {.verb = PUSHER_BLOB, .digest = *digest, .size = size};
	return call(p, &c, fd, err) < 0 ? -1 : 0;
}

int pusher_manifest(struct pusher *p, const char *target, const char *media_type, const void *data,
	size_t size, struct error *err)
{
	struct pusher_command c = {.verb = PUSHER_MANIFEST, .size = size};
	snprintf(c.target, sizeof(c.target), "%s", target);
	snprintf(c.media_type, sizeof(c.media_type), "%s", media_type);
	cleanup_fd int fd = memfd_create("manifest", MFD_CLOEXEC);
	if (fd < 0)
		return error_set_errno(err, errno, "memfd_create");
	if (write_all(fd, data, size, "manifest", err) < 0)
		return -1;
	return call(p, &c, fd, err) < 0 ? -1 : 0;
}
