// SPDX-License-Identifier: Apache-2.0
//
// The head of an answer with status 2xx, as far as a download cares. Plain data without pointers:
// it may come from another process.
#pragma once

#include "oci/registry/response.h"

#include <stdint.h>

struct download_head {
	int32_t status;
	uint32_t has_length, has_range;	 // not 0: it does
	uint64_t length;		 // Content-Length
	uint64_t range_start, range_end; // Content-Range, the end not included
	uint64_t range_size;		 // of the whole; UINT64_MAX if the server does not say
	char etag[RESPONSE_ETAG_MAX];	 // as sent, with its quotes; "" if none
	char last_modified[40];		 // as sent; "" if none
	char media_type[128];		 // Content-Type without parameters
};
