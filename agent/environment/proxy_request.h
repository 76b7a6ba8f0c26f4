// SPDX-License-Identifier: Apache-2.0
//
// The head of an HTTP/1.1 request (RFC 9112), read strictly: what two readers could understand in
// two ways is refused. Only GET and HEAD, and no bodies.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PROXY_HEAD_MAX = 16 * 1024, PROXY_FIELDS_MAX = 64 };

struct proxy_request {
	bool head, old; // HEAD; HTTP/1.0
	bool keep_alive;
	const char *target;
	bool wants_json;			      // Accept names PEP 691's form
	const char *if_none_match, *if_range, *range; // NULL: none
};

// `text` is the whole head with the empty line, NUL-terminated, and is changed; the request points
// into it. 0; else the status to answer with, and *why.
int proxy_request_parse(char *text, size_t size, struct proxy_request *r, const char **why);

// One range of `size` bytes: 1 with first and last; 0: to be ignored (all is sent); -1: 416.
int proxy_range_parse(const char *text, uint64_t size, uint64_t *first, uint64_t *last);
// Is the tag ("…", quoted) in the list, or is that "*"?
bool proxy_tag_in(const char *list, const char *etag);
