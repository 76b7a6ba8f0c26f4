// SPDX-License-Identifier: Apache-2.0
//
// The controller as its clients see it (docs/protocol.md): requests with a token, JSON both ways,
// and the errors that it answers with as errors of ours. For users' verbs, the node's agent and the
// synchroniser of results. One thread at a time.
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "base/json.h"
#include "base/json_write.h"

#include <stdbool.h>
#include <stdint.h>

struct service;

struct service_settings {
	const char *url;   // "https://host:port", without a path
	const char *token; // NULL: none
	const char *ca;	   // PEM file; NULL
	int cancel_fd;	   // exchange_settings; -1
	int64_t stall_ms;  // 0: 30 s
	// Go on trying for so long when it does not answer, or says that it cannot now; 0: once. A
	// request that may have been carried out is repeated too: every request of the protocol can
	// be.
	int64_t retry_ms;
};

// ERROR_INVALID when the URL is none. Strings are copied.
struct service *service_open(const struct service_settings *s, struct error *err);
void service_close(struct service *s);
void service_set_token(struct service *s, const char *token);

struct service_request {
	const char *method, *path; // "/v1/…", escaped
	struct json_writer *json;  // a finished document, or NULL
	const void *body;	   // instead: bytes, or of a file
	int fd;			   // -1
	uint64_t fd_offset, body_size;
	const char *const *headers; // further ones, NULL-terminated; NULL
	int64_t patience_ms;	    // of a long poll
	// Bytes of a good answer as they come, instead of JSON. A broken one is asked for again
	// from where it broke (by Range), so that a retry loses nothing.
	int (*sink)(void *data, const char *bytes, size_t size, struct error *err);
	void *data;
	uint64_t sink_offset; // so many bytes are here from before
};

// 0: done; *answer (may be NULL) is the document, NULL when there was none. Else ERROR_NOT_FOUND
// (404), ERROR_DENIED (401, 403), ERROR_INVALID (400, 409, 413, 416), ERROR_UNAVAILABLE (429, 5xx,
// no answer), with the controller's own words.
int service_do(struct service *s, const struct service_request *q, struct arena *a,
	const struct json **answer, struct error *err);
int service_call(struct service *s, const char *method, const char *path, struct json_writer *json,
	struct arena *a, const struct json **answer, struct error *err);
// What the last answer was, beside that: "stale", "offset", "digest_mismatch", … ("" if none), its
// status, and the offset it named.
const char *service_code(const struct service *s);
int service_status(const struct service *s);
int64_t service_offset(const struct service *s); // -1: none

// A segment of a path, escaped; with `path` slashes are kept.
const char *service_escape(struct arena *a, const char *text, bool path);
// Names of files in the protocol's paths: '%', control characters and bytes that are not UTF-8
// become %XX, and back (NULL: no such text).
const char *service_name(struct arena *a, const char *bytes);
const char *service_name_bytes(struct arena *a, const char *name);

DEFINE_CLEANUP(service_close, struct service *, service_close)
#define cleanup_service __attribute__((cleanup(service_closep)))
