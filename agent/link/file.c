// SPDX-License-Identifier: Apache-2.0
#include "agent/link/file.h"

#include "base/text.h"

#include <unistd.h>

enum { PIECE = 8 * 1024 * 1024, READ = 128 * 1024 };

const char *link_file_url(const struct link_file *f, struct arena *a, const char *rest)
{
	return arena_printf(
		a, "/v1/runs/%s/files/%s%s", f->run, service_escape(a, f->path, true), rest);
}

static int64_t number(const struct json *object, const char *key)
{
	const struct json *n = json_get(object, key);
	return n && n->type == JSON_INTEGER ? n->integer : 0;
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
	*size = number(answer, "size");
	*part = number(answer, "part");
	return json_get_string(answer, "kind") || *size;
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

int link_file_hash(int fd, int64_t size, char hex[SHA256_HEX_SIZE], struct error *err)
{
	cleanup_sha256 struct sha256 *h = sha256_new();
	cleanup_free char *piece = xmalloc(READ);
	uint8_t digest[SHA256_SIZE];
	for (off_t at = 0; at < size;) {
		size_t want = size - at < READ ? (size_t)(size - at) : READ;
		ssize_t n = pread(fd, piece, want, at);
		if (n < 0)
			return error_set_errno(err, errno, "read what is sent");
		if (n == 0)
			return error_set(err, ERROR_INTEGRITY, "the file shrank while it was sent");
		sha256_update(h, piece, (size_t)n);
		at += n;
	}
	sha256_final(h, digest);
	sha256_hex(digest, hex);
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
