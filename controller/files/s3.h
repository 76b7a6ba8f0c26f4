// SPDX-License-Identifier: Apache-2.0
//
// Objects of an S3-compatible store: what of its REST interface we use, waited for. Safe for
// threads; each request takes one of a bounded number of connections. Requests are tried again for
// some 10 s; while the store is known to be away, once. Whatever keeps it from being done, refused
// credentials included, is ERROR_UNAVAILABLE: an administrator mends it, and who asked comes again.
// Keys are behind the address's prefix, of letters, digits, ".", "_", "-" and "/".
#pragma once

#include "base/buffer.h"
#include "base/error.h"
#include "controller/files/s3_address.h"

#include <stdint.h>

// Bounds of Amazon's: parts but the last have at least 5 MiB; the id of an upload and the tag of a
// part are opaque, we take so many characters.
enum { S3_UPLOAD_SIZE = 1025, S3_ETAG_SIZE = 256 };

struct s3;

// Copies the address. Not by two threads at once (base/curl.h).
struct s3 *s3_open(const struct s3_address *address, struct error *err);
void s3_close(struct s3 *s); // nobody may use it any more; NULL is fine

// The whole object. The store checks the bytes (Content-MD5, x-amz-content-sha256).
int s3_put(struct s3 *s, const char *key, const void *data, size_t size, struct error *err);
// Exactly the bytes from `first` on, into the empty buffer. ERROR_NOT_FOUND: no such object.
int s3_get(struct s3 *s, const char *key, uint64_t first, size_t size, struct buffer *data,
	struct error *err);
// ERROR_NOT_FOUND: no such object.
int s3_size(struct s3 *s, const char *key, uint64_t *size, struct error *err);
// Fine if it is not there.
int s3_delete(struct s3 *s, const char *key, struct error *err);
// Is it there? One short try, for /healthz. ERROR_NOT_FOUND as s3_size().
int s3_ping(struct s3 *s, const char *key, struct error *err);

// A multipart upload: parts are numbered from 1; the object is there when it has ended, and has
// `size` bytes then. ERROR_UNAVAILABLE also when the store has forgotten the upload.
int s3_upload_begin(struct s3 *s, const char *key, char upload[S3_UPLOAD_SIZE], struct error *err);
int s3_upload_part(struct s3 *s, const char *key, const char *upload, unsigned number,
	const void *data, size_t size, char etag[S3_ETAG_SIZE], struct error *err);
int s3_upload_end(struct s3 *s, const char *key, const char *upload,
	const char (*etags)[S3_ETAG_SIZE], unsigned count, uint64_t size, struct error *err);
int s3_upload_abort(struct s3 *s, const char *key, const char *upload, struct error *err);
