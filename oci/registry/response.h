// SPDX-License-Identifier: Apache-2.0
//
// The head of an HTTP response (RFC 9110), as far as a registry client needs it. Fed one header
// line at a time; everything is bounded.
#pragma once

#include "base/buffer.h"
#include "base/error.h"
#include "oci/image/digest.h"
#include "oci/registry/challenge.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	RESPONSE_BYTES_MAX = 64 * 1024,
	RESPONSE_LINES_MAX = 200,
	RESPONSE_LOCATION_MAX = 8192,
	RESPONSE_ETAG_MAX = 256
};

struct response {
	int status;	 // 0: none yet
	char reason[64]; // "Not Found"; "" if the server says none
	bool complete;	 // the empty line behind the head was seen
	bool has_length, has_range;
	uint64_t length;		 // Content-Length
	uint64_t range_start, range_end; // Content-Range, the end not included
	uint64_t range_size;		 // of the whole; UINT64_MAX if the server does not say
	bool has_uploaded;
	uint64_t uploaded;	      // Range of an upload's status: bytes that are there
	int64_t retry_after_ms;	      // -1 if none
	char media_type[128];	      // Content-Type without parameters
	char etag[RESPONSE_ETAG_MAX]; // as sent, with its quotes; "" if none, or too long
	char last_modified[40];	      // as sent; "" if none
	struct oci_digest digest;     // Docker-Content-Digest if it is one we know
	char *location;		      // NULL if none
	struct challenges challenges; // WWW-Authenticate; malformed ones are left out
	size_t bytes, lines;	      // of headers, for the limits
	bool stalled;		      // it was ended for that (transfer.h)
};

void response_release(struct response *r);

// One line of the head, with or without its line break: status line, field or the empty line. A new
// status line (behind 100 Continue) starts afresh, the limits count on. ERROR_LIMIT over a limit.
int response_line(struct response *r, const char *line, size_t size, struct error *err);
