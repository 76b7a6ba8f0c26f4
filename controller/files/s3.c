// SPDX-License-Identifier: Apache-2.0
#include "controller/files/s3_internal.h"

#include "base/text.h"

#include <ctype.h>
#include <stdio.h>

enum { WORDS_MAX = 64 * 1024 }; // of an answer that is XML

static int refuse(const struct exchange_reply *r, const char *key, struct error *err)
{
	char code[64] = "";
	s3_element(&r->body, "Code", code, sizeof(code));
	if (r->status == 404)
		return error_set(err, ERROR_NOT_FOUND, "files: there is no object %s%s%s", key,
			*code ? ": " : "", code);
	return error_set(err, ERROR_UNAVAILABLE, "files: %s: answered %d %s", key, r->status, code);
}

static bool is_done(const struct exchange_reply *r)
{
	return r->status >= 200 && r->status < 300;
}

// A request whose answer is its status.
static int simple(struct s3 *s, const struct s3_request *q, bool absent_is_fine, struct error *err)
{
	cleanup_exchange_reply struct exchange_reply r = {0};
	if (s3_do(s, q, &r, err) < 0)
		return -1;
	return is_done(&r) || (absent_is_fine && r.status == 404) ? 0 : refuse(&r, q->key, err);
}

int s3_put(struct s3 *s, const char *key, const void *data, size_t size, struct error *err)
{
	const struct s3_request q = {.method = "PUT",
		.key = key,
		.body = data,
		.size = size,
		.has_md5 = true,
		.limit = WORDS_MAX};
	if (simple(s, &q, false, err) == 0)
		return 0;
	err->kind = ERROR_UNAVAILABLE; // a bucket that is not there
	return -1;
}

int s3_delete(struct s3 *s, const char *key, struct error *err)
{
	const struct s3_request q = {.method = "DELETE", .key = key, .limit = WORDS_MAX};
	return simple(s, &q, true, err);
}

int s3_ping(struct s3 *s, const char *key, struct error *err)
{
	const struct s3_request q = {.method = "HEAD", .key = key, .once = true};
	return simple(s, &q, false, err);
}

int s3_size(struct s3 *s, const char *key, uint64_t *size, struct error *err)
{
	const struct s3_request q = {.method = "HEAD", .key = key};
	cleanup_exchange_reply struct exchange_reply r = {0};
	if (s3_do(s, &q, &r, err) < 0)
		return -1;
	if (!is_done(&r) || r.length < 0)
		return refuse(&r, key, err);
	*size = (uint64_t)r.length;
	return 0;
}

// Some servers answer a range with 200 instead of 206; its length tells whether they understood it.
int s3_get(struct s3 *s, const char *key, uint64_t first, size_t size, struct buffer *data,
	struct error *err)
{
	char range[64];
	cleanup_exchange_reply struct exchange_reply r = {0};
	snprintf(range, sizeof(range), "bytes=%llu-%llu", (unsigned long long)first,
		(unsigned long long)(first + size - 1));
	const struct s3_request q = {.method = "GET", .key = key, .range = range, .limit = size};
	if (s3_do(s, &q, &r, err) < 0)
		return -1;
	if (!is_done(&r))
		return refuse(&r, key, err);
	if (r.body.size != size)
		return error_set(err, ERROR_UNAVAILABLE, "files: %s: %zu bytes came instead of %zu",
			key, r.body.size, size);
	buffer_release(data);
	*data = r.body;
	r.body = (struct buffer){0};
	return 0;
}

// ---- multipart uploads

// An id may have any characters; the signature wants the encoding that is usual, in capitals.
static void put_encoded(struct buffer *b, const char *text)
{
	for (; *text; text++) {
		if (isalnum((unsigned char)*text) || strchr("-._~", *text))
			buffer_putc(b, *text);
		else
			buffer_printf(b, "%%%02X", (unsigned char)*text);
	}
}

int s3_upload_begin(struct s3 *s, const char *key, char upload[S3_UPLOAD_SIZE], struct error *err)
{
	// "uploads=" and not "uploads": so it is signed, and 7.88 signs what is written.
	const struct s3_request q = {
		.method = "POST", .key = key, .query = "uploads=", .limit = WORDS_MAX};
	cleanup_exchange_reply struct exchange_reply r = {0};
	if (s3_do(s, &q, &r, err) < 0)
		return -1;
	char text[S3_UPLOAD_SIZE];
	bool good = is_done(&r) && s3_element(&r.body, "UploadId", text, sizeof(text)) && *text;
	for (const char *p = good ? text : ""; *p; p++)
		good &= isgraph((unsigned char)*p) && !strchr("&<>\"'", *p);
	if (!good)
		return error_set(err, ERROR_UNAVAILABLE,
			"files: %s: the store began no upload of parts (status %d)", key, r.status);
	snprintf(upload, S3_UPLOAD_SIZE, "%s", text);
	return 0;
}

// It goes into XML.
static bool is_etag(const char *text)
{
	size_t size = strlen(text);
	if (size && text[0] == '"' && size > 1 && text[size - 1] == '"') {
		text++;
		size -= 2;
	}
	for (size_t i = 0; i < size; i++)
		if (!isalnum((unsigned char)text[i]) && !strchr("-_+/=.", text[i]))
			return false;
	return size > 0;
}

int s3_upload_part(struct s3 *s, const char *key, const char *upload, unsigned number,
	const void *data, size_t size, char etag[S3_ETAG_SIZE], struct error *err)
{
	cleanup_buffer struct buffer query = {0};
	cleanup_exchange_reply struct exchange_reply r = {0};
	buffer_printf(&query, "partNumber=%u&uploadId=", number);
	put_encoded(&query, upload);
	const struct s3_request q = {.method = "PUT",
		.key = key,
		.query = query.data,
		.body = data,
		.size = size,
		.has_md5 = true,
		.limit = WORDS_MAX};
	if (s3_do(s, &q, &r, err) < 0)
		return -1;
	if (!is_done(&r) || !is_etag(r.etag) || strlen(r.etag) >= S3_ETAG_SIZE) {
		refuse(&r, key, err);
		err->kind = ERROR_UNAVAILABLE; // forgotten uploads are 404
		return -1;
	}
	snprintf(etag, S3_ETAG_SIZE, "%s", r.etag);
	return 0;
}

static void put_parts(struct buffer *b, const char (*etags)[S3_ETAG_SIZE], unsigned count)
{
	buffer_puts(b, "<CompleteMultipartUpload>");
	for (unsigned i = 0; i < count; i++)
		buffer_printf(b, "<Part><PartNumber>%u</PartNumber><ETag>%s</ETag></Part>", i + 1,
			etags[i]);
	buffer_puts(b, "</CompleteMultipartUpload>");
}

// Errors may come in an answer of 200, and an answer may be lost, after which the upload is
// unknown: what counts is that the object is there with all bytes.
int s3_upload_end(struct s3 *s, const char *key, const char *upload,
	const char (*etags)[S3_ETAG_SIZE], unsigned count, uint64_t size, struct error *err)
{
	cleanup_buffer struct buffer query = {0}, body = {0};
	cleanup_exchange_reply struct exchange_reply r = {0};
	char code[64] = "";
	uint64_t there;
	buffer_puts(&query, "uploadId=");
	put_encoded(&query, upload);
	put_parts(&body, etags, count);
	const struct s3_request q = {.method = "POST",
		.key = key,
		.query = query.data,
		.body = body.data,
		.size = body.size,
		.limit = WORDS_MAX};
	if (s3_do(s, &q, &r, err) < 0)
		return -1;
	s3_element(&r.body, "Code", code, sizeof(code));
	if (s3_size(s, key, &there, err) < 0 || there != size)
		return error_set(err, ERROR_UNAVAILABLE,
			"files: %s: the upload of parts did not end (status %d %s)", key, r.status,
			code);
	return 0;
}

int s3_upload_abort(struct s3 *s, const char *key, const char *upload, struct error *err)
{
	cleanup_buffer struct buffer query = {0};
	buffer_puts(&query, "uploadId=");
	put_encoded(&query, upload);
	const struct s3_request q = {
		.method = "DELETE", .key = key, .query = query.data, .limit = WORDS_MAX};
	return simple(s, &q, true, err);
}
