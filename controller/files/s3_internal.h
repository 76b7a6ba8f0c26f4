// SPDX-License-Identifier: Apache-2.0
//
// One signed request (s3_request.c), of which s3.c makes operations.
#pragma once

#include "base/exchange.h"
#include "controller/files/s3.h"

struct s3_request {
	const char *method, *key;
	const char *query; // NULL: none; sorted and encoded as the signature wants it
	const void *body;
	size_t size;
	bool has_md5;	   // Content-MD5 of the body goes with it
	const char *range; // "bytes=A-B"; NULL
	uint64_t limit;	   // of the answer's body
	bool once;	   // not again
};

// 0: an answer of 2xx, 404 or 416; the caller looks. Else ERROR_UNAVAILABLE with what the store
// says. `reply` is released by the caller in any case.
int s3_do(
	struct s3 *s, const struct s3_request *q, struct exchange_reply *reply, struct error *err);
// What stands between <NAME> and </NAME> of an answer, without escapes: false if it is not there or
// does not fit.
bool s3_element(const struct buffer *body, const char *name, char *text, size_t size);

// Base64 of the MD5, as Content-MD5 has it (RFC 1864); false where libcrypto has none, as under a
// policy that forbids it.
enum { MD5_TEXT_SIZE = 32 };
bool md5_text(const void *data, size_t size, char text[MD5_TEXT_SIZE]);
void md5_prepare(void); // by s3_open()
