// SPDX-License-Identifier: Apache-2.0
#include "agent/link/file.h"

#include "agent/link/counters.h"
#include "base/text.h"

#include <unistd.h>

// Between two requests nothing is sent for some milliseconds; what has come of one that breaks
// stays.
enum { PIECE = 32 * 1024 * 1024 };

const char *link_file_url(const struct link_file *f, struct arena *a, const char *rest)
{
	return arena_printf(
		a, "/v1/runs/%s/files/%s%s", f->run, service_escape(a, f->path, true), rest);
}

int link_file_stat(const struct link_file *f, int64_t *size, int64_t *part, struct error *err)
{
	cleanup_arena struct arena a = {0};
	const struct json *answer = NULL;
	struct error why;
	const char *url = link_file_url(f, &a, "?stat=1");
	*size = *part = 0;
	if (service_call(f->service, "GET", url, NULL, &a, &answer, &why) < 0) {
		if (why.kind == ERROR_NOT_FOUND)
			return 0;
		*err = why;
		return -1;
	}
	*size = json_get_integer(answer, "size", 0);
	*part = json_get_integer(answer, "part", 0);
	return json_get_string(answer, "kind") || *size;
}

static void count(const char *path, int64_t bytes)
{
	if (starts_with(path, "user_logs/"))
		link_counters.log_bytes += (unsigned long long)bytes;
	else
		link_counters.upload_bytes += (unsigned long long)bytes;
}

int link_file_append(
	const struct link_file *f, int fd, int64_t *offset, int64_t end, struct error *err)
{
	while (*offset < end) {
		cleanup_arena struct arena a = {0};
		int64_t n = end - *offset < PIECE ? end - *offset : PIECE;
		const char *headers[] = {arena_printf(&a, "Content-Range: bytes %lld-%lld/*",
						 (long long)*offset, (long long)(*offset + n - 1)),
			NULL};
		const struct service_request q = {.method = "PATCH",
			.path = link_file_url(f, &a, f->part ? "?part=1" : ""),
			.fd = fd,
			.fd_offset = (uint64_t)*offset,
			.body_size = (uint64_t)n,
			.headers = headers};
		if (service_do(f->service, &q, &a, NULL, err) == 0) {
			*offset += n;
			count(f->path, n);
			continue;
		}
		int64_t has = service_offset(f->service);
		// What it has beyond us it cannot have from this file.
		if (service_status(f->service) != 416 || has < 0 || has == *offset || has > end)
			return -1;
		*offset = has;
	}
	return 0;
}

int link_file_finish(const struct link_file *f, const struct link_file_end *end, struct error *err)
{
	cleanup_arena struct arena a = {0};
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_member_int(w, "size", end->size);
	json_write_member(w, "sha256", end->sha256);
	json_write_member_bool(w, "part", f->part);
	json_write_member_int(w, "mode", end->mode);
	json_write_member_int(w, "mtime_ns", end->mtime_ns);
	json_write_close_object(w);
	const char *url = link_file_url(f, &a, "?finish=1");
	if (service_call(f->service, "POST", url, w, &a, NULL, err) == 0)
		return 0;
	return streq(service_code(f->service), "digest_mismatch") ? 1 : -1;
}
