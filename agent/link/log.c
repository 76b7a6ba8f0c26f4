// SPDX-License-Identifier: Apache-2.0
#include "agent/job/run.h"
#include "agent/link/link.h"
#include "agent/service/service.h"
#include "base/file.h"
#include "base/sha256.h"
#include "base/text.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE = 4 * 1024 * 1024, READ = 64 * 1024 };

static const char file[] = "user_logs/std_log.txt";

struct log_sender {
	struct service *service;
	const char *run, *id;
	unsigned attempt; // the run's own (max_retries), whose log is being sent
	int64_t offset;	  // that the controller has; -1: not known
	bool finished;
};

struct log_sender *log_sender_new(struct attempt *a, struct error *err)
{
	const struct credential *c = &a->link->credential;
	struct service *service = service_open(
		&(struct service_settings){
			.url = c->url, .token = a->token, .ca = c->ca, .cancel_fd = -1},
		err);
	if (!service)
		return NULL;
	struct log_sender *s = xcalloc(1, sizeof(*s));
	*s = (struct log_sender){
		.service = service, .run = a->run, .id = a->id, .attempt = 1, .offset = -1};
	return s;
}

void log_sender_free(struct log_sender *s)
{
	if (!s)
		return;
	service_close(s->service);
	free(s);
}

bool log_sender_is_stale(const struct log_sender *s)
{
	return streq(service_code(s->service), "stale");
}

// 1: the controller has that file, of `size` bytes; 0: it has none.
static int ask(struct log_sender *s, const char *path, int64_t *size, struct error *err)
{
	cleanup_arena struct arena a = {0};
	const struct json *answer = NULL;
	struct error why;
	const char *url = arena_printf(&a, "/v1/runs/%s/files/%s?stat=1", s->run, path);
	*size = 0;
	if (service_call(s->service, "GET", url, NULL, &a, &answer, &why) < 0) {
		if (why.kind == ERROR_NOT_FOUND)
			return 0;
		*err = why;
		return -1;
	}
	const struct json *n = json_get(answer, "size");
	*size = n && n->type == JSON_INTEGER ? n->integer : 0;
	return 1;
}

static int append(struct log_sender *s, int fd, int64_t end, struct error *err)
{
	while (s->offset < end) {
		cleanup_arena struct arena a = {0};
		int64_t n = end - s->offset < PIECE ? end - s->offset : PIECE;
		const char *headers[] = {
			arena_printf(&a, "Content-Range: bytes %lld-%lld/*", (long long)s->offset,
				(long long)(s->offset + n - 1)),
			NULL};
		const struct service_request q = {.method = "PATCH",
			.path = arena_printf(&a, "/v1/runs/%s/files/%s", s->run, file),
			.fd = fd,
			.fd_offset = (uint64_t)s->offset,
			.body_size = (uint64_t)n,
			.headers = headers};
		if (service_do(s->service, &q, &a, NULL, err) == 0) {
			s->offset += n;
			continue;
		}
		int64_t has = service_offset(s->service);
		// What it has beyond us it cannot have from this file.
		if (service_status(s->service) != 416 || has < 0 || has == s->offset || has > end)
			return -1;
		s->offset = has;
	}
	return 0;
}

static int hash(int fd, char hex[SHA256_HEX_SIZE], struct error *err)
{
	cleanup_sha256 struct sha256 *h = sha256_new();
	cleanup_free char *piece = xmalloc(READ);
	uint8_t digest[SHA256_SIZE];
	off_t at = 0;
	ssize_t n;
	while ((n = pread(fd, piece, READ, at)) > 0) {
		sha256_update(h, piece, (size_t)n);
		at += n;
	}
	if (n < 0)
		return error_set_errno(err, errno, "%s", file);
	sha256_final(h, digest);
	sha256_hex(digest, hex);
	return 0;
}

static int finish(struct log_sender *s, int fd, int64_t size, struct error *err)
{
	cleanup_arena struct arena a = {0};
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	char hex[SHA256_HEX_SIZE];
	if (hash(fd, hex, err) < 0)
		return -1;
	json_write_open_object(w);
	json_write_member_int(w, "size", size);
	json_write_member(w, "sha256", hex);
	json_write_member_bool(w, "part", false);
	json_write_close_object(w);
	const char *url = arena_printf(&a, "/v1/runs/%s/files/%s?finish=1", s->run, file);
	if (service_call(s->service, "POST", url, w, &a, NULL, err) == 0)
		return 0;
	// It has forgotten what it had: begin anew.
	if (streq(service_code(s->service), "digest_mismatch")) {
		s->offset = -1;
		err->kind = ERROR_UNAVAILABLE;
	}
	return -1;
}

static int move(struct log_sender *s, const char *to, struct error *err)
{
	cleanup_arena struct arena a = {0};
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_key(w, "changes");
	json_write_open_array(w);
	json_write_open_object(w);
	json_write_member(w, "do", "move");
	json_write_member(w, "from", file);
	json_write_member(w, "to", to);
	json_write_close_object(w);
	json_write_close_array(w);
	json_write_close_object(w);
	const char *url = arena_printf(&a, "/v1/runs/%s/changes", s->run);
	return service_call(s->service, "POST", url, w, &a, NULL, err);
}

// One attempt's log. A connection may break behind the move: then the file has its new name
// already.
static int send_one(struct log_sender *s, int runs_fd, bool whole, bool last, struct error *err)
{
	struct stat st;
	char moved[64];
	int64_t ignored;
	snprintf(moved, sizeof(moved), "attempts/%u/%s", s->attempt, file);
	int there = s->offset < 0 && !last ? ask(s, moved, &ignored, err) : 0;
	if (there != 0)
		return there < 0 ? -1 : 0;
	cleanup_fd int folder = run_attempt_open(runs_fd, s->id, s->attempt, err);
	cleanup_fd int fd = folder < 0 ? -1 : openat(folder, file, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return folder < 0 ? -1 : 0; // not printed yet
	if (s->offset < 0 && ask(s, file, &s->offset, err) < 0) {
		s->offset = -1;
		return -1;
	}
	if (append(s, fd, st.st_size, err) < 0)
		return -1;
	if (whole && finish(s, fd, st.st_size, err) < 0)
		return -1;
	return whole && !last ? move(s, moved, err) : 0;
}

int log_sender_send(struct log_sender *s, int runs_fd, unsigned last, bool whole, struct error *err)
{
	while (s->attempt < last) {
		if (send_one(s, runs_fd, true, false, err) < 0)
			return -1;
		s->attempt++;
		s->offset = -1;
	}
	if (s->finished)
		return 0;
	if (send_one(s, runs_fd, whole, true, err) < 0)
		return -1;
	s->finished = whole;
	return 0;
}
