// SPDX-License-Identifier: Apache-2.0
//
// One HTTP exchange, waited for: for programs that have nothing else to do meanwhile, or a thread
// for it. No redirects, no retries, no decompression. (Many at once in one loop:
// oci/registry/transfer.h.)
#pragma once

#include "base/buffer.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct exchange; // keeps its connections; used by one thread at a time

struct exchange_settings {
	const char *ca;	    // PEM file, trusted as well; NULL
	int64_t stall_ms;   // hardly a byte for so long while something is to come; 0: 30 s
	int64_t connect_ms; // 0: 10 s
	// What a request waits for may be said elsewhere: becomes readable when it is to be given
	// up.
	int cancel_fd;		 // -1
	const char *unix_socket; // path: dialled instead of the URL's host; NULL
};

// ERROR_SYSTEM where libcurl is missing. Strings are copied. The first call of a process is made
// before it has threads.
struct exchange *exchange_new(const struct exchange_settings *s, struct error *err);
void exchange_free(struct exchange *x);

struct exchange_request {
	const char *method, *url;   // http or https
	const char *const *headers; // "Name: value", NULL-terminated; NULL: none
	// The body: bytes in memory, or (fd >= 0) of a file, which is read with pread(2) and must
	// have them all.
	const void *body;
	uint64_t body_size;
	int fd; // -1
	uint64_t fd_offset;
	// The server may take that long before it answers (a long poll), beyond the stall time.
	int64_t patience_ms;
	// The body of a 2xx answer, as it comes; NULL: into reply->body. Less than 0 ends it, as an
	// error of the caller's (`err` is set).
	int (*sink)(void *data, const char *bytes, size_t size, struct error *err);
	void *data;
	uint64_t limit; // of reply->body, bytes; 0: 1 MiB. More is ERROR_LIMIT
	bool no_certificate_check;
	const char *sign; // CURLOPT_AWS_SIGV4, with `user`; NULL
	const char *user; // "key:secret"
};

struct exchange_reply {
	int status;
	struct buffer body; // of an answer that is not 2xx: the first 64 KiB
	char etag[256], media_type[128];
	int64_t retry_after_ms; // -1: none
	int64_t length;		// Content-Length; -1
	int64_t upload_offset;	// Upload-Offset; -1
	uint64_t sent;		// bytes of the body that left
};
void exchange_reply_release(struct exchange_reply *r);

// 0: there is an answer, of any status. -1: ERROR_UNAVAILABLE (trying again may help), ERROR_DENIED
// (its certificate), ERROR_LIMIT, ERROR_INVALID (the URL). `reply` is emptied first, and is to be
// released in any case.
int exchange_do(struct exchange *x, const struct exchange_request *q, struct exchange_reply *reply,
	struct error *err);

DEFINE_CLEANUP(exchange_free, struct exchange *, exchange_free)
#define cleanup_exchange       __attribute__((cleanup(exchange_freep)))
#define cleanup_exchange_reply __attribute__((cleanup(exchange_reply_release)))
