// SPDX-License-Identifier: Apache-2.0
//
// One HTTP exchange each, all by one curl multi handle: no redirects, no retries, no authentication
// of its own. What curl could do by itself and we do not let it: follow redirects (credentials),
// decompress (digests are of the bytes as sent), limit the whole time (a large blob over a slow
// line is fine; a server that sends fewer than 1,000 bytes in the stall time is not).
#pragma once

#include "base/curl.h"
#include "base/error.h"
#include "oci/registry/response.h"

#include <stdbool.h>
#include <stdint.h>

struct transfer;

struct http {
	const struct curl_functions *curl;
	CURLM *multi;
	struct transfer *transfers;
	int64_t now;	   // monotonic ms at the start of this turn
	int64_t stall_ms;  // hardly a byte for so long: ended with ERROR_UNAVAILABLE
	uint64_t received; // bytes of heads and bodies in all
	const char *https_proxy, *http_proxy, *no_proxy; // NULL if none
};

struct transfer_events {
	// The head of an answer with status 2xx. -1 ends the transfer with that error.
	int (*begin)(void *data, const struct response *r, struct error *err);
	// Bytes of its body. Bodies of other answers are swallowed.
	int (*body)(void *data, const char *bytes, size_t size, struct error *err);
	// Once: the answer is complete (whatever its status), or `err` says why there is none.
	// `retry`: the same again may work.
	void (*done)(void *data, const struct response *r, const struct error *err, bool retry);
};

enum transfer_method { TRANSFER_GET, TRANSFER_HEAD, TRANSFER_POST, TRANSFER_PUT, TRANSFER_PATCH };

// What a PUT or PATCH sends: bytes of a file, which must be there until the transfer has ended.
struct transfer_upload {
	int fd; // -1: nothing
	uint64_t offset, size;
	const char *content_type, *content_range; // NULL: none
	// Bytes that have left so far, in this transfer; may be NULL.
	void (*sent)(void *data, uint64_t bytes);
};

struct transfer_options {
	enum transfer_method method;
	const char *url;
	const char *authorization, *accept, *range; // values of headers, NULL if none
	const char *form;			    // body of a POST
	const struct transfer_upload *upload; // body of a PUT or PATCH; copied, but for the strings
	const char *ca;			      // PEM, trusted as well; must outlive the transfer
	const char *proxy;		      // instead of those above
	const char *const *headers; // further lines, "Name: value", NULL-terminated; NULL: none
	// Makes the sockets (CURLOPT_OPENSOCKETFUNCTION): may refuse an address; NULL: curl does.
	curl_opensocket_callback open_socket;
	void *socket_data;
	const char *ca_remedy; // what to do about a certificate; NULL: what helps for registries
};

// Loads curl. `now` and the limits are the caller's to set.
int http_open(struct http *h, struct error *err);
void http_close(struct http *h);

struct transfer *transfer_start(struct http *h, const struct transfer_options *o,
	const struct transfer_events *events, void *data);
// No further events; freed at the next turn. Allowed inside events, also its own. NULL is fine.
void transfer_cancel(struct transfer *t);

// Let curl work, then tell about ends. Never blocks.
int http_turn(struct http *h, struct error *err);
// Until when at most to wait for descriptors: monotonic ms of the next stall, INT64_MAX if none.
int64_t http_deadline(const struct http *h);
