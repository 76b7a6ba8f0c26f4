// SPDX-License-Identifier: Apache-2.0
#include "agent/data/http.h"

#include "agent/data/http_protocol.h"
#include "base/file.h"
#include "base/json_write.h"
#include "base/message.h"
#include "base/process.h"
#include "base/text.h"

#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { TICK_MS = 100 };

static void write_file(struct json_writer *w, const struct data_http_file *f)
{
	json_write_open_object(w);
	json_write_member(w, "url", f->file->url);
	if (f->file->sha256)
		json_write_member(w, "sha256", f->file->sha256);
	json_write_member_unsigned(w, "size", f->file->size);
	json_write_member_unsigned(w, "source", f->source);
	json_write_member_unsigned(w, "max_bytes", f->max_bytes);
	json_write_member_unsigned(w, "limit_ms", f->limit_ms);
	json_write_member_int(w, "revalidate", f->revalidate);
	json_write_close_object(w);
}

static int write_orders(const struct data_http *h, struct buffer *text, struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	const struct cache_limits *limits = &h->policy->cache;
	json_write_open_object(w);
	json_write_member_unsigned(w, "high_bytes", limits->high_bytes);
	json_write_member_unsigned(w, "low_bytes", limits->low_bytes);
	json_write_member_unsigned(w, "keep_free_bytes", limits->keep_free_bytes);
	json_write_member_strings(w, "local_hosts", &h->policy->local_hosts);
	json_write_key(w, "files");
	json_write_open_array(w);
	for (size_t i = 0; i < h->count; i++)
		write_file(w, &h->files[i]);
	json_write_close_array(w);
	json_write_close_object(w);
	return json_writer_finish(w, text, err);
}

// In a file without a name: they can be larger than a packet.
static int send_orders(const struct data_http *h, int socket, struct error *err)
{
	cleanup_buffer struct buffer text = {0};
	if (write_orders(h, &text, err) < 0)
		return -1;
	if (text.size > DATA_HTTP_BYTES_MAX)
		return error_set(err, ERROR_LIMIT, "the list of files is over the limit of 64 MiB");
	cleanup_fd int fd = memfd_create("orders", MFD_CLOEXEC);
	if (fd < 0 || lseek(fd, 0, SEEK_SET) < 0)
		return error_set_errno(err, errno, "memfd_create");
	if (write_all(fd, text.data, text.size, "orders", err) < 0)
		return -1;
	if (lseek(fd, 0, SEEK_SET) < 0)
		return error_set_errno(err, errno, "rewind the orders");
	return message_send(socket, "orders", 6, (const int[]){fd, h->cache->fd}, 2, err);
}

// Nothing of the environment but what names proxies.
static int start(const struct data_http *h, struct process *p, struct error *err)
{
	static const char *const kept[] = {
		"https_proxy", "HTTPS_PROXY", "http_proxy", "no_proxy", "NO_PROXY"};
	cleanup_arena struct arena arena = {0};
	const char *envp[array_size(kept) + 1] = {0};
	size_t n = 0;
	int pair[2];
	for (size_t i = 0; i < array_size(kept); i++)
		if (getenv(kept[i]))
			envp[n++] = arena_printf(&arena, "%s=%s", kept[i], getenv(kept[i]));
	if (message_pair(pair, err) < 0)
		return -1;
	cleanup_fd int ours = pair[0], theirs = pair[1];
	const struct process_options options = {
		.argv = (const char *const[]){"stoker", "data", NULL},
		.envp = envp,
		.fds = &(struct process_fd){theirs, DATA_HTTP_SOCKET},
		.fd_count = 1,
		.keep_stderr = true,
		.die_with_parent = true,
	};
	if (process_start(&options, p, err) < 0 || send_orders(h, ours, err) < 0)
		return -1;
	return steal_fd(&ours);
}

static bool is_hex_digest(const char *text)
{
	return strlen(text) == 64 && strspn(text, "0123456789abcdef") == 64;
}

static int take_done(struct data_http *h, struct data_http_reply *r, struct error *err)
{
	struct data_http_file *f = &h->files[r->index];
	if (r->failure != DATA_OK) {
		h->failed = r->index;
		h->failure =
			r->failure < DATA_FAILURES ? (enum data_failure)r->failure : DATA_FAILED;
		f->complete = h->forgive(h->data, r->index, h->failure);
		if (f->complete)
			return 0;
		enum error_kind kind = r->error.kind > ERROR_NONE && r->error.kind <= ERROR_SYSTEM
					       ? r->error.kind
					       : ERROR_SYSTEM;
		return error_set(err, kind, "%s", r->error.text);
	}
	if (!is_hex_digest(r->sha256) || (f->file->sha256 && !streq(f->file->sha256, r->sha256)))
		return error_set(err, ERROR_SYSTEM, "the data helper sent something unreadable");
	memcpy(f->sha256, r->sha256, sizeof(f->sha256));
	f->reused = r->reused;
	f->complete = true;
	h->arrived(h->data, r->index);
	return 0;
}

// One reply. 1: there may be more now; 0: none now; -1.
static int take_reply(struct data_http *h, int socket, size_t *left, struct error *err)
{
	struct data_http_reply r;
	ssize_t n = message_receive(socket, &r, sizeof(r), NULL, 0, true, err);
	if (n == -2)
		return 0;
	if (n == 0)
		return error_set(err, ERROR_SYSTEM, "the data helper has ended unexpectedly");
	if (n < 0)
		return -1;
	if (n != sizeof(r) || r.index >= h->count || h->files[r.index].complete)
		return error_set(err, ERROR_SYSTEM, "the data helper sent something unreadable");
	r.error.text[sizeof(r.error.text) - 1] = '\0';
	r.sha256[sizeof(r.sha256) - 1] = '\0';
	struct data_http_file *f = &h->files[r.index];
	if (r.verb == DATA_HTTP_NOTICE) {
		text_flatten(r.error.text);
		h->notice(h->data, r.index, r.error.text);
		return 1;
	}
	f->done = r.done;
	f->total = r.total;
	f->fetched = r.fetched;
	if (r.verb == DATA_HTTP_DONE) {
		(*left)--;
		if (take_done(h, &r, err) < 0)
			return -1;
	}
	if (h->progress(h->data, r.index))
		return error_set(err, ERROR_UNAVAILABLE, "canceled");
	return 1;
}

static int receive(struct data_http *h, int socket, struct error *err)
{
	for (size_t left = h->count; left;) {
		struct pollfd p = {.fd = socket, .events = POLLIN};
		if (poll(&p, 1, TICK_MS) < 0 && errno != EINTR)
			return error_set_errno(err, errno, "poll");
		if (!p.revents && h->progress(h->data, 0))
			return error_set(err, ERROR_UNAVAILABLE, "canceled");
		for (int got = 1; left && got;) {
			got = take_reply(h, socket, &left, err);
			if (got < 0)
				return -1;
		}
	}
	return 0;
}

int data_http_fetch(struct data_http *h, struct error *err)
{
	cleanup_process struct process process = {.pidfd = -1};
	h->failure = DATA_FAILED;
	h->failed = 0;
	cleanup_fd int socket = start(h, &process, err);
	return socket < 0 ? -1 : receive(h, socket, err);
}
