// SPDX-License-Identifier: Apache-2.0
//
// The coordinator's side: requests become commands to the fetcher process, its replies become
// callbacks.
#include "oci/registry/fetcher.h"

#include "base/file.h"
#include "base/message.h"
#include "base/process.h"
#include "base/text.h"
#include "oci/registry/link.h"
#include "oci/registry/settings.h"

#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

// Commands that the fetcher has and has not ended. More wait here: its socket must never fill up,
// or the two processes could wait for each other.
enum { OUTSTANDING_MAX = 64, REPLIES_PER_TURN = 64 };

struct order {
	struct order *next;
	struct fetcher_command command;
	bool sent;
	int fds[2]; // of a blob, until it is sent
	struct oci_digest wanted;
	size_t limit;
	fetcher_document_fn *document; // or
	struct fetcher_blob_events blob;
	uint64_t contiguous, fetched; // as told last
	void *data;
};

struct fetcher {
	struct process process;
	int socket;
	struct loop *loop;
	struct loop_source *readable;
	struct loop_source *soon; // tells about failures outside of the caller's call
	struct order *orders;	  // in the order of their start
	uint32_t last_id;
	size_t outstanding;
	uint64_t received;
	struct error dead; // why there will be no more answers
	unsigned depth;	   // callbacks under way; the memory stays until they return
	bool gone;	   // fetcher_free() was called meanwhile
};

static void order_free(struct order *o)
{
	close_fdp(&o->fds[0]);
	close_fdp(&o->fds[1]);
	free(o);
}

static struct order *take_order(struct fetcher *f, uint32_t id)
{
	for (struct order **link = &f->orders; *link; link = &(*link)->next) {
		struct order *o = *link;
		if (o->command.id != id)
			continue;
		*link = o->next;
		f->outstanding -= o->sent;
		return o;
	}
	return NULL;
}

static struct order *find_order(struct fetcher *f, uint32_t id)
{
	struct order *o = f->orders;
	while (o && o->command.id != id)
		o = o->next;
	return o;
}

// Ends the order with an error.
static void fail_order(struct order *o, const struct error *err)
{
	if (o->document)
		o->document(o->data, NULL, &(struct oci_digest){0}, "", err);
	else if (o->blob.done)
		o->blob.done(o->data, err);
	order_free(o);
}

static void enter(struct fetcher *f)
{
	f->depth++;
}

static void leave(struct fetcher *f)
{
	if (--f->depth == 0 && f->gone)
		free(f);
}

// The helper is gone: nobody is left waiting.
static void fail_all(struct fetcher *f)
{
	enter(f);
	while (!f->gone && f->orders) {
		struct order *o = f->orders;
		f->orders = o->next;
		f->outstanding -= o->sent;
		struct error err = f->dead;
		fail_order(o, &err);
	}
	leave(f);
}

static void die(struct fetcher *f, const struct error *err)
{
	if (f->dead.kind == ERROR_NONE)
		f->dead = *err;
	loop_remove(f->readable);
	f->readable = NULL;
	loop_timer_set(f->soon, 0);
}

// The socket has closed: why?
static void die_of_exit(struct fetcher *f)
{
	struct error err = {0};
	char text[64];
	int status = 0;
	// It may have closed the socket and live on.
	if (f->process.pid > 0 && kill(f->process.pid, SIGKILL) < 0 && errno != ESRCH)
		error_set_errno(&err, errno, "the fetcher");
	else if (process_wait(&f->process, &status, &err) == 0)
		error_set(&err, ERROR_SYSTEM, "the fetcher %s",
			process_describe_status(status, text));
	die(f, &err);
}

static void on_soon(void *data)
{
	struct fetcher *f = data;
	if (f->dead.kind != ERROR_NONE)
		fail_all(f);
}

static void send_order(struct fetcher *f, struct order *o)
{
	struct error err = {0};
	size_t fd_count = o->command.verb == FETCHER_BLOB ? 2 : 0;
	o->sent = true;
	f->outstanding++;
	// A failure here means that it is gone; its socket will say so in the loop.
	if (message_send(f->socket, &o->command, sizeof(o->command), o->fds, fd_count, &err) < 0 &&
		err.kind != ERROR_UNAVAILABLE)
		die(f, &err);
	close_fdp(&o->fds[0]);
	close_fdp(&o->fds[1]);
	o->fds[0] = o->fds[1] = -1;
}

static void send_waiting(struct fetcher *f)
{
	for (struct order *o = f->orders; o && f->outstanding < OUTSTANDING_MAX; o = o->next)
		if (!o->sent && f->dead.kind == ERROR_NONE)
			send_order(f, o);
}

static struct order *add_order(
	struct fetcher *f, enum fetcher_verb verb, const char *target, void *data)
{
	struct order *o = xcalloc(1, sizeof(*o));
	o->command.verb = verb;
	o->command.id = ++f->last_id;
	snprintf(o->command.target, sizeof(o->command.target), "%s", target);
	o->fds[0] = o->fds[1] = -1;
	o->data = data;
	struct order **link = &f->orders;
	while (*link)
		link = &(*link)->next;
	*link = o;
	return o;
}

static void submit(struct fetcher *f)
{
	send_waiting(f);
	if (f->dead.kind != ERROR_NONE)
		loop_timer_set(f->soon, 0);
}

// The body comes as a file of the fetcher's making: a regular one, or reading might never end.
static int read_body(const struct order *o, int fd, struct buffer *body, struct error *err)
{
	struct stat st;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || lseek(fd, 0, SEEK_SET) < 0)
		return error_set(err, ERROR_SYSTEM, "the fetcher sent no document");
	return file_read_fd(fd, o->command.target, o->limit, body, err);
}

static int check_document(const struct order *o, int fd, struct buffer *body,
	struct oci_digest *digest, struct error *err)
{
	if (read_body(o, fd, body, err) < 0)
		return -1;
	*digest = oci_digest_of(body->size ? body->data : "", body->size);
	if (*o->wanted.text && !oci_digest_equal(digest, &o->wanted))
		return error_set(
			err, ERROR_INTEGRITY, "%s has the digest %s", o->wanted.text, digest->text);
	return 0;
}

static void finish_document(struct order *o, const struct fetcher_reply *r, int fd)
{
	cleanup_buffer struct buffer body = {0};
	struct oci_digest digest = {0};
	struct error err = {0}, ignored;
	if (o->command.verb == FETCHER_MANIFEST_HEAD) {
		if (oci_digest_parse(r->digest.text, &digest, &ignored) < 0)
			digest = (struct oci_digest){0};
		o->document(o->data, NULL, &digest, r->media_type, NULL);
	} else if (check_document(o, fd, &body, &digest, &err) < 0) {
		o->document(o->data, NULL, &digest, "", &err);
	} else {
		buffer_append(&body, "", 0); // a string also when there was nothing to read
		o->document(o->data, &body, &digest, r->media_type, NULL);
	}
	order_free(o);
}

static void on_done(struct fetcher *f, const struct fetcher_reply *r, int fd)
{
	struct order *o = take_order(f, r->id);
	if (!o)
		return;
	if (r->error.kind != ERROR_NONE) {
		fail_order(o, &r->error);
	} else if (o->document) {
		finish_document(o, r, fd);
	} else {
		if (o->blob.done)
			o->blob.done(o->data, NULL);
		order_free(o);
	}
}

// Numbers that cannot be are not passed on: callers subtract them from later ones.
static void on_progress(struct order *o, const struct fetcher_reply *r)
{
	if (r->contiguous > o->command.size || r->contiguous < o->contiguous ||
		r->fetched < o->fetched || r->fetched > r->received)
		return;
	o->contiguous = r->contiguous;
	o->fetched = r->fetched;
	if (o->blob.progress)
		o->blob.progress(o->data, r->contiguous, r->fetched);
}

static void on_event(struct fetcher *f, const struct fetcher_reply *r)
{
	struct order *o = find_order(f, r->id);
	if (!o || o->document)
		return;
	if (r->verb == FETCHER_PROGRESS)
		on_progress(o, r);
	if (r->verb == FETCHER_NOTICE && o->blob.notice)
		o->blob.notice(o->data, r->error.text);
}

// True if there was a reply, and more may follow.
static bool take_reply(struct fetcher *f)
{
	struct fetcher_reply r;
	struct error err = {0};
	cleanup_fd int fd = -1;
	int got = fetcher_link_receive(f->socket, &r, &fd, &err);
	if (got == -2)
		return false;
	if (got == 0)
		die_of_exit(f);
	if (got < 0)
		die(f, &err);
	if (got <= 0)
		return false;
	if (r.received > f->received)
		f->received = r.received;
	if (r.verb == FETCHER_DONE && r.id == 0)
		f->dead = r.error; // the socket's end follows
	else if (r.verb == FETCHER_DONE)
		on_done(f, &r, fd);
	else
		on_event(f, &r);
	return !f->gone;
}

static void on_readable(void *data, uint32_t events)
{
	(void)events;
	struct fetcher *f = data;
	enter(f);
	for (int i = 0; i < REPLIES_PER_TURN && take_reply(f); i++)
		;
	if (!f->gone)
		send_waiting(f);
	leave(f);
}

static int start(struct fetcher *f, const struct registry_settings *s, struct error *err)
{
	f->socket = fetcher_link_open(s, &f->process, err);
	if (f->socket < 0)
		return -1;
	f->readable = loop_add_fd(f->loop, f->socket, EPOLLIN, on_readable, f, err);
	f->soon = f->readable ? loop_add_timer(f->loop, -1, on_soon, f, err) : NULL;
	return f->soon ? 0 : -1;
}

struct fetcher *fetcher_start(struct loop *loop, const struct registry_config *config,
	const struct oci_reference *reference, struct error *err)
{
	cleanup_arena struct arena arena = {0};
	struct registry_settings settings;
	if (registry_settings_make(&arena, config, reference, &settings, err) < 0)
		return NULL;
	struct fetcher *f = xcalloc(1, sizeof(*f));
	f->process.pidfd = -1;
	f->socket = -1;
	f->loop = loop;
	if (start(f, &settings, err) == 0)
		return f;
	fetcher_free(f);
	return NULL;
}

void fetcher_free(struct fetcher *f)
{
	if (!f)
		return;
	loop_remove(f->readable);
	loop_remove(f->soon);
	process_release(&f->process);
	close_fdp(&f->socket);
	while (f->orders) {
		struct order *o = f->orders;
		f->orders = o->next;
		order_free(o);
	}
	f->gone = true;
	if (f->depth == 0)
		free(f);
}

static void add_document(struct fetcher *f, enum fetcher_verb verb, const char *target,
	size_t limit, fetcher_document_fn *fn, void *data)
{
	struct order *o = add_order(f, verb, target, data);
	struct error ignored;
	if (oci_digest_parse(target, &o->wanted, &ignored) < 0)
		o->wanted = (struct oci_digest){0};
	o->command.size = limit;
	o->limit = limit;
	o->document = fn;
	submit(f);
}

void fetcher_manifest(
	struct fetcher *f, const char *target, size_t limit, fetcher_document_fn *fn, void *data)
{
	add_document(f, FETCHER_MANIFEST, target, limit, fn, data);
}

void fetcher_manifest_digest(
	struct fetcher *f, const char *target, fetcher_document_fn *fn, void *data)
{
	add_document(f, FETCHER_MANIFEST_HEAD, target, 0, fn, data);
}

void fetcher_document(struct fetcher *f, const struct oci_digest *digest, size_t limit,
	fetcher_document_fn *fn, void *data)
{
	add_document(f, FETCHER_DOCUMENT, digest->text, limit, fn, data);
}

void fetcher_blob(struct fetcher *f, const struct oci_digest *digest, uint64_t size, int fd,
	int map_fd, const struct fetcher_blob_events *events, void *data)
{
	struct order *o = add_order(f, FETCHER_BLOB, digest->text, data);
	o->wanted = *digest;
	o->command.size = size;
	o->blob = *events;
	o->fds[0] = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	o->fds[1] = fcntl(map_fd, F_DUPFD_CLOEXEC, 0);
	if (o->fds[0] < 0 || o->fds[1] < 0)
		error_set_errno(&f->dead, errno, "hand a file to the fetcher");
	submit(f);
}

void fetcher_blob_cancel(struct fetcher *f, const struct oci_digest *digest)
{
	struct order *o = f->orders;
	while (o && (o->document || !oci_digest_equal(&o->wanted, digest)))
		o = o->next;
	if (!o)
		return;
	struct order cancel = {.command = {.verb = FETCHER_CANCEL, .id = o->command.id}};
	bool sent = o->sent;
	order_free(take_order(f, o->command.id));
	struct error gone; // if so, its socket will say it
	if (sent && f->dead.kind == ERROR_NONE)
		message_send(f->socket, &cancel.command, sizeof(cancel.command), NULL, 0, &gone);
}

uint64_t fetcher_bytes(const struct fetcher *f)
{
	return f->received;
}
